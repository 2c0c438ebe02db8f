/** Operations as rqlite's HTTP API says them. It has no interactive transactions. */
import { LOADED_B, ROW_TEXT, failure } from '../operations.ts'
import type { Failure } from '../../load.ts'
import type { Connection, Operation, Target } from '../operations.ts'
import { HttpConnection } from './http.ts'

type Value = number | string

class RqliteConnection implements Connection {
  readonly #http: HttpConnection
  readonly #level: string

  constructor(http: HttpConnection, level: string) {
    this.#http = http
    this.#level = level
  }

  perform(operation: Operation, done: (failure: Failure | undefined) => void): void {
    switch (operation.type) {
      case 'insert': {
        const ids = Array.from({ length: operation.rows }, (_, at) => operation.firstId + at)
        const values = ids.map(() => '(?, ?, ?)').join()
        const params = ids.flatMap<Value>(id => [id, ROW_TEXT, LOADED_B])
        return this.#post(
          '/db/execute',
          `INSERT INTO t (id, a, b) VALUES ${values}`,
          params,
          0,
          done,
        )
      }
      case 'update': {
        const sql = 'UPDATE r SET b = b + ? WHERE id = ?'
        return this.#post('/db/execute', sql, [1, operation.id], 0, done)
      }
      case 'read': {
        const { firstId, rows } = operation
        const path = `/db/query?level=${this.#level}`
        if (rows === 1) {
          return this.#post(path, 'SELECT a, b FROM r WHERE id = ?', [firstId], 1, done)
        }
        const sql = 'SELECT id, a, b FROM r WHERE id >= ? AND id < ?'
        return this.#post(path, sql, [firstId, firstId + rows], rows, done)
      }
      case 'transaction':
      case 'put':
        throw new Error(`rqlite has no ${operation.type}`)
    }
  }

  close(): void {
    this.#http.close()
  }

  #post(
    path: string,
    sql: string,
    params: readonly Value[],
    rowsMin: number,
    done: (failure: Failure | undefined) => void,
  ): void {
    const body = JSON.stringify([[sql, ...params]])
    this.#http.post(path, '', body, (status, answer) => {
      // A failed statement is answered with status 200 too.
      const isOk = status === 200 && !answer.includes('"error"')
      const isWhole = answer.length >= rowsMin * ROW_TEXT.length
      done(isOk && isWhole ? undefined : failure(`${status} ${String(answer)}`))
    })
  }
}

export async function connectRqlite(target: Target, count: number): Promise<Connection[]> {
  return Promise.all(
    Array.from(
      { length: count },
      async () => new RqliteConnection(await HttpConnection.open(target.address), target.level),
    ),
  )
}
