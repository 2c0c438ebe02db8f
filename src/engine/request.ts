/**
 * A write request as bytes: what a follower forwards to the leader, what the engine executes, and
 * what an entry repeats. The leader executes what it decodes, so that every node sees the same
 * values.
 */
import { assert, unreachable } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Statement } from '../base/sql.ts'
import type { Moment, RequestId, WriteRequest } from './engine.ts'
import { expectVersion } from './format-version.ts'
import { decodeRequestId, encodeRequestId, refuseRequestId, skipRequestId } from './request-id.ts'
import { KnownTexts } from './known-texts.ts'
import { SEED_BYTES } from './limits.ts'
import { decodeParams, encodeParams } from './value-codec.ts'

const VERSION = 1
const STATEMENTS = 0
const CREATE_DATABASE = 1
const DROP_DATABASE = 2
const CANCEL = 3
const TRANSACTION = 4
const TRANSACTION_IN_GROUP = 5

// One for all requests, because making one costs as much as filling it.
const writer = new ByteWriter(4096)
const knownTexts = new KnownTexts()

/**
 * Layout: version u8 · type u8 (0 statements, 1 create, 2 drop, 3 cancel, 4 transaction, 5 one with
 * a moment of its own) · request id (request-id.ts) · database utf8 · and for statements: varint
 * count · for each: sql utf8, parameters · for a transaction: varint count of steps, each as
 * statements. The id of a transaction is followed by its own one (request-id.ts), and its steps by
 * its moment, if it has one: nowMs varint · seed 16 bytes.
 * Throws `DbError` INVALID_REQUEST for a value SQL doesn't have, or no id.
 */
export function encodeRequest(request: WriteRequest): Uint8Array<ArrayBuffer> {
  writer.reset()
  writer.u8(VERSION)
  writer.u8(typeTag(request))
  const refusal = request.id === undefined ? undefined : refuseRequestId(request.id)
  if (refusal !== undefined) throw new DbError('INVALID_REQUEST', refusal)
  encodeRequestId(writer, request.id)
  if (request.type === 'transaction') encodeRequestId(writer, request.ownId)
  writer.utf8(request.database)
  if (request.type === 'statements') encodeStatements(request.statements)
  if (request.type === 'transaction') {
    writer.varint(request.steps.length)
    for (const statements of request.steps) encodeStatements(statements)
    if (request.moment !== undefined) encodeMoment(request.moment)
  }
  return writer.finish()
}

function encodeMoment({ nowMs, seed }: Moment): void {
  assert(seed.length === SEED_BYTES, `a seed has ${SEED_BYTES} bytes, not ${seed.length}`)
  writer.varint(nowMs)
  writer.raw(seed)
}

function encodeStatements(statements: readonly Statement[]): void {
  writer.varint(statements.length)
  for (const statement of statements) {
    writer.utf8(statement.sql)
    encodeParams(writer, statement.params)
  }
}

/** Reads what {@link encodeRequest} wrote; BLOBs are views. Throws `DbError` CORRUPT. */
export function decodeRequest(bytes: Uint8Array): WriteRequest {
  const reader = new ByteReader(bytes)
  const version = reader.u8()
  expectVersion('a request', version, VERSION)
  const type = reader.u8()
  const id = decodeRequestId(reader)
  const refusal = id === undefined ? undefined : refuseRequestId(id)
  if (refusal !== undefined) throw new DbError('CORRUPT', refusal)
  const ownId = isTransaction(type) ? decodeRequestId(reader) : undefined
  const request = decodeBody(reader, type, id, ownId)
  reader.expectEnd()
  return request
}

/** False for what frees room on the disk, or only asks after a write. Of a request's bytes. */
export function takesRoom(bytes: Uint8Array): boolean {
  const type = bytes[1]
  return type !== DROP_DATABASE && type !== CANCEL
}

/** Where in a request's bytes its ids end and the rest begins. Throws `DbError` CORRUPT. */
export function bodyOffset(bytes: Uint8Array): number {
  const reader = new ByteReader(bytes, 2)
  skipRequestId(reader)
  if (isTransaction(bytes[1])) skipRequestId(reader)
  return reader.offset
}

function decodeBody(
  reader: ByteReader,
  type: number,
  id: RequestId | undefined,
  ownId: RequestId | undefined,
): WriteRequest {
  const database = knownTexts.read(reader)
  switch (type) {
    case CREATE_DATABASE:
      return { type: 'create-database', database, ...(id && { id }) }
    case DROP_DATABASE:
      return { type: 'drop-database', database, ...(id && { id }) }
    case CANCEL:
      if (id === undefined) throw new DbError('CORRUPT', 'a cancel names no request')
      return { type: 'cancel', database, id }
    case STATEMENTS: {
      const statements = decodeStatements(reader)
      // Written out, because most requests come here, and spreading costs as much as the rest.
      if (id === undefined) return { type: 'statements', database, statements }
      return { type: 'statements', database, statements, id }
    }
    case TRANSACTION:
    case TRANSACTION_IN_GROUP: {
      const steps: Statement[][] = []
      for (let left = reader.varint(); left > 0; left--) steps.push(decodeStatements(reader))
      const ids = { ...(id && { id }), ...(ownId && { ownId }) }
      if (type === TRANSACTION) return { type: 'transaction', database, steps, ...ids }
      const moment = { nowMs: reader.varint(), seed: reader.raw(SEED_BYTES) }
      return { type: 'transaction', database, steps, ...ids, moment }
    }
    default:
      throw new DbError('CORRUPT', `${type} is no type of request`)
  }
}

function decodeStatements(reader: ByteReader): Statement[] {
  const statements: Statement[] = []
  for (let left = reader.varint(); left > 0; left--) {
    const sql = knownTexts.read(reader)
    statements.push({ sql, params: decodeParams(reader) })
  }
  return statements
}

function isTransaction(type: number | undefined): boolean {
  return type === TRANSACTION || type === TRANSACTION_IN_GROUP
}

function typeTag(request: WriteRequest): number {
  switch (request.type) {
    case 'statements':
      return STATEMENTS
    case 'create-database':
      return CREATE_DATABASE
    case 'drop-database':
      return DROP_DATABASE
    case 'cancel':
      return CANCEL
    case 'transaction':
      return request.moment === undefined ? TRANSACTION : TRANSACTION_IN_GROUP
    default:
      return unreachable(request)
  }
}
