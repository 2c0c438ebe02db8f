/** Snapshots between MariaDB servers: what every engine does, rows of any length, and views. */
import assert from 'node:assert/strict'
import { appendFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, before, test } from 'node:test'
import { inspect } from 'node:util'
import { Connection } from '../../../src/engine/mysql/connection.ts'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { removeStaged } from '../../../src/engine/mysql/staged-data.ts'
import type { SnapshotFile } from '../../../src/engine/snapshot.ts'
import { describeFile } from '../../../src/engine/sqlite/snapshot-files.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, queryServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { MARIADB_SNAPSHOTS } from '../dialect.ts'
import { EngineHarness, type OpenEngine } from '../harness.ts'
import { adopt, ask, carry, takeSnapshot, testSnapshots } from '../snapshot-suite.ts'
import { temporaryDirectory } from '../sqlite/support.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const ID = '00000000000000aa'
const MEBIBYTE = 1024 * 1024

/** One with the least that a node's server may have, and one that takes more. */
let small: MariaDbServer
let large: MariaDbServer
before(async () => {
  if (missing !== undefined) return
  small = await MariaDbServer.start(['max-allowed-packet=16M'])
  large = await MariaDbServer.start(['max-allowed-packet=64M'])
})
after(() => Promise.all([small?.stop(), large?.stop()]))

function prefixOf(directory: string): string {
  const name = basename(directory).replaceAll(/[^A-Za-z0-9]/g, '')
  return `t${name.slice(-12).toLowerCase()}_`
}

/** Opens nodes on a server; each directory stands for one. */
function openOn(server: () => MariaDbServer): OpenEngine {
  return directory => {
    const prefix = prefixOf(directory)
    const owner = { clusterId: 'c', nodeId: prefix, incarnation: 'i' }
    const address = parseServerAddress(server().url(prefix))
    const clock = new SystemClock()
    return Promise.resolve(new MysqlEngine({ address, owner, clock, readersMax: 4, directory }))
  }
}

if (missing === undefined)
  testSnapshots(
    'MariaDB engine',
    openOn(() => small),
    MARIADB_SNAPSHOTS,
  )

/** Of statements and values that the small one takes. */
function setLimit(bytes: number): Promise<unknown> {
  return queryServer(small, `SET GLOBAL max_allowed_packet = ${bytes}`)
}

const LONG_TABLE = `CREATE TABLE \`lo'ng*/\` (
  id BIGINT PRIMARY KEY, bytes LONGBLOB NOT NULL, text LONGTEXT, narrow LONGTEXT CHARACTER SET latin1,
  wide LONGTEXT CHARACTER SET utf16, json JSON, half DECIMAL(10,2) UNIQUE, bits BIT(9),
  size BIGINT GENERATED ALWAYS AS (LENGTH(text)) STORED, start VARCHAR(20) AS (LEFT(text, 20)),
  sum CHAR(32) CHARACTER SET latin1)`

/** What is just shorter than a server takes, or longer in UTF-8, with what literals must escape. */
const LONG_VALUES = [
  `bytes = CONCAT(x'00', REPEAT(x'00ff27220a5c', 2600000))`,
  // The pieces are cut between two units of the same character here and there.
  `text = CONCAT('x', REPEAT('😀', 3900000), '\\'"\\\\\\n\\r\\0')`,
  `narrow = REPEAT(CONVERT('ü' USING latin1), 8500000)`,
  `wide = REPEAT(CONVERT('😀日' USING utf16), 400000)`,
  `json = CONCAT('{"a": "', REPEAT('\\\\\\\\n', 400000), '"}')`,
].join(', ')
const SUMS =
  'SELECT id, MD5(bytes), MD5(text), MD5(narrow), MD5(wide), MD5(json), half, HEX(bits), size, ' +
  "start, CHAR_LENGTH(text), LENGTH(narrow), bytes IS NULL, json IS NULL FROM `lo'ng*/` ORDER BY id"

test('a row of any length that a server holds comes with a snapshot', options, async () => {
  using here = temporaryDirectory()
  using there = temporaryDirectory()
  await using source = await EngineHarness.open(
    openOn(() => small),
    here.path,
  )
  await using target = await EngineHarness.open(
    openOn(() => small),
    there.path,
  )
  await source.createDatabase('a')
  await source.run('a', LONG_TABLE)
  const insert = "INSERT INTO `lo'ng*/` (id, bytes, text, half, bits) VALUES "
  for (const id of [1, 2, 3])
    await source.run('a', `${insert} (${id}, '', 'short', ${id}.5, ${id})`)
  await source.run('a', `UPDATE \`lo'ng*/\` SET ${LONG_VALUES} WHERE id = 2`)
  const before = await source.rows('a', SUMS)
  assert.equal(before[1]?.[11], 8_500_000n)
  const made = await takeSnapshot(source, ID)
  await carry(made, target.engine)

  const finished = await ask(done => target.engine.snapshots.finish(done))

  assert.equal(finished.type, 'ok', inspect(finished))
  await adopt(target, ID)
  assert.deepEqual(await target.rows('a', SUMS), before)
})

