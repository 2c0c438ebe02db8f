/**
 * The invariant: whatever the log says after a crash is what it said after some call before it, no
 * older than the last call that was acknowledged as durable, and in no case a mixture.
 *
 * Modelled are crashes at every operation of the disk (in the middle of it), of the process alone
 * and of the machine, where of the unflushed bytes and names any part survives, sectors are torn,
 * and what one life left behind meets what the next one writes; and flushes that fail, keep some of
 * the bytes, and leave all of them in the cache. Not modelled: disks that lie about flushes; for
 * damage of what was flushed see recovery.test.ts.
 *
 * `WAL_SEEDS=200 node --test test/wal/crash.test.ts` looks longer.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SURVIVALS } from '../../sim/sim-file.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import type { WalOptions } from '../../src/wal/wal.ts'
import { type Crash, runLives } from './lives.ts'

const SEEDS = Number(process.env['WAL_SEEDS'] ?? 1)
const ENDS = [...SURVIVALS, 'process-crash', 'flush-fails'] as const
const STEPS = 20

/** Runs a workload, and again with a crash at each of its operations, ended in each way. */
function crashEverywhere(firstSeed: number, options: Partial<WalOptions>, after: number): void {
  for (let seed = firstSeed; seed < firstSeed + SEEDS; seed++) {
    const random = new SimRandom(seed, 'crashes')
    const operationCount = runLives({ seed, crashes: [], stepCount: STEPS, options })
    assert(operationCount > STEPS, `only ${operationCount} operations`)
    for (let operation = 1; operation <= operationCount; operation++) {
      for (const end of ENDS) {
        const later = Array.from({ length: after }, (): Crash => {
          return { operation: random.between(1, operationCount), end: random.pick(ENDS) }
        })
        const crashes = [{ operation, end }, ...later]
        try {
          runLives({ seed, crashes, stepCount: STEPS, options })
        } catch (error) {
          const what = JSON.stringify({ options, crashes })
          throw new Error(`seed ${seed}: ${what}`, { cause: error })
        }
      }
    }
  }
}

test('a log survives a crash at each operation, and another one in the life after', () => {
  crashEverywhere(1, {}, 1)
})

test('a log survives three crashes when nothing is filled ahead and nothing is cached', () => {
  crashEverywhere(1000, { fillSizeBytes: 0, cacheSizeBytes: 0, batchSizeBytesMax: 0 }, 2)
})

test('a log survives crashes when every batch begins a segment', () => {
  crashEverywhere(2000, { segmentSizeBytes: 1 }, 1)
})
