/** What every engine must do, whatever it is made of. The tests of each engine call it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resultsJson, type RowFormat } from '../../src/base/result-json.ts'
import type { WriteRequest } from '../../src/engine/engine.ts'
import { type Dialect, SQLITE, SQLITE_SNAPSHOTS } from './dialect.ts'
import { codeOf, EngineHarness, statements, type OpenEngine } from './harness.ts'
import { testSnapshots } from './snapshot-suite.ts'
import { temporaryDirectory } from './sqlite/support.ts'
import { testTransactions } from './transaction-suite.ts'

const CREATE_A: WriteRequest = { type: 'create-database', database: 'a' }

/** An engine with one database `a` and one table `t`. */
async function withTable(
  open: OpenEngine,
  directory: string,
  dialect: Dialect,
): Promise<EngineHarness> {
  const harness = await EngineHarness.open(open, directory)
  await harness.createDatabase('a')
  await harness.run('a', dialect.table)
  return harness
}

function insert(id: bigint, name: string): WriteRequest {
  return statements('a', ['INSERT INTO t VALUES (?, ?)', [id, name]])
}

/** Registers the suite for the engine that `open` opens. */
export function testEngine(kind: string, open: OpenEngine): void {
  testStatements(kind, open, SQLITE)
  testSnapshots(kind, open, SQLITE_SNAPSHOTS)
}

/** The suite without snapshots, in the SQL of an engine. */
export function testStatements(kind: string, open: OpenEngine, dialect: Dialect): void {
  testWrites(kind, open, dialect)
  testWriterEnds(kind, open, dialect)
  testReads(kind, open, dialect)
  testReplicas(kind, open, dialect)
  testTransactions(kind, open, dialect)
}

function testWrites(kind: string, open: OpenEngine, dialect: Dialect): void {
  test(`${kind}: what is committed is read, with its applied index`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    const results = await harness.write(insert(1n, 'one'), insert(2n, 'two'))

    const id = dialect.tellsGivenId ? { lastInsertId: 2n } : {}
    assert.deepEqual(results[1], { type: 'ok', results: [{ rowsAffected: 1, ...id }] })
    const outcome = await harness.query('a', 'SELECT id, name FROM t ORDER BY id')
    assert.deepEqual(outcome, {
      type: 'ok',
      appliedIndex: harness.index,
      results: [
        {
          rowsAffected: 0,
          columns: ['id', 'name'],
          rows: [
            [1n, 'one'],
            [2n, 'two'],
          ],
        },
      ],
    })
  })

  test(`${kind}: what is executed and not committed is seen by nobody, and leaves with a rollback`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    const executed = await harness.execute(insert(1n, 'one'))
    assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM t'), [[0n]])
    await harness.rollback(executed)
    await harness.write(insert(2n, 'one'))

    assert.deepEqual(await harness.rows('a', 'SELECT id FROM t'), [[2n]])
  })

  test(`${kind}: a request that fails takes nothing of its neighbours with it`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    const results = await harness.write(
      insert(1n, 'one'),
      statements('a', "INSERT INTO t VALUES (5, 'five')", "INSERT INTO t VALUES (1, 'again')"),
      insert(2n, 'two'),
      statements('nowhere', 'SELECT 1'),
    )

    assert.deepEqual(
      results.map(result => (result.type === 'ok' ? 'ok' : result.error.code)),
      ['ok', 'SQL_CONSTRAINT', 'ok', 'UNKNOWN_DATABASE'],
    )
    assert.deepEqual(await harness.rows('a', 'SELECT id FROM t ORDER BY id'), [[1n], [2n]])
  })

  test(`${kind}: a batch in which nothing succeeded has no entry`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    const executed = await harness.execute(statements('a', 'INSERT INTO t SELECT'))

    assert.equal(executed.entry, undefined)
    assert.equal(codeOf(executed.results[0]), 'SQL_SYNTAX')
    await harness.rollback(executed)
  })

  test(`${kind}: messages sent at once are done in order, each with its reply`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    const first = harness.execute(insert(1n, 'one'))
    const { batch } = harness
    const commit = harness.writer.ask({ type: 'commit', batch, index: harness.index + 1 })
    const second = harness.execute(insert(2n, 'two'))
    const rollback = harness.writer.ask({ type: 'rollback', batch: batch + 1 })
    const replies = await Promise.all([first, commit, second, rollback])

    assert.deepEqual(
      replies.map(reply => reply.type),
      ['executed', 'committed', 'executed', 'rolled-back'],
    )
    assert.deepEqual(await harness.rows('a', 'SELECT id FROM t'), [[1n]])
  })

  test(`${kind}: values of every type and size come back as they were given`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    await harness.run('a', dialect.valueTable)
    const values = [
      null,
      0n,
      -1n,
      2n ** 63n - 1n,
      -(2n ** 63n),
      0.5,
      -1e300,
      '',
      'ß€😀\u0000x',
      'x'.repeat(200_000),
      new Uint8Array(0),
      Uint8Array.from({ length: 100_000 }, (_, index) => index % 256),
    ]

    await harness.write(
      ...values.map((value, n) =>
        statements('a', [
          `INSERT INTO v (n, ${dialect.valueColumn(value)}) VALUES (?, ?)`,
          [BigInt(n), value],
        ]),
      ),
    )

    for (const [n, value] of values.entries()) {
      const sql = `SELECT ${dialect.valueColumn(value)} FROM v WHERE n = ?`
      const [[read] = []] = await harness.rows('a', sql, [BigInt(n)])
      assert.deepEqual(read instanceof Uint8Array ? new Uint8Array(read) : read, value)
    }
  })

  test(`${kind}: a checkpoint makes everything applied durable`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    await harness.write(insert(1n, 'one'))

    const reply = await harness.writer.expect({ type: 'checkpoint' }, 'checkpointed')

    assert.equal(reply.durableIndex, harness.index)
    assert.equal((await harness.restartWriter()).durableIndex, reply.durableIndex)
  })
}

