/**
 * The head of a segment: whose log it is, where it continues, and what a node must know if all
 * segments before it are gone. A segment gets its name only after its head is on disk, so a segment
 * without a valid head is damaged, never unfinished.
 */
import { type Checksum } from '../base/crc32.ts'
import { DbError } from '../base/errors.ts'
import type { HardState } from '../raft/types.ts'
import { damaged } from './damage.ts'
import {
  HARD_STATE_SIZE_BYTES,
  baseSizeBytes,
  readHardState,
  readBase,
  readNumber,
  writeHardState,
  writeBase,
  writeNumber,
  type LogBase,
} from './payload.ts'

/*
 * | offset | size | meaning                                                                     |
 * | 0      | 8    | "LSTEPWAL"                                                                  |
 * | 8      | 4    | format version; this field and those around it never move                   |
 * | 12     | 4    | size of the head, a multiple of 512; records begin there                    |
 * | 16     | 4    | CRC-32 of the whole head with this field as zero                            |
 * | 20     | 4    | seed: the last checksum of the segment before, 0 in the first               |
 * | 24     | 8    | sequence number of the segment, from 1, as in its name                      |
 * | 32     | 8    | raft id                                                                     |
 * | 40     | 8    | group id                                                                    |
 * | 48     | 8    | where the segment before ends; 0 in the first                               |
 * | 56     | 8    | number of the last batch before this segment                                |
 * | 64     | 8    | index of the last entry before this segment                                 |
 * | 72     | 8    | term of that entry                                                          |
 * | 80     | 24   | hard state                                                                  |
 * | 104    | 8    | size of the cluster id in bytes, m                                          |
 * | 112    | 8    | size of the base, n                                                         |
 * | 120    | n    | base: index and term before the first entry of the log, and the members     |
 * | 120+n  | m    | cluster id, UTF-8                                                           |
 */

/**
 * The format that this program reads and writes. The first one, which knew no changes of members,
 * was never released.
 */
export const FORMAT_VERSION = 2

const MAGIC = new TextEncoder().encode('LSTEPWAL')
const HEADER_ALIGNMENT_BYTES = 512
const HEADER_SIZE_BYTES_MAX = 1 << 20
const FIXED_SIZE_BYTES = 120

/** Whose log it is. A log is never read under another identity. */
export interface WalIdentity {
  readonly clusterId: string
  readonly groupId: number
  readonly raftId: number
}

/** What the head of a segment says. */
export interface SegmentHeader {
  readonly identity: WalIdentity
  readonly sequence: number
  readonly seed: number
  readonly previousEndOffset: number
  readonly previousBatch: number
  readonly previousIndex: number
  readonly previousTerm: number
  readonly hardState: HardState
  readonly base: LogBase
}

/** The head as bytes; its length is where records begin. */
export function encodeSegmentHeader(header: SegmentHeader, checksum: Checksum): Uint8Array {
  const clusterId = new TextEncoder().encode(header.identity.clusterId)
  const baseBytes = baseSizeBytes(header.base)
  const neededBytes = FIXED_SIZE_BYTES + baseBytes + clusterId.length
  const bytes = new Uint8Array(
    Math.ceil(neededBytes / HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES,
  )
  const view = new DataView(bytes.buffer)
  bytes.set(MAGIC, 0)
  view.setUint32(8, FORMAT_VERSION, true)
  view.setUint32(12, bytes.length, true)
  view.setUint32(20, header.seed, true)
  writeNumber(view, 24, header.sequence)
  writeNumber(view, 32, header.identity.raftId)
  writeNumber(view, 40, header.identity.groupId)
  writeNumber(view, 48, header.previousEndOffset)
  writeNumber(view, 56, header.previousBatch)
  writeNumber(view, 64, header.previousIndex)
  writeNumber(view, 72, header.previousTerm)
  writeHardState(view, 80, header.hardState)
  writeNumber(view, 80 + HARD_STATE_SIZE_BYTES, clusterId.length)
  writeNumber(view, 88 + HARD_STATE_SIZE_BYTES, baseBytes)
  writeBase(view, FIXED_SIZE_BYTES, header.base)
  bytes.set(clusterId, FIXED_SIZE_BYTES + baseBytes)
  view.setUint32(16, checksum(bytes, 0, bytes.length, 0), true)
  return bytes
}

/** A head that was read, and where the records of its segment begin. */
export interface DecodedHeader {
  readonly header: SegmentHeader
  readonly sizeBytes: number
}

/**
 * Reads the head at the beginning of `bytes`, the content of `path`, or throws CORRUPT or
 * WRONG_DATA.
 */
export function decodeSegmentHeader(
  bytes: Uint8Array,
  path: string,
  checksum: Checksum,
): DecodedHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length < FIXED_SIZE_BYTES || MAGIC.some((byte, position) => bytes[position] !== byte)) {
    throw damaged(path, 0, 'it does not begin like a segment of the log')
  }
  const sizeBytes = view.getUint32(12, true)
  if (
    sizeBytes > Math.min(bytes.length, HEADER_SIZE_BYTES_MAX) ||
    sizeBytes < FIXED_SIZE_BYTES ||
    checksumOf(bytes, sizeBytes, checksum) !== view.getUint32(16, true)
  ) {
    throw damaged(path, 0, 'the checksum of its head does not match')
  }
  const version = view.getUint32(8, true)
  if (version > 0 && version !== FORMAT_VERSION) {
    const other = version > FORMAT_VERSION ? 'newer' : 'older'
    const text =
      `${path} is of log format ${version}, and this program reads ${FORMAT_VERSION}: ` +
      `start the ${other} version of the program that wrote it`
    throw new DbError('WRONG_DATA', text, { details: { file: path, version } })
  }
  const contentBytes = readNumber(view, 104) + readNumber(view, 112)
  const fits = version > 0 && contentBytes <= sizeBytes - FIXED_SIZE_BYTES
  const base = fits ? readBase(view, FIXED_SIZE_BYTES, readNumber(view, 112)) : undefined
  if (base === undefined) {
    throw damaged(path, 0, 'its head has a valid checksum and an impossible content')
  }
  return { header: readFields(bytes, view, base), sizeBytes }
}

function readFields(bytes: Uint8Array, view: DataView, base: LogBase): SegmentHeader {
  const clusterIdStart = FIXED_SIZE_BYTES + readNumber(view, 112)
  const clusterIdEnd = clusterIdStart + readNumber(view, 104)
  return {
    identity: {
      clusterId: new TextDecoder().decode(bytes.subarray(clusterIdStart, clusterIdEnd)),
      raftId: readNumber(view, 32),
      groupId: readNumber(view, 40),
    },
    seed: view.getUint32(20, true),
    sequence: readNumber(view, 24),
    previousEndOffset: readNumber(view, 48),
    previousBatch: readNumber(view, 56),
    previousIndex: readNumber(view, 64),
    previousTerm: readNumber(view, 72),
    hardState: readHardState(view, 80),
    base,
  }
}

/** The checksum of a head, its own field read as zero. */
function checksumOf(bytes: Uint8Array, sizeBytes: number, checksum: Checksum): number {
  const copy = bytes.slice(0, sizeBytes)
  copy.fill(0, 16, 20)
  return checksum(copy, 0, sizeBytes, 0)
}
