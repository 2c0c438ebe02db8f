/**
 * What one entry adds to a book of request ids, as bytes: for each request its id, and what it was
 * answered as far as that is kept. Every node makes the same bytes, since they are in its files.
 */
import { ByteReader, ByteWriter } from '../../base/bytes.ts'
import { DbError } from '../../base/errors.ts'
import type { SqlValue, StatementResult } from '../../base/sql.ts'
import type { RequestId, RequestResult } from '../engine.ts'
import type { RowsDigest, StatementOutcome } from '../entry.ts'
import { bodyOffset } from '../request.ts'
import { decodeRequestId, encodeRequestId } from '../request-id.ts'
import { decodeStatementResults, encodeStatementResults } from '../result-codec.ts'
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

const hash = new RowHash()
const scratch = new ByteWriter(ANSWER_BYTES_MAX)

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
 * the answer has no rows); if applied: hash u32 low, u32 high, and the results as bytes.
 */
export class RecordsBuilder {
  readonly ids: RequestId[] = []
  readonly #writer = new ByteWriter(1024)

  /** `results` and `outcomes` belong together, one of each for a statement. */
  addApplied(
    id: RequestId,
    request: Uint8Array,
    results: readonly StatementResult[],
    outcomes: readonly StatementOutcome[],
  ): void {
    const writer = this.#writer
    this.ids.push(id)
    encodeRequestId(writer, id)
    const isWhole = encodeAnswer(results, outcomes)
    writer.u8(isWhole ? APPLIED : APPLIED_WITHOUT_ROWS)
    const { low, high } = hashBody(request)
    writer.u32(low)
    writer.u32(high)
    writer.bytes(scratch.view())
  }

  addCancelled(id: RequestId): void {
    this.ids.push(id)
    encodeRequestId(this.#writer, id)
    this.#writer.u8(CANCELLED)
  }

  /** What these records say of an id, undefined if nothing. */
  find(id: RequestId): RequestFate | undefined {
    return findFate(this.bytes(), id)
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
  return { low, high, isWhole: state === APPLIED, results: reader.bytes() }
}

/** What records say of an id, undefined if nothing. */
export function findFate(records: Uint8Array, id: RequestId): RequestFate | undefined {
  const record = readRecords(records).find(each => isSame(each.id, id))
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

/** Fills `scratch` with what is kept of the results; false if that is not all of them. */
function encodeAnswer(
  results: readonly StatementResult[],
  outcomes: readonly StatementOutcome[],
): boolean {
  scratch.reset()
  // Rows without a digest are an EXPLAIN's, and not the same on every node.
  const isSame = results.every(({ rows }, at) => !rows || outcomes[at]?.rowsDigest !== undefined)
  if (isSame && mayFit(results)) {
    encodeStatementResults(scratch, results)
    if (scratch.length <= ANSWER_BYTES_MAX) return true
  }
  scratch.reset()
  encodeStatementResults(scratch, results.map(withoutRows))
  if (scratch.length > ANSWER_BYTES_MAX) {
    scratch.reset()
    encodeStatementResults(scratch, [])
  }
  return false
}

function withoutRows({ rowsAffected, lastInsertId }: StatementResult): StatementResult {
  return lastInsertId === undefined ? { rowsAffected } : { rowsAffected, lastInsertId }
}

/** Spares encoding megabytes of rows to find that they are too long. */
function mayFit(results: readonly StatementResult[]): boolean {
  let least = 0
  for (const { rows = [] } of results) {
    for (const row of rows) {
      for (const value of row) least += leastBytes(value)
      if (least > ANSWER_BYTES_MAX) return false
    }
  }
  return results.length <= ANSWER_BYTES_MAX
}

function leastBytes(value: SqlValue): number {
  return typeof value === 'string' || value instanceof Uint8Array ? value.length : 1
}
