/** How much room is left on a file system, asked again and again: it may be shared with others. */
import { statfs, statfsSync } from 'node:fs'
import type { StatsFs } from 'node:fs'
import type { Clock, Timer } from '../base/ports.ts'

const LOOK_MS = 500

export class FreeSpace {
  readonly #directory: string
  readonly #clock: Clock
  #freeBytes: number | undefined
  #timer: Timer | undefined
  #isStopped = false

  /** Of the file system that `directory` is on; it must be there. */
  constructor(directory: string, clock: Clock) {
    this.#directory = directory
    this.#clock = clock
  }

  /** Looks at once, and from then on twice a second. */
  start(): void {
    try {
      this.#freeBytes = bytesOf(statfsSync(this.#directory))
    } catch {
      // Not every file system can tell.
      this.#freeBytes = undefined
    }
    this.#timer = this.#clock.setTimer(LOOK_MS, () => this.#look())
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  /** What a program without special rights may still write; undefined if that is not known. */
  get freeBytes(): number | undefined {
    return this.#freeBytes
  }

  #look(): void {
    // The next question waits for this answer: a disk that hangs must not gather questions.
    statfs(this.#directory, (error, stats) => {
      if (this.#isStopped) return
      this.#freeBytes = error === null ? bytesOf(stats) : undefined
      this.#timer = this.#clock.setTimer(LOOK_MS, () => this.#look())
    })
  }
}

function bytesOf({ bavail, bsize }: StatsFs): number {
  return bavail * bsize
}
