/** Nodes become members of a cluster that runs, and are found again when they move. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { get, post, rolesOf, startCluster, until } from './kit.ts'
import {
  CREATE,
  TABLE,
  countAt,
  identityOf,
  insert,
  membersOf,
  run,
  untilRoles,
} from './members-kit.ts'

test('a cluster of one grows to three, and goes on without the one it began with', async t => {
  const cluster = await startCluster(t, { nodes: 1 })
  const n1 = cluster.addresses[0] ?? ''
  await post(n1, '/execute', CREATE)
  await post(n1, '/execute', TABLE)
  await post(n1, '/execute', insert(1))

  const n2 = await cluster.join('n2')
  await untilRoles(n1, 'n1 voter, n2 voter')
  const n3 = await cluster.join('n3')
  await untilRoles(n1, 'n1 voter, n2 voter, n3 voter')
  const n4 = await cluster.join('n4', { isLearner: true })
  await untilRoles(n1, 'n1 voter, n2 voter, n3 voter, n4 learner')
  for (const { address } of [n2, n3, n4]) {
    assert.deepEqual(await until(() => countAt(address, 'local'), Array.isArray), [1])
  }
  assert.match(await run('members', '--nodes', n4.address), /n4 .* learner /)
  assert.match(await run('status', '--nodes', n4.address), /n4 .* learner .* ready /)

  await cluster.kill('n1')
  const written = await post(n4.address, '/execute', insert(2))
  assert.equal(written.status, 200, 'two of three voters are a majority, by a learner too')
  assert.deepEqual(await countAt(n3.address, 'linearizable'), [2])
  const { leader } = await membersOf(n3.address)
  assert.notEqual(leader?.nodeId, 'n4', 'a learner never leads')

  cluster.restart('n1')
  await cluster.ready()
  assert.deepEqual(await countAt(n1, 'linearizable'), [2])
})

test('a node joins a log that does not reach back to its beginning, by a snapshot', async t => {
  const options = ['--max-log-bytes', '65536', '--segment-size-bytes', '65536']
  const cluster = await startCluster(t, { nodes: 1, options })
  const n1 = cluster.addresses[0] ?? ''
  await post(n1, '/execute', CREATE)
  await post(n1, '/execute', TABLE)
  const note = 'x'.repeat(20_000)
  const sql = 'INSERT INTO t (note) VALUES (?)'
  const first = await until(
    async () => {
      await post(n1, '/execute', { database: 'app', sql, params: [note] })
      return Number((await get(n1, '/status')).json['firstIndex'])
    },
    index => index > 3,
  )

  const n2 = await cluster.join('n2')
  await untilRoles(n1, 'n1 voter, n2 voter')

  assert(first > 3)
  assert.deepEqual(identityOf(cluster, 'n2')['founders'], [])
  const { json } = await get(n2.address, '/status')
  assert.equal((json['snapshot'] as Record<string, unknown>)['installed'], 1)
  const digest = '/digest?database=app&consistency=linearizable'
  assert.equal(
    (await get(n2.address, digest)).json['digest'],
    (await get(n1, digest)).json['digest'],
  )
  await cluster.kill('n2')
  cluster.restart('n2')
  await cluster.ready()
})

test('a join that is killed at any moment is repeated and comes to its end', async t => {
  const cluster = await startCluster(t, { nodes: 1 })
  const n1 = cluster.addresses[0] ?? ''
  await post(n1, '/execute', CREATE)
  await post(n1, '/execute', TABLE)
  await cluster.join('n2')
  let incarnation: unknown
  for (const afterMs of [150, 300, 450, 600, 800, 1000]) {
    await new Promise(resolve => setTimeout(resolve, afterMs))
    await cluster.kill('n2')
    try {
      const identity = identityOf(cluster, 'n2')
      incarnation ??= identity['incarnation']
      assert.equal(identity['incarnation'], incarnation, 'it is one disk all the time')
    } catch (error) {
      // Killed before it had written its name.
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT')
    }
    await post(n1, '/execute', insert(afterMs))
    cluster.restart('n2')
  }

  await untilRoles(n1, 'n1 voter, n2 voter')
  const { members } = await membersOf(n1)
  assert.deepEqual(
    members.map(({ raftId }) => raftId),
    [1, 2],
  )
  const n2 = cluster.addresses[1] ?? ''
  // Its last life may not listen yet.
  const rows = await until(
    () => countAt(n2, 'linearizable').catch(() => undefined),
    count => Array.isArray(count) && Number(count[0]) >= 1,
  )
  assert.deepEqual(rows, await countAt(n1, 'linearizable'))
})

test('a member is found again at another address', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const [mover] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(mover !== undefined)
  await cluster.kill(mover.nodeId)
  await post(leader, '/execute', insert(1))

  const moved = await cluster.move(mover.nodeId)

  assert.notEqual(moved.address, mover.address)
  await until(
    () => membersOf(leader),
    ({ members }) => members.some(({ address }) => address === moved.address),
  )
  await cluster.ready()
  assert.deepEqual(await countAt(moved.address, 'linearizable'), [1])
})
