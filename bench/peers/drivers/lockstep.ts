/** Operations as Lockstep's HTTP API says them, every write with a request id, as its client does. */
import { LOADED_B, ROW_TEXT, failure } from '../operations.ts'
import type { Failure } from '../../load.ts'
import type { Connection, Operation, Target } from '../operations.ts'
import { HttpConnection } from './http.ts'

export const DATABASE = 'bench'
const INSERT = 'INSERT INTO t (id, a, b) VALUES (?, ?, ?)'
const UPDATE = 'UPDATE r SET b = b + ? WHERE id = ?'
const READ = 'SELECT a, b FROM r WHERE id = ?'
const READ_MANY = 'SELECT id, a, b FROM r WHERE id >= ? AND id < ?'
/** The shortest row in an answer: its text and what is around it. */
const ROW_BYTES_MIN = ROW_TEXT.length

type Done = (failure: Failure | undefined) => void

class LockstepConnection implements Connection {
  readonly #http: HttpConnection
  readonly #session: string
  readonly #freshness: string
  #sequence = 0

  constructor(http: HttpConnection, session: string, freshness: string) {
    this.#http = http
    this.#session = session
    this.#freshness = freshness
  }

  perform(operation: Operation, done: Done): void {
    switch (operation.type) {
      case 'insert':
      case 'update':
        return this.#write(writeBody(operation) ?? '', done)
      case 'read':
        return this.#read(operation.firstId, operation.rows, done)
      case 'transaction':
        return this.#transaction(operation.from, operation.to, operation.entryId, done)
      case 'put':
        throw new Error('lockstep has no puts')
    }
  }

  close(): void {
    this.#http.close()
  }

  #write(body: string, done: Done): void {
    this.#post('/execute', this.#requestId(), body, done)
  }

  #requestId(): string {
    this.#sequence += 1
    return `lockstep-request: ${this.#session}/${this.#sequence}\r\n`
  }

  #read(firstId: number, rows: number, done: Done): void {
    const [sql, params] = rows === 1 ? [READ, [firstId]] : [READ_MANY, [firstId, firstId + rows]]
    const body = `${statement(sql, params).slice(0, -1)},${this.#freshness}}`
    this.#http.post('/query', '', body, (status, answer) => {
      if (status !== 200) return done(failureOf(status, answer))
      const isWhole = answer.length >= rows * ROW_BYTES_MIN
      done(isWhole ? undefined : failure(`too few rows: ${String(answer)}`))
    })
  }

  #transaction(from: number, to: number, entryId: number, done: Done): void {
    this.#http.post('/transactions', '', `{"database":"${DATABASE}"}`, (status, answer) => {
      if (status !== 200) return done(failureOf(status, answer))
      const { transaction } = JSON.parse(String(answer)) as { transaction: string }
      const path = `/transactions/${transaction}`
      const steps = [
        { path: `${path}/query`, body: statement(READ, [from]) },
        { path: `${path}/execute`, body: statement(UPDATE, [-1, from]) },
        { path: `${path}/execute`, body: statement(UPDATE, [1, to]) },
        { path: `${path}/execute`, body: insertBody(entryId, 1) },
        { path: `${path}/query`, body: statement(READ, [to]) },
        { path: `${path}/commit`, headers: this.#requestId(), body: '{}' },
      ]
      const next = (at: number): void => {
        const step = steps[at]
        if (step === undefined) return done(undefined)
        this.#post(step.path, step.headers ?? '', step.body, failed => {
          if (failed === undefined) return next(at + 1)
          // An open transaction would hold its place until its time is over.
          this.#http.post(`${path}/rollback`, '', '{}', () => done(failed))
        })
      }
      next(0)
    })
  }

  #post(path: string, headers: string, body: string, done: Done): void {
    this.#http.post(path, headers, body, (status, answer) => {
      done(status === 200 ? undefined : failureOf(status, answer))
    })
  }
}

/** What is sent to write; undefined of an operation that isn't one write. */
export function writeBody(operation: Operation): string | undefined {
  if (operation.type === 'insert') return insertBody(operation.firstId, operation.rows)
  return operation.type === 'update' ? statement(UPDATE, [1, operation.id]) : undefined
}

/** One session a connection; reads at the level `session` see what was there at the beginning. */
export async function connectLockstep(
  { address, level }: Target,
  count: number,
): Promise<Connection[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const http = await HttpConnection.open(address)
      const { session } = await ask<{ session: string }>(http, '/sessions', '{}')
      let freshness = `"consistency":"${level}"`
      if (level === 'session') {
        const { token } = await ask<{ token: string }>(http, '/query', statement(READ, [1]))
        freshness += `,"atLeast":${JSON.stringify(token)}`
      }
      return new LockstepConnection(http, session, freshness)
    }),
  )
}

/** Asks for something before the load begins. */
export function ask<T>(http: HttpConnection, path: string, body: string): Promise<T> {
  return new Promise((resolve, reject) => {
    http.post(path, '', body, (status, answer) => {
      if (status === 200) resolve(JSON.parse(String(answer)) as T)
      else reject(new Error(`${path}: ${String(answer)}`))
    })
  })
}

function statement(sql: string, params: readonly (number | string)[]): string {
  return `{"database":"${DATABASE}","sql":"${sql}","params":${JSON.stringify(params)}}`
}

function insertBody(firstId: number, rows: number): string {
  if (rows === 1) return statement(INSERT, [firstId, ROW_TEXT, LOADED_B])
  const values = Array.from({ length: rows }, () => '(?, ?, ?)').join()
  const params = Array.from({ length: rows }, (_, at) => [firstId + at, ROW_TEXT, LOADED_B]).flat()
  return statement(`INSERT INTO t (id, a, b) VALUES ${values}`, params)
}

function failureOf(status: number, answer: Buffer): Failure {
  const text = String(answer)
  return { text: `${status} ${text}`.slice(0, 300), isConflict: /TRANSACTION_CONFLICT/.test(text) }
}
