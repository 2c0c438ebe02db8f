/** Operations in SQL over the MySQL protocol, with prepared statements: for MariaDB and Galera. */
import { LOADED_B, ROW_TEXT, failure } from '../operations.ts'
import type { Failure } from '../../load.ts'
import type { Connection, Operation, Target } from '../operations.ts'
import { MysqlConnection } from './mysql-wire.ts'
import type { MysqlError, SqlValue } from './mysql-wire.ts'

export const MYSQL_DATABASE = 'bench'
const INSERT = 'INSERT INTO t (id, a, b) VALUES (?, ?, ?)'
const UPDATE = 'UPDATE r SET b = b + ? WHERE id = ?'
const READ = 'SELECT a, b FROM r WHERE id = ?'
const READ_MANY = 'SELECT id, a, b FROM r WHERE id >= ? AND id < ?'
/** Deadlock, lock wait timeout, changed since the last read: rolled back, to be done again. */
const CONFLICTS: ReadonlySet<number> = new Set([1213, 1205, 1020])

type Done = (failure: Failure | undefined) => void

class MysqlDriver implements Connection {
  readonly #mysql: MysqlConnection

  constructor(mysql: MysqlConnection) {
    this.#mysql = mysql
  }

  perform(operation: Operation, done: Done): void {
    switch (operation.type) {
      case 'insert':
        return this.#insert(operation.firstId, operation.rows, done)
      case 'update':
        return this.#run(UPDATE, [1, operation.id], 0, done)
      case 'read': {
        const { firstId, rows } = operation
        if (rows === 1) return this.#run(READ, [firstId], 1, done)
        return this.#run(READ_MANY, [firstId, firstId + rows], rows, done)
      }
      case 'transaction':
        return this.#transaction(operation.from, operation.to, operation.entryId, done)
      case 'put':
        throw new Error('an SQL database has no puts')
    }
  }

  close(): void {
    this.#mysql.close()
  }

  #insert(firstId: number, rows: number, done: Done): void {
    if (rows === 1) return this.#run(INSERT, [firstId, ROW_TEXT, LOADED_B], 0, done)
    const ids = Array.from({ length: rows }, (_, at) => firstId + at)
    const sql = `INSERT INTO t (id, a, b) VALUES ${ids.map(() => '(?, ?, ?)').join()}`
    this.#run(
      sql,
      ids.flatMap<SqlValue>(id => [id, ROW_TEXT, LOADED_B]),
      0,
      done,
    )
  }

  #transaction(from: number, to: number, entryId: number, done: Done): void {
    const steps: { sql: string; values: readonly SqlValue[]; rows: number }[] = [
      { sql: READ, values: [from], rows: 1 },
      { sql: UPDATE, values: [-1, from], rows: 0 },
      { sql: UPDATE, values: [1, to], rows: 0 },
      { sql: INSERT, values: [entryId, ROW_TEXT, LOADED_B], rows: 0 },
      { sql: READ, values: [to], rows: 1 },
    ]
    const fail = (failed: Failure): void => this.#mysql.query('ROLLBACK', () => done(failed))
    const next = (at: number): void => {
      const step = steps[at]
      if (step === undefined) {
        this.#mysql.query('COMMIT', error => done(error && failureOf(error)))
        return
      }
      this.#run(step.sql, step.values, step.rows, failed =>
        failed === undefined ? next(at + 1) : fail(failed),
      )
    }
    this.#mysql.query('START TRANSACTION', error => {
      if (error === undefined) next(0)
      else done(failureOf(error))
    })
  }

  #run(sql: string, values: readonly SqlValue[], rows: number, done: Done): void {
    this.#mysql.execute(sql, values, (error, got) => {
      if (error !== undefined) done(failureOf(error))
      else done(got === rows ? undefined : failure(`${got} rows instead of ${rows}`))
    })
  }
}

/** The level `causal` makes each read of a Galera node wait for what was committed before it. */
export async function connectMysql(target: Target, count: number): Promise<Connection[]> {
  const { address, user, password, level } = target
  const connections: Connection[] = []
  // One after the other: a server has a short queue for those that log in.
  for (let at = 0; at < count; at += 1) {
    const mysql = await MysqlConnection.open(address, user, password, MYSQL_DATABASE)
    if (level === 'causal') {
      await new Promise<void>((resolve, reject) => {
        mysql.query('SET SESSION wsrep_sync_wait = 1', error => {
          if (error === undefined) resolve()
          else reject(new Error(error.text))
        })
      })
    }
    connections.push(new MysqlDriver(mysql))
  }
  return connections
}

function failureOf({ code, text }: MysqlError): Failure {
  return { text: `${code} ${text}`.slice(0, 300), isConflict: CONFLICTS.has(code) }
}
