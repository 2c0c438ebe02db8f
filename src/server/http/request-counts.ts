/**
 * Answered requests as plain numbers, which the registry reads at each scrape: to count each of
 * them there, by labels, would cost half a microsecond.
 */
import { Histogram } from '../../base/histogram.ts'

interface RouteCounts {
  readonly durations: Histogram
  readonly byStatus: Map<number, number>
}

export class RequestCounts {
  readonly #routes = new Map<string, RouteCounts>()

  /** How long the requests of each route took. */
  get durations(): Readonly<Record<string, Histogram>> {
    const routes = [...this.#routes].map(([route, { durations }]) => [route, durations] as const)
    return Object.fromEntries(routes)
  }

  add(route: string, status: number, durationMs: number): void {
    let counts = this.#routes.get(route)
    if (counts === undefined) {
      counts = { durations: new Histogram(), byStatus: new Map() }
      this.#routes.set(route, counts)
    }
    counts.durations.observe(durationMs)
    counts.byStatus.set(status, (counts.byStatus.get(status) ?? 0) + 1)
  }

  /** Each route and status with its number of requests. */
  *entries(): Iterable<readonly [route: string, status: number, count: number]> {
    for (const [route, { byStatus }] of this.#routes) {
      for (const [status, count] of byStatus) yield [route, status, count]
    }
  }
}
