import assert from 'node:assert/strict'
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { SqlParams, SqlValue } from '../../src/base/sql.ts'
import { compileCommand } from '../../src/protocol/command-sql.ts'
import type { Command } from '../../src/protocol/commands.ts'
import { parseJson } from '../../src/protocol/json.ts'
import { valueJson } from '../../src/base/result-json.ts'
import { name, sqlValue } from './arbitraries.ts'

/** Runs a Command as a node would, and gives the rows of its last statement. */
function run(database: DatabaseSync, command: unknown): Record<string, SQLOutputValue>[] {
  const compiled = compileCommand(command as object, '')
  assert(compiled.type === 'statements')
  let rows: Record<string, SQLOutputValue>[] = []
  for (const { sql, params } of compiled.statements) {
    assert(isList(params))
    const statement = database.prepare(sql)
    statement.setReadBigInts(true)
    rows = statement.all(...params)
  }
  return rows
}

function isList(params: SqlParams): params is readonly SqlValue[] {
  return Array.isArray(params)
}

/** The JSON that arrives at a node when a client sends `value`. */
function wire(value: SqlValue): unknown {
  return parseJson(valueJson(value))
}

function sqlOf(command: Command): readonly string[] {
  const compiled = compileCommand(command, '')
  assert(compiled.type === 'statements')
  return compiled.statements.map(statement => statement.sql)
}

function refused(command: unknown, problem: RegExp, path = ''): void {
  assert.throws(() => compileCommand(command as object, path), {
    code: 'INVALID_REQUEST',
    message: problem,
  })
}

const base = { database: 'main', table: 't' } as const

test('a column may be called __proto__', () => {
  const set = JSON.parse('{"__proto__": 1, "b": 2}') as Record<string, unknown>
  const [sql] = sqlOf({ action: 'update', ...base, set } as Command)

  assert.equal(sql, 'UPDATE "t" SET "__proto__" = ?, "b" = ?')
})

test('whatever tables and columns are named, a Command touches its own table alone', () => {
  fc.assert(
    fc.property(
      name.filter(name => !/^sqlite_/i.test(name) && name.toLowerCase() !== 'victim'),
      fc.uniqueArray(name, { minLength: 2, maxLength: 3, selector: name => name.toLowerCase() }),
      fc.array(fc.tuple(sqlValue, sqlValue), { minLength: 1, maxLength: 5 }),
      sqlValue,
      (table, columns, rows, fresh) => {
        using database = new DatabaseSync(':memory:')
        database.exec('CREATE TABLE victim (x); INSERT INTO victim VALUES (1)')
        const [first = '', second = ''] = columns
        const own = { database: 'main', table }
        const types = columns.map(column => ({ name: column, type: 'BLOB' }))
        run(database, { action: 'create_table', ...own, columns: types })
        const values = rows.map(row => row.map(wire))
        run(database, { action: 'insert', ...own, columns: [first, second], values })

        const selected = run(database, { action: 'select', ...own, columns: [first, second] })
        assert.deepEqual(
          selected.map(row => [row[first], row[second]]),
          rows,
        )
        run(database, { action: 'update', ...own, set: { [second]: wire(fresh) } })
        const updated = run(database, { action: 'select', ...own })
        assert.deepEqual(
          updated.map(row => row[second]),
          rows.map(() => fresh),
        )
        run(database, { action: 'delete', ...own })
        assert.deepEqual(run(database, { action: 'select', ...own }), [])
        run(database, { action: 'drop_table', ...own })
        const left = database.prepare('SELECT name FROM sqlite_schema').all()
        assert.deepEqual(
          left.map(row => row['name']),
          ['victim'],
        )
        assert.equal(database.prepare('SELECT x FROM victim').get()?.['x'], 1)
      },
    ),
    { numRuns: 300 },
  )
})

