/** Schema changes that wait for who has read their tables: the node's own readers, and others. */
import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { after, before, test } from 'node:test'
import { Connection } from '../../../src/engine/mysql/connection.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { until } from '../../cluster/kit.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { statements } from '../harness.ts'
import { behindItsBack, digestOf, type MysqlNode, soundDigest, startNode } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
/** A change that waits longer is given up by the server, and ends the writer. */
const LOCK_MS = 5000

let server: MariaDbServer

before(async () => {
  if (missing === undefined) server = await MariaDbServer.start()
})
after(() => server?.stop())

async function startFilled(): Promise<MysqlNode> {
  const node = await startNode(server.port)
  const { harness } = node
  await harness.createDatabase('app')
  for (const sql of [
    'CREATE TABLE t (id INT PRIMARY KEY, n INT)',
    'INSERT INTO t SELECT seq, seq % 7 FROM seq_1_to_3000',
    'CREATE VIEW seen AS SELECT id, n FROM t',
    'CREATE TABLE keyless (n INT, text_ TEXT)',
  ]) {
    await harness.run('app', sql)
  }
  return node
}

/** Much longer than the server waits for a lock, unless somebody ends it. */
const ENDLESS = 'SELECT count(*) FROM $ AS a, $ AS b, $ AS c WHERE a.n + b.n + c.n = 3'

/** Waits for a read whose text begins so; the row of its connection. */
function running(node: MysqlNode, text: string): ReturnType<typeof behindItsBack> {
  return until(
    () =>
      behindItsBack(
        server.port,
        'SELECT CAST(id AS CHAR) FROM information_schema.processlist ' +
          `WHERE db LIKE '${node.prefix}%' AND info LIKE '${text}%'`,
      ),
    rows => rows.length > 0,
  )
}

for (const [what, source] of [
  ['of its table', 't'],
  ['of its table through a view', 'seen'],
]) {
  test(
    `a long read ${what} gives way to a schema change, and goes on after it`,
    options,
    async () => {
      await using node = await startFilled()
      const { harness } = node
      const timeoutMs = 60_000
      const reading = harness.query('app', ENDLESS.replaceAll('$', String(source)), { timeoutMs })
      await running(node, 'SELECT count')
      const startedMs = performance.now()
      await harness.run('app', 'ALTER TABLE t ADD COLUMN more INT')
      assert(performance.now() - startedMs < LOCK_MS, 'it did not wait until the server gave up')
      // The same writer goes on.
      await harness.run('app', 'INSERT INTO t VALUES (0, 0, 0)')
      // It has begun anew, and nothing but its own deadline ends it now, or a client like this.
      const [row] = await running(node, 'SELECT count')
      await behindItsBack(server.port, `KILL QUERY ${String(row?.[0])}`)
      const outcome = await reading
      assert(outcome.type === 'failed', inspect(outcome))
      assert.match(outcome.error.message, /interrupted/)
    },
  )
}

test('a read that gives way again and again says so in the end', options, async () => {
  await using node = await startFilled()
  const { harness } = node
  const reading = harness.query('app', ENDLESS.replaceAll('$', 't'), { timeoutMs: 60_000 })
  for (let change = 0; change < 5; change++) {
    await running(node, 'SELECT count')
    await harness.run('app', `ALTER TABLE t ADD COLUMN more_${change} INT`)
  }
  const outcome = await reading
  assert(outcome.type === 'failed', inspect(outcome))
  assert.equal(outcome.error.code, 'OVERLOADED')
  assert.match(outcome.error.message, /schema changes needed what was read/)
})

test('a long read of another table of the database is left alone', options, async () => {
  await using node = await startFilled()
  const { harness } = node
  await harness.run('app', 'CREATE TABLE other (n INT PRIMARY KEY)')
  const slow = 'SELECT count(*) FROM seq_1_to_20000000 WHERE seq % 3 = 1'
  const reading = harness.query('app', slow, { timeoutMs: 60_000 })
  await running(node, 'SELECT count')
  const [row] = await connectionOf(node)
  const second = harness.query('app', ENDLESS.replaceAll('$', 't'), { timeoutMs: 10_000 })
  await running(node, 'SELECT count(*) FROM t')
  await harness.run('app', 'DROP TABLE t')
  assert.deepEqual((await connectionOf(node))[0], row)
  assert.equal((await reading).type, 'ok')
  const outcome = await second
  assert(outcome.type === 'failed')
  assert.equal(outcome.error.code, 'UNKNOWN_TABLE')
})

function connectionOf(node: MysqlNode): Promise<readonly unknown[]> {
  return behindItsBack(
    server.port,
    'SELECT id FROM information_schema.processlist ' +
      `WHERE db = '${node.prefix}app' AND info LIKE '%seq_1_to_20000000%'`,
  )
}

test('what reads all data gives way, however long it takes for one table', options, async () => {
  await using node = await startFilled()
  const { harness } = node
  // Nothing gives an order to go in pieces by.
  const fill = 'INSERT INTO keyless SELECT seq, REPEAT(seq, 100) FROM seq_1_to_100000'
  for (let times = 0; times < 4; times++) await harness.run('app', fill)
  const taking = digestOf(node)
  await until(
    () =>
      behindItsBack(
        server.port,
        'SELECT CAST(count(*) AS CHAR) FROM information_schema.processlist ' +
          "WHERE id <> CONNECTION_ID() AND info LIKE '%`keyless`  %'",
      ),
    ([row]) => String(row?.[0]) !== '0',
  )
  const startedMs = performance.now()
  await harness.run('app', 'ALTER TABLE keyless ADD COLUMN more INT')
  assert(performance.now() - startedMs < LOCK_MS)
  const outcome = await taking
  assert(outcome.type === 'failed')
  assert.equal(outcome.error.code, 'SNAPSHOT_FAILED')
})

for (const sql of ['ALTER TABLE t ADD COLUMN more INT', 'drop database']) {
  test(`${sql} waits for a client that is no node, and says for whom`, options, async () => {
    await using node = await startFilled()
    const { harness, prefix } = node
    await using twin = await startNode(server.port, harness.entries)
    const foreign = await Connection.open(parseServerAddress(server.url('')))
    await foreign.expect(`BEGIN; SELECT * FROM ${prefix}app.t LIMIT 1`)
    const executed = await harness.execute(
      sql === 'drop database' ? { type: 'drop-database', database: 'app' } : statements('app', sql),
    )
    assert(executed.entry !== undefined)
    const entry = { index: harness.index + 1, data: executed.entry }
    harness.entries.push(entry)
    const { batch } = executed
    const reply = await harness.writer.ask({ type: 'commit', batch, index: entry.index })
    assert(reply.type === 'fault', inspect(reply))
    assert.equal(reply.error.code, 'NODE_FAULT')
    const who = `connection ${foreign.id} of root@`
    assert(reply.error.message.includes(who), `${who}: ${reply.error.message}`)
    await harness.writer.exit
    // Whoever comes next finishes it, once.
    await foreign.expect('ROLLBACK')
    foreign.close()
    await harness.startWriter()
    await twin.harness.apply([entry])
    twin.harness.index = harness.index
    assert.deepEqual(await soundDigest(node), await soundDigest(twin))
  })
}
