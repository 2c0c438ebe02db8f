/**
 * What a MySQL or MariaDB server says, told apart: the client's statement is wrong, or the server,
 * its disk, or the way to it is. Only the first is the same on every node; the second is never
 * taken for a divergence.
 */
import { DbError, type ErrorCode } from '../../base/errors.ts'
import type { RequestError } from '../engine.ts'

/** An error packet of the server. */
export interface ServerError {
  readonly number: number
  readonly sqlState: string
  readonly message: string
}

export type SqlFailure =
  /** The statement's fault, the same on every node. */
  | { readonly type: 'statement'; readonly error: RequestError }
  /** This node's fault, or its server's. */
  | { readonly type: 'local'; readonly error: RequestError }

const CONSTRAINTS = new Set([
  1022, 1048, 1062, 1169, 1216, 1217, 1364, 1451, 1452, 1557, 1586, 1761, 1762, 3819, 4025,
])
const SYNTAX = new Set([1064, 1065, 1149])
const UNKNOWN_TABLES = new Set([1051, 1146])
const TOO_LARGE = new Set([1118, 1153, 1162, 1301, 1390])
const DISK_FULL = new Set([1021, 1114])
/**
 * Memory, files, threads, locks of others, a server that stops or may not be written to: what the
 * same statement does not meet on another server, or later.
 */
const LOCAL = new Set([
  1004, 1016, 1020, 1023, 1024, 1026, 1030, 1033, 1034, 1035, 1036, 1037, 1038, 1040, 1041, 1053,
  1077, 1079, 1080, 1135, 1152, 1158, 1159, 1160, 1161, 1194, 1195, 1202, 1205, 1206, 1213, 1226,
  1290, 1317, 1412, 1420, 1548, 1614, 1637, 1792, 1836, 1877, 1927, 1969, 3024, 3169, 4031,
])

/** Locks of others, and statements that were stopped. */
const UNDOES_TRANSACTION = new Set([1020, 1205, 1206, 1213, 1317, 1614, 1969, 3024])

/**
 * Whether an interactive transaction is over with this error: the server has undone all of it, or
 * may have, by its settings; and what fails by chance fails not again when it is repeated.
 */
export function undoesTransaction({ number }: ServerError): boolean {
  return UNDOES_TRANSACTION.has(number)
}

/** `max_allowed_packet` is too low for a statement, or for a value that it makes. */
const OVER_PACKET = new Set([1153, 1162, 1301])

/**
 * The fault of a server that does not take what another one took: undefined for any other error.
 * To who asks for it, a value that is too long is a mistake; to who repeats it, a limit of its own.
 */
export function limitOfOwn({ number, message }: ServerError): RequestError | undefined {
  if (!OVER_PACKET.has(number)) return undefined
  const told =
    `the MySQL server of this node does not take what the leader's took (${message}): SET GLOBAL ` +
    "max_allowed_packet, there and in its configuration, to what the other nodes' servers have; " +
    'the node goes on by itself then'
  return { code: 'SERVER_UNFIT', message: told, details: { mysqlCode: number } }
}

/** Sorts what the server answered to a statement of a client. */
export function classifyServerError(thrown: ServerError, serverDatabase = ''): SqlFailure {
  const { number, sqlState } = thrown
  const message = withoutPrefix(thrown.message, serverDatabase)
  const details = { mysqlCode: number, sqlState }
  const make = (code: ErrorCode): RequestError => ({ code, message, details })
  if (DISK_FULL.has(number)) return { type: 'local', error: make('DISK_FULL') }
  if (LOCAL.has(number)) {
    const error = { ...make('NODE_FAULT'), message: `the MySQL server says: ${message}` }
    return { type: 'local', error }
  }
  return { type: 'statement', error: make(codeOf(number)) }
}

function codeOf(number: number): ErrorCode {
  if (CONSTRAINTS.has(number)) return 'SQL_CONSTRAINT'
  if (SYNTAX.has(number)) return 'SQL_SYNTAX'
  if (UNKNOWN_TABLES.has(number)) return 'UNKNOWN_TABLE'
  if (number === 1049) return 'UNKNOWN_DATABASE'
  return TOO_LARGE.has(number) ? 'TOO_LARGE' : 'SQL_ERROR'
}

/** On the server a database has this node's prefix, which is no concern of clients. */
function withoutPrefix(message: string, serverDatabase: string): string {
  if (serverDatabase === '') return message
  return message.replaceAll(`${serverDatabase}.`, '').replaceAll(`\`${serverDatabase}\`.`, '')
}

/** The way to the server is broken, or was never there. */
export function serverDown(server: string, reason: string): DbError {
  return new DbError('SERVER_DOWN', `the MySQL server at ${server} can't be used: ${reason}`)
}
