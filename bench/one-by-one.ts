/** What benchmarks of one node among many share: requests one by one, and how long each took. */

export interface Sample {
  readonly atMs: number
  readonly durationMs: number
}

/** Asks a route of a node, by POST if there is a body. Throws what the node answers instead. */
export async function ask(
  address: string,
  path: string,
  body?: unknown,
): Promise<Record<string, unknown>> {
  const answer = await fetch(`http://${address}${path}`, {
    ...(body !== undefined && {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    }),
  })
  const json = (await answer.json()) as Record<string, unknown>
  if (!answer.ok) throw new Error(`${path}: ${JSON.stringify(json)}`)
  return json
}

/** Writes one row after another into the table `small` until it is told to stop. */
export async function write(address: string, signal: AbortSignal): Promise<Sample[]> {
  const samples: Sample[] = []
  while (!signal.aborted) {
    const atMs = performance.now()
    const sql = "INSERT INTO small (text) VALUES ('x')"
    await ask(address, '/execute', { database: 'main', sql })
    samples.push({ atMs, durationMs: performance.now() - atMs })
  }
  return samples
}

/** How many, and how long they took. */
export function percentiles(samples: readonly Sample[]): string {
  const sorted = samples.map(({ durationMs }) => durationMs).toSorted((a, b) => a - b)
  const at = (part: number): string =>
    (sorted[Math.floor(part * (sorted.length - 1))] ?? 0).toFixed(1)
  return `${sorted.length} writes, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, worst ${at(1)} ms`
}
