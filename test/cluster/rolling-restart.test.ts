/** All nodes are restarted one after the other under load: the client's requests never fail. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { DbError } from '../../src/base/errors.ts'
import { createClient } from '../../src/client/client.ts'
import type { Client } from '../../src/client/client.ts'
import { startCluster, until } from './kit.ts'

const WRITERS_OF_A_KIND = 2
/** Each writer gets so much further between two restarts. */
const STEPS = 3
const INSERT = 'INSERT INTO t VALUES (?, ?)'
const NEWEST = 'SELECT max(number) AS n FROM t WHERE writer = ?'

/** How a writer writes one row; the number is what it reads back. */
type Way = (db: Client, writer: number, number: number) => Promise<number | undefined>

const single: Way = async (db, writer, number) => {
  await db.execute(INSERT, [writer, number])
  const { rows } = await db.query<{ n: number }>(NEWEST, [writer])
  return rows[0]?.n
}

/** Step by step; only what is open may be ended, and only so that it is run again. */
const inTransaction: Way = (db, writer, number) =>
  db.transaction(async transaction => {
    try {
      await transaction.execute(INSERT, [writer, number])
      const { rows } = await transaction.query<{ n: number }>(NEWEST, [writer])
      return rows[0]?.n
    } catch (error) {
      assert(error instanceof DbError)
      assert.deepEqual([error.retry, error.fate], ['transaction', 'not-applied'], error.code)
      throw error
    }
  })

test('a rolling restart under load fails no request of the client and loses nothing', async t => {
  const cluster = await startCluster(t)
  const nodes = { nodes: cluster.addresses, database: 'app', timeoutMs: 30_000 }
  const setUp = createClient(nodes)
  await setUp.command({ action: 'create_db', database: 'app' })
  // Without a key: what was written twice would be there twice.
  await setUp.execute('CREATE TABLE t (writer INTEGER, number INTEGER)')
  const acknowledged: number[] = []
  const state = { isOver: false }
  const write = async (writer: number, db: Client, way: Way): Promise<void> => {
    for (let number = 1; !state.isOver; number += 1) {
      const seen = await way(db, writer, number)
      assert.equal(seen, number, 'a read sees the write before it')
      acknowledged[writer] = number
    }
  }
  const work = Array.from({ length: WRITERS_OF_A_KIND }, (_, at) => at * 3).flatMap(first => [
    write(first, createClient(nodes), single),
    // What has no id can't be sent again when its answer is lost, so that none may be lost.
    write(first + 1, createClient({ ...nodes, requestIds: false }), single),
    write(first + 2, createClient(nodes), inTransaction),
  ])
  const failed = Promise.all(work).then(
    () => undefined,
    (error: unknown) => error ?? new Error('a writer failed'),
  )
  const progress = async (): Promise<void> => {
    const before = work.map((_, writer) => acknowledged[writer] ?? 0)
    const isFurther = (): boolean =>
      before.every((number, writer) => (acknowledged[writer] ?? 0) >= number + STEPS)
    const error = await Promise.race([failed, until(isFurther, Boolean)])
    assert(error === true, inspect(error))
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
