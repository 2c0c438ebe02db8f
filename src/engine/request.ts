/**
 * A write request as bytes: what a follower forwards to the leader, what the engine executes, and
 * what an entry repeats. The leader executes what it decodes, so that every node sees the same
 * values.
 */
import { unreachable } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Statement } from '../base/sql.ts'
import type { WriteRequest } from './engine.ts'
import { decodeParams, encodeParams } from './value-codec.ts'

const VERSION = 1
const STATEMENTS = 0
const CREATE_DATABASE = 1
const DROP_DATABASE = 2
const NO_REQUEST_ID = 0

// One for all requests, because making one costs as much as filling it.
const writer = new ByteWriter(4096)

/**
 * Layout: version u8 · type u8 (0 statements, 1 create, 2 drop) · request id u8 (0: none; other
 * values are kept for a session and sequence) · database utf8 · and for statements: varint count ·
 * for each: sql utf8, parameters. Throws `DbError` INVALID_REQUEST for a value SQL doesn't have.
 */
export function encodeRequest(request: WriteRequest): Uint8Array<ArrayBuffer> {
  writer.reset()
  writer.u8(VERSION)
  writer.u8(typeTag(request))
  writer.u8(NO_REQUEST_ID)
  writer.utf8(request.database)
  if (request.type === 'statements') {
    writer.varint(request.statements.length)
    for (const statement of request.statements) {
      writer.utf8(statement.sql)
      encodeParams(writer, statement.params)
    }
  }
  return writer.finish()
}

/** Reads what {@link encodeRequest} wrote; BLOBs are views. Throws `DbError` CORRUPT. */
export function decodeRequest(bytes: Uint8Array): WriteRequest {
  const reader = new ByteReader(bytes)
  const version = reader.u8()
  if (version !== VERSION) {
    throw new DbError('CORRUPT', `a request of version ${version} is not known here`)
  }
  const type = reader.u8()
  const requestId = reader.u8()
  if (requestId !== NO_REQUEST_ID) {
    throw new DbError('CORRUPT', `a request id of kind ${requestId} is not known here`)
  }
  const database = reader.utf8()
  const request = decodeBody(reader, type, database)
  reader.expectEnd()
  return request
}

function decodeBody(reader: ByteReader, type: number, database: string): WriteRequest {
  switch (type) {
    case CREATE_DATABASE:
      return { type: 'create-database', database }
    case DROP_DATABASE:
      return { type: 'drop-database', database }
    case STATEMENTS: {
      const count = reader.varint()
      const statements: Statement[] = []
      for (let i = 0; i < count; i++) {
        const sql = reader.utf8()
        statements.push({ sql, params: decodeParams(reader) })
      }
      return { type: 'statements', database, statements }
    }
    default:
      throw new DbError('CORRUPT', `${type} is no type of request`)
  }
}

function typeTag(request: WriteRequest): number {
  switch (request.type) {
    case 'statements':
      return STATEMENTS
    case 'create-database':
      return CREATE_DATABASE
    case 'drop-database':
      return DROP_DATABASE
    default:
      return unreachable(request)
  }
}
