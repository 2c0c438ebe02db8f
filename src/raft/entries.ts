/** Sizes of entries, for the limits on messages, windows and the uncommitted tail. */
import { EMPTY_BYTES, type Entry, type EntryType } from './types.ts'

/** An entry as it is proposed: the leader gives it its term and index. */
export function draftEntry(type: EntryType, data: Uint8Array = EMPTY_BYTES): Entry {
  return { term: 0, index: 0, type, data }
}

/**
 * What an entry counts against limits on messages and batches: payload plus its head, with numbers
 * in variable-length encoding. The wire and the disk may differ from it by a few bytes.
 */
export function entrySizeBytes(entry: Entry): number {
  const length = entry.data.length
  const payload = length === 0 ? 0 : 1 + varintSizeBytes(length) + length
  return 4 + varintSizeBytes(entry.term) + varintSizeBytes(entry.index) + payload
}

/** The sum of `entrySizeBytes`. */
export function entriesSizeBytes(entries: readonly Entry[]): number {
  let sizeBytes = 0
  for (const entry of entries) sizeBytes += entrySizeBytes(entry)
  return sizeBytes
}

/**
 * What entries count against windows and the uncommitted tail: the payload only, so that an empty
 * entry (a new leader's first one, or the one that leaves a joint membership) is never refused.
 */
export function payloadsSizeBytes(entries: readonly Entry[]): number {
  let sizeBytes = 0
  for (const entry of entries) sizeBytes += entry.data.length
  return sizeBytes
}

/** The longest prefix that fits into `maxSizeBytes`, but at least one entry if there is any. */
export function limitSize(entries: readonly Entry[], maxSizeBytes: number): readonly Entry[] {
  let sizeBytes = 0
  for (const [position, entry] of entries.entries()) {
    sizeBytes += entrySizeBytes(entry)
    if (position > 0 && sizeBytes > maxSizeBytes) return entries.slice(0, position)
  }
  return entries
}

function varintSizeBytes(value: number): number {
  let sizeBytes = 1
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) sizeBytes++
  return sizeBytes
}
