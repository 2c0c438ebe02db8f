/**
 * Reads a log back from disk. What was flushed is found again or the log is refused; only a batch
 * that was on its way when the power went may be cut off, and only at the end.
 */
import { must } from '../base/assert.ts'
import type { Checksum } from '../base/crc32.ts'
import { DbError } from '../base/errors.ts'
import type { Disk } from '../base/ports.ts'
import { damaged } from './damage.ts'
import { MARK_AREA_SIZE_BYTES, decodeMark } from './flush-mark.ts'
import { LogImage } from './log-image.ts'
import { type SegmentKey, createWindow } from './record.ts'
import { type DecodedHeader, type WalIdentity, decodeSegmentHeader } from './segment-header.ts'
import { UNFINISHED_SUFFIX, parseSegmentName, segmentName } from './segment-name.ts'
import { findFlushedRecord, scanBatches } from './segment-scan.ts'

/** What there is to recover, and for whom. */
export interface RecoverySettings {
  readonly disk: Disk
  readonly directory: string
  readonly identity: WalIdentity
  readonly checksum: Checksum
}

/** The last segment, where writing goes on. */
export interface RecoveredTail {
  readonly key: SegmentKey
  readonly path: string
  /** Where the mark is, and where the first record is. */
  readonly markOffset: number
  readonly startOffset: number
  /** What the mark says was flushed; 0 if it says nothing. */
  readonly markedOffset: number
  /** Where the next batch goes. */
  readonly endOffset: number
  /** Between `endOffset` and here lie bytes of a batch that never was; they must be cleared. */
  readonly dirtyEndOffset: number
  readonly sizeBytes: number
  readonly lastChecksum: number
  readonly lastBatch: number
}

/** What was found on disk: no log, or one. */
export type Recovery =
  | { readonly type: 'none'; readonly leftovers: readonly string[] }
  | ({ readonly type: 'log' } & RecoveredLog)

/** A log that was found and is whole. */
export interface RecoveredLog {
  readonly image: LogImage
  readonly tail: RecoveredTail
  /** Sequence numbers of all segments in use, ascending. */
  readonly sequences: readonly number[]
  /** Files that are of no use any more. */
  readonly leftovers: readonly string[]
}

interface OpenSegment extends DecodedHeader {
  readonly path: string
  /** Where the first record is. */
  readonly startOffset: number
  readonly bytes: Uint8Array
  readonly key: SegmentKey
}

/** Reads the log in `directory`. Throws CORRUPT or WRONG_DATA. */
export function recover(settings: RecoverySettings): Recovery {
  const names = settings.disk.list(settings.directory)
  const toPath = (name: string): string => `${settings.directory}/${name}`
  const unfinished = names.filter(name => name.endsWith(UNFINISHED_SUFFIX)).map(toPath)
  const all = names.map(parseSegmentName).filter(sequence => sequence !== undefined)
  if (all.length === 0) return { type: 'none', leftovers: unfinished }
  // Of removed segments some may have come back at a power cut, with gaps between them. Only the
  // last ones without a gap are the log; whether they are all of it shows when the base is known.
  const firstInUse = all.findLastIndex(
    (sequence, position) => position === 0 || all[position - 1] !== sequence - 1,
  )
  const sequences = all.slice(firstInUse)
  const unneeded = all.slice(0, firstInUse).map(sequence => toPath(segmentName(sequence)))
  const { image, tail } = readSegments(settings, sequences)
  return { type: 'log', image, tail, sequences, leftovers: [...unneeded, ...unfinished] }
}

function readSegments(
  settings: RecoverySettings,
  sequences: readonly number[],
): Pick<RecoveredLog, 'image' | 'tail'> {
  let segment = openSegment(settings, must(sequences[0]))
  const oldest = segment
  const image = new LogImage(oldest.header)
  let lastBatch = oldest.header.previousBatch
  for (const sequence of sequences.slice(1)) {
    const next = openSegment(settings, sequence)
    lastBatch = readFlushed(segment, next, lastBatch, image, settings.checksum)
    segment = next
  }
  const tail = readTail(segment, lastBatch, image, settings.checksum)
  const fault = image.findFault(oldest.path)
  if (fault !== undefined) throw fault
  return { image, tail }
}