test(
  'a value that is longer than the server takes is told, and comes once the limit is raised',
  options,
  async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using source = await EngineHarness.open(
      openOn(() => large),
      here.path,
    )
    await using target = await EngineHarness.open(
      openOn(() => small),
      there.path,
    )
    await source.createDatabase('a')
    await source.run('a', 'CREATE TABLE t (id BIGINT PRIMARY KEY, text LONGTEXT)')
    await source.run('a', "INSERT INTO t VALUES (1, REPEAT('ab', 10000000)), (2, 'short')")
    const made = await takeSnapshot(source, ID)
    await carry(made, target.engine)

    const refused = await ask(done => target.engine.snapshots.finish(done))

    assert(refused.type === 'failed')
    const { code, message, details } = refused.error
    assert.equal(code, 'SERVER_UNFIT')
    assert.match(
      message,
      /does not take a value of 20000000 bytes in t\.text; .*max_allowed_packet/,
    )
    assert.equal(details['neededBytes'], 20 * MEBIBYTE)
    await setLimit(20 * MEBIBYTE)
    try {
      const finished = await ask(done => target.engine.snapshots.finish(done))
      assert.equal(finished.type, 'ok', inspect(finished))
      await adopt(target, ID)
      const rows = 'SELECT id, MD5(text) FROM t ORDER BY id'
      assert.deepEqual(await target.rows('a', rows), await source.rows('a', rows))
    } finally {
      await setLimit(16 * MEBIBYTE)
    }
  },
)

test(
  'a view is the same whether a snapshot was loaded before it is adopted or then',
  options,
  async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using source = await EngineHarness.open(
      openOn(() => small),
      here.path,
    )
    await using target = await EngineHarness.open(
      openOn(() => small),
      there.path,
    )
    await source.createDatabase('a')
    // To one collation they are equal, to others not.
    await source.run('a', "CREATE VIEW v AS SELECT 'ß' = 'ss' AS same, COLLATION('x') AS collation")
    assert.deepEqual(await source.rows('a', 'SELECT same, collation FROM v'), [
      [1n, 'utf8mb4_unicode_ci'],
    ])
    const made = await takeSnapshot(source, ID)
    await carry(made, target.engine)
    assert.equal((await ask(done => target.engine.snapshots.finish(done))).type, 'ok')
    // A backup that is restored is loaded only then, too.
    const address = parseServerAddress(small.url(prefixOf(there.path)))
    const connection = await Connection.open(address)
    await removeStaged(connection, address.prefix)
    connection.close()

    await adopt(target, ID)

    assert.deepEqual(await target.rows('a', 'SELECT same, collation FROM v'), [
      [1n, 'utf8mb4_unicode_ci'],
    ])
    const shown = 'SHOW CREATE VIEW v'
    const [ours, theirs] = [await target.rows('a', shown), await source.rows('a', shown)]
    assert.deepEqual(ours[0]?.slice(2), theirs[0]?.slice(2))
  },
)

test(
  'a follower whose server takes less says so, is not called wrong, and goes on',
  options,
  async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using source = await EngineHarness.open(
      openOn(() => large),
      here.path,
    )
    await using target = await EngineHarness.open(
      openOn(() => small),
      there.path,
    )
    await source.createDatabase('a')
    await source.run('a', 'CREATE TABLE t (id BIGINT PRIMARY KEY, text LONGTEXT)')
    await source.run('a', "INSERT INTO t VALUES (1, 'x')")
    await target.apply(source.entries)
    const known = source.entries.length
    await source.run('a', "UPDATE t SET text = REPEAT('ab', 9000000)")
    const entries = source.entries.slice(known)

    const { error } = await target.writer.expect({ type: 'apply', entries }, 'fault')

    assert.equal(error.code, 'SERVER_UNFIT')
    assert.match(error.message, /does not take what the leader's took .*max_allowed_packet/)
    await target.writer.exit
    await setLimit(64 * MEBIBYTE)
    try {
      await target.startWriter()
      await target.apply(entries)
      assert.deepEqual(await target.rows('a', 'SELECT LENGTH(text) FROM t'), [[18_000_000n]])
    } finally {
      await setLimit(16 * MEBIBYTE)
    }
  },
)

test('a statement that is longer than the server takes names the setting', options, async () => {
  using here = temporaryDirectory()
  using there = temporaryDirectory()
  await using source = await EngineHarness.open(
    openOn(() => large),
    here.path,
  )
  await using target = await EngineHarness.open(
    openOn(() => small),
    there.path,
  )
  await source.createDatabase('a')
  const made = await takeSnapshot(source, ID)
  // As an earlier release wrote a row.
  const [system, { name }] = made.manifest.files as [SnapshotFile, SnapshotFile]
  const text = 'x'.repeat(9 * MEBIBYTE)
  const path = join(made.location, name)
  appendFileSync(path, `CREATE TABLE t (a LONGTEXT, b LONGTEXT);\n`)
  appendFileSync(path, `INSERT INTO t VALUES ('${text}', '${text}');\n`)
  const manifest = { ...made.manifest, files: [system, describeFile(path, name)] }
  await carry({ ...made, manifest }, target.engine)

  const refused = await ask(done => target.engine.snapshots.finish(done))

  assert(refused.type === 'failed' && refused.error.code === 'SERVER_UNFIT', inspect(refused))
  assert.equal(refused.error.details['neededBytes'], 19 * MEBIBYTE)
})
