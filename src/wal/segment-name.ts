/** Names of the files of a log. */

const DIGITS = 16
const PATTERN = /^(\d{16})\.seg$/

/** What a segment is called before its head is on disk. */
export const UNFINISHED_SUFFIX = '.tmp'

/** Name of the segment with this sequence number; names sort as numbers do. */
export function segmentName(sequence: number): string {
  return `${String(sequence).padStart(DIGITS, '0')}.seg`
}

/** The sequence number in a segment's name, or undefined if it isn't one. */
export function parseSegmentName(name: string): number | undefined {
  const digits = PATTERN.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}