function testWriterEnds(kind: string, open: OpenEngine, dialect: Dialect): void {
  test(`${kind}: a writer killed inside a batch leaves no trace of it, and the next goes on`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    await harness.write(insert(1n, 'one'))
    await harness.execute(insert(2n, 'two'))
    const { index } = harness

    await harness.restartWriter()

    assert.equal(harness.index, index)
    assert.deepEqual(await harness.rows('a', 'SELECT id FROM t'), [[1n]])
    await harness.write(insert(3n, 'two'))
    assert.deepEqual(await harness.rows('a', 'SELECT id FROM t ORDER BY id'), [[1n], [3n]])
  })

  test(`${kind}: after a kill nothing comes but the end, once and later`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    let hasExited = false
    void harness.writer.exit.then(() => (hasExited = true))

    const reply = harness.execute(insert(1n, 'one'))
    const exit = harness.writer.kill()
    await Promise.resolve()
    assert(!hasExited)
    await exit

    await assert.rejects(reply, /the writer ended/)
    await harness.startWriter()
    assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM t'), [[0n]])
  })

  test(`${kind}: an engine that was stopped opens again with all its data`, async () => {
    using directory = temporaryDirectory()
    const first = await withTable(open, directory.path, dialect)
    await first.write(insert(1n, 'one'))
    await first.writer.expect({ type: 'checkpoint' }, 'checkpointed')
    await first.write(insert(2n, 'two'))
    const { entries } = first
    await first.stop()

    await using second = await EngineHarness.open(open, directory.path, entries)

    assert.deepEqual(await second.rows('a', 'SELECT id FROM t'), [[1n], [2n]])
    assert.equal(
      await second.write(insert(3n, 'two')).then(([one]) => codeOf(one)),
      'SQL_CONSTRAINT',
    )
  })

  test(`${kind}: stopping answers what is under way, and later reads are refused`, async () => {
    using directory = temporaryDirectory()
    const harness = await withTable(open, directory.path, dialect)
    const reads = Array.from({ length: 5 }, () => harness.query('a', 'SELECT count(*) FROM t'))

    await harness.stop()

    const outcomes = await Promise.all(reads)
    assert(outcomes.every(one => one.type === 'ok' || one.error.code === 'SHUTTING_DOWN'))
    assert.equal(codeOf(await harness.query('a', 'SELECT 1')), 'SHUTTING_DOWN')
    assert.equal(codeOf(await harness.digest('a')), 'SHUTTING_DOWN')
    assert.deepEqual(await harness.databases(), [])
  })
}

