/** Digests of all data over a real MariaDB server. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { RequestId, WriteRequest } from '../../../src/engine/engine.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { statements } from '../harness.ts'
import { TransactionTalk } from '../transaction-talk.ts'
import { behindItsBack, digestOf, type MysqlNode, soundDigest, startNode } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

let server: MariaDbServer

before(async () => {
  if (missing === undefined) server = await MariaDbServer.start()
})
after(() => server?.stop())

/** Tables of every kind, larger than a piece. */
const FILL = [
  'CREATE TABLE plain (id BIGINT AUTO_INCREMENT PRIMARY KEY, text_ VARCHAR(100), n INT)',
  "INSERT INTO plain (id, text_, n) SELECT seq, CONCAT('row ', seq), NULLIF(seq % 7, 3) FROM seq_1_to_2500 ORDER BY seq",
  'CREATE TABLE pair (a VARCHAR(20), b DECIMAL(10,2), c INT, PRIMARY KEY (a, b))',
  'INSERT INTO pair SELECT CHAR(97 + seq % 26), seq / 4, seq FROM seq_1_to_2500',
  'CREATE TABLE times (d DATETIME(3), e BINARY(4), PRIMARY KEY (d, e))',
  "INSERT INTO times SELECT '2020-01-01' + INTERVAL seq % 50 DAY, UNHEX(LPAD(HEX(seq), 8, '0')) FROM seq_1_to_1500",
  "CREATE TABLE chosen (e ENUM('z', 'a', 'm') PRIMARY KEY, s SET('x', 'y'))",
  "INSERT INTO chosen VALUES ('z', 'x,y'), ('a', ''), ('m', NULL)",
  'CREATE TABLE keyless (f FLOAT, g DOUBLE, b BIT(10), j JSON, t LONGTEXT, l LONGBLOB)',
  "INSERT INTO keyless SELECT seq / 3, seq / 7, seq % 1000, CONCAT('[', seq, ']'), REPEAT('t', seq), x'00ff' FROM seq_1_to_1500",
  'CREATE TABLE computed (id INT PRIMARY KEY, twice INT AS (id * 2) VIRTUAL, kept INT AS (id * 3) STORED)',
  'INSERT INTO computed (id) VALUES (1), (2)',
  'CREATE VIEW seen AS SELECT id FROM plain WHERE n = 1',
]

async function fill(node: MysqlNode): Promise<void> {
  await node.harness.createDatabase('app')
  await node.harness.createDatabase('books')
  for (const sql of FILL) await node.harness.run('app', sql)
  await node.harness.run('books', 'CREATE TABLE t (id INT PRIMARY KEY, name TEXT)')
  await node.harness.run('books', "INSERT INTO t VALUES (1, 'one'), (2, 'two')")
}

test(
  'nodes that hold the same have one digest, whoever ran and whoever repeated',
  options,
  async () => {
    await using one = await startNode(server.port)
    await fill(one)
    await using other = await startNode(server.port, one.harness.entries)

    const [first, second] = [await soundDigest(one), await soundDigest(other)]

    assert.deepEqual(second, first)
    assert.deepEqual(
      first.parts.map(({ name }) => name),
      ['', 'app', 'books'],
    )
    // A writer that begins anew knows all that it is asked for.
    await other.harness.restartWriter()
    assert.deepEqual(await soundDigest(other), first)
  },
)

const CHANGES: readonly (readonly [sql: string, part: string])[] = [
  ["UPDATE $app.plain SET text_ = 'x' WHERE id = 2500", 'app'],
  ['UPDATE $app.plain SET n = NULL WHERE id = 1', 'app'],
  ["UPDATE $app.pair SET c = 0 WHERE a = 'a' AND b = 13.00", 'app'],
  ["DELETE FROM $app.times WHERE e = x'00000001'", 'app'],
  ["UPDATE $app.chosen SET s = '' WHERE e = 'm'", 'app'],
  ['UPDATE $app.keyless SET f = f + 0.00001 WHERE b = 7', 'app'],
  ["UPDATE $app.keyless SET l = x'00fe' WHERE b = 9 AND f < 4", 'app'],
  ['ALTER TABLE $app.plain ADD INDEX extra (n)', 'app'],
  ['CREATE TABLE $app.stranger (id INT)', 'app'],
  ['CREATE TRIGGER $app.odd BEFORE INSERT ON $app.plain FOR EACH ROW SET NEW.n = 1', 'app'],
  ["UPDATE $books.t SET name = 'TWO' WHERE id = 2", 'books'],
  ["UPDATE $lockstep.state SET request_ids = CONCAT(request_ids, x'00')", ''],
]

test('whatever is changed behind its back is in the digest of a node', options, async () => {
  await using node = await startNode(server.port)
  await fill(node)
  let last = await soundDigest(node)
  for (const [sql, part] of CHANGES) {
    await behindItsBack(server.port, sql.replaceAll('$', node.prefix))
    const now = await soundDigest(node)
    const differing = now.parts.filter(({ digest }, at) => digest !== last.parts[at]?.digest)
    assert.deepEqual(
      differing.map(({ name }) => name),
      [part],
      sql,
    )
    last = now
  }
})

