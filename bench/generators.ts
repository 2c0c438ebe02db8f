/** Runs a load generator as a process of its own, and looks at the servers meanwhile. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { familyOf, sum } from './processes.ts'

const SAMPLE_MS = 250

export interface Generated<Measured> {
  /** What the generator wrote. */
  readonly measured: Measured
  /** Of all servers together, at its highest. */
  readonly memoryBytesMax: number
}

/** Runs `script` with `plan` as its argument; `servers` are the processes that are loaded. */
export async function generate<Measured>(
  script: URL,
  plan: unknown,
  { signal, servers = [] }: { signal?: AbortSignal; servers?: readonly number[] } = {},
): Promise<Generated<Measured>> {
  const child = spawn(process.execPath, [script.pathname, JSON.stringify(plan)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(signal !== undefined && { signal }),
    killSignal: 'SIGKILL',
  })
  child.once('error', () => child.kill('SIGKILL'))
  let output = ''
  child.stdout.on('data', chunk => (output += String(chunk)))
  let memoryBytesMax = 0
  let family: number[] = []
  const timer = setInterval(() => {
    if (servers.length === 0) return
    if (family.length === 0) family = familyOf(servers)
    memoryBytesMax = Math.max(memoryBytesMax, sum(family).memoryBytes)
  }, SAMPLE_MS)
  try {
    const [code] = (await once(child, 'close')) as [number | null]
    signal?.throwIfAborted()
    if (code !== 0) throw new Error(`the load generator ended with ${code}`)
  } finally {
    clearInterval(timer)
  }
  return { measured: JSON.parse(output) as Measured, memoryBytesMax }
}
