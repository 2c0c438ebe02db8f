/** Rows of several requests in one statement give each request what it would have got alone. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import type { SqlValue } from '../../../src/base/sql.ts'
import type { RequestResult, WriteRequest } from '../../../src/engine/engine.ts'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import { parseText } from '../../../src/engine/mysql/parsed-text.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { EngineHarness, statements } from '../harness.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
let server: MariaDbServer
let nodes = 0

before(async () => {
  if (missing === undefined) server = await MariaDbServer.start()
})
after(() => server?.stop())

const COUNTED =
  'CREATE TABLE c (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(8) NOT NULL UNIQUE, ' +
  'small TINYINT, at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6), CHECK (small <> 13))'
const PLAIN = 'CREATE TABLE p (id BIGINT PRIMARY KEY, name VARCHAR(8) NOT NULL)'

function open(): Promise<EngineHarness> {
  const nodeId = `n${(nodes += 1)}`
  const owner = { clusterId: 'c', nodeId, incarnation: 'i' }
  const address = parseServerAddress(server.url(`${nodeId}_`))
  const clock = new SystemClock()
  const engine = (directory: string): Promise<MysqlEngine> =>
    Promise.resolve(new MysqlEngine({ address, owner, clock, readersMax: 2, directory }))
  return EngineHarness.open(engine, '')
}

async function withTables(): Promise<EngineHarness> {
  const harness = await open()
  await harness.createDatabase('a')
  for (const sql of [COUNTED, PLAIN]) await harness.run('a', sql)
  return harness
}

function counted(name: SqlValue, small: SqlValue = 1n, blanks = ' '): WriteRequest {
  return statements('a', [`INSERT INTO c (name,${blanks}small) VALUES (?, ?)`, [name, small]])
}

/** How many INSERT statements the server runs meanwhile. */
async function insertsOf(act: () => Promise<void>): Promise<number> {
  const count = async (): Promise<number> => {
    const { createConnection } = await import('mysql2/promise')
    const connection = await createConnection(server.url('').replace(/\?.*/, ''))
    const [rows] = await connection.query("SHOW GLOBAL STATUS LIKE 'Com_insert'")
    await connection.end()
    return Number((rows as { Value: string }[])[0]?.Value)
  }
  const first = await count()
  await act()
  return (await count()) - first
}

function idOf(result: RequestResult | undefined): bigint | undefined {
  assert(result?.type === 'ok', inspect(result))
  return result.results[0]?.lastInsertId
}

test(
  'rows share a statement, on the leader and on followers, and each is told its id',
  options,
  async () => {
    await using leader = await withTables()
    await using follower = await open()
    await follower.apply(leader.entries)
    const names = Array.from({ length: 40 }, (_, at) => `r${at}`)
    let results: readonly RequestResult[] = []
    const byLeader = await insertsOf(async () => {
      results = await leader.write(...names.map(name => counted(name)))
    })
    // One for the rows; the book and the index are not always inserts.
    assert(byLeader <= 3, `${byLeader} statements`)
    const ids = await leader.rows('a', 'SELECT name, id FROM c ORDER BY id')
    assert.deepEqual(
      ids,
      names.map((name, at) => [name, idOf(results[at])]),
    )
    const byFollower = await insertsOf(() => follower.apply(leader.entries.slice(-1)))
    assert(byFollower <= 3, `${byFollower} statements`)
    assert.deepEqual(await follower.digest('a'), { ...(await leader.digest('a')) })
  },
)

test(
  'ids that a follower must give are given, whatever its own counter says',
  options,
  async () => {
    await using leader = await withTables()
    await using follower = await open()
    await follower.apply(leader.entries)
    const before = leader.entries.length
    // Rows that are rolled back move the leader's counter and nobody else's.
    const undone = await leader.execute(counted('x'), counted('y'), counted('z'))
    await leader.rollback(undone)
    const results = await leader.write(counted('a'), counted('b'), counted('c'))
    assert.deepEqual(results.map(idOf), [4n, 5n, 6n])
    await follower.apply(leader.entries.slice(before))
    const sql = 'SELECT id, name FROM c ORDER BY id'
    assert.deepEqual(await follower.rows('a', sql), await leader.rows('a', sql))
  },
)

test('rows that bring their ids along are told these, and NULL is none', options, async () => {
  await using leader = await withTables()
  await using follower = await open()
  const insert = (id: SqlValue, name: string): WriteRequest =>
    statements('a', ['INSERT INTO c (id, name) VALUES (?, ?)', [id, name]])
  const nothing = (name: string): WriteRequest =>
    statements('a', [`INSERT INTO c (id, name) VALUES (NULL, ?)`, [name]])
  const results = await leader.write(
    insert(7n, 'a'),
    insert(5n, 'b'),
    insert(null, 'c'),
    insert(100n, 'd'),
    nothing('e'),
    nothing('f'),
    insert(0n, 'g'),
    insert(3n, 'h'),
  )
  assert.deepEqual(results.map(idOf), [7n, 5n, 8n, 100n, 101n, 102n, 103n, 3n])
  await follower.apply(leader.entries)
  assert.deepEqual(await follower.digest('a'), { ...(await leader.digest('a')) })
})

test('a table that begins to count is known to, from the next row on', options, async () => {
  await using leader = await withTables()
  const insert = (id: bigint): WriteRequest =>
    statements('a', ['INSERT INTO p (id, name) VALUES (?, ?)', [id, 'x']])
  const before = await leader.write(insert(1n), insert(2n))
  assert.deepEqual(before.map(idOf), [undefined, undefined])
  await leader.run('a', 'ALTER TABLE p MODIFY id BIGINT AUTO_INCREMENT')
  const after = await leader.write(insert(9n), insert(4n))
  assert.deepEqual(after.map(idOf), [9n, 4n])
})

