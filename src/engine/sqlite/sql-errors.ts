/**
 * What SQLite throws, told apart: the client's statement is wrong, or this node's disk or memory
 * is. Only the first is the same on every node; the second is never taken for a divergence.
 */
import type { ErrorCode } from '../../base/errors.ts'
import { DbError } from '../../base/errors.ts'
import type { RequestError } from '../engine.ts'
import { LocalFault, toRequestError } from '../request-errors.ts'

/** Primary result codes, sqlite.org/rescode.html. */
const ERROR = 1
const PERM = 3
const ABORT = 4
const BUSY = 5
const LOCKED = 6
const NOMEM = 7
const READONLY = 8
const IOERR = 10
const IOERR_NOMEM = IOERR | (12 << 8)
const CORRUPT = 11
const FULL = 13
const CANTOPEN = 14
const PROTOCOL = 15
const TOOBIG = 18
const CONSTRAINT = 19
const MISMATCH = 20
const AUTH = 23
const RANGE = 25
const NOTADB = 26
/**
 * Words of SQLite about rows and not about pages: an FTS5 index that doesn't fit its content, a
 * sequence that holds no number, an index over an expression that now gives something else. A
 * client can bring each of them about, on all nodes alike.
 */
const CORRUPT_ROWS = new Set([CORRUPT | (1 << 8), CORRUPT | (2 << 8), CORRUPT | (3 << 8)])

const SYNTAX = /syntax error|incomplete input|unrecognized token/
const TOO_MUCH = /too many SQL variables|variable number must be|Expression tree is too large/
const NO_TABLE = /^no such table: /

export type SqlFailure =
  /** The statement's fault, the same on every node. */
  | { readonly type: 'statement'; readonly error: RequestError }
  /** SQLite met a page that makes no sense, here. */
  | { readonly type: 'corrupt'; readonly error: RequestError }
  /** SQLite says "full": the disk, or a table that has used its last rowid. */
  | { readonly type: 'full'; readonly error: RequestError }
  /** This node's fault. */
  | { readonly type: 'local'; readonly error: RequestError }

/** Sorts what a statement threw; what isn't SQLite's, its driver's or a `DbError` is thrown on. */
export function classifyFailure(thrown: unknown, refusal: string | undefined): SqlFailure {
  if (thrown instanceof DbError) return { type: 'statement', error: toRequestError(thrown) }
  if (!isSqliteError(thrown)) {
    if (!isDriverError(thrown)) throw thrown
    return { type: 'statement', error: { code: 'SQL_ERROR', message: thrown.message } }
  }
  const { errcode, message } = thrown
  const primary = errcode === IOERR_NOMEM ? NOMEM : errcode & 0xff
  const make = (code: ErrorCode, text = message): RequestError => ({
    code,
    message: text,
    details: { sqliteCode: errcode },
  })
  switch (primary) {
    case ERROR:
      if (refusal !== undefined) return statement(make('UNSUPPORTED', refusal))
      if (NO_TABLE.test(message)) return statement(make('UNKNOWN_TABLE'))
      if (TOO_MUCH.test(message)) return statement(make('TOO_LARGE'))
      return statement(make(SYNTAX.test(message) ? 'SQL_SYNTAX' : 'SQL_ERROR'))
    case CONSTRAINT:
      return statement(make('SQL_CONSTRAINT'))
    case AUTH:
      return statement(make('UNSUPPORTED', refusal ?? message))
    case TOOBIG:
      return statement(make('TOO_LARGE'))
    case RANGE:
      return statement(make('INVALID_REQUEST'))
    case ABORT:
    case MISMATCH:
      return statement(make('SQL_ERROR'))
    case FULL:
      return { type: 'full', error: make('DISK_FULL') }
    case CORRUPT:
      if (CORRUPT_ROWS.has(errcode)) return statement(make('SQL_ERROR'))
      return { type: 'corrupt', error: make('CORRUPT') }
    case CANTOPEN:
      return {
        type: 'local',
        error: make('OVERLOADED', noFiles(`${message}, SQLite code ${errcode}`)),
      }
    case NOMEM:
      return { type: 'local', error: make('OVERLOADED', 'this node has no memory left for it') }
    case IOERR:
    case READONLY:
    case PERM:
    case BUSY:
    case LOCKED:
    case PROTOCOL:
      return { type: 'local', error: make('NODE_FAULT', `${message} (SQLite code ${errcode})`) }
    case NOTADB:
      return { type: 'local', error: make('CORRUPT') }
    default:
      return { type: 'local', error: make('INTERNAL', `${message} (SQLite code ${errcode})`) }
  }
}

function statement(error: RequestError): SqlFailure {
  return { type: 'statement', error }
}

interface SqliteError extends Error {
  readonly errcode: number
}

/** Whether SQLite itself threw it. */
export function isSqliteError(thrown: unknown): thrown is SqliteError {
  return thrown instanceof Error && 'errcode' in thrown && typeof thrown.errcode === 'number'
}

const FULL_CODES = new Set(['ENOSPC', 'EDQUOT'])
const NO_FILES_CODES = new Set(['EMFILE', 'ENFILE'])

function noFiles(reason: string): string {
  return `this node can't open a file (${reason}); its limit of open files may be too low`
}

/** The error to report if what was thrown is this node's fault; undefined if it is a bug. */
export function localFaultOf(thrown: unknown): RequestError | undefined {
  if (thrown instanceof LocalFault) return thrown.error
  if (thrown instanceof DbError) return toRequestError(thrown)
  if (isSqliteError(thrown)) {
    const { type, error } = classifyFailure(thrown, undefined)
    // A statement of ours that SQLite calls wrong is no client's fault.
    return type === 'statement' ? { ...error, code: 'INTERNAL' } : error
  }
  if (!(thrown instanceof Error) || !('syscall' in thrown) || !('code' in thrown)) return undefined
  const systemCode = String(thrown.code)
  const details = { systemCode }
  if (NO_FILES_CODES.has(systemCode)) {
    return { code: 'OVERLOADED', message: noFiles(thrown.message), details }
  }
  const code = FULL_CODES.has(systemCode) ? 'DISK_FULL' : 'NODE_FAULT'
  return { code, message: thrown.message, details }
}

/** Whether SQLite could not open a file, as when the process has no descriptor left for it. */
export function isCantOpen(thrown: unknown): boolean {
  return isSqliteError(thrown) && (thrown.errcode & 0xff) === CANTOPEN
}

/** Whether the driver refused what it was given, without asking SQLite. */
function isDriverError(thrown: unknown): thrown is Error {
  return (
    thrown instanceof Error && 'code' in thrown && String(thrown.code).startsWith('ERR_INVALID_')
  )
}
