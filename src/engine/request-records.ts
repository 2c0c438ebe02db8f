/**
 * What one entry adds to a book of request ids, as bytes: for each request its id, and what it was
 * answered as far as that is kept. Every node makes the same bytes, since they are in its files.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { SqlValue, StatementResult } from '../base/sql.ts'
import type { RequestId, RequestResult } from './engine.ts'
import type { RowsDigest, StatementOutcome } from './entry.ts'
import { bodyOffset } from './request.ts'
import { decodeRequestId, encodeRequestId } from './request-id.ts'
import { decodeStatementResults, encodeStatementResults } from './result-codec.ts'
import { RowHash } from './hash.ts'
import { ANSWER_BYTES_MAX } from './limits.ts'

const CANCELLED = 0
const APPLIED = 1
const APPLIED_WITHOUT_ROWS = 2

/** What is known of a request that took effect. */
export interface AppliedRequest {
  readonly type: 'applied'
  /** Of everything in the request but its id. */
  readonly hash: RowsDigest
  readonly result: RequestResult & { readonly type: 'ok' }
}

/** What is known of a request: it took effect, or it never will. */
export type RequestFate = AppliedRequest | { readonly type: 'cancelled' }

/** What a book knows of an id. */
export type Found =
  | RequestFate
  /** Never heard of it, and it would have been. */
  | { readonly type: 'fresh' }
  /** Nobody can tell any more. */
  | { readonly type: 'expired' }

const hash = new RowHash()
/** An answer of the greatest size, with its state, hash and length. */
const ANSWER_ROOM = ANSWER_BYTES_MAX + 13

/** A hash of a request's bytes without its id: the same id with another body is a mistake. */
export function hashBody(request: Uint8Array): RowsDigest {
  hash.reset()
  // The type stands before the id.
  hash.word(request[1] ?? 0)
  hash.bytes(request, bodyOffset(request))
  return hash.digest()
}

/**
 * Layout, for each request: its id (request-id.ts), u8 state (0 cancelled, 1 applied, 2 applied and
 * the answer has no rows); if applied: hash u32 low, u32 high, results as u32 length and bytes.
 */
export class RecordsBuilder {
  readonly ids: RequestId[] = []
  readonly #writer = new ByteWriter(256)

  /** `results` and `outcomes` belong together, one of each for a statement. */
  addApplied(
    id: RequestId,
    request: Uint8Array,
    results: readonly StatementResult[],
    outcomes: readonly StatementOutcome[],
  ): void {
    const writer = this.#writer
    this.#addId(id)
    const isKept = mayBeKept(results, outcomes)
    const start = writer.length
    this.#answer(isKept ? APPLIED : APPLIED_WITHOUT_ROWS, request, results)
    if (writer.length - start <= ANSWER_ROOM) return
    writer.truncate(start)
    this.#answer(APPLIED_WITHOUT_ROWS, request, results)
    if (writer.length - start <= ANSWER_ROOM) return
    writer.truncate(start)
    this.#answer(APPLIED_WITHOUT_ROWS, request, [])
  }

  #answer(state: number, request: Uint8Array, results: readonly StatementResult[]): void {
    const writer = this.#writer
    writer.u8(state)
    const { low, high } = hashBody(request)
    writer.u32(low)
    writer.u32(high)
    const lengthAt = writer.length
    writer.u32(0)
    encodeStatementResults(writer, state === APPLIED ? results : results.map(withoutRows))
    writer.setU32(lengthAt, writer.length - lengthAt - 4)
  }

  addCancelled(id: RequestId): void {
    this.#addId(id)
    this.#writer.u8(CANCELLED)
  }

  /** When a key was born tells nothing any more of one that is known. */
  #addId(id: RequestId): void {
    const known: RequestId = id.type === 'key' ? { type: 'key', key: id.key } : id
    this.ids.push(known)
    encodeRequestId(this.#writer, known)
  }

  /** What these records say of an id, undefined if nothing. */
  find(id: RequestId): RequestFate | undefined {
    return this.ids.some(each => isSame(each, id)) ? findFate(this.bytes(), id) : undefined
  }

  /** Valid until more is added. */
  bytes(): Uint8Array {
    return this.#writer.view()
  }
}

/** One request of some records, with the place of its bytes in them. */
export interface RequestRecord {
  readonly id: RequestId
  readonly start: number
  readonly end: number
  /** Undefined if it was cancelled. */
  readonly applied: StoredAnswer | undefined
}

interface StoredAnswer {
  readonly low: number
  readonly high: number
  readonly isWhole: boolean
  readonly results: Uint8Array
}

/** Reads what a {@link RecordsBuilder} wrote. Throws `DbError` CORRUPT. */
export function readRecords(records: Uint8Array): RequestRecord[] {
  const reader = new ByteReader(records)
  const read: RequestRecord[] = []
  while (reader.remaining > 0) {
    const start = reader.offset
    const id = decodeRequestId(reader)
    if (id === undefined) throw new DbError('CORRUPT', 'a remembered request has no id')
    const applied = readAnswer(reader)
    read.push({ id, start, end: reader.offset, applied })
  }
  return read
}

function readAnswer(reader: ByteReader): StoredAnswer | undefined {
  const state = reader.u8()
  if (state === CANCELLED) return undefined
  if (state > APPLIED_WITHOUT_ROWS) {
    throw new DbError('CORRUPT', `${state} is no state of a remembered request`)
  }
  const low = reader.u32()
  const high = reader.u32()
  return { low, high, isWhole: state === APPLIED, results: reader.raw(reader.u32()) }
}

/** What records say of an id, undefined if nothing. */
export function findFate(records: Uint8Array, id: RequestId): RequestFate | undefined {
  const record = readRecords(records).findLast(each => isSame(each.id, id))
  return record && fateOf(record)
}

function isSame(a: RequestId, b: RequestId): boolean {
  if (a.type === 'key' || b.type === 'key') {
    return a.type === 'key' && b.type === 'key' && a.key === b.key
  }
  return a.session.name === b.session.name && a.sequence === b.sequence
}

function fateOf({ applied }: RequestRecord): RequestFate {
  if (applied === undefined) return { type: 'cancelled' }
  const { low, high, isWhole, results: stored } = applied
  const results = decodeStatementResults(new ByteReader(stored))
  const cut = !isWhole && { rowsDropped: true as const }
  return { type: 'applied', hash: { low, high }, result: { type: 'ok', results, ...cut } }
}

function withoutRows({ rowsAffected, lastInsertId }: StatementResult): StatementResult {
  return lastInsertId === undefined ? { rowsAffected } : { rowsAffected, lastInsertId }
}

/** Spares encoding megabytes to find that they are too long. */
function mayBeKept(
  results: readonly StatementResult[],
  outcomes: readonly StatementOutcome[],
): boolean {
  // Of each result, two bytes at least.
  let least = results.length * 2
  for (let at = 0; at < results.length && least <= ANSWER_BYTES_MAX; at++) {
    const rows = results[at]?.rows
    if (rows === undefined) continue
    // Rows without a digest are an EXPLAIN's, and not the same on every node.
    if (outcomes[at]?.rowsDigest === undefined) return false
    for (let row = 0; row < rows.length && least <= ANSWER_BYTES_MAX; row++) {
      for (const value of rows[row] ?? []) least += leastBytes(value)
    }
  }
  return least <= ANSWER_BYTES_MAX
}

function leastBytes(value: SqlValue): number {
  return typeof value === 'string' || value instanceof Uint8Array ? value.length : 1
}