test('the default of a column is the value that was given, whatever it holds', () => {
  fc.assert(
    fc.property(
      sqlValue.filter(value => typeof value !== 'string' || !value.includes('\0')),
      value => {
        using database = new DatabaseSync(':memory:')
        const columns = [
          { name: 'id', type: 'integer', primary_key: true },
          { name: 'a', type: 'any', default: wire(value) },
        ]
        run(database, { action: 'create_table', ...base, columns, strict: true })
        run(database, { action: 'insert', ...base, values: { id: 1 } })

        assert.deepEqual(run(database, { action: 'select', ...base })[0]?.['a'], value)
      },
    ),
    { numRuns: 500 },
  )
})

test('a table is made with keys and constraints that hold', () => {
  using database = new DatabaseSync(':memory:')
  run(database, {
    action: 'create_table',
    ...base,
    columns: [
      { name: 'a', type: 'INTEGER', not_null: true },
      { name: 'b', type: 'varchar(10)' },
      { name: 'c', type: 'TEXT', unique: true },
    ],
    primary_key: ['a', 'b'],
  })
  run(database, { action: 'insert', ...base, values: [1, 'x', 'c1'] })

  const insert = (values: unknown) => (): unknown =>
    run(database, { action: 'insert', ...base, values })
  assert.throws(insert([1, 'x', 'c2']), /UNIQUE constraint failed: t.a, t.b/)
  assert.throws(insert([2, 'x', 'c1']), /UNIQUE constraint failed: t.c/)
  assert.throws(insert([null, 'x', 'c3']), /NOT NULL constraint failed/)
  run(database, { action: 'insert', ...base, values: [1, 'x', 'c9'], on_conflict: 'ignore' })
  run(database, { action: 'insert', ...base, values: [1, 'x', 'c8'], on_conflict: 'replace' })
  const rows = run(database, { action: 'select', ...base, columns: ['c'] })
  assert.deepEqual(
    rows.map(row => row['c']),
    ['c8'],
  )
})

test('if_not_exists and if_exists make a repetition harmless', () => {
  using database = new DatabaseSync(':memory:')
  const columns = [{ name: 'a', type: 'INTEGER' }]
  run(database, { action: 'create_table', ...base, columns })

  run(database, { action: 'create_table', ...base, columns, if_not_exists: true })
  assert.throws(() => run(database, { action: 'create_table', ...base, columns }), /already exists/)
  run(database, { action: 'drop_table', ...base })
  run(database, { action: 'drop_table', ...base, if_exists: true })
  assert.throws(() => run(database, { action: 'drop_table', ...base }), /no such table/)
})

test('a select sorts, limits and leaves out as asked', () => {
  using database = new DatabaseSync(':memory:')
  const columns = [
    { name: 'a', type: 'INTEGER' },
    { name: 'b', type: 'TEXT' },
  ]
  run(database, { action: 'create_table', ...base, columns })
  run(database, {
    action: 'insert',
    ...base,
    values: [
      [3, 'x'],
      [1, 'y'],
      [2, 'x'],
      [4, 'y'],
    ],
  })

  const ids = (more: object): unknown =>
    run(database, { action: 'select', ...base, columns: ['a'], ...more }).map(row => row['a'])
  const byA = [{ column: 'a' }]
  assert.deepEqual(ids({ order_by: byA }), [1n, 2n, 3n, 4n])
  assert.deepEqual(ids({ order_by: [{ column: 'b', direction: 'desc' }, { column: 'a' }] }), [
    1n,
    4n,
    2n,
    3n,
  ])
  assert.deepEqual(ids({ order_by: byA, limit: 2 }), [1n, 2n])
  assert.deepEqual(ids({ order_by: byA, limit: 2, offset: 1 }), [2n, 3n])
  assert.deepEqual(ids({ order_by: byA, offset: 3 }), [4n])
  assert.deepEqual(ids({ order_by: byA, limit: 0 }), [])
})

