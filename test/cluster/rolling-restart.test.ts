/** All nodes are restarted one after the other under load: the client's requests never fail. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { createClient } from '../../src/client/client.ts'
import { startCluster, until } from './kit.ts'

const WRITERS = 8

test('a rolling restart under load fails no request of the client and loses nothing', async t => {
  const cluster = await startCluster(t)
  const setUp = createClient({ nodes: cluster.addresses, database: 'app', timeoutMs: 30_000 })
  await setUp.command({ action: 'create_db', database: 'app' })
  // Without a key: what was written twice would be there twice.
  await setUp.execute('CREATE TABLE t (writer INTEGER, number INTEGER)')
  const acknowledged: number[] = []
  const state = { reads: 0, isOver: false }
  const work = Array.from({ length: WRITERS }, async (_, writer) => {
    const db = createClient({ nodes: cluster.addresses, database: 'app', timeoutMs: 30_000 })
    let number = 0
    while (!state.isOver) {
      number += 1
      await db.execute('INSERT INTO t VALUES (?, ?)', [writer, number])
      acknowledged[writer] = number
      const { rows } = await db.query<{ n: number }>(
        'SELECT max(number) AS n FROM t WHERE writer = ?',
        [writer],
      )
      assert.deepEqual(rows, [{ n: number }], 'a linearizable read sees the write before it')
      state.reads += 1
    }
  })
  const failed = Promise.all(work).then(
    () => undefined,
    (error: unknown) => error ?? new Error('a writer failed'),
  )
  const progress = async (): Promise<void> => {
    const before = state.reads
    const error = await Promise.race([
      failed,
      until(
        () => state.reads,
        n => n > before + 50,
      ),
    ])
    assert(typeof error === 'number', inspect(error))
  }

  for (const { nodeId } of cluster.nodes) {
    await progress()
    await cluster.kill(nodeId, 'SIGTERM')
    await progress()
    cluster.restart(nodeId)
    await cluster.ready()
  }
  state.isOver = true

  assert.equal(await failed, undefined)
  const { rows } = await setUp.query<{ writer: number; n: number; d: number }>(
    'SELECT writer, count(*) AS n, count(DISTINCT number) AS d FROM t GROUP BY writer ORDER BY 1',
  )
  assert.deepEqual(
    rows,
    acknowledged.map((n, writer) => ({ writer, n, d: n })),
  )
})