test('any mix of rows gives what the same rows give one by one', options, async () => {
  await using together = await withTables()
  await using alone = await withTables()
  await using follower = await open()
  follower.index = together.entries.length
  await follower.apply(together.entries)
  const name = fc.oneof(
    { weight: 8, arbitrary: fc.stringMatching(/^[a-c]{1,3}$/) },
    { weight: 1, arbitrary: fc.constantFrom(null, 'much too long', "o'\\") },
  )
  const small = fc.constantFrom<SqlValue>(1n, 2n, -3n, null, 1.5, 13n, 1000n, 'text')
  const row = fc.record({
    kind: fc.constantFrom('counted', 'plain', 'delete', 'default', 'many'),
    name,
    small: fc.oneof({ weight: 9, arbitrary: fc.constant<SqlValue>(1n) }, small),
    id: fc.integer({ min: -2, max: 9 }).map(BigInt),
  })
  // A text that failed is left alone for a while: each run has texts of its own.
  let blanks = ''
  const toRequest = (one: typeof row extends fc.Arbitrary<infer T> ? T : never): WriteRequest => {
    switch (one.kind) {
      case 'counted':
        return counted(one.name, one.small, blanks)
      case 'plain':
        return statements('a', [`INSERT INTO p${blanks}VALUES (?, ?)`, [one.id, one.name]])
      case 'default':
        return statements('a', [`INSERT c (small,${blanks}name) VALUE (DEFAULT, ?)`, [one.name]])
      case 'many':
        return statements(
          'a',
          ['INSERT INTO p VALUES (?, ?)', [one.id, one.name]],
          ['INSERT INTO c (name, small) VALUES (?, ?)', [one.name, one.small]],
        )
      default:
        return statements('a', ['DELETE FROM p WHERE id = ?', [one.id]])
    }
  }
  // Rows that fail together burn ids that they don't burn alone.
  const told = (results: readonly RequestResult[]): unknown[] =>
    results.map(result =>
      result.type === 'ok'
        ? result.results.map(({ lastInsertId, ...rest }) => [rest, lastInsertId !== undefined])
        : result,
    )
  const CONTENT = 'SELECT name, small FROM c UNION ALL SELECT name, id FROM p ORDER BY 1, 2'
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 30 }), async rows => {
      const clear = statements('a', 'DELETE FROM c', 'DELETE FROM p')
      blanks += ' '
      const requests = rows.map(toRequest)
      await Promise.all([together.write(clear), alone.write(clear)])
      const results = await together.write(...requests)
      const one: RequestResult[] = []
      for (const request of requests) one.push(...(await alone.write(request)))
      assert.deepEqual(told(results), told(one))
      assert.deepEqual(await together.rows('a', CONTENT), await alone.rows('a', CONTENT))
      for (const [at, { kind, name }] of rows.entries()) {
        const result = results[at]
        if (result?.type !== 'ok' || (kind !== 'counted' && kind !== 'default')) continue
        const found = await together.rows('a', 'SELECT id FROM c WHERE name = ?', [name])
        assert.deepEqual(found, [[idOf(result)]])
      }
      const entries = together.entries.slice(follower.index)
      follower.index += entries.length
      await follower.apply(entries)
      assert.deepEqual(await follower.digest('a'), { ...(await together.digest('a')) })
    }),
    { numRuns: 60 },
  )
})

test('only an INSERT of one row of plain values says what stands before the row', () => {
  const headOf = (sql: string): string | undefined => {
    const [statement] = parseText(sql)
    const piece = statement?.pieces[0]
    return typeof piece === 'string' && statement?.insert !== undefined
      ? piece.slice(0, statement.insert.rowAt)
      : undefined
  }
  assert.equal(headOf('INSERT INTO t (a, `b`) VALUES (?, 5)'), 'INSERT INTO t (a, `b`) VALUES ')
  assert.equal(headOf("insert t value ('x', NULL, :name)"), 'insert t value ')
  for (const sql of [
    'INSERT INTO t (a) VALUES (?), (?)',
    'INSERT INTO t (a) VALUES (? + 1)',
    'INSERT INTO t (a) VALUES ((SELECT max(a) FROM t))',
    'INSERT INTO t (a) VALUES (LAST_INSERT_ID())',
    'INSERT INTO t (a) VALUES (RAND())',
    'INSERT INTO t (a, b) VALUES (?)',
    'INSERT INTO t (a, b) VALUES (1, a)',
    'INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a = 1',
    'INSERT INTO t (a) VALUES (?) RETURNING a',
    'INSERT INTO t (a) SELECT 1',
    'INSERT INTO t SET a = 1',
    'INSERT IGNORE INTO t (a) VALUES (?)',
    'INSERT INTO a.t (a) VALUES (?)',
    'INSERT INTO t PARTITION (p) VALUES (?)',
    'REPLACE INTO t (a) VALUES (?)',
  ]) {
    assert.equal(headOf(sql), undefined, sql)
  }
  const given = (sql: string): unknown => parseText(sql)[0]?.insert?.form.given
  assert.deepEqual(given('INSERT INTO t (A, b, c) VALUES (?, NULL, DEFAULT)'), ['a'])
  assert.equal(given('INSERT INTO t VALUES (1)'), undefined)
})
