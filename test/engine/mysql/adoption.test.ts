/** An adoption that is cut short anywhere: before or after, never a mix. */
import assert from 'node:assert/strict'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'
import { adoptStaged } from '../../../src/engine/mysql/adoption.ts'
import { Connection } from '../../../src/engine/mysql/connection.ts'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import type { Server } from '../../../src/engine/mysql/staged-data.ts'
import type { Done, SnapshotOutcome } from '../../../src/engine/snapshot.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, queryServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { EngineHarness } from '../harness.ts'
import { takeSnapshot } from '../snapshot-suite.ts'
import { temporaryDirectory } from '../sqlite/support.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const ID = '00000000000000aa'

type Made = Extract<SnapshotOutcome, { type: 'ok' }>

let started: MariaDbServer | undefined
before(async () => {
  if (missing === undefined) started = await MariaDbServer.start()
})
after(() => started?.stop())

function server(): MariaDbServer {
  return started ?? assert.fail('a server')
}

function openNode(prefix: string, directory: string): Promise<EngineHarness> {
  const owner = { clusterId: 'c', nodeId: prefix, incarnation: 'i' }
  const address = parseServerAddress(server().url(prefix))
  const clock = new SystemClock()
  const engine = new MysqlEngine({ address, owner, clock, readersMax: 2, directory })
  return EngineHarness.open(() => Promise.resolve(engine), directory)
}

function ask<Result>(call: (done: (outcome: Done<Result>) => void) => void): Promise<Done<Result>> {
  return new Promise(call)
}

/** What the snapshot holds: two tables, one of which refers to the other, views, a second base. */
async function fillSource(node: EngineHarness): Promise<void> {
  for (const name of ['a', 'b']) await node.createDatabase(name)
  for (const sql of [
    'CREATE TABLE zparent (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20))',
    'CREATE TABLE child (id BIGINT PRIMARY KEY, p BIGINT, FOREIGN KEY (p) REFERENCES zparent (id))',
    'CREATE VIEW zview AS SELECT count(*) AS n FROM child',
    'CREATE VIEW aview AS SELECT n FROM zview',
    "INSERT INTO zparent (name) VALUES ('new'), ('new'), ('new')",
    'INSERT INTO child SELECT id, id FROM zparent ORDER BY id',
  ]) {
    await node.run('a', sql)
  }
  await node.run('b', 'CREATE TABLE t (id BIGINT PRIMARY KEY)')
  await node.run('b', 'INSERT INTO t VALUES (1)')
}

/** What was there before: a table of the same name, and a database that the snapshot hasn't. */
async function fillTarget(node: EngineHarness): Promise<void> {
  for (const name of ['a', 'old']) await node.createDatabase(name)
  await node.run('a', 'CREATE TABLE zparent (id BIGINT PRIMARY KEY, name VARCHAR(20))')
  await node.run('a', "INSERT INTO zparent VALUES (7, 'old')")
}

/** Stages the snapshot on a node and ends its writer. */
async function stage(made: Made, node: EngineHarness): Promise<void> {
  const { snapshots } = node.engine
  const staged = await ask<{ location: string }>(done => snapshots.stage(made.manifest, done))
  assert(staged.type === 'ok', inspect(staged))
  for (const { name } of made.manifest.files) {
    copyFileSync(join(made.location, name), join(staged.location, name))
  }
  const finished = await ask(done => snapshots.finish(done))
  assert.equal(finished.type, 'ok', inspect(finished))
  await node.writer.kill()
}

class Cut extends Error {}

/** Lets so many statements pass; `atCut` is called with the next one, which is lost with it. */
function cutAfter(count: number, connection: Connection, atCut: () => Promise<void>): Server {
  let left = count
  const pass = async <Result>(run: () => Promise<Result>): Promise<Result> => {
    left--
    if (left >= 0) return run()
    // Whether it is still run is not known.
    const lost = run().catch(() => {})
    await atCut()
    await lost
    throw new Cut()
  }
  return {
    expect: sql => pass(() => connection.expect(sql)),
    rows: sql => pass(() => connection.rows(sql)),
  }
}

