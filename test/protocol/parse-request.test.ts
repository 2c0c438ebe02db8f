import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseExecute, parseQuery } from '../../src/protocol/parse-request.ts'
import { encodeToken, tokenPrefix } from '../../src/protocol/token.ts'

const refusedBy = (parse: (json: unknown) => unknown) => (json: unknown, problem: RegExp) =>
  assert.throws(() => parse(json), { code: 'INVALID_REQUEST', message: problem })
const refused = refusedBy(parseExecute)
const refusedRead = refusedBy(parseQuery)

const TOKEN = encodeToken(tokenPrefix('h', 1), 9)

test('one statement is executed with its parameters and deadline', () => {
  const request = parseExecute({ database: 'main', sql: 'X ?', params: [1], timeoutMs: 50 })

  assert.deepEqual(request, {
    operation: { type: 'statements', database: 'main', statements: [{ sql: 'X ?', params: [1n] }] },
    statementCounts: undefined,
    isRead: false,
    timeoutMs: 50,
    rows: 'arrays',
  })
})

test('an array runs as one request, statements and Commands mixed', () => {
  const rows = Array.from({ length: 120 }, (_, id) => [id])
  const { operation, statementCounts } = parseExecute([
    { database: 'main', sql: 'A' },
    { action: 'insert', database: 'main', table: 't', values: rows },
    { database: 'main', sql: 'B' },
  ])

  assert(operation.type === 'statements')
  assert.equal(operation.statements.length, 5)
  assert.deepEqual(statementCounts, [1, 3, 1])
})

test('a script of several statements does not stand beside an insert of many rows', () => {
  const values = Array.from({ length: 120 }, (_, id) => [id])
  const insert = { action: 'insert', database: 'main', table: 't', values }
  const script = { database: 'main', sql: 'A; B' }

  refused([insert, script], /^statements\[1\]: beside an insert of many rows/)
  assert.deepEqual(parseExecute([script, { ...script, sql: 'C;\n' }]).statementCounts, undefined)
  assert.deepEqual(parseExecute([insert, { ...script, sql: 'C;\n' }]).statementCounts, [3, 1])
})

test('a batch names its database once, for all that name none', () => {
  const { operation } = parseExecute({
    database: 'main',
    statements: ['A', { sql: 'B' }, { action: 'delete', table: 't' }],
  })

  assert(operation.type === 'statements')
  assert.equal(operation.database, 'main')
  assert.deepEqual(
    operation.statements.map(statement => statement.sql),
    ['A', 'B', 'DELETE FROM "t"'],
  )
})

test('creating and dropping a database stands alone', () => {
  const create = { action: 'create_db', database: 'x' }

  assert.deepEqual(parseExecute(create).operation, { type: 'create-database', database: 'x' })
  assert.deepEqual(parseExecute([create]).operation, { type: 'create-database', database: 'x' })
  refused([create, { database: 'x', sql: 'A' }], /^statements\[0\]: create_db and drop_db/)
  refused([{ database: 'x', sql: 'A' }, create], /^statements\[1\]: create_db and drop_db/)
})

test('selects alone are a read, in an execute too', () => {
  const select = { action: 'select', database: 'main', table: 't' }

  assert.equal(parseExecute(select).isRead, true)
  assert.equal(parseExecute([select, select]).isRead, true)
  assert.equal(parseExecute([select, { database: 'main', sql: 'A' }]).isRead, false)
})

test('a request of a wrong shape is refused with the field at fault', () => {
  refused(null, /^the body: must be an object/)
  refused('A', /^the body: must be an object/)
  refused([], /^statements: /)
  refused({}, /^sql: expected string/)
  refused({ sql: 'A' }, /^database: /)
  refused({ sql: '', database: 'main' }, /^sql: /)
  refused({ sql: 'A', database: 'main', timeout: 5 }, /unknown field "timeout"/)
  refused({ sql: 'A', database: 'main', timeoutMs: '5' }, /^timeoutMs: expected number/)
  refused({ sql: 'A', database: 'main', timeoutMs: 0 }, /^timeoutMs: /)
  refused({ sql: 'A', database: 'main', timeoutMs: 1e9 }, /^timeoutMs: /)
  refused({ sql: 'A', database: 'main', rows: 'maps' }, /^rows: /)
  refused({ sql: 'A\0B', database: 'main' }, /^sql: the text holds the character NUL/)
  refused({ sql: 'A\udc00', database: 'main' }, /^sql: the text holds half/)
  refused({ database: 'main', statements: [{ sql: 'A', param: [] }] }, /^unknown field "param" in/)
  refused({ statements: ['A'] }, /^statements\[0\].database: name the database/)
  refused({ database: 'main', statements: [7] }, /^statements\[0\]: must be an object/)
  refused(
    [
      { database: 'a', sql: 'A' },
      { database: 'b', sql: 'B' },
    ],
    /^statements\[1\]: one request speaks to one database, not "a" and "b"/,
  )
  refused({ action: 'select', database: 'a', table: 't', timeoutMs: -1 }, /^timeoutMs: /)
})

test('a deadline may be written with a point', () => {
  const sent = { sql: 'A', database: 'main', timeoutMs: { $real: 5000 } }

  assert.equal(parseExecute(sent).timeoutMs, 5000)
  refused({ ...sent, timeoutMs: { $real: 0.5 } }, /^timeoutMs: /)
})

test('a read is linearizable unless it says otherwise', () => {
  const { consistency, token, maxLagMs, rows } = parseQuery({ database: 'main', sql: 'A' })

  assert.deepEqual(
    [consistency, token, maxLagMs, rows],
    ['linearizable', undefined, undefined, 'arrays'],
  )
})

test('each level of a read takes its own fields and no others', () => {
  const read = { database: 'main', sql: 'A' }
  const session = parseQuery({ ...read, consistency: 'session', atLeast: TOKEN })
  assert.deepEqual(session.token, { historyId: 'h', groupId: 1, index: 9 })
  assert.equal(parseQuery({ ...read, consistency: 'local', maxLagMs: 0 }).maxLagMs, 0)

  refusedRead({ ...read, consistency: 'strong' }, /^consistency: /)
  refusedRead({ ...read, consistency: 'session' }, /^atLeast: consistency session needs/)
  refusedRead({ ...read, atLeast: TOKEN }, /^atLeast: goes with consistency session only/)
  refusedRead({ ...read, consistency: 'local', atLeast: TOKEN }, /^atLeast: goes with/)
  refusedRead({ ...read, maxLagMs: 5 }, /^maxLagMs: goes with consistency local only/)
  refusedRead({ ...read, consistency: 'session', atLeast: 'x' }, /^atLeast is not a token/)
})

test('a query takes select Commands and statements, but nothing that writes', () => {
  const select = { action: 'select', database: 'main', table: 't', consistency: 'local' }
  assert.equal(parseQuery(select).consistency, 'local')
  const both = parseQuery({ database: 'main', statements: ['A', { action: 'select', table: 't' }] })
  assert.equal(both.statements.length, 2)

  refusedRead({ action: 'delete', database: 'main', table: 't' }, /^action: only select reads/)
  refusedRead({ action: 'create_db', database: 'main' }, /^action: only select reads/)
  refusedRead(
    { database: 'main', statements: ['A', { action: 'drop_table', table: 't' }] },
    /^statements\[1\].action: only select reads/,
  )
  refusedRead({ ...select, colums: [] }, /unknown field "colums"/)
})