function openSegment(settings: RecoverySettings, sequence: number): OpenSegment {
  const { disk, directory, identity, checksum } = settings
  const path = `${directory}/${segmentName(sequence)}`
  const bytes = disk.read(path, 0, disk.sizeBytes(path))
  const decoded = decodeSegmentHeader(bytes, path, checksum)
  const { header } = decoded
  checkIdentity(header.identity, identity, path)
  if (header.sequence !== sequence) {
    throw damaged(path, 0, `its head says that it is segment ${header.sequence}`)
  }
  const startOffset = decoded.sizeBytes + MARK_AREA_SIZE_BYTES
  return { ...decoded, path, startOffset, bytes, key: { sequence, seed: header.seed } }
}

function checkIdentity(found: WalIdentity, expected: WalIdentity, path: string): void {
  const isSame =
    found.clusterId === expected.clusterId &&
    found.groupId === expected.groupId &&
    found.raftId === expected.raftId
  if (isSame) return
  const name = (identity: WalIdentity): string =>
    `member ${identity.raftId} of group ${identity.groupId} in cluster ${identity.clusterId}`
  throw new DbError(
    'WRONG_DATA',
    `the log file ${path} belongs to ${name(found)}, and this node is ${name(expected)}: ` +
      'start the node with its own data directory',
    { details: { file: path, found, expected } },
  )
}

/** Reads a segment that has a successor: it was flushed completely, so every byte must be right. */
function readFlushed(
  segment: OpenSegment,
  next: OpenSegment,
  lastBatch: number,
  image: LogImage,
  checksum: Checksum,
): number {
  const { header } = next
  const end = header.previousEndOffset
  // The file may end before `end`, by the padding of its last record, which a power cut may take.
  const window = createWindow(segment.key, segment.bytes.subarray(0, end), 0)
  const scan = scanBatches(window, segment.startOffset, lastBatch, checksum, batch => {
    image.applyBatch(batch, segment.path)
  })
  if (scan.endOffset !== end) {
    throw damaged(segment.path, scan.stopOffset, 'a record that was flushed is not readable')
  }
  const isContinued =
    scan.lastChecksum === header.seed &&
    scan.lastBatch === header.previousBatch &&
    image.lastIndex === header.previousIndex &&
    image.lastTerm === header.previousTerm
  if (!isContinued) throw damaged(next.path, 0, `it does not continue ${segment.path}`)
  return scan.lastBatch
}

/** Reads the last segment and finds where it ends. */
function readTail(
  segment: OpenSegment,
  lastBatch: number,
  image: LogImage,
  checksum: Checksum,
): RecoveredTail {
  const { bytes, key, path } = segment
  const window = createWindow(key, bytes, 0)
  const scan = scanBatches(window, segment.startOffset, lastBatch, checksum, batch => {
    image.applyBatch(batch, path)
  })
  const markOffset = segment.sizeBytes
  const markedOffset = decodeMark(key, bytes, markOffset, checksum)
  const witness =
    markedOffset > scan.endOffset ? markOffset : findFlushedRecord(window, scan, checksum)
  if (witness !== undefined) {
    const reason = `what was here was flushed, as byte ${witness} tells, and is not readable`
    throw damaged(path, scan.stopOffset, reason)
  }
  return {
    key,
    path,
    markOffset,
    startOffset: segment.startOffset,
    markedOffset,
    endOffset: scan.endOffset,
    dirtyEndOffset: endOfContent(bytes, scan.endOffset),
    sizeBytes: bytes.length,
    lastChecksum: scan.lastChecksum,
    lastBatch: scan.lastBatch,
  }
}

/** After the last byte that isn't zero, at least `start`. */
function endOfContent(bytes: Uint8Array, start: number): number {
  let end = bytes.length
  while (end > start && bytes[end - 1] === 0) end--
  return end
}