/** What a reader sees: rows of old or new data, or nothing. */
async function look(node: EngineHarness): Promise<string> {
  const outcome = await node.query('a', 'SELECT id, name FROM zparent ORDER BY id')
  if (outcome.type === 'failed') return outcome.error.code
  const rows = outcome.results[0]?.rows ?? []
  const names = new Set(rows.map(([, name]) => String(name)))
  return `${outcome.appliedIndex} ${[...names].join(' ')} ${rows.length}`
}

/** The state of a node whose writer is open again. */
async function describe(node: EngineHarness): Promise<unknown> {
  const names = await node.databases()
  const digests = []
  for (const name of names) digests.push(await node.digest(name))
  return { names, digests }
}

interface CutAt {
  readonly prefix: string
  /** Statements that are run before. */
  readonly count: number
  readonly atCut: (connection: Connection) => Promise<void>
}

/** Adopts on a fresh node and is cut short; false once it was not. */
async function cutShort(made: Made, { prefix, count, atCut }: CutAt): Promise<boolean> {
  using directory = temporaryDirectory()
  await using node = await openNode(prefix, directory.path)
  await fillTarget(node)
  const oldIndex = node.index
  const old = await describe(node)
  await stage(made, node)
  const connection = await Connection.open(parseServerAddress(server().url(prefix)))
  let wasCut = false
  try {
    await adoptStaged(
      cutAfter(count, connection, () => atCut(connection)),
      prefix,
      ID,
    )
  } catch (error) {
    assert(error instanceof Cut, inspect(error))
    wasCut = true
  }
  connection.close()
  const { index } = made.manifest
  const seen = await look(node)
  const possible = [`${oldIndex} old 1`, 'NOT_READY', `${index} new 3`]
  assert(possible.includes(seen), `after ${count} statements a reader sees ${seen}`)

  node.entries.length = 0
  const { appliedIndex, past } = await node.startWriter()

  if (appliedIndex === oldIndex) {
    assert.deepEqual(await describe(node), old)
    assert.equal(past.copiedIndex, 0)
    await node.writer.kill()
    const adopted = await ask(done => node.engine.snapshots.adopt(ID, done))
    assert.equal(adopted.type, 'ok', inspect(adopted))
    await node.startWriter()
  }
  assert.equal(await look(node), `${index} new 3`)
  assert.deepEqual(await node.databases(), ['a', 'b'])
  assert.deepEqual(await node.rows('a', 'SELECT n FROM aview'), [[3n]])
  await node.run('a', "INSERT INTO zparent (name) VALUES ('next')")
  await assert.rejects(
    node.run('a', 'INSERT INTO child VALUES (99, 99)'),
    /foreign key/,
    'the writer looks at references again',
  )
  assert.deepEqual(await node.rows('a', "SELECT id FROM zparent WHERE name = 'next'"), [[4n]])
  await new Promise<void>(resolve => {
    node.engine.snapshots.discard(resolve)
  })
  const left = JSON.stringify(await queryServer(server(), `SHOW DATABASES LIKE '${prefix}%'`))
  assert.deepEqual(left.match(new RegExp(`${prefix}\\w+`, 'g'))?.toSorted(), [
    `${prefix}a`,
    `${prefix}b`,
    `${prefix}lockstep`,
  ])
  return wasCut
}

test(
  'a node that is ended at any step of an adoption has the old data or the new',
  options,
  async () => {
    using directory = temporaryDirectory()
    await using source = await openNode('s_', directory.path)
    await fillSource(source)
    const made = await takeSnapshot(source, ID)
    let count = 0
    const atCut = async (connection: Connection): Promise<void> => connection.close()
    while (await cutShort(made, { prefix: `n${count}_`, count, atCut })) count++
    assert(count > 15, `${count} steps`)
  },
)

test(
  'a server that is killed at any step of an adoption has the old data or the new',
  options,
  async () => {
    using directory = temporaryDirectory()
    const source = await openNode('s2_', directory.path)
    await fillSource(source)
    const made = await takeSnapshot(source, ID)
    await source.stop()
    let count = 0
    const atCut = async (): Promise<void> => {
      await server().kill()
      await server().restart()
    }
    while (await cutShort(made, { prefix: `k${count}_`, count, atCut })) count += 4
  },
)
