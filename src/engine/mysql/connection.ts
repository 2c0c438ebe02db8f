/**
 * One connection to the server, with the settings that all nodes share: many statements go in one
 * packet, and the answers of those that the server ran come back even if a later one fails.
 */
import { type Connection as Socket, createConnection, type FieldPacket } from 'mysql2'
import { DbError } from '../../base/errors.ts'
import type { SqlValue } from '../../base/sql.ts'
import { sizeOf } from '../outcomes.ts'
import { toSqlValue } from './column-values.ts'
import { type ServerError, serverDown } from './mysql-errors.ts'
import { describeServer, type ServerAddress } from './server-address.ts'

/** What one statement gave. */
export interface Answer {
  readonly rowsAffected: number
  /** Of an UPDATE: those that it found, whether it changed them or not. */
  readonly rowsMatched: number
  /** First id that the statement made, or the id that it was given; 0 if neither. */
  readonly insertId: bigint
  /** Undefined if the statement gives no rows. */
  readonly columns: readonly string[] | undefined
  readonly rows: (readonly SqlValue[])[]
  /** More rows or bytes came than were allowed; the others are not in `rows`. */
  isCut: boolean
}

/** The answers of the statements that were run, in order, and why the next one was not. */
export interface RunOutcome {
  readonly answers: readonly Answer[]
  readonly error: ServerError | undefined
}

/** How much of all rows together is kept. */
export interface RowLimits {
  readonly maxRows: number
  readonly maxBytes: number
  /** The connection is closed once there is more: who wants nothing else of it. */
  readonly endsIfCut?: boolean
}

const CONNECT_MS_MAX = 5000
const CONNECT_FAILURES = /^(?:ER_ACCESS_DENIED|ER_NOT_SUPPORTED_AUTH|ER_DBACCESS_DENIED|ER_HOST)/
/** The account may not do it. */
const NO_RIGHTS = new Set([1044, 1045, 1142, 1227, 1370])
const UNBOUND: RowLimits = { maxRows: Infinity, maxBytes: Infinity }

/** What would make statements give something else, fixed on every connection of every node. */
const SETTINGS = [
  "SET NAMES utf8mb4 COLLATE 'utf8mb4_unicode_ci'",
  "SET sql_mode = 'ONLY_FULL_GROUP_BY,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE," +
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
  "SET time_zone = '+00:00', lc_time_names = 'en_US', default_week_format = 0",
  'SET div_precision_increment = 4, group_concat_max_len = 1048576, sql_auto_is_null = 0',
  'SET auto_increment_increment = 1, auto_increment_offset = 1, foreign_key_checks = 1',
  // As a number, because DEFAULT is what the server has for everybody.
  'SET unique_checks = 1, sql_safe_updates = 0, sql_big_selects = 1, ' +
    'sql_select_limit = 18446744073709551615',
  "SET sql_quote_show_create = 1, max_sort_length = 1024, lc_messages = 'en_US'",
  'SET default_storage_engine = InnoDB, autocommit = 1',
  'SET wait_timeout = 31536000, net_write_timeout = 600, innodb_lock_wait_timeout = 5',
  'SET lock_wait_timeout = 5',
  // Limits that an administrator may have set for everybody, in the terms of either server.
  'SET completion_type = 0 /*M!100300 , max_statement_time = 0, idle_transaction_timeout = 0, ' +
    'idle_write_transaction_timeout = 0, idle_readonly_transaction_timeout = 0 */' +
    '/*!80000 , max_execution_time = 0 */',
  // What definitions mean. In MySQL these can't be set, or are as they should be by themselves.
  "SET sql_notes = 1 /*M!100601 , old_mode = 'UTF8_IS_UTF8MB3', innodb_strict_mode = 1, " +
    "check_constraint_checks = 1, alter_algorithm = 'DEFAULT', default_regex_flags = '', " +
    "system_versioning_alter_history = 'ERROR', max_recursive_iterations = 1000 */" +
    '/*M!100804 , explicit_defaults_for_timestamp = 1 */' +
    '/*!80000 , cte_max_recursion_depth = 1000 */',
  'SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE',
].join('; ')

interface Running {
  readonly answers: Answer[]
  readonly limits: RowLimits
  rows: number
  bytes: number
}

export class Connection {
  readonly #socket: Socket
  readonly #server: string
  #isConnected = false
  /** Why nothing more comes, once it is so. */
  #lost: DbError | undefined
  #onLost: ((error: DbError) => void) | undefined
  /** Ends what waits for an answer that will not come. */
  readonly #waiting = new Set<(error: DbError) => void>()

