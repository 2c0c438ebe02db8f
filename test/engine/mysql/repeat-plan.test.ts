/**
 * Statements that could give one thing on the leader and another on those that repeat them, over a
 * real MariaDB server: each is the same everywhere, or refused. The counters of the leader are
 * ahead, because of inserts that it rolled back.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'
import { decodeEntry } from '../../../src/engine/entry.ts'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { codeOf, EngineHarness, statements } from '../harness.ts'

const TABLE =
  'CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(150) UNIQUE, b BIGINT)'
const FILL = "INSERT INTO t (a, b) VALUES ('x', 1), ('y', 2), ('z', 3)"
const BURN = "INSERT INTO t (a) VALUES ('burnt'), ('away'), ('ids')"
const LAST = 'LAST_INSERT_ID()'

/** One behind a bar goes in the same request; one behind an exclamation mark is refused. */
const SAME: readonly [what: string, ...requests: string[]][] = [
  [
    'rows that are all there already, and are updated',
    "INSERT INTO t (a, b) VALUES ('x', 5), ('y', 6) ON DUPLICATE KEY UPDATE b = VALUES(b)",
    "INSERT INTO t (a) VALUES ('n')",
  ],
  [
    'rows of which some are there, and are updated',
    "INSERT INTO t (a) VALUES ('x'), ('n'), ('y'), ('m') ON DUPLICATE KEY UPDATE b = 9",
    "INSERT INTO t (a) VALUES ('o'), ('z') ON DUPLICATE KEY UPDATE b = 9",
    "INSERT INTO t (id, a) VALUES (1, 'z'), (NULL, 'v'), (NULL, 'x') ON DUPLICATE KEY UPDATE b = 7",
    "INSERT INTO t (a) VALUES ('y'), ('k') ON DUPLICATE KEY UPDATE b = 8 RETURNING id, a",
    "INSERT INTO t (a) VALUES ('y'), ('x') ON DUPLICATE KEY UPDATE b = 8 RETURNING id",
    'INSERT INTO t (a, b) SELECT a, 7 FROM t AS o ORDER BY id ON DUPLICATE KEY UPDATE t.b = ' +
      'o.b + 8',
    "INSERT INTO t SET a = 'y', b = (SELECT 3) ON DUPLICATE KEY UPDATE b = VALUES(b), a = 'yy'",
  ],
  [
    'a counter that tells its number by LAST_INSERT_ID(..)',
    `INSERT INTO t (a, b) VALUES ('x', 1) ON DUPLICATE KEY UPDATE b = LAST_INSERT_ID(b + 1)`,
    `INSERT INTO t (a, b) VALUES ('y', 1) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id), b = 4`,
    `UPDATE t SET b = LAST_INSERT_ID(b + 1) WHERE a = 'x'|INSERT INTO t (b) VALUES (${LAST})`,
    `!INSERT INTO t (a) VALUES ('x'), ('y') ON DUPLICATE KEY UPDATE b = LAST_INSERT_ID(b + 1)`,
    `!INSERT INTO t (a) VALUES ('x') ON DUPLICATE KEY UPDATE b = LAST_INSERT_ID(3) RETURNING id`,
  ],
  [
    'the last id, of a request and of no other',
    `INSERT INTO t (a) VALUES ('n')|INSERT INTO t (b) VALUES (${LAST})`,
    `INSERT INTO t (b) VALUES (${LAST})`,
    `INSERT INTO t (a) VALUES ('m')|INSERT INTO t (a) VALUES ('x'), ('y') ON DUPLICATE KEY ` +
      `UPDATE b = 3|INSERT INTO t (b) VALUES (${LAST})`,
    `INSERT IGNORE INTO t (a) VALUES ('x')|INSERT INTO t (b) VALUES (${LAST})`,
    `SELECT LAST_INSERT_ID(42)|INSERT INTO t (b) VALUES (${LAST})`,
  ],
  [
    'rows that are ignored or replaced',
    "INSERT IGNORE INTO t (a) VALUES ('x'), ('n'), ('y'), ('m')",
    "INSERT IGNORE INTO t (a, b) VALUES ('x', LAST_INSERT_ID(2)), ('y', LAST_INSERT_ID(1))",
    "REPLACE INTO t (a) VALUES ('x'), ('o'), ('y')",
    "REPLACE INTO t (id, a) VALUES (1, 'y'), (NULL, 'q')",
    "REPLACE INTO t (a) VALUES ('x') RETURNING id",
    '!INSERT IGNORE INTO t (a) SELECT a FROM t',
    '!REPLACE INTO t (a) SELECT a FROM t',
    '!INSERT INTO t (a) SELECT a FROM t AS o ON DUPLICATE KEY UPDATE b = 8',
  ],
  [
    'ids that are given among those that are made',
    "INSERT INTO t (id, a) VALUES (NULL, 'a'), (100, 'b'), (NULL, 'c'), (0, 'd'), (50, 'e')",
    "INSERT INTO t (id, a) VALUES (70, 'g'), (NULL, 'h')",
    "INSERT INTO t (id, a) VALUES (-5, 'i')",
    "INSERT INTO t (a) VALUES ('j')",
  ],
  [
    'ids beyond 63 bits',
    'CREATE TABLE u (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, a INT)',
    'INSERT INTO u VALUES (9223372036854775900, 1)',
    'burn INSERT INTO u (a) VALUES (1), (2)',
    'INSERT INTO u (a) VALUES (5)',
  ],
  [
    'ids of rows that are skipped beside rows that give theirs',
    'CREATE TABLE w (id TINYINT AUTO_INCREMENT PRIMARY KEY, a INT UNIQUE)',
    'burn INSERT INTO w (a) VALUES (1), (2)',
    'INSERT IGNORE INTO w (id, a) VALUES (43, 1), (NULL, 2), (26, 3)',
    'INSERT IGNORE INTO w (id, a) VALUES (NULL, 1), (50, 1), (NULL, 1), (60, 9)',
  ],
  [
    'LAST_INSERT_ID() in what returns or skips rows',
    "INSERT INTO t (a) VALUES ('parent')|INSERT INTO t (a, b) VALUES ('p', LAST_INSERT_ID()), " +
      "('q', last_insert_id ( )) RETURNING id, b|INSERT INTO t (b) VALUES (LAST_INSERT_ID())",
    "INSERT INTO t (a) VALUES ('r')|INSERT IGNORE INTO t (id, b) VALUES (NULL, LAST_INSERT_ID()), " +
      '(NULL, LAST_INSERT_ID())|UPDATE t SET b = b + 1000 WHERE id = LAST_INSERT_ID()',
    '!INSERT INTO t (b) VALUES (LAST_INSERT_ID(5)) RETURNING id',
  ],
  [
    'rows that are selected, in their order',
    "INSERT INTO t (a) SELECT CONCAT(a, '1') FROM t ORDER BY a DESC",
    "INSERT INTO t (a) (SELECT CONCAT(a, '2') FROM t ORDER BY id)",
    "INSERT INTO t (a, b) VALUES ('q', (SELECT max(b) FROM t AS u)), ('r', 1)",
    "!INSERT INTO t (a) SELECT CONCAT(a, '3') FROM t",
    "!INSERT INTO t (a) SELECT CONCAT(a, '3') FROM (SELECT a FROM t ORDER BY a) AS o",
    '!INSERT INTO t (b) SELECT ROW_NUMBER() OVER (ORDER BY id) FROM t',
    '!INSERT INTO t (b) (SELECT 1 ORDER BY 1) UNION ALL (SELECT 2)',
  ],
  [
    'the first rows, in an order',
    'UPDATE t SET b = 4 ORDER BY id LIMIT 1',
    'DELETE FROM t WHERE id IN (SELECT id FROM (SELECT id FROM t ORDER BY id LIMIT 1) AS o)',
    'INSERT INTO t (b) SELECT b FROM t ORDER BY id FETCH FIRST 1 ROWS ONLY',
    '!UPDATE t SET b = 3 LIMIT 1',
    '!DELETE FROM t WHERE id IN (SELECT id FROM (SELECT id FROM t LIMIT 1) AS o) ORDER BY id',
    '!DELETE FROM t WHERE id IN (SELECT id FROM (SELECT id FROM t ORDER BY id) AS o) LIMIT 1',
    '!INSERT INTO t (b) SELECT b FROM t FETCH FIRST 1 ROWS ONLY',
    '!INSERT INTO t (b) SELECT b FROM t ORDER BY id LIMIT ROWS EXAMINED 2',
    '!DELETE FROM t WHERE ROWNUM() < 2',
    '!CREATE VIEW v AS SELECT id FROM t LIMIT 1',
  ],
  [
    'functions whose names are in backticks',
    'INSERT INTO t (a) VALUES (`uuid`()), (`UUID` ( ))',
    'INSERT INTO t (b) VALUES (`rand`() * 1e9)',
    'INSERT INTO t (a) VALUES (`sysdate`(6))',
    'INSERT INTO t (a) VALUES (`DATABASE`()), (CONCAT(SCHEMA ( ), 1))',
    "INSERT INTO t (a) SELECT CONCAT(DATABASE(), 2) FROM t WHERE a = 'y'|SELECT DATABASE()",
    '!CREATE VIEW v AS SELECT DATABASE()',
    '!INSERT INTO t (b) VALUES (`uuid_short`())',
    '!INSERT INTO t (b) VALUES (`connection_id`())',
    "!UPDATE t SET a = TRIM(LEADING 'x' FROM UUID_SHORT())",
  ],
  [
    'tables, columns and indexes that are named like functions',
    'CREATE TABLE user (id INT PRIMARY KEY, version INT, uuid VARCHAR(40), KEY uuid (uuid), ' +
      'UNIQUE version (version))',
    'CREATE TABLE IF NOT EXISTS `database` (`user` INT PRIMARY KEY, INDEX `schema` (`user`), ' +
      'FOREIGN KEY `uuid` (`user`) REFERENCES user (id))',
    'INSERT INTO user (id, version, uuid) VALUES (1, 2, UUID())',
    'REPLACE `user` (id, uuid) VALUES (3, uuid())',
    'INSERT IGNORE user (id) VALUES (5)',
    'INSERT INTO `database`(`user`) SELECT id FROM user ORDER BY id',
    'CREATE INDEX rand ON user (uuid)',
    'CREATE VIEW version (v) AS SELECT id FROM user',
    "UPDATE user JOIN `database` ON user.uuid <> '' SET user.version = 7 WHERE user.id = 1",
  ],
  [
    'time by default, at every change and in expressions',
    'CREATE TABLE d (id INT PRIMARY KEY, a TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6) ON ' +
      'UPDATE CURRENT_TIMESTAMP(6), d DATETIME DEFAULT (SYSDATE()), g INT AS (id * 2) STORED, ' +
      'x BIGINT)',
    'INSERT INTO d (id) VALUES (1), (2)',
    'UPDATE d SET x = UNIX_TIMESTAMP() WHERE id = 1',
    'INSERT INTO d (id, x) VALUES (3, UNIX_TIMESTAMP(SYSDATE(6)))',
    '!CREATE TABLE e (id INT PRIMARY KEY, u VARCHAR(40) DEFAULT (UUID()))',
    '!CREATE TABLE e (id INT PRIMARY KEY, u VARCHAR(40) DEFAULT (`uuid`()))',
    '!CREATE TABLE e (id INT PRIMARY KEY, u UUID DEFAULT UUID())',
    '!CREATE TABLE e (id INT PRIMARY KEY, u VARCHAR(99) DEFAULT (CURRENT_USER))',
  ],
  [
    'texts that hold what looks like another statement',
    "INSERT INTO t (a) VALUES ('1') /* ; DROP TABLE t */",
    "INSERT INTO t (a) VALUES ('2') --\u0001; COMMIT",
    "INSERT INTO t (a, b) VALUES ('3', 5--1)",
    "INSERT INTO t (a) VALUES ('4\\'; COMMIT; -- ')",
    'INSERT INTO t (a) VALUES ("5""; COMMIT; -- ")',
    "INSERT INTO t (a) VALUES (_gbk'6\u00bf\\'; COMMIT; -- ')",
    "INSERT INTO t (a) VALUES ('7' '; COMMIT')",
    "INSERT INTO t (a) VALUES ('8') /*M!999999\\- ; COMMIT */",
    "!INSERT INTO t (a) VALUES ('9') /*! ; DROP TABLE t */",
    "!INSERT INTO t (a) VALUES ('9') /*M!100100 ; COMMIT */",
    "!INSERT INTO t (a) VALUES ('9' /* /*! nested */ ; COMMIT -- */ )",
    "!INSERT INTO t (a) VALUES ('9')\u0000; COMMIT",
  ],
]

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