function testReads(kind: string, open: OpenEngine, dialect: Dialect): void {
  test(`${kind}: a read of a database that is not there is UNKNOWN_DATABASE, of a table UNKNOWN_TABLE`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    assert.equal(codeOf(await harness.query('b', 'SELECT 1')), 'UNKNOWN_DATABASE')
    assert.equal(codeOf(await harness.digest('b')), 'UNKNOWN_DATABASE')
    assert.equal(codeOf(await harness.query('a', 'SELECT * FROM b')), 'UNKNOWN_TABLE')
    assert.equal(codeOf(await harness.query('a', 'SELECT FROM')), 'SQL_SYNTAX')
  })

  test(`${kind}: a read can not write`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    for (const sql of [
      "INSERT INTO t VALUES (1, 'x')",
      'DROP TABLE t',
      'CREATE TEMP TABLE x (y)',
    ]) {
      assert.equal((await harness.query('a', sql)).type, 'failed', sql)
    }

    assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM t'), [[0n]])
  })

  test(`${kind}: databases come and go, and one of the same name starts empty`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    await harness.createDatabase('z')
    await harness.createDatabase('b')
    assert.deepEqual(await harness.databases(), ['a', 'b', 'z'])
    assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM t'), [[0n]])

    const [again] = await harness.write(CREATE_A)
    assert.equal(codeOf(again), 'DATABASE_EXISTS')
    await harness.write({ type: 'drop-database', database: 'a' })
    assert.deepEqual(await harness.databases(), ['b', 'z'])
    assert.equal(codeOf(await harness.query('a', 'SELECT count(*) FROM t')), 'UNKNOWN_DATABASE')
    await harness.createDatabase('a')

    assert.equal(codeOf(await harness.query('a', 'SELECT count(*) FROM t')), 'UNKNOWN_TABLE')
  })

  test(`${kind}: a result over its limits is TOO_LARGE, and the next read is as before`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    const rows = dialect.numbers(100)

    assert.equal(codeOf(await harness.query('a', rows, { maxRows: 99 })), 'TOO_LARGE')
    assert.equal(
      codeOf(await harness.query('a', dialect.largeValue(5000), { maxBytes: 4000 })),
      'TOO_LARGE',
    )

    assert.equal((await harness.rows('a', rows)).length, 100)
  })

  test(`${kind}: a read gives the same as JSON, and the same errors`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    const limits = { maxRows: 10, maxBytes: 1_000 }
    const json = (sql: string, rows: RowFormat): Promise<string> =>
      new Promise(resolve => {
        const request = { database: 'a', statements: [{ sql, params: [] }], ...limits }
        harness.engine.queryJson(request, rows, 20_000, outcome => {
          if (outcome.type === 'failed') resolve(outcome.error.code)
          else resolve(`${outcome.appliedIndex} ${Buffer.from(outcome.json).toString()}`)
        })
      })
    const sql = dialect.wideRows(5)
    const outcome = await harness.query('a', sql)
    assert(outcome.type === 'ok')
    for (const rows of ['arrays', 'objects'] as const) {
      const expected: string = `${outcome.appliedIndex} ${resultsJson(outcome.results, rows)}`
      assert.equal(await json(sql, rows), expected)
    }
    assert.equal(await json(dialect.largeValue(5000), 'arrays'), 'TOO_LARGE')
    assert.equal(await json('SELECT * FROM missing', 'objects'), 'UNKNOWN_TABLE')
  })

  test(`${kind}: a result of many rows comes whole`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    const rows = await harness.rows('a', dialect.wideRows(60_000))

    assert.equal(rows.length, 60_000)
    assert.deepEqual(rows[41_999], [42_000n, 'row number 42000', 21_000])
  })

  test(`${kind}: a thousand reads at once are all answered, each with its own answer`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    await harness.run('a', dialect.insertFromJson, [
      JSON.stringify(Array.from({ length: 1_000 }, (_, id) => id)),
    ])

    const reads = Array.from({ length: 1_000 }, (_, id) =>
      harness.rows('a', 'SELECT name FROM t WHERE id = ?', [BigInt(id)]),
    )

    const rows = await Promise.all(reads)
    assert.deepEqual(
      rows,
      rows.map((_, id) => [[String(id)]]),
    )
  })

  test(`${kind}: a parameter that is missing or left over is refused, not read as NULL`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)

    for (const params of [[], [1n, 2n], { x: 1n }]) {
      assert.equal(codeOf(await harness.query('a', 'SELECT ?', { params })), 'INVALID_REQUEST')
    }
  })
}

