/**
 * Schema changes that the server runs at once, without a new table, while all data are read: it
 * gives who reads as of before the old rows by the new definition, and no error.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { after, before, test } from 'node:test'
import type { Done } from '../../../src/engine/snapshot.ts'
import { TableChanges } from '../../../src/engine/mysql/table-changes.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { ServerProxy } from '../../fixtures/server-proxy.ts'
import { until } from '../../cluster/kit.ts'
import { behindItsBack, digestOf, type MysqlNode, soundDigest, startNode } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

let server: MariaDbServer
let proxy: ServerProxy
let directory: string

before(async () => {
  if (missing !== undefined) return
  server = await MariaDbServer.start()
  proxy = await ServerProxy.start(server.port)
  directory = await mkdtemp(join(tmpdir(), 'lockstep-changes-'))
})
after(async () => {
  await proxy?.stop()
  await server?.stop()
  if (missing === undefined) await rm(directory, { recursive: true })
})

async function startFilled(): Promise<MysqlNode> {
  const node = await startNode(proxy.port, [], directory)
  const { harness } = node
  await harness.createDatabase('app')
  for (const sql of [
    'CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), n INT)',
    'INSERT INTO t SELECT seq, seq % 10, seq % 7 FROM seq_1_to_2500',
    'CREATE TABLE other (id INT PRIMARY KEY, a VARCHAR(20), n INT)',
  ]) {
    await harness.run('app', sql)
  }
  return node
}

function takeSnapshot({ harness }: MysqlNode): Promise<Done<object>> {
  const { promise, resolve } = Promise.withResolvers<Done<object>>()
  const { snapshots } = harness.engine
  const task = snapshots.take('s1', {
    onReady: () => task.begin(harness.index, ''),
    onBegun: () => {},
    onDone: outcome => {
      snapshots.drop('s1')
      resolve(outcome)
    },
  })
  return promise
}

/** Where the second piece of the table is asked for: nobody holds it there. */
const SECOND_PIECE = '`t` FORCE INDEX (PRIMARY) WHERE'

/** Runs schema changes between two pieces of a table; what comes of who reads it. */
async function between(
  node: MysqlNode,
  read: (node: MysqlNode) => Promise<Done<object>>,
  changes: readonly string[],
): Promise<Done<object>> {
  const held = proxy.holdOneAt(SECOND_PIECE)
  const reading = read(node)
  const letGo = await held
  for (const sql of changes) await node.harness.run('app', sql)
  letGo()
  return reading
}

const INSTANT: readonly (readonly [what: string, changes: readonly string[]])[] = [
  ['took each other’s names', ['ALTER TABLE t CHANGE n a INT, CHANGE a n VARCHAR(20)']],
  [
    'took each other’s names one by one',
    [
      'ALTER TABLE t RENAME COLUMN n TO m',
      'ALTER TABLE t RENAME COLUMN a TO n',
      'ALTER TABLE t RENAME COLUMN m TO a',
    ],
  ],
  ['were replaced', ['ALTER TABLE t DROP COLUMN n, ADD COLUMN n INT DEFAULT 7']],
  [
    'were dropped and added again, so that it looks as before',
    ['ALTER TABLE t DROP COLUMN n', 'ALTER TABLE `t` ADD COLUMN n INT'],
  ],
  ['came first', ['ALTER TABLE t MODIFY n INT FIRST']],
  ['came after others', ['ALTER TABLE t MODIFY a VARCHAR(20) AFTER n']],
  ['got longer', ['ALTER TABLE t MODIFY a VARCHAR(40)']],
  [
    'had a neighbour for a while',
    ['ALTER TABLE t ADD COLUMN more INT DEFAULT 3 FIRST', 'ALTER TABLE t DROP COLUMN more'],
  ],
]

for (const [what, changes] of INSTANT) {
  test(`what reads all data is given up if columns of a table ${what}`, options, async () => {
    await using node = await startFilled()
    for (const read of [digestOf, takeSnapshot]) {
      const outcome = await between(node, node => read(node), changes)
      assert(outcome.type === 'failed', `${read.name}: ${inspect(outcome)}`)
      assert.equal(outcome.error.code, 'SNAPSHOT_FAILED')
      assert.match(outcome.error.message, /a schema change came while all data were read, of .*`t`/)
    }
    // The next one has the new table.
    await soundDigest(node)
  })
}

test(
  'schema changes of what is read already, or is another table, cost nothing',
  options,
  async () => {
    await using node = await startFilled()
    const still = await soundDigest(node)
    const changes = [
      'ALTER TABLE other ADD COLUMN more INT',
      'DROP TABLE other',
      'CREATE TABLE other (id INT)',
      'CREATE TABLE fresh (id INT)',
    ]
    const outcome = await between(node, digestOf, changes)
    assert.deepEqual(outcome, { type: 'ok', digest: still })
  },
)

test('a read gives no rows of before by a definition of after', options, async () => {
  await using node = await startFilled()
  const { harness, prefix } = node
  const slow = 'SELECT count(*) FROM seq_1_to_20000000 WHERE seq % 3 = 1'
  const reading = harness.query('app', `${slow}; SELECT a, n FROM t WHERE id = 8`)
  const isRunning =
    'SELECT count(*) FROM information_schema.processlist ' +
    `WHERE db = '${prefix}app' AND info LIKE 'SELECT count%'`
  await until(
    () => behindItsBack(server.port, isRunning),
    ([row]) => row?.[0] === 1n,
  )
  await harness.run('app', 'ALTER TABLE t CHANGE n a INT, CHANGE a n VARCHAR(20)')
  const outcome = await reading
  assert(outcome.type === 'ok', inspect(outcome))
  assert.deepEqual(outcome.results[1]?.rows, [[1n, '8']])
  assert.equal(outcome.appliedIndex, harness.index)
})

const NOBODY = { id: 0, giveWay: (): void => {} }

test('a schema change is known by whatever it names, however that is written', () => {
  const changes = new TableChanges()
  const watch = changes.watch(NOBODY)
  const late = 'SELECT 1 FROM `n1_app`.`Ta``ble`'
  changes.note('n1_other', 'ALTER TABLE `Ta``ble` ADD COLUMN n INT')
  assert.equal(watch.changedIn(late), undefined)
  changes.note('n1_app', 'ALTER /* x */ TABLE/*!50000 `tA``bLE` */ADD COLUMN n INT')
  assert.equal(watch.changedIn(late), '`n1_app`.`ta``ble`')
  assert.equal(
    changes.watch({ ...NOBODY }).changedIn(late),
    undefined,
    'who begins later sees the new one',
  )
  watch.end()
  changes.note('n1_app', 'DROP TABLE u')
  assert.equal(watch.changedIn('SELECT 1 FROM `n1_app`.`u`'), undefined)
})
