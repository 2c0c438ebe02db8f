/** The SQL of the simulator's workload: requests and queries, and how their answers are read. */
import { unreachable } from '../src/base/assert.ts'
import type { SqlValue, Statement, StatementResult } from '../src/base/sql.ts'
import type { ReadRequest, WriteRequest } from '../src/engine/engine.ts'
import type { Action, Register } from './model.ts'
import { BUMP, CLAIM, MARK } from './statements.ts'
import { check } from './world.ts'

/** Tables of every database; statements of the first request in it. */
const TABLES = [
  'CREATE TABLE registers (key INTEGER PRIMARY KEY, version INTEGER NOT NULL, writer INTEGER NOT NULL)',
  'CREATE TABLE marks (id INTEGER PRIMARY KEY, operation INTEGER NOT NULL, chance INTEGER, moment TEXT)',
  'CREATE TABLE claims (name TEXT PRIMARY KEY, operation INTEGER NOT NULL)',
]

/** The request of an operation. Its first parameter is its number, by which it is known for ever. */
export function requestOf(action: Action, operation: number, database: string): WriteRequest {
  return { type: 'statements', database, statements: statementsOf(action, BigInt(operation)) }
}

/** Reads a register through the writer: answered by the leader, and in no entry. */
export function readByWriting(key: number, operation: number, database: string): WriteRequest {
  const sql = 'SELECT version, writer FROM registers WHERE ?1 > 0 AND key = ?2'
  const params = [BigInt(operation), BigInt(key)]
  return { type: 'statements', database, statements: [{ sql, params }] }
}

/** A request that can only fail, and what it does before. */
export function failingRequest(
  kind: FailingKind,
  operation: number,
  database: string,
): WriteRequest {
  const mark = { sql: MARK, params: [BigInt(operation)] }
  return { type: 'statements', database, statements: [mark, FAILURES[kind]] }
}

export type FailingKind = 'syntax' | 'table' | 'not-null'

const FAILURES: Record<FailingKind, Statement> = {
  syntax: { sql: 'INSRT INTO marks VALUES (1)', params: [] },
  table: { sql: 'DELETE FROM nowhere', params: [] },
  'not-null': { sql: 'UPDATE registers SET version = NULL', params: [] },
}

export const FAILING_KINDS: readonly FailingKind[] = ['syntax', 'table', 'not-null']

/** All registers of a database. */
export function readAll(database: string): ReadRequest {
  return read(database, 'SELECT key, version, writer FROM registers ORDER BY key')
}

/** Everything of a database: registers, marks, claims. */
export function readEverything(database: string): ReadRequest {
  const request = readAll(database)
  const marks = { sql: 'SELECT operation FROM marks ORDER BY operation', params: [] }
  const claims = { sql: 'SELECT name, operation FROM claims ORDER BY name', params: [] }
  return { ...request, statements: [...request.statements, marks, claims] }
}

/** Registers by key, as `readAll` gives them. */
export function registersOf(result: StatementResult | undefined): Map<number, Register> {
  const rows = result?.rows ?? []
  return new Map(
    rows.map(([key, version, writer]) => [
      toNumber(key),
      { version: toNumber(version), writer: toNumber(writer) },
    ]),
  )
}

export function toNumber(value: SqlValue | undefined): number {
  check(typeof value === 'bigint', () => `${typeof value} in place of an integer`)
  return Number(value)
}

function statementsOf(action: Action, operation: bigint): Statement[] {
  switch (action.type) {
    case 'bump':
      return [{ sql: BUMP, params: [operation, BigInt(action.key)] }]
    case 'mark':
      return [{ sql: MARK, params: [operation] }]
    case 'claim':
      return [{ sql: CLAIM, params: [operation, action.name] }]
    case 'mark-and-claim':
      return [
        { sql: MARK, params: [operation] },
        { sql: CLAIM, params: [operation, action.name] },
      ]
    case 'set-up': {
      const rows = Array.from({ length: action.keyCount }, (_, key) => `(${key}, 1, ?1)`)
      const sql = `INSERT INTO registers (key, version, writer) VALUES ${rows.join(', ')}`
      // The number must come first, but the table must be there before it.
      const number = { sql: 'SELECT ?1', params: [operation] }
      const tables = TABLES.map(table => ({ sql: table, params: [] }))
      return [number, ...tables, { sql, params: [operation] }]
    }
    default:
      return unreachable(action)
  }
}

function read(database: string, sql: string): ReadRequest {
  return { database, statements: [{ sql, params: [] }], maxRows: 100_000, maxBytes: 10_000_000 }
}