  private constructor(socket: Socket, server: string) {
    this.#socket = socket
    this.#server = server
    socket.on('error', error => {
      // Until it is connected, who waits for that hears it.
      if (this.#isConnected) this.#lose(error.message)
    })
    socket.on('end', () => this.#lose('it ended the connection'))
  }

  /** Rejects with SERVER_DOWN or SERVER_REFUSED. */
  static async open(address: ServerAddress): Promise<Connection> {
    const server = describeServer(address)
    const { host, port, socketPath, user, password } = address
    const socket = createConnection({
      ...(socketPath === undefined ? { host, port } : { socketPath }),
      user,
      password,
      charset: 'UTF8MB4_UNICODE_CI',
      multipleStatements: true,
      supportBigNumbers: true,
      bigNumberStrings: true,
      typeCast: false,
      rowsAsArray: true,
      // The text holds its values: the driver need not look for places to put some.
      queryFormat: (sql: string) => sql,
      connectTimeout: CONNECT_MS_MAX,
      flags: ['-IGNORE_SPACE', '-FOUND_ROWS', '-LOCAL_FILES'],
    })
    const connection = new Connection(socket, server)
    await connection.#connected()
    await connection.expect(SETTINGS)
    return connection
  }

  /** The number by which the server knows it, for KILL. */
  get id(): number {
    return this.#socket.threadId ?? 0
  }

  get isLost(): boolean {
    return this.#lost !== undefined
  }

  /** `callback` is called once when the connection is lost, if nobody closed it. */
  onLost(callback: (error: DbError) => void): void {
    this.#onLost = callback
  }

  /** Runs statements, separated by semicolons, up to the first that fails. Rejects SERVER_DOWN. */
  run(sql: string, limits: RowLimits = UNBOUND): Promise<RunOutcome> {
    const { promise, resolve, reject } = Promise.withResolvers<RunOutcome>()
    if (this.#lost !== undefined) {
      reject(this.#lost)
      return promise
    }
    this.#waiting.add(reject)
    const running: Running = { answers: [], limits, rows: 0, bytes: 0 }
    let fields: readonly FieldPacket[] = []
    const query = this.#socket.query({ sql })
    query.on('fields', (list: readonly FieldPacket[] | undefined) => {
      if (list === undefined) return
      fields = list
      const columns = list.map(({ name }) => name)
      running.answers.push({ ...toAnswer({}), columns })
    })
    query.on('result', (value: unknown) => {
      if (!Array.isArray(value)) {
        running.answers.push(toAnswer(value))
        return
      }
      takeRow(running, fields, value as (Buffer | null)[])
      if (limits.endsIfCut !== true || running.answers.at(-1)?.isCut !== true) return
      this.#waiting.delete(reject)
      resolve({ answers: running.answers, error: undefined })
      this.close()
    })
    query.on('error', (error: Error) => {
      const { errno, sqlState, sqlMessage } = error as Error & Record<string, unknown>
      // Without a state it is no answer of the server, and the connection is lost with it.
      if (typeof errno !== 'number' || typeof sqlState !== 'string') {
        return this.#lose(error.message)
      }
      this.#waiting.delete(reject)
      const message = typeof sqlMessage === 'string' ? sqlMessage : error.message
      resolve({ answers: running.answers, error: { number: errno, sqlState, message } })
    })
    query.on('end', () => {
      this.#waiting.delete(reject)
      resolve({ answers: running.answers, error: undefined })
    })
    return promise
  }

  /** Runs statements of our own, none of which may fail. Rejects NODE_FAULT, or
   * SERVER_REFUSED, if one does. */
  async expect(sql: string): Promise<readonly Answer[]> {
    const { answers, error } = await this.run(sql)
    if (error === undefined) return answers
    const { number, message } = error
    const code = NO_RIGHTS.has(number) ? 'SERVER_REFUSED' : 'NODE_FAULT'
    throw new DbError(code, `the MySQL server at ${this.#server} says: ${message}`, {
      details: { mysqlCode: number },
    })
  }

  /** The rows of one statement of our own. */
  async rows(sql: string): Promise<readonly (readonly SqlValue[])[]> {
    return (await this.expect(sql)).at(-1)?.rows ?? []
  }

  /** Ends it at once, whatever it does; the server rolls back what is open when it notices. */
  close(): void {
    this.#onLost = undefined
    this.#lose('the connection was closed')
    this.#socket.destroy()
  }

  async #connected(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#socket.connect((error: (Error & { readonly code?: string }) | null) => {
      if (error === null) {
        this.#isConnected = true
        return resolve()
      }
      const isRefused = CONNECT_FAILURES.test(error.code ?? '')
      const refused = `the MySQL server at ${this.#server} lets this node not in: ${error.message}`
      const reason = isRefused ? new DbError('SERVER_REFUSED', refused) : undefined
      this.close()
      reject(reason ?? serverDown(this.#server, error.message))
    })
    await promise
  }

  #lose(reason: string): void {
    if (this.#lost !== undefined) return
    const error = serverDown(this.#server, reason)
    this.#lost = error
    for (const reject of this.#waiting) reject(error)
    this.#waiting.clear()
    const onLost = this.#onLost
    this.#onLost = undefined
    onLost?.(error)
  }
}

function takeRow(
  running: Running,
  fields: readonly FieldPacket[],
  row: readonly (Buffer | null)[],
): void {
  const answer = running.answers.at(-1)
  if (answer === undefined || answer.isCut) return
  const values = row.map((value, at) => toSqlValue(value, fields[at]))
  running.rows++
  for (const value of values) running.bytes += sizeOf(value)
  const { maxRows, maxBytes } = running.limits
  if (running.rows > maxRows || running.bytes > maxBytes) answer.isCut = true
  else answer.rows.push(values)
}

/** In what the server says of an UPDATE; connections ask for it in English. */
const MATCHED = /Rows matched: (\d+)/

/** From the server's answer to what gives no rows. */
function toAnswer(header: unknown): Answer {
  const {
    affectedRows = 0,
    insertId = 0,
    info = '',
  } = header as Readonly<Record<'affectedRows' | 'insertId' | 'info', number | string | undefined>>
  return {
    rowsAffected: Number(affectedRows),
    rowsMatched: Number(MATCHED.exec(String(info))?.[1] ?? affectedRows),
    insertId: BigInt(insertId),
    columns: undefined,
    rows: [],
    isCut: false,
  }
}
