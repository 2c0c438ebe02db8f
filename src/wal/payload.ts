/** What records carry: positions, hard states and bases, in fixed little-endian fields. */
import type { ConfState, HardState, SnapshotMetadata } from '../raft/types.ts'

/*
 * Numbers are 8 bytes: the low half first. Layouts:
 *   entry:      term, index, then the data up to the end of the payload
 *   hard state: term, vote, commit
 *   truncate:   first index that is dropped
 *   base, reset: index, term, auto-leave (0 or 1), then four lists of ids, each as count and ids:
 *               voters, learners, outgoing voters, next learners; then the book as its size and
 *               its bytes
 */

/** The members as of an entry. */
export interface StoredMembers {
  readonly confState: ConfState
  /** Who the numbers are: bytes of whoever keeps the log, never read here. */
  readonly book: Uint8Array
}

/** What a log begins after. */
export interface LogBase extends SnapshotMetadata, StoredMembers {}

/** Size of a number. */
export const NUMBER_SIZE_BYTES = 8

/** What an entry's payload has before its data. */
export const ENTRY_HEAD_SIZE_BYTES = 2 * NUMBER_SIZE_BYTES

/** Size of a hard state. */
export const HARD_STATE_SIZE_BYTES = 3 * NUMBER_SIZE_BYTES

/** Writes a whole number from 0 to 2^53 - 1. */
export function writeNumber(view: DataView, position: number, value: number): void {
  view.setUint32(position, value >>> 0, true)
  view.setUint32(position + 4, Math.floor(value / 0x1_0000_0000), true)
}

/** Reads what `writeNumber` wrote. */
export function readNumber(view: DataView, position: number): number {
  return view.getUint32(position, true) + view.getUint32(position + 4, true) * 0x1_0000_0000
}

/** Writes a hard state. */
export function writeHardState(view: DataView, position: number, hardState: HardState): void {
  writeNumber(view, position, hardState.term)
  writeNumber(view, position + 8, hardState.vote)
  writeNumber(view, position + 16, hardState.commit)
}

/** Reads a hard state. */
export function readHardState(view: DataView, position: number): HardState {
  return {
    term: readNumber(view, position),
    vote: readNumber(view, position + 8),
    commit: readNumber(view, position + 16),
  }
}

/** The lists of a membership in the order in which they are stored. */
function listsOf(confState: ConfState): readonly (readonly number[])[] {
  const { voters, learners, votersOutgoing, learnersNext } = confState
  return [voters, learners, votersOutgoing, learnersNext]
}

/** Size of a base. */
export function baseSizeBytes(base: LogBase): number {
  const idCount = listsOf(base.confState).reduce((sum, list) => sum + list.length, 0)
  return NUMBER_SIZE_BYTES * (3 + 4 + idCount + 1) + base.book.length
}

/** Writes a base. */
export function writeBase(view: DataView, position: number, base: LogBase): void {
  writeNumber(view, position, base.index)
  writeNumber(view, position + 8, base.term)
  writeNumber(view, position + 16, base.confState.autoLeave ? 1 : 0)
  let next = position + 24
  for (const list of listsOf(base.confState)) {
    for (const value of [list.length, ...list]) {
      writeNumber(view, next, value)
      next += NUMBER_SIZE_BYTES
    }
  }
  writeNumber(view, next, base.book.length)
  new Uint8Array(view.buffer, view.byteOffset + next + NUMBER_SIZE_BYTES).set(base.book)
}

/** Reads a base out of `sizeBytes`; undefined if that is not what they hold. */
export function readBase(view: DataView, position: number, sizeBytes: number): LogBase | undefined {
  const end = position + sizeBytes
  let next = position + 24
  const readList = (): readonly number[] | undefined => {
    if (next + NUMBER_SIZE_BYTES > end) return undefined
    const count = readNumber(view, next)
    const first = next + NUMBER_SIZE_BYTES
    if (count > (end - first) / NUMBER_SIZE_BYTES) return undefined
    next = first + count * NUMBER_SIZE_BYTES
    return Array.from({ length: count }, (_, id) => readNumber(view, first + id * 8))
  }
  const [voters, learners, votersOutgoing, learnersNext] = [
    readList(),
    readList(),
    readList(),
    readList(),
  ]
  if (!voters || !learners || !votersOutgoing || !learnersNext) return undefined
  const bookStart = next + NUMBER_SIZE_BYTES
  if (bookStart > end || bookStart + readNumber(view, next) !== end) return undefined
  const autoLeave = readNumber(view, position + 16) === 1
  return {
    index: readNumber(view, position),
    term: readNumber(view, position + 8),
    confState: { voters, learners, votersOutgoing, learnersNext, autoLeave },
    // A copy: the rest of what was read needn't stay in memory.
    book: new Uint8Array(view.buffer, view.byteOffset + bookStart, end - bookStart).slice(),
  }
}
