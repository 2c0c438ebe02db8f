/**
 * Ways to move the wall clock of one node among many on a machine: libfaketime where it is
 * installed, which stands between a process and the C library and so deceives everything in it;
 * elsewhere a module that is loaded before the node and replaces Date. Monotonic time stays true.
 */
import { globSync, renameSync, rmSync, writeFileSync } from 'node:fs'

export interface WallClocks {
  readonly name: string
  /** What a process needs in its environment to read its offset from a file. */
  environment(file: string): Readonly<Record<string, string>>
  /** What Node loads first, as `--import` of its options. */
  readonly imports: readonly string[]
  /** Moves the clock of those who read this file away from the right time. */
  set(file: string, offsetMs: number): void
  /** Cleans up behind a process that had the environment, however it ended. */
  ended(pid: number): void
}

/** Whole or not at all: a node may read it right now, and libfaketime ends whoever reads half. */
function writeWhole(file: string, text: string): void {
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
}

function libfaketime(library: string): WallClocks {
  return {
    name: 'libfaketime',
    environment: file => ({
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      // Timers, deadlines and leases rest on the monotonic clock, which no operator can move. Both
      // names are in use, by the version.
      DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    }),
    imports: [],
    set: (file, offsetMs) => {
      writeWhole(file, `${offsetMs < 0 ? '-' : '+'}${Math.abs(offsetMs) / 1000}`)
    },
    ended: pid => {
      // It leaves these behind when a process is killed, and a later one of the same id ends on them.
      for (const name of [`faketime_shm_${pid}`, `sem.faketime_sem_${pid}`]) {
        rmSync(`/dev/shm/${name}`, { force: true })
      }
    },
  }
}

const dateShim: WallClocks = {
  name: 'a replaced Date',
  environment: file => ({ CHAOS_CLOCK: file }),
  imports: [new URL('./clock-shim.ts', import.meta.url).href],
  set: (file, offsetMs) => writeWhole(file, String(offsetMs)),
  ended: () => {},
}

/** All that this machine has, the best first. */
export function findWallClocks(): readonly [WallClocks, ...WallClocks[]] {
  const places = ['/usr/lib/*/faketime', '/usr/lib/faketime', '/usr/local/lib/faketime']
  const [library] =
    process.platform === 'linux'
      ? places.flatMap(place => globSync(`${place}/libfaketimeMT.so.1`))
      : []
  return library === undefined ? [dateShim] : [libfaketime(library), dateShim]
}
