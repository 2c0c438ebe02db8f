/**
 * WritePlace says where the next durable write of the log is done. On a disk that keeps a write
 * within a few hundred microseconds, handing it to a thread and being woken by that costs more than
 * the write, most of all where all processors are busy; so it is done in place, while the process
 * stands still. On any other disk a thread does it, and the process goes on meanwhile.
 *
 * It learns by trying. A disk that turns slow holds the process up for a few writes, one that
 * stalls for one, and each time it is left alone for longer.
 */

/** Longer ones are mostly the disk's own work, and memory to be copied. */
const SIZE_BYTES_MAX = 256 * 1024
/** A write that takes longer had better be a thread's. */
const FAST_MS_MAX = 0.5
/**
 * At this score the disk is slow. A fast write counts for two slow ones: where processes wait for
 * processors, many writes on the fastest disk take long, and those of a thread still longer.
 */
const SLOW_MAX = 16
const FAST_COUNTS = 2
/** As long as that nothing may stand still if it can be helped. */
const STALL_MS = 50
/** So many writes are left to threads before the next trial; four times as many after each. */
const REST_WRITES_MIN = 64
const REST_WRITES_MAX = 16_384
/** After so many writes in place what was before is forgotten. */
const TRUSTED_WRITES = 1024

export class WritePlace {
  #slow = 0
  /** Writes in place since the last rest. */
  #count = 0
  #restLeft = 0
  #restNext = REST_WRITES_MIN

  /** Whether a write of so many bytes is to be done in place. Asked once for each. */
  isHere(sizeBytes: number): boolean {
    if (sizeBytes > SIZE_BYTES_MAX) return false
    if (this.#restLeft === 0) return true
    this.#restLeft -= 1
    return false
  }

  /** A write in place took so long. */
  took(durationMs: number): void {
    this.#count += 1
    if (this.#count === TRUSTED_WRITES) this.#restNext = REST_WRITES_MIN
    this.#slow = durationMs > FAST_MS_MAX ? this.#slow + 1 : Math.max(0, this.#slow - FAST_COUNTS)
    if (this.#slow < SLOW_MAX && durationMs < STALL_MS) return
    this.#restLeft = this.#restNext
    this.#restNext = Math.min(4 * this.#restNext, REST_WRITES_MAX)
    this.#count = 0
    // After a rest one slow write is enough.
    this.#slow = SLOW_MAX - 1
  }
}
