/**
 * Messages to a reader process and its replies, as bytes. Both ends are always of one build, so
 * there is no version: u8 type, then the fields in the order of the types in engine.ts.
 */
import { unreachable } from '../../base/assert.ts'
import { ByteReader } from '../../base/bytes.ts'
import { DbError } from '../../base/errors.ts'
import { resultsJson, type RowFormat } from '../../base/result-json.ts'
import type { Statement } from '../../base/sql.ts'
import type {
  DigestOutcome,
  DigestRequest,
  JsonReadOutcome,
  ReadOutcome,
  ReadRequest,
} from '../engine.ts'
import {
  decodeRequestError,
  decodeStatementResults,
  decodeTexts,
  encodeRequestError,
  encodeStatementResults,
  encodeTexts,
} from '../result-codec.ts'
import { decodeParams, encodeParams } from '../value-codec.ts'
import { buildMessage } from './scratch.ts'

/** What a reader process is asked. It answers each message with one reply, in order. */
export type ReaderMessage =
  /** `rows`: the results are wanted as JSON with such rows. */
  | { readonly type: 'query'; readonly request: ReadRequest; readonly rows?: RowFormat }
  | { readonly type: 'digest'; readonly request: DigestRequest }
  | { readonly type: 'databases' }

const QUERY = 1
const DIGEST = 2
const DATABASES = 3

/** Forms in which the results of a query may be wanted, by their place here. */
const FORMS = [undefined, 'arrays', 'objects'] as const

const OK = 0
const FAILED = 1

/** Throws `DbError` INVALID_REQUEST for a parameter that isn't a SQL value. */
export function encodeReaderMessage(message: ReaderMessage): Uint8Array {
  return buildMessage(writer => {
    switch (message.type) {
      case 'query': {
        const { database, statements, maxRows, maxBytes } = message.request
        writer.u8(QUERY)
        writer.u8(FORMS.indexOf(message.rows))
        writer.utf8(database)
        writer.varint(maxRows)
        writer.varint(maxBytes)
        writer.varint(statements.length)
        for (const statement of statements) {
          writer.utf8(statement.sql)
          encodeParams(writer, statement.params)
        }
        return
      }
      case 'digest': {
        const { database, table } = message.request
        writer.u8(DIGEST)
        writer.utf8(database)
        return encodeTexts(writer, table === undefined ? [] : [table])
      }
      case 'databases':
        return writer.u8(DATABASES)
      default:
        unreachable(message)
    }
  })
}

/** BLOBs among the parameters are views of `bytes`. */
export function decodeReaderMessage(bytes: Uint8Array): ReaderMessage {
  const reader = new ByteReader(bytes)
  const tag = reader.u8()
  switch (tag) {
    case QUERY: {
      const rows = FORMS[reader.u8()]
      const database = reader.utf8()
      const maxRows = reader.varint()
      const maxBytes = reader.varint()
      const statements: Statement[] = []
      for (let left = reader.varint(); left > 0; left--) {
        const sql = reader.utf8()
        statements.push({ sql, params: decodeParams(reader) })
      }
      const request = { database, statements, maxRows, maxBytes }
      return { type: 'query', request, ...(rows !== undefined && { rows }) }
    }
    case DIGEST: {
      const database = reader.utf8()
      const [table] = decodeTexts(reader)
      return { type: 'digest', request: { database, ...(table !== undefined && { table }) } }
    }
    case DATABASES:
      return { type: 'databases' }
    default:
      throw new DbError('CORRUPT', `${tag} is no type of a message to a reader`)
  }
}

export function encodeReadOutcome(outcome: ReadOutcome): Uint8Array {
  return buildMessage(writer => {
    writer.u8(outcome.type === 'ok' ? OK : FAILED)
    if (outcome.type === 'failed') return encodeRequestError(writer, outcome.error)
    writer.varint(outcome.appliedIndex)
    encodeStatementResults(writer, outcome.results)
  })
}

/** BLOBs are views of `bytes`. */
export function decodeReadOutcome(bytes: Uint8Array): ReadOutcome {
  const reader = new ByteReader(bytes)
  if (reader.u8() !== OK) return { type: 'failed', error: decodeRequestError(reader) }
  const appliedIndex = reader.varint()
  return { type: 'ok', appliedIndex, results: decodeStatementResults(reader) }
}

/** The same as the JSON of its results. */
export function encodeJsonOutcome(outcome: ReadOutcome, rows: RowFormat): Uint8Array {
  return buildMessage(writer => {
    writer.u8(outcome.type === 'ok' ? OK : FAILED)
    if (outcome.type === 'failed') return encodeRequestError(writer, outcome.error)
    writer.varint(outcome.appliedIndex)
    writer.utf8(resultsJson(outcome.results, rows))
  })
}

/** The JSON is a view of `bytes`. */
export function decodeJsonOutcome(bytes: Uint8Array): JsonReadOutcome {
  const reader = new ByteReader(bytes)
  if (reader.u8() !== OK) return { type: 'failed', error: decodeRequestError(reader) }
  return { type: 'ok', appliedIndex: reader.varint(), json: reader.bytes() }
}

export function encodeDigestOutcome(outcome: DigestOutcome): Uint8Array {
  return buildMessage(writer => {
    writer.u8(outcome.type === 'ok' ? OK : FAILED)
    if (outcome.type === 'failed') return encodeRequestError(writer, outcome.error)
    writer.varint(outcome.appliedIndex)
    writer.varint(outcome.rows)
    writer.utf8(outcome.digest)
  })
}

export function decodeDigestOutcome(bytes: Uint8Array): DigestOutcome {
  const reader = new ByteReader(bytes)
  if (reader.u8() !== OK) return { type: 'failed', error: decodeRequestError(reader) }
  const appliedIndex = reader.varint()
  return { type: 'ok', appliedIndex, rows: reader.varint(), digest: reader.utf8() }
}

export function encodeDatabases(names: readonly string[]): Uint8Array {
  return buildMessage(writer => encodeTexts(writer, names))
}

export function decodeDatabases(bytes: Uint8Array): readonly string[] {
  return decodeTexts(new ByteReader(bytes))
}
