/** Where each entry lies on disk: eight bytes of memory per entry, in runs that share a segment. */
import { assert, must } from '../base/assert.ts'
import type { SegmentKey } from './record.ts'

/** Entries one after another in one segment. */
interface Span {
  readonly segment: SegmentKey
  readonly firstIndex: number
  count: number
  /** Of each entry's record, from the beginning of the segment. */
  offsets: Uint32Array<ArrayBuffer>
  /** Of each entry's data. */
  dataSizes: Uint32Array<ArrayBuffer>
}

/** Where an entry's record begins, and how long its data is. */
export interface EntryPlace {
  readonly segment: SegmentKey
  readonly offset: number
  readonly dataSizeBytes: number
  /** How many entries from this one on lie in the same segment. */
  readonly count: number
}

const SPAN_CAPACITY_FIRST = 64

/** Places of the entries from `firstIndex` to `lastIndex`, without gaps. */
export class EntryLocator {
  /** By index, ascending; each span begins where the one before ends. Never an empty one. */
  #spans: Span[] = []
  /** Entries up to here are of no interest. */
  #baseIndex = 0

  /** Index of the first entry that has a place, or undefined if there is none. */
  get firstIndex(): number | undefined {
    return this.#spans[0]?.firstIndex
  }

  /** Index after the last entry that has a place, or undefined if there is none. */
  get endIndex(): number | undefined {
    const span = this.#spans.at(-1)
    return span === undefined ? undefined : span.firstIndex + span.count
  }

  /** Sequence number of the oldest segment in which an entry lies. */
  get oldestSegment(): number | undefined {
    return this.#spans[0]?.segment.sequence
  }

  append(index: number, segment: SegmentKey, offset: number, dataSizeBytes: number): void {
    const endIndex = this.endIndex
    assert(endIndex === undefined || endIndex === index, `place of ${index} after ${endIndex}`)
    let span = this.#spans.at(-1)
    if (span === undefined || span.segment !== segment) {
      span = {
        segment,
        firstIndex: index,
        count: 0,
        offsets: new Uint32Array(SPAN_CAPACITY_FIRST),
        dataSizes: new Uint32Array(SPAN_CAPACITY_FIRST),
      }
      this.#spans.push(span)
    }
    if (span.count === span.offsets.length) {
      span.offsets = doubled(span.offsets)
      span.dataSizes = doubled(span.dataSizes)
    }
    span.offsets[span.count] = offset
    span.dataSizes[span.count] = dataSizeBytes
    span.count++
  }

  /** Forgets the entries from `index` on. */
  truncate(index: number): void {
    for (let span = this.#spans.at(-1); span !== undefined; span = this.#spans.at(-1)) {
      span.count = Math.min(span.count, Math.max(0, index - span.firstIndex))
      if (span.count > 0 && span.firstIndex + span.count > this.#baseIndex + 1) return
      this.#spans.pop()
    }
  }

  /** Forgets spans that hold nothing after `index`; single entries before it may stay. */
  compact(index: number): void {
    this.#baseIndex = index
    this.#spans = this.#spans.filter(span => span.firstIndex + span.count > index + 1)
  }

  clear(): void {
    this.#spans = []
    this.#baseIndex = 0
  }

  place(index: number): EntryPlace {
    const span = must(this.#findSpan(index), `place of entry ${index}`)
    const position = index - span.firstIndex
    return {
      segment: span.segment,
      offset: must(span.offsets[position]),
      dataSizeBytes: must(span.dataSizes[position]),
      count: span.count - position,
    }
  }

  #findSpan(index: number): Span | undefined {
    let low = 0
    let high = this.#spans.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const span = must(this.#spans[middle])
      if (index < span.firstIndex) high = middle
      else if (index >= span.firstIndex + span.count) low = middle + 1
      else return span
    }
    return undefined
  }
}

function doubled(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2)
  larger.set(array)
  return larger
}