test('update and delete give back the rows they touched', () => {
  using database = new DatabaseSync(':memory:')
  const columns = [{ name: 'a b', type: 'INTEGER' }]
  run(database, { action: 'create_table', ...base, columns })

  const inserted = run(database, {
    action: 'insert',
    ...base,
    values: [[1], [2]],
    returning: ['a b'],
  })
  assert.deepEqual(
    inserted.map(row => row['a b']),
    [1n, 2n],
  )
  const where = { column: 'a b', operator: '=', value: 2 }
  const set = { 'a b': 5 }
  const updated = run(database, { action: 'update', ...base, set, where, returning: ['a b'] })
  assert.deepEqual(
    updated.map(row => row['a b']),
    [5n],
  )
  const deleted = run(database, { action: 'delete', ...base, returning: ['a b'] })
  assert.deepEqual(
    deleted.map(row => row['a b']),
    [1n, 5n],
  )
})

test('databases are made and dropped by name', () => {
  assert.deepEqual(compileCommand({ action: 'create_db', database: 'app-1' }, ''), {
    type: 'create-database',
    database: 'app-1',
  })
  assert.deepEqual(compileCommand({ action: 'drop_db', database: 'app-1' }, ''), {
    type: 'drop-database',
    database: 'app-1',
  })
  for (const database of ['', '../x', 'a b', '1a', 'a'.repeat(64), 'a;b', 'ä']) {
    refused({ action: 'create_db', database }, /^database: must be a letter/)
  }
})

test('a type of a column is one of the list, so that nothing rides along', () => {
  const make = (type: string): unknown => ({
    action: 'create_table',
    ...base,
    columns: [{ name: 'a', type }],
  })
  for (const type of ['TEXT', 'text', 'VARCHAR(40)', 'DECIMAL(10, 2)', 'Integer']) {
    assert.doesNotThrow(() => compileCommand(make(type) as object, ''), type)
  }
  for (const type of [
    '',
    'TEXT PRIMARY KEY',
    'TEXT) ; DROP TABLE x',
    'INT)',
    'FOO',
    'VARCHAR(x)',
  ]) {
    refused(make(type), /^columns\[0\].type: must be a type/)
  }
})

test('a Command of a wrong shape is refused with the field at fault', () => {
  refused({ action: 'truncate', database: 'main' }, /^action: must be one of create_db/)
  refused({ action: 'constructor' }, /^action: must be one of/)
  refused({ action: 'insert', ...base, values: [1], colums: ['a'] }, /unknown field "colums"/)
  refused({ action: 'insert', database: 'main', values: [1] }, /^table: expected string/)
  refused({ action: 'select', ...base, limit: -1 }, /^limit:/)
  refused({ action: 'select', ...base, limit: 1.5 }, /^limit:/)
  refused(
    { action: 'select', ...base, order_by: [{ column: 'a', direction: 'up' }] },
    /^order_by\[0\]/,
  )
  refused({ action: 'update', ...base, set: {} }, /^set: must name at least one column/)
  refused({ action: 'update', ...base, set: { a: [] } }, /^set.a: an array is not a SQL value/)
  refused({ action: 'delete', ...base, where: 'x' }, /^where: must be an object/)
  refused({ action: 'delete', ...base, where: null }, /^where: must be an object/)
  const key = { name: 'a', type: 'INT', primary_key: true }
  const another = { name: 'b', type: 'INT', primary_key: true }
  refused({ action: 'create_table', ...base, columns: [key, another] }, /^columns: only one/)
  const nul = { name: 'a', type: 'TEXT', default: 'a\0b' }
  refused({ action: 'create_table', ...base, columns: [nul] }, /^columns\[0\].default/)
})

test('the text of a Command is the same for other values, so that it is found prepared', () => {
  const where = { column: 'id', operator: '=', value: 1 } as const
  const update = (id: number, name: string): Command => ({
    action: 'update',
    ...base,
    set: { name },
    where: { ...where, value: id },
  })

  assert.deepEqual(sqlOf(update(1, 'a')), sqlOf(update(2, "b'")))
  assert.deepEqual(sqlOf(update(1, 'a')), ['UPDATE "t" SET "name" = ? WHERE ("t"."id" = ?)'])
})