test('a digest is of its entry, whatever is written while it is taken', options, async () => {
  await using node = await startNode(server.port)
  await fill(node)
  const still = await soundDigest(node)
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()

  const digest = await soundDigest(node, () => {
    const { harness } = node
    Promise.all([
      harness.run('app', 'UPDATE plain SET n = 100'),
      behindItsBack(server.port, `INSERT INTO ${node.prefix}books.t VALUES (3, 'three')`),
    ]).then(resolve, reject)
  })
  await promise

  assert.deepEqual(digest, still)
  assert.notDeepEqual(await soundDigest(node), still)
})

/** Each makes other rows of a table, or another one of its name, while that is still to be read. */
const SCHEMA_CHANGES: readonly (readonly [what: string, sql: readonly string[]])[] = [
  ['dropped', ['DROP TABLE plain']],
  ['emptied', ['TRUNCATE TABLE plain']],
  ['built anew', ['ALTER TABLE plain MODIFY n BIGINT']],
  ['given a column', ['ALTER TABLE plain ADD COLUMN more INT NOT NULL DEFAULT 7']],
  [
    'taken for another',
    ['RENAME TABLE plain TO spare', 'RENAME TABLE twin TO plain', 'RENAME TABLE spare TO twin'],
  ],
]

for (const [what, changes] of SCHEMA_CHANGES) {
  test(`a table that is ${what} while a digest is taken gives no wrong one`, options, async () => {
    await using node = await startNode(server.port)
    await fill(node)
    const { harness } = node
    await harness.run('app', 'CREATE TABLE twin LIKE plain')
    const still = await soundDigest(node)
    const changing = Promise.withResolvers<void>()
    const outcome = await digestOf(node, () => {
      const change = async (): Promise<void> => {
        for (const sql of changes) await harness.run('app', sql)
      }
      change().then(changing.resolve, changing.reject)
    })
    // It has not waited for the digest in vain: that would have ended the writer.
    await changing.promise
    if (outcome.type === 'ok') assert.deepEqual(outcome.digest, still)
    else assert.match(outcome.error.message, /a schema change came while all data were read/)
    assert.notDeepEqual(await soundDigest(node), still)
  })
}

test('what is remembered of requests is the same on every node', options, async () => {
  await using one = await startNode(server.port)
  const { harness } = one
  await harness.createDatabase('app')
  await harness.run('app', 'CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT)')
  const key = (name: string): { readonly id: RequestId } => ({ id: { type: 'key', key: name } })
  const session = (sequence: number): { readonly id: RequestId } => ({
    id: { type: 'session', session: { birth: 1, name: 7 }, sequence },
  })
  const requests: WriteRequest[] = [
    { ...statements('app', 'INSERT INTO t (n) VALUES (1), (2), (3)'), ...session(1) },
    { ...statements('app', 'INSERT INTO t (n) VALUES (4) RETURNING id, n'), ...session(2) },
    { ...statements('app', 'DELETE FROM t WHERE n < 3 RETURNING id'), ...key('deleted') },
    { ...statements('app', 'UPDATE t SET n = n + 1', 'SELECT n FROM t'), ...key('read') },
    { ...statements('app', 'INSERT INTO t VALUES (3, 3)'), ...key('fails') },
    { type: 'cancel', database: 'app', id: { type: 'key', key: 'never' } },
    { ...statements('app', 'ALTER TABLE t ADD COLUMN more TEXT'), ...session(3) },
    { ...statements('app', 'ALTER TABLE t ADD COLUMN more TEXT'), ...key('again') },
    { type: 'create-database', database: 'books', ...key('books') },
    { ...statements('app', 'UPDATE t SET more = UUID()'), ...session(4) },
  ]
  for (const request of requests) await harness.write(request)
  const talk = new TransactionTalk(harness, { database: 'app' })
  await talk.run('INSERT INTO t (n) VALUES (9)')
  await talk.rows('SELECT * FROM t')
  await talk.run('UPDATE t SET n = 10 WHERE n = 9')
  await talk.commit(key('talk').id, key('its own').id)
  // Enough of them for rows of their own.
  for (let sequence = 5; sequence < 200; sequence += 10) {
    const inserts = Array.from({ length: 10 }, (_, at) => ({
      ...statements('app', 'INSERT INTO t (n) VALUES (0)'),
      ...session(sequence + at),
    }))
    await harness.write(...inserts)
  }
  const digest = await soundDigest(one)

  await using together = await startNode(server.port, harness.entries)
  assert.deepEqual(await soundDigest(together), digest)
  await using slow = await startNode(server.port)
  for (const [at, entry] of harness.entries.entries()) {
    await slow.harness.apply([entry])
    slow.harness.index = entry.index
    slow.harness.entries.push(entry)
    if (at % 7 === 0) await slow.harness.restartWriter()
  }
  assert.deepEqual(await soundDigest(slow), digest)
})
