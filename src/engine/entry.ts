/**
 * A log entry as bytes: the requests of a batch that succeeded on the leader, with what came of
 * each statement. The leader's engine builds it, the followers' engines read it, and nobody else
 * looks inside.
 */
import { assert } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { WriteRequest } from './engine.ts'
import { expectVersion } from './format-version.ts'
import { SEED_BYTES } from './limits.ts'
import { decodeRequest } from './request.ts'

const VERSION = 1
const HAS_LAST_INSERT_ID = 1
const HAS_ROWS = 2

/** Version, the longest moment, a seed and a count. */
const DIGEST_POINT_BYTES_MAX = 1 + 8 + SEED_BYTES + 4

/** What one statement gave, small enough to be in every entry and enough to be compared. */
export interface StatementOutcome {
  readonly rowsAffected: number
  readonly lastInsertId: bigint | undefined
  /** Digest over the returned rows in their order, undefined if the statement returns none. */
  readonly rowsDigest: RowsDigest | undefined
}

/** 64 bits as two unsigned halves. */
export interface RowsDigest {
  readonly low: number
  readonly high: number
}

export interface Entry {
  readonly nowMs: number
  readonly seed: Uint8Array
  readonly requests: readonly EntryRequest[]
}

export interface EntryRequest {
  readonly request: WriteRequest
  /** Of `encodeRequest`. */
  readonly bytes: Uint8Array
  /** One for each statement that was run, in their order; none for what isn't statements. */
  readonly outcomes: readonly StatementOutcome[]
}

/**
 * Builds an entry while its batch is executed. Layout: version u8 · nowMs varint · seed 16 bytes ·
 * request count u32 · for each: request bytes (varint length, `encodeRequest`), varint count of
 * outcomes, outcomes. An outcome: flags u8 · rowsAffected varint · lastInsertId zigzag64 if flag 1
 * · digest of rows u32 low, u32 high if flag 2.
 */
export class EntryBuilder {
  readonly #writer = new ByteWriter(4096)
  #countOffset = 0
  #count = 0

  /** Requests added since `begin`. */
  get count(): number {
    return this.#count
  }

  begin(nowMs: number, seed: Uint8Array): void {
    assert(seed.length === SEED_BYTES, `a seed has ${SEED_BYTES} bytes, not ${seed.length}`)
    const writer = this.#writer
    writer.reset()
    writer.u8(VERSION)
    writer.varint(nowMs)
    writer.raw(seed)
    this.#countOffset = writer.length
    writer.u32(0)
    this.#count = 0
  }

  /** `request` are the bytes of `encodeRequest`, as they were executed. */
  add(request: Uint8Array, outcomes: readonly StatementOutcome[]): void {
    const writer = this.#writer
    writer.bytes(request)
    writer.varint(outcomes.length)
    for (const outcome of outcomes) encodeStatementOutcome(writer, outcome)
    this.#count++
  }

  finish(): Uint8Array<ArrayBuffer> {
    this.#writer.setU32(this.#countOffset, this.#count)
    return this.#writer.finish()
  }
}

/**
 * An entry without requests. It changes nothing, in any release, and marks a place in the log:
 * every node takes a digest of its data right after it.
 */
export function encodeDigestPoint(nowMs: number): Uint8Array {
  const builder = new EntryBuilder()
  builder.begin(nowMs, new Uint8Array(SEED_BYTES))
  return builder.finish()
}

/** Whether an entry is a digest point. Asked of every entry, so that it is not decoded. */
export function isDigestPoint(data: Uint8Array): boolean {
  if (data.length > DIGEST_POINT_BYTES_MAX || data[0] !== VERSION) return false
  let at = 1
  while ((data[at] ?? 0) >= 0x80) at++
  const countAt = at + 1 + SEED_BYTES
  return data.length === countAt + 4 && data.subarray(countAt).every(byte => byte === 0)
}

/** Layout: as in an entry. */
export function encodeStatementOutcome(writer: ByteWriter, outcome: StatementOutcome): void {
  const { rowsAffected, lastInsertId, rowsDigest } = outcome
  const idFlag = lastInsertId === undefined ? 0 : HAS_LAST_INSERT_ID
  const rowsFlag = rowsDigest === undefined ? 0 : HAS_ROWS
  writer.u8(idFlag | rowsFlag)
  writer.varint(rowsAffected)
  if (lastInsertId !== undefined) writer.zigzag64(lastInsertId)
  if (rowsDigest === undefined) return
  writer.u32(rowsDigest.low)
  writer.u32(rowsDigest.high)
}

/** Reads what an {@link EntryBuilder} built. Throws `DbError` CORRUPT. */
export function decodeEntry(bytes: Uint8Array): Entry {
  const reader = new ByteReader(bytes)
  const version = reader.u8()
  expectVersion('an entry of the log', version, VERSION)
  const nowMs = reader.varint()
  const seed = reader.raw(SEED_BYTES)
  const count = reader.u32()
  const requests: EntryRequest[] = []
  for (let i = 0; i < count; i++) {
    const requestBytes = reader.bytes()
    const request = decodeRequest(requestBytes)
    const outcomeCount = reader.varint()
    const outcomes: StatementOutcome[] = []
    for (let k = 0; k < outcomeCount; k++) outcomes.push(decodeStatementOutcome(reader))
    requests.push({ request, bytes: requestBytes, outcomes })
  }
  reader.expectEnd()
  return { nowMs, seed, requests }
}

/** Reads what {@link encodeStatementOutcome} wrote. Throws `DbError` CORRUPT. */
export function decodeStatementOutcome(reader: ByteReader): StatementOutcome {
  const flags = reader.u8()
  if (flags > (HAS_LAST_INSERT_ID | HAS_ROWS)) {
    throw new DbError('CORRUPT', `${flags} are no flags of an outcome`)
  }
  const rowsAffected = reader.varint()
  const lastInsertId = (flags & HAS_LAST_INSERT_ID) === 0 ? undefined : reader.zigzag64()
  const rowsDigest =
    (flags & HAS_ROWS) === 0 ? undefined : { low: reader.u32(), high: reader.u32() }
  return { rowsAffected, lastInsertId, rowsDigest }
}
