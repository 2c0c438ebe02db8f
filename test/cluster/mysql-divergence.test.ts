/** What plain clients of a MariaDB server change behind a node's back, and how it is found. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { behindItsBack } from '../engine/mysql/kit.ts'
import { get, post, rolesOf, startCluster, until } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const FOUND_MS = 40_000

/** All clusters are on them, under prefixes of their own. */
let shared: MariaDbServer
let alone: MariaDbServer
let clusters = 0

before(async () => {
  if (missing !== undefined) return
  ;[shared, alone] = await Promise.all([MariaDbServer.start(), MariaDbServer.start()])
})
after(() => Promise.all([shared?.stop(), alone?.stop()]))

interface Status {
  readonly divergence: unknown
  readonly counters: Readonly<Record<string, number>>
  readonly dataDigest: { readonly verifiedIndex: number }
}

interface Fixture {
  readonly cluster: LocalCluster
  readonly leader: string
  /** The node that is hurt. */
  readonly odd: LocalNode
  /** Runs a statement on its server; `$` is its prefix. */
  readonly run: (sql: string) => Promise<void>
}

/** Three nodes on two servers: two share one. */
async function start(
  t: TestContext,
  role: 'leader' | 'follower',
  nodeOptions: readonly string[] = [],
): Promise<Fixture> {
  clusters += 1
  const place = `c${clusters}`
  const placeOf = (nodeId: string): readonly [MariaDbServer, string] =>
    nodeId === 'n3' ? [alone, `${place}_`] : [shared, `${place}${nodeId}_`]
  const cluster = await startCluster(t, {
    options: nodeOptions,
    nodeOptions: nodeId => {
      const [server, prefix] = placeOf(nodeId)
      return ['--engine', server.url(prefix)]
    },
  })
  const { leader, leaderId } = await rolesOf(cluster)
  for (const database of ['app', 'books']) {
    await write(leader, { action: 'create_db', database })
    for (const sql of [
      'CREATE TABLE still (id INT PRIMARY KEY, name VARCHAR(20))',
      "INSERT INTO still VALUES (1, 'one'), (2, 'two'), (3, 'three')",
      'CREATE TABLE busy (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT)',
    ]) {
      await write(leader, { database, sql })
    }
  }
  const isOdd = (nodeId: string): boolean => (nodeId === leaderId) === (role === 'leader')
  const odd = cluster.nodes.find(({ nodeId }) => isOdd(nodeId)) ?? assert.fail(role)
  const run = async (sql: string): Promise<void> => {
    const [server, prefix] = placeOf(odd.nodeId)
    await behindItsBack(server.port, sql.replaceAll('$', prefix))
  }
  return { cluster, leader, odd, run }
}

async function write(address: string, body: unknown): Promise<void> {
  const { status, json } = await post(address, '/execute', body)
  assert.equal(status, 200, JSON.stringify(json))
}

async function statusOf(address: string): Promise<Status> {
  return (await get(address, '/status')).json as unknown as Status
}

/** Waits until a node has found out that it is wrong, and is the only one; what it says of it. */
async function foundWrong({ cluster, odd }: Fixture): Promise<string> {
  await until(
    () => statusOf(odd.address),
    ({ counters }) => counters['divergences'] === 1,
    FOUND_MS,
  )
  for (const { nodeId, address } of cluster.nodes) {
    if (nodeId === odd.nodeId) continue
    // Who found that the leader is wrong has stopped as well, until the others agreed.
    await until(
      () => statusOf(address),
      ({ divergence }) => divergence === null,
    )
  }
  const log = readFileSync(join(odd.directory, '..', `${odd.nodeId}.log`), 'utf8')
  const isVerdict = (line: string): boolean =>
    line.includes('this replica is wrong') || line.includes('computed something else')
  return log.split('\n').find(isVerdict) ?? assert.fail(log)
}

/** The others write on; and the one that was wrong serves nothing before it is healed. */
async function expectSound({ cluster, odd }: Fixture): Promise<void> {
  const other = cluster.addresses.find(address => address !== odd.address) ?? assert.fail('one')
  const insert = { database: 'books', sql: "INSERT INTO still VALUES (10, 'ten')" }
  await until(
    () => post(other, '/execute', insert),
    ({ status }) => status === 200,
  )
  const local = { database: 'books', sql: 'SELECT * FROM still', consistency: 'local' }
  const { status, json } = await post(odd.address, '/query', local)
  const { counters } = await statusOf(odd.address)
  assert(status === 503 || counters['heals'] === 1, JSON.stringify(json))
}

test('a row that a plain client changed is found by the digest of all data', options, async t => {
  const fixture = await start(t, 'follower', ['--digest-interval-ms', '1000'])
  const { cluster, run } = fixture
  for (const address of cluster.addresses) {
    await until(
      () => statusOf(address),
      ({ dataDigest }) => dataDigest.verifiedIndex > 0,
    )
  }
  await run("UPDATE $books.still SET name = 'tvo' WHERE id = 2")
  const said = await foundWrong(fixture)
  assert.match(said, /"database":"books".*data of digest/)
  await expectSound(fixture)
})

const BEHIND: readonly (readonly [what: string, behind: string, change: string])[] = [
  ['a column is there already', 'ADD COLUMN extra INT', 'ALTER TABLE busy ADD COLUMN extra TEXT'],
  ['another table looks different', 'ADD INDEX sly (n)', 'CREATE TABLE fresh (id INT PRIMARY KEY)'],
]
for (const [what, behind, change] of BEHIND) {
  test(
    `a schema change on a follower where ${what} is found by the next entry`,
    options,
    async t => {
      const fixture = await start(t, 'follower')
      const { leader, run } = fixture
      await run(`ALTER TABLE $app.busy ${behind}`)
      const changed = await post(leader, '/execute', { database: 'app', sql: change })
      assert.equal(changed.status, 200, JSON.stringify(changed.json))
      const next = { database: 'books', sql: "INSERT INTO still VALUES (9, 'nine')" }
      const { json } = await post(leader, '/execute', next)
      const said = await foundWrong(fixture)
      for (const fact of [
        `"index":${json.index}`,
        `the schema change of entry ${changed.json.index}"`,
        '"expected":"outcome ',
        '"actual":"outcome ',
      ]) {
        assert(said.includes(fact), `${fact} is not in ${said}`)
      }
      await expectSound(fixture)
    },
  )
}

test('a leader on which alone a schema change fails is the one that is wrong', options, async t => {
  const fixture = await start(t, 'leader')
  const { leader, run } = fixture
  await run('DROP TABLE $app.busy')
  const change = { database: 'app', sql: 'ALTER TABLE busy ADD COLUMN extra TEXT' }
  const { json } = await post(leader, '/execute', change)
  assert.equal(json.error?.code, 'UNKNOWN_TABLE', JSON.stringify(json))
  await post(leader, '/execute', { database: 'books', sql: "INSERT INTO still VALUES (9, 'nine')" })
  await foundWrong(fixture)
  await expectSound(fixture)
})

test('so is it found, if nobody writes any more, by the digest of all data', options, async t => {
  const fixture = await start(t, 'leader', ['--digest-interval-ms', '3000'])
  const { leader, run } = fixture
  await run('DROP TABLE $app.busy')
  const change = { database: 'app', sql: 'ALTER TABLE busy ADD COLUMN extra TEXT' }
  const { json } = await post(leader, '/execute', change)
  assert.equal(json.error?.code, 'UNKNOWN_TABLE', JSON.stringify(json))
  await foundWrong(fixture)
  await expectSound(fixture)
})
