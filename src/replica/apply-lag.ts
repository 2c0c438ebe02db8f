/**
 * How far the engines of a quorum are behind what the leader has committed, in time and bytes.
 * A leader that outruns them would leave its successor with minutes of catching up; so it takes no
 * more writes while the lag is over its limit. (Galera's flow control, but by the quorum: one slow
 * replica alone slows nobody.)
 */

interface Mark {
  readonly index: number
  readonly atMs: number
  /** Bytes of all own entries up to and with this one. */
  readonly totalBytes: number
}

export class ApplyLag {
  #marks: Mark[] = []
  #head = 0
  #totalBytes = 0
  #doneBytes = 0

  /** Own entry `index` was committed now. */
  committed(index: number, sizeBytes: number, nowMs: number): void {
    this.#totalBytes += sizeBytes
    this.#marks.push({ index, atMs: nowMs, totalBytes: this.#totalBytes })
  }

  /** A quorum has applied everything up to `index`. */
  applied(index: number): void {
    for (let mark = this.#marks[this.#head]; mark !== undefined && mark.index <= index;) {
      this.#doneBytes = mark.totalBytes
      this.#head += 1
      mark = this.#marks[this.#head]
    }
    if (this.#head > 1024 && this.#head * 2 > this.#marks.length) {
      this.#marks = this.#marks.slice(this.#head)
      this.#head = 0
    }
  }

  /** Another term: what is still open belongs to nobody. */
  reset(): void {
    this.#marks = []
    this.#head = 0
    this.#doneBytes = this.#totalBytes
  }

  lagMs(nowMs: number): number {
    const first = this.#marks[this.#head]
    return first === undefined ? 0 : nowMs - first.atMs
  }

  get lagBytes(): number {
    return this.#totalBytes - this.#doneBytes
  }
}
