/** What is seen of all data as of one entry, over a real MariaDB server. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ReadView } from '../../../src/engine/mysql/read-view.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { TableChanges } from '../../../src/engine/mysql/table-changes.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import { type MysqlNode, startNode } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

let server: MariaDbServer

before(async () => {
  if (missing === undefined) server = await MariaDbServer.start()
})
after(() => server?.stop())

async function startFilled(): Promise<MysqlNode> {
  const node = await startNode(server.port)
  await node.harness.createDatabase('app')
  await node.harness.run('app', 'CREATE TABLE t (id INT PRIMARY KEY)')
  await node.harness.run('app', 'INSERT INTO t VALUES (1), (2)')
  return node
}

function openView({ prefix }: MysqlNode): Promise<ReadView> {
  return ReadView.open({
    address: parseServerAddress(server.url(prefix)),
    clock: new SystemClock(),
    changes: new TableChanges(),
  })
}

test(
  'a view sees its entry, and a schema change has the tables between two reads',
  options,
  async () => {
    await using node = await startFilled()
    const { harness, prefix } = node
    const view = await openView(node)
    try {
      const { applied, databases } = await view.begin(harness.index)
      assert.equal(applied, harness.index)
      assert.deepEqual(databases, [{ name: 'app', madeBy: 1, server: `${prefix}app` }])
      await harness.run('app', 'INSERT INTO t VALUES (3)')
      const count = `SELECT count(*) FROM ${prefix}app.t`
      assert.deepEqual(await view.rows(count), [[2n]])
      await view.letGo()
      // A writer that could not have the table would end.
      await harness.run('app', 'ALTER TABLE t ADD COLUMN name TEXT')
      await harness.run('app', 'DELETE FROM t')
      assert.deepEqual(await view.rows(count), [[2n]])
      await view.letGo()
      await harness.run('app', 'TRUNCATE TABLE t')
      await assert.rejects(view.rows(count), { code: 'SNAPSHOT_FAILED' })
    } finally {
      view.close()
    }
  },
)

test('a view of a node that has gone on is of no entry before', options, async () => {
  await using node = await startFilled()
  const view = await openView(node)
  try {
    await assert.rejects(view.begin(node.harness.index - 1), { code: 'NOT_READY' })
  } finally {
    view.close()
  }
})