function testReplicas(kind: string, open: OpenEngine, dialect: Dialect): void {
  test(`${kind}: entries applied elsewhere give the same digests, whatever their groups`, async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using leader = await withTable(open, here.path, dialect)
    await leader.createDatabase('b')
    await leader.write(insert(1n, 'one'), insert(1n, 'fails'), insert(2n, 'two'))
    for (const sql of dialect.timeAndChance) await leader.run('b', sql)
    await using follower = await EngineHarness.open(open, there.path)

    await follower.apply(leader.entries.slice(0, 1))
    await follower.apply(leader.entries.slice(1))

    for (const database of ['a', 'b']) {
      const [ours, theirs] = await Promise.all([leader.digest(database), follower.digest(database)])
      assert.equal(ours.type, 'ok')
      assert.deepEqual(ours, theirs)
    }
  })

  test(`${kind}: a new writer given the log again from its floor applies nothing twice`, async () => {
    using directory = temporaryDirectory()
    await using harness = await withTable(open, directory.path, dialect)
    await harness.run('a', 'CREATE TABLE plain (x INTEGER)')
    await harness.writer.expect({ type: 'checkpoint' }, 'checkpointed')
    await harness.run('a', 'INSERT INTO plain VALUES (1)')
    await harness.createDatabase('b')
    await harness.run('b', 'CREATE TABLE plain (x INTEGER)')
    await harness.run('b', 'INSERT INTO plain VALUES (1)')

    for (let round = 0; round < 3; round++) await harness.restartWriter()

    assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM plain'), [[1n]])
    assert.deepEqual(await harness.rows('b', 'SELECT count(*) FROM plain'), [[1n]])
  })

  test(`${kind}: a replica that computes something else says where`, async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using leader = await withTable(open, here.path, dialect)
    await using follower = await EngineHarness.open(open, there.path)
    await follower.apply(leader.entries)
    const before = leader.entries.length
    await leader.write(insert(1n, 'one'))
    await leader.run('a', dialect.appendIdToName)

    // The follower misses the insert, so that its update changes no row.
    const [missed, update] = leader.entries.slice(before)
    assert(missed !== undefined && update !== undefined)
    const lone = { index: missed.index, data: update.data }
    const reply = await follower.writer.expect({ type: 'apply', entries: [lone] }, 'applied')

    assert.equal(reply.index, missed.index - 1)
    assert.equal(reply.divergence?.index, missed.index)
    assert.equal(reply.divergence?.database, 'a')
    assert.match(reply.divergence?.sql ?? '', /^UPDATE t/)
    assert.deepEqual(await follower.rows('a', 'SELECT count(*) FROM t'), [[0n]])
  })
}
