/** What the tests of engine processes share: directories, waiting, identities. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from '../../../src/base/ports.ts'
import {
  ProcessEngine,
  type ProcessEngineOptions,
} from '../../../src/engine/sqlite/process-engine.ts'
import { SystemClock } from '../../../src/platform/clock.ts'

export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

/** A new directory that is removed with the block it belongs to. */
export function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'lockstep-engine-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

/** Looks until `condition` gives something true, and returns that; fails after `limitMs`. */
export async function waitFor<T>(what: string, condition: () => T, limitMs = 10_000): Promise<T> {
  const deadlineMs = performance.now() + limitMs
  for (;;) {
    const value = condition()
    if (value) return value
    assert(performance.now() < deadlineMs, `${what}: did not happen within ${limitMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

/** Whether the process still runs; one that waits to be collected does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  if (process.platform !== 'linux') return true
  try {
    // The first thread is a zombie at once, the others may still be ending.
    const hasOthers = readdirSync(`/proc/${pid}/task`).length > 1
    return hasOthers || !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}

/** Bytes of all files in a directory and below. */
export function directorySizeBytes(path: string): number {
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).reduce((sum, name) => {
    // A file may go between the look at the directory and the look at it.
    return sum + (statSync(join(path, name), { throwIfNoEntry: false })?.size ?? 0)
  }, 0)
}

/** The engine behind processes, with its files and its register in `directory`. */
export function openProcessEngine(
  directory: string,
  options: Partial<ProcessEngineOptions> = {},
): Promise<ProcessEngine> {
  return ProcessEngine.open({
    directory: join(directory, 'engine'),
    childrenPath: join(directory, 'engine.pids'),
    clock: new SystemClock(),
    logger: silentLogger,
    ...options,
  })
}
