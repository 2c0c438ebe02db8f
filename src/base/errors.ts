/** The one table of errors: what each means for the write, the caller, HTTP and MySQL. */

/** What a caller may assume about a statement that ended in this error. */
export type Fate = 'not-applied' | 'unknown'

/**
 * What a caller may do next: give up, send the same again, send it to the leader, send it again
 * under the same request id (only if the write carried one), or run the whole transaction again.
 */
export type Retry = 'never' | 'same' | 'leader' | 'same-id' | 'transaction'

interface ErrorRow {
  readonly fate: Fate
  readonly retry: Retry
  /** Status of the HTTP answer. */
  readonly http: number
  /** Number and SQLSTATE of the MySQL error packet. */
  readonly mysql: readonly [errno: number, sqlState: string]
  /** One sentence for docs/reference/errors.md: when it happens and what to do. */
  readonly about: string
}

/**
 * Every error that a server or client can report, one row each, in the order in which they are
 * checked within a group. docs/reference/errors.md is made from it.
 */
// prettier-ignore
export const ERRORS = {
  // The request.
  INVALID_REQUEST:     { fate: 'not-applied', retry: 'never',   http: 400, mysql: [1210, 'HY000'], about: 'The request can not be parsed, has a wrong type, or an unknown field. Correct it.' },
  NOT_FOUND:           { fate: 'not-applied', retry: 'never',   http: 404, mysql: [1105, 'HY000'], about: 'There is no such path. Look at the list of routes.' },
  METHOD_NOT_ALLOWED:  { fate: 'not-applied', retry: 'never',   http: 405, mysql: [1105, 'HY000'], about: 'The path exists, but not for this HTTP method.' },
  UNAUTHENTICATED:     { fate: 'not-applied', retry: 'never',   http: 401, mysql: [1045, '28000'], about: 'The cluster secret is missing or wrong. Give every node the same secret.' },
  FORBIDDEN:           { fate: 'not-applied', retry: 'never',   http: 403, mysql: [1142, '42000'], about: 'A well-formed request that this node must refuse, such as a second node under one id.' },
  TOO_LARGE:           { fate: 'not-applied', retry: 'never',   http: 413, mysql: [1153, '08S01'], about: 'The body, a value or a result is over the stated limit (in details). Send or ask for less.' },
  SLOW_REQUEST:        { fate: 'not-applied', retry: 'same',    http: 408, mysql: [1159, '08S01'], about: 'The request did not arrive whole within its time. Send it again over a better connection.' },
  // The SQL.
  UNSUPPORTED:         { fate: 'not-applied', retry: 'never',   http: 400, mysql: [1235, '42000'], about: 'Valid SQL that a replicated database must refuse; the message says why and what to use instead.' },
  UNKNOWN_DATABASE:    { fate: 'not-applied', retry: 'never',   http: 404, mysql: [1049, '42000'], about: 'There is no database of this name. Create it with create_db.' },
  DATABASE_EXISTS:     { fate: 'not-applied', retry: 'never',   http: 409, mysql: [1007, 'HY000'], about: 'create_db for a name that is taken.' },
  UNKNOWN_TABLE:       { fate: 'not-applied', retry: 'never',   http: 404, mysql: [1146, '42S02'], about: 'The statement names a table that is not there.' },
  SQL_SYNTAX:          { fate: 'not-applied', retry: 'never',   http: 400, mysql: [1064, '42000'], about: 'The SQL does not parse. The message repeats the engine.' },
  SQL_CONSTRAINT:      { fate: 'not-applied', retry: 'never',   http: 409, mysql: [1062, '23000'], about: 'A unique, foreign key, check or not-null constraint failed; the whole request was rolled back.' },
  SQL_ERROR:           { fate: 'not-applied', retry: 'never',   http: 400, mysql: [1105, 'HY000'], about: 'Anything else that the engine says about the statement; its own code is in details.' },
  STATEMENT_TIMEOUT:   { fate: 'not-applied', retry: 'never',   http: 504, mysql: [3024, 'HY000'], about: 'A write ran longer than its limit and was stopped before it was logged. Make it smaller.' },
  QUERY_TIMEOUT:       { fate: 'not-applied', retry: 'same',    http: 504, mysql: [3024, 'HY000'], about: 'A read ran past its deadline and was stopped.' },
  // Request ids and transactions.
  REQUEST_ID_REUSED:   { fate: 'not-applied', retry: 'never',   http: 409, mysql: [1105, 'HY000'], about: 'The same request id came before with another body. Give every write an id of its own.' },
  REQUEST_CANCELLED:   { fate: 'not-applied', retry: 'never',   http: 409, mysql: [1105, 'HY000'], about: 'The fate of this request id was asked for before it arrived: it has not been applied and never will be.' },
  REQUEST_EXPIRED:     { fate: 'unknown',     retry: 'never',   http: 409, mysql: [1105, 'HY000'], about: 'The request id is older than those remembered, so that nobody can tell any more whether it was applied; it was not executed now. Look before you write again.' },
  TRANSACTION_CONFLICT: { fate: 'not-applied', retry: 'transaction', http: 409, mysql: [1213, '40001'], about: 'While the transaction was idle others changed what it had read or written. It is rolled back; run it again from its beginning.' },
  TRANSACTION_LOST:    { fate: 'not-applied', retry: 'transaction', http: 409, mysql: [1213, '40001'], about: 'The transaction is not open here: the leader changed, a step could not be run in time, or it was ended before. It is rolled back; run it again from its beginning. If it was asked to commit, ask that again instead: the answer tells what became of it.' },
  TRANSACTION_EXPIRED: { fate: 'not-applied', retry: 'transaction', http: 409, mysql: [1205, 'HY000'], about: 'The transaction was left alone longer than its lease, or was open longer than allowed. It is rolled back; run it again and keep it short.' },
  // The cluster.
  NOT_READY:           { fate: 'not-applied', retry: 'same',    http: 503, mysql: [1105, 'HY000'], about: 'The node is starting, founding its cluster or catching up. Try again or ask another node.' },
  NOT_LEADER:          { fate: 'not-applied', retry: 'leader',  http: 503, mysql: [1290, 'HY000'], about: 'This node does not lead and does not forward this write; details name the leader.' },
  NO_LEADER:           { fate: 'not-applied', retry: 'same',    http: 503, mysql: [1290, 'HY000'], about: 'Nobody leads right now: an election is on its way or a majority is away.' },
  STALE_READ:          { fate: 'not-applied', retry: 'leader',  http: 503, mysql: [1105, 'HY000'], about: 'This node is older than the read asked for and did not catch up in time.' },
  OVERLOADED:          { fate: 'not-applied', retry: 'same',    http: 503, mysql: [1040, '08004'], about: 'A bounded queue, the connection limit, the limit of open files or the memory of the node is full, or replicas lag. Back off and send again.' },
  DIVERGED:            { fate: 'not-applied', retry: 'leader',  http: 503, mysql: [1105, 'HY000'], about: 'This replica computed something else than the others and serves nothing until it is healed.' },
  DISPUTED:            { fate: 'not-applied', retry: 'never',   http: 503, mysql: [1105, 'HY000'], about: 'Replicas computed different things and no majority agrees: writes are stopped until an operator decides which node is right.' },
  UNKNOWN_NODE:        { fate: 'not-applied', retry: 'never',   http: 404, mysql: [1105, 'HY000'], about: 'The cluster has no member of this name.' },
  MEMBERS_REFUSED:     { fate: 'not-applied', retry: 'never',   http: 409, mysql: [1105, 'HY000'], about: 'This change of the members makes no sense or would endanger the cluster; the message says why.' },
  MEMBERS_BUSY:        { fate: 'not-applied', retry: 'same',    http: 409, mysql: [1105, 'HY000'], about: 'Another change of the members is under way, or the node to promote is still behind. Try again.' },
  REMOVED:             { fate: 'not-applied', retry: 'leader',  http: 503, mysql: [1105, 'HY000'], about: 'This node was removed from its cluster and serves nothing. Join again with an empty directory and a new id.' },
  WRONG_HISTORY:       { fate: 'unknown',     retry: 'never',   http: 409, mysql: [1105, 'HY000'], about: 'The token or request id comes from another history of the data, before it was restored or recovered. Nothing was executed now, but the write with this id may have been before. Begin anew without it, and look before you write again.' },
  SNAPSHOT_FAILED:     { fate: 'not-applied', retry: 'same',    http: 503, mysql: [1105, 'HY000'], about: 'A snapshot of the data could not be made, sent or installed; nothing was changed.' },
  SHUTTING_DOWN:       { fate: 'not-applied', retry: 'same',    http: 503, mysql: [1053, '08S01'], about: 'This node is stopping. Ask another one.' },
  // Fate unknown.
  LEADERSHIP_LOST:     { fate: 'unknown',     retry: 'same-id', http: 504, mysql: [1105, 'HY000'], about: 'The leader was deposed after it had sent the write out, which may or may not take effect. With a request id the client asks again by itself; without one look before you write again.' },
  COMMIT_TIMEOUT:      { fate: 'unknown',     retry: 'same-id', http: 504, mysql: [1105, 'HY000'], about: 'Within its deadline no quorum confirmed the write, or the leader did not apply what a quorum had confirmed; it may still take effect. With a request id the client asks what became of it.' },
  CONNECTION_LOST:     { fate: 'unknown',     retry: 'same-id', http: 502, mysql: [1105, 'HY000'], about: 'The connection broke after the write was sent and before its answer came. With a request id the client sends it again by itself.' },
  // The node.
  ENGINE_RESTARTED:    { fate: 'not-applied', retry: 'same',    http: 503, mysql: [1105, 'HY000'], about: 'The process that runs SQL ended and was started again; the statement was not logged.' },
  DISK_FULL:           { fate: 'not-applied', retry: 'leader',  http: 507, mysql: [1021, 'HY000'], about: 'The disk of the leader is full, or it or those that a majority needs have less room than `--min-free-bytes`; nothing was logged. Free some space.' },
  DISK_FAILED:         { fate: 'unknown',     retry: 'same-id', http: 500, mysql: [1105, 'HY000'], about: 'The disk of this node failed a write or a flush; the node ends, because what the disk holds is not known any more.' },
  CORRUPT:             { fate: 'not-applied', retry: 'leader',  http: 500, mysql: [1105, 'HY000'], about: 'A checksum does not match what was written. The node refuses to start with this disk.' },
  NODE_FAULT:          { fate: 'not-applied', retry: 'leader',  http: 500, mysql: [1105, 'HY000'], about: 'The disk of this node failed the statement, which was not logged; the process that runs SQL begins anew. Another node can do it.' },
  SERVER_DOWN:         { fate: 'not-applied', retry: 'leader',  http: 503, mysql: [1105, 'HY000'], about: 'The MySQL server of this node does not answer, or its connection broke; nothing was logged. The node tries again until it is back.' },
  SERVER_REFUSED:      { fate: 'not-applied', retry: 'leader',  http: 503, mysql: [1105, 'HY000'], about: 'The MySQL server of this node does not let it in: wrong user, password or rights. Correct `--engine`, or the account.' },
  SERVER_UNFIT:        { fate: 'not-applied', retry: 'leader',  http: 503, mysql: [1105, 'HY000'], about: 'The MySQL server of this node is too old, read-only, or has settings with which statements would give something else; the message names the setting.' },
  WRONG_DATA:          { fate: 'not-applied', retry: 'never',   http: 500, mysql: [1105, 'HY000'], about: 'The data directory, or the databases of this prefix on the MySQL server, belong to another cluster or node, are in use, or are of a newer version.' },
  PORT_IN_USE:         { fate: 'not-applied', retry: 'never',   http: 500, mysql: [1105, 'HY000'], about: 'The address to listen on is taken. Stop the other program or choose another port.' },
  INTERNAL:            { fate: 'unknown',     retry: 'same-id', http: 500, mysql: [1105, 'HY000'], about: 'A bug that reached the edge. Please report it with the message.' },
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERRORS

export interface DbErrorOptions extends ErrorOptions {
  /** Facts for a program, such as the leader's address. The message reads well without them. */
  readonly details?: Readonly<Record<string, unknown>>
}

/** An expected failure, told by its `code`. A broken invariant throws `AssertionError`. */
export class DbError extends Error {
  override readonly name = 'DbError'
  readonly code: ErrorCode
  readonly fate: Fate
  readonly retry: Retry
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, options: DbErrorOptions = {}) {
    super(message, options)
    this.code = code
    this.fate = ERRORS[code].fate
    this.retry = ERRORS[code].retry
    this.details = options.details ?? {}
  }
}
