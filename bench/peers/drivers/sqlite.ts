/** node:sqlite in the generator's own process, each commit flushed: the ceiling of one disk. */
import { DatabaseSync } from 'node:sqlite'
import { LOADED_B, ROW_TEXT } from '../operations.ts'
import type { Failure } from '../../load.ts'
import type { Connection, Operation, Target } from '../operations.ts'

class SqliteConnection implements Connection {
  readonly #database: DatabaseSync
  readonly #insert

  constructor(path: string) {
    this.#database = new DatabaseSync(path)
    this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    this.#insert = this.#database.prepare('INSERT INTO t (id, a, b) VALUES (?, ?, ?)')
  }

  perform(operation: Operation, done: (failure: Failure | undefined) => void): void {
    if (operation.type !== 'insert') throw new Error(`no ${operation.type} here`)
    const { firstId, rows } = operation
    if (rows > 1) this.#database.exec('BEGIN')
    for (let id = firstId; id < firstId + rows; id += 1) this.#insert.run(id, ROW_TEXT, LOADED_B)
    if (rows > 1) this.#database.exec('COMMIT')
    // The loop has timers to look at.
    setImmediate(done, undefined)
  }

  close(): void {
    this.#database.close()
  }
}

export async function connectSqlite({ address }: Target): Promise<Connection[]> {
  return Promise.resolve([new SqliteConnection(address)])
}