interface Nodes {
  readonly server: MariaDbServer
  readonly leader: EngineHarness
  /** One follows entry by entry, one in groups. */
  readonly followers: readonly EngineHarness[]
  sent: number
}

let nodes: Nodes | undefined
let databases = 0

before(async () => {
  if (missing !== undefined) return
  const server = await MariaDbServer.start()
  const open = (prefix: string): Promise<EngineHarness> =>
    EngineHarness.open(() => {
      const address = parseServerAddress(server.url(prefix))
      const owner = { clusterId: 'c', nodeId: prefix, incarnation: 'i' }
      const clock = new SystemClock()
      return Promise.resolve(new MysqlEngine({ address, owner, clock, readersMax: 2 }))
    }, '')
  const followers = [await open('n2_'), await open('n3_')]
  nodes = { server, leader: await open('n1_'), followers, sent: 0 }
})
after(async () => {
  for (const node of [nodes?.leader, ...(nodes?.followers ?? [])]) await node?.stop()
  await nodes?.server.stop()
})

for (const [what, ...requests] of SAME) {
  test(`the same on all nodes: ${what}`, options, async () => {
    assert(nodes !== undefined)
    const { leader, followers } = nodes
    databases += 1
    const database = `d${databases}`
    const burn = async (sql: string): Promise<void> => {
      await leader.rollback(await leader.execute(statements(database, sql)))
    }
    await leader.createDatabase(database)
    for (const sql of [TABLE, FILL]) await leader.run(database, sql)
    await burn(BURN)
    for (const request of requests) {
      if (request.startsWith('burn ')) {
        await burn(request.slice(5))
        continue
      }
      const list = request.replace(/^!/, '').split('|')
      const [result] = await leader.write(statements(database, ...list))
      if (request.startsWith('!')) assert.equal(codeOf(result), 'UNSUPPORTED', request)
      else assert.equal(result?.type, 'ok', `${request}: ${inspect(result)}`)
    }
    const entries = leader.entries.slice(nodes.sent)
    nodes.sent = leader.entries.length
    const [slow, fast] = followers
    assert(slow !== undefined && fast !== undefined)
    for (const entry of entries) await slow.apply([entry])
    await fast.apply(entries)
    const expected = await leader.digest(database)
    assert.equal(expected.type, 'ok')
    assert.deepEqual(await slow.digest(database), expected)
    assert.deepEqual(await fast.digest(database), expected)
  })
}

