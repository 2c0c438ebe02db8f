/**
 * How fast the log takes appends on this machine's disk: one line for each number of appends that
 * wait at a time and each size of entry. `node bench/wal.ts [--seconds 2] [--directory DIR]`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { RealDisk, fastCrc32 } from '../src/platform/disk.ts'
import { Wal, type WalOptions } from '../src/wal/wal.ts'

const IDENTITY = { clusterId: 'bench', groupId: 1, raftId: 1 }

interface Result {
  readonly appendsPerSecond: number
  readonly megabytesPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '2' },
    directory: { type: 'string', default: tmpdir() },
    'fill-bytes': { type: 'string', default: String(1 << 20) },
  },
})
const fillSizeBytes = Number(values['fill-bytes'])

for (const sizeBytes of [200, 16 * 1024]) {
  for (const pending of [1, 16, 64]) {
    const result = await run(sizeBytes, pending, Number(values.seconds) * 1000, { fillSizeBytes })
    console.log(
      `${String(sizeBytes).padStart(6)} B  ${String(pending).padStart(3)} waiting  ` +
        `${result.appendsPerSecond.toFixed(0).padStart(7)} appends/s  ` +
        `${result.megabytesPerSecond.toFixed(1).padStart(6)} MB/s  ` +
        `p50 ${result.p50Ms.toFixed(2)} ms  p99 ${result.p99Ms.toFixed(2)} ms`,
    )
  }
}

/** Keeps `pending` appends waiting for `durationMs`. */
async function run(
  sizeBytes: number,
  pending: number,
  durationMs: number,
  options: Partial<WalOptions>,
): Promise<Result> {
  const root = mkdtempSync(join(values.directory, 'lockstep-bench-'))
  const wal = Wal.open({
    disk: new RealDisk(root),
    directory: 'log',
    identity: IDENTITY,
    options,
    checksum: fastCrc32,
    onFatal: error => {
      throw error
    },
  })
  const data = new Uint8Array(sizeBytes).fill(7)
  const waits: number[] = []
  const startMs = performance.now()
  await new Promise<void>(resolve => {
    let index = 0
    let open = 0
    const more = (): void => {
      const appendedMs = performance.now()
      if (appendedMs - startMs > durationMs) {
        if (open === 0) resolve()
        return
      }
      index++
      open++
      wal.append({ entries: [{ term: 1, index, type: 'normal', data }] }, () => {
        open--
        waits.push(performance.now() - appendedMs)
        more()
      })
    }
    for (let first = 0; first < pending; first++) more()
  })
  const seconds = (performance.now() - startMs) / 1000
  await new Promise<void>(resolve => wal.close(resolve))
  rmSync(root, { recursive: true })
  waits.sort((left, right) => left - right)
  return {
    appendsPerSecond: waits.length / seconds,
    megabytesPerSecond: (waits.length * sizeBytes) / 1e6 / seconds,
    p50Ms: waits[Math.floor(waits.length * 0.5)] ?? 0,
    p99Ms: waits[Math.floor(waits.length * 0.99)] ?? 0,
  }
}
