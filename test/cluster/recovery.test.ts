/** A quorum is lost for good: one node that is left becomes the only voter of a new history. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { decideRecovery } from '../../src/cli/recovery.ts'
import { memberIn, tellEngine } from '../cli/recover-kit.ts'
import { lockstep, post, rolesOf, startCluster, until } from './kit.ts'
import {
  COUNT,
  countAt,
  CREATE,
  identityOf,
  insert,
  membersOf,
  namesOf,
  run,
  TABLE,
  untilRoles,
} from './members-kit.ts'

const SURE = '--i-know-that-acknowledged-writes-may-be-lost'

test('with two of three nodes lost the third goes on alone and takes new ones in', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  for (let id = 1; id <= 20; id += 1) await post(leader, '/execute', insert(id))
  const written = await post(leader, '/execute', insert(21))
  const [left, lost] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(left !== undefined && lost !== undefined)
  const session = { ...COUNT, consistency: 'session', atLeast: written.json.token }
  assert.deepEqual((await post(left.address, '/query', session)).json.results?.[0]?.rows, [[21]])

  const running = await lockstep(['recover', '--data', left.directory, SURE])
  assert.equal(running.code, 1)
  assert.match(running.output, /in use by process/)
  await cluster.kill(left.nodeId)
  const needless = await lockstep(['recover', '--data', left.directory, SURE])
  assert.equal(needless.code, 1)
  assert.match(needless.output, new RegExp(`still has a leader: .* follows ${leaderId}`))
  await cluster.kill(leaderId)
  await cluster.kill(lost.nodeId)
  const unsure = await lockstep(['recover', '--data', left.directory])
  assert.equal(unsure.code, 1)
  assert.match(unsure.output, /docs\/operations\/recovery\.md/)
  const before = identityOf(cluster, left.nodeId)

  const output = await run('recover', '--data', left.directory, SURE)

  assert.match(output, new RegExp(`Node ${left.nodeId} is the only voter`))
  assert.match(output, /Its log reached entry \d+ of term \d+; all of that is kept/)
  const after = identityOf(cluster, left.nodeId)
  assert.notEqual(after['historyId'], before['historyId'])
  cluster.restart(left.nodeId)
  await untilRoles(left.address, `${left.nodeId} voter`)
  await until(
    () => countAt(left.address, 'linearizable'),
    row => Array.isArray(row) && row[0] === 21,
  )

  await t.test('tokens of the old history are refused', async () => {
    const { json } = await post(left.address, '/query', session)
    assert.match(String(json.error?.message), /earlier history|another history/)
  })

  await t.test('the lost nodes are not let in if they come back', async () => {
    cluster.restart(lost.nodeId)
    const path = join(lost.directory, '..', `${lost.nodeId}.log`)
    await until(
      () => readFileSync(path, 'utf8'),
      text => text.includes('have different histories of cluster'),
    )
    await cluster.kill(lost.nodeId)
  })

  await t.test('two new nodes join and have the data', async () => {
    cluster.forget(lost.nodeId)
    cluster.forget(leaderId)
    const n4 = await cluster.join('n4')
    const n5 = await cluster.join('n5')
    await untilRolesOf(left.address, [left.nodeId, 'n4', 'n5'])
    await cluster.kill(left.nodeId)
    assert.equal((await post(n4.address, '/execute', insert(22))).status, 200)
    assert.deepEqual(await countAt(n5.address, 'linearizable'), [22])
  })
})

test('a recovery that was cut short after its decision is finished by the start of the node', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  assert.equal((await post(leader, '/execute', insert(1))).status, 200)
  const [left, ...lost] = cluster.nodes.toSorted(({ nodeId }) => (nodeId === leaderId ? -1 : 1))
  assert(left !== undefined)
  for (const { nodeId } of cluster.nodes) await cluster.kill(nodeId)
  // Data that were found wrong count by the operator's word, and no other.
  const wrong = { index: 3, database: 'app', sql: 'X', expected: '1', actual: '2', digest: 'ab' }
  tellEngine(left.directory, { type: 'condemn', divergence: wrong })
  const refused = await lockstep(['recover', '--data', left.directory, SURE])
  assert.equal(refused.code, 1)
  assert.match(refused.output, /--although-its-data-were-found-wrong/)
  const identity = memberIn(left.directory)
  const { historyId } = identity
  decideRecovery({ directory: left.directory }, identity, { historyId: 'new', isPardoned: true })

  cluster.restart(left.nodeId)

  await untilRoles(left.address, `${left.nodeId} voter`)
  for (const { nodeId } of lost) cluster.forget(nodeId)
  await until(
    () => countAt(left.address, 'linearizable'),
    row => Array.isArray(row) && row[0] === 1,
  )
  const after = memberIn(left.directory)
  assert.deepEqual([after.historyId, after.recovering], ['new', undefined])
  assert.notEqual(after.historyId, historyId)
})

/** In whatever order they came. */
async function untilRolesOf(address: string, names: readonly string[]): Promise<void> {
  await until(
    async () => {
      const { members } = await membersOf(address)
      const voters = members.filter(({ role }) => role === 'voter')
      return namesOf(...voters.map(({ nodeId }) => nodeId))
    },
    seen => seen === namesOf(...names),
    30_000,
  )
}