test('rows that are returned may hold the id that was made before them', options, async () => {
  assert(nodes !== undefined)
  const { leader } = nodes
  await leader.createDatabase('family')
  await leader.run('family', TABLE)
  const [result] = await leader.write(
    statements(
      'family',
      'INSERT INTO t (id) VALUES (40)',
      'INSERT INTO t (b) VALUES (1)',
      'INSERT INTO t (b) VALUES (LAST_INSERT_ID()), (LAST_INSERT_ID()) RETURNING b',
      'SELECT LAST_INSERT_ID()',
    ),
  )
  assert(result?.type === 'ok', inspect(result))
  const [, , returned, last] = result.results
  assert.deepEqual(returned?.rows, [[41n], [41n]])
  assert.deepEqual(last?.rows, [[42n]])
})

test(
  'an id that a row gave is not told as one that was made for a skipped row',
  options,
  async () => {
    assert(nodes !== undefined)
    const { leader } = nodes
    await leader.createDatabase('skipped')
    await leader.run('skipped', 'CREATE TABLE w (id TINYINT AUTO_INCREMENT PRIMARY KEY, a INT)')
    await leader.run('skipped', 'INSERT INTO w (id) VALUES (127)')
    await leader.run('skipped', 'DELETE FROM w')
    await leader.run('skipped', 'INSERT IGNORE INTO w (id, a) VALUES (43, 1), (NULL, 2), (26, 3)')
    const { requests } = decodeEntry(leader.entries.at(-1)?.data ?? assert.fail())
    // A follower whose counter has not got so far would give it to the row that is skipped here.
    assert.deepEqual(requests[0]?.outcomes, [
      { rowsAffected: 2, lastInsertId: undefined, rowsDigest: undefined },
    ])
  },
)
