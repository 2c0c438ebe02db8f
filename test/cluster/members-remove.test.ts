/** Members are removed, replaced, promoted and demoted, and know it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { get, lockstep, post, rolesOf, startCluster, until } from './kit.ts'
import {
  COUNT,
  CREATE,
  TABLE,
  identityOf,
  insert,
  membersOf,
  namesOf,
  run,
  untilRoles,
} from './members-kit.ts'

test('a removed node knows it, says so, and disturbs nobody, at once or when it returns', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const [here, away] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(here !== undefined && away !== undefined)

  assert.match(await run('remove', away.nodeId, '--nodes', here.address), /is removed/)
  const state = async (): Promise<unknown> => (await get(away.address, '/status')).json['state']
  await until(state, seen => seen === 'removed')
  const refused = await post(away.address, '/execute', insert(1))
  assert.deepEqual([refused.status, refused.json.error?.code], [503, 'REMOVED'])
  assert.equal((await get(away.address, '/health/live')).status, 200)
  assert.equal((await get(away.address, '/health/ready')).json.error?.code, 'REMOVED')
  assert.equal((await post(away.address, '/query', COUNT)).json.error?.code, 'REMOVED')
  assert.equal(identityOf(cluster, away.nodeId)['type'], 'removed')

  const term = (await get(leader, '/status')).json['term']
  await cluster.kill(away.nodeId)
  cluster.restart(away.nodeId)
  await until(
    () => state().catch(() => undefined),
    seen => seen === 'removed',
  )
  assert.equal((await get(leader, '/status')).json['term'], term, 'nobody was disturbed')

  // The other one is away while it is removed: two voters, of which one is gone, can't do that.
  // Whoever joins may ask the removed node by mistake, and then asks the next.
  const joined = await cluster.join('n9', { through: [away.address, leader] })
  await untilRoles(leader, `${namesOf(leaderId, here.nodeId)}, n9 voter`)
  await cluster.kill(here.nodeId)
  await run('remove', here.nodeId, '--nodes', joined.address)
  cluster.restart(here.nodeId)
  await until(
    async () => (await get(here.address, '/status').catch(() => undefined))?.json['state'],
    seen => seen === 'removed',
  )
  assert.equal((await post(joined.address, '/execute', insert(2))).status, 200)
  assert.equal((await get(leader, '/status')).json['term'], term)
})

test('a dead voter is replaced in one step, and members are promoted and demoted', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  await post(leader, '/execute', TABLE)
  const [dead, other] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(dead !== undefined && other !== undefined)
  const spare = await cluster.join('n8', { isLearner: true })
  await untilRoles(leader, `${namesOf('n1', 'n2', 'n3')}, n8 learner`)
  await cluster.kill(dead.nodeId)

  assert.match(
    await run('replace', dead.nodeId, 'n8', '--nodes', other.address),
    new RegExp(`n8 votes in the place of ${dead.nodeId}`),
  )
  await untilRoles(leader, namesOf(leaderId, other.nodeId, 'n8'))

  assert.match(await run('demote', leaderId, '--nodes', spare.address), /is a learner/)
  const after = await membersOf(other.address)
  assert.notEqual(after.leader?.nodeId, leaderId, 'the leader handed over before')
  assert.equal(after.members.find(({ nodeId }) => nodeId === leaderId)?.role, 'learner')
  assert.equal((await post(leader, '/execute', insert(1))).status, 200)

  const last = after.leader?.nodeId === 'n8' ? other.nodeId : 'n8'
  await run('remove', last, '--nodes', leader)
  const alone = await lockstep(['remove', after.leader?.nodeId ?? '', '--nodes', leader])
  assert.equal(alone.code, 1)
  assert.match(alone.output, /it is the only voter/)
  await run('promote', leaderId, '--nodes', leader)
  assert.equal((await post(leader, '/execute', insert(2))).status, 200)
  for (const [args, says] of [
    [['remove', 'n77'], /no member of the cluster/],
    [['remove', dead.nodeId], /was removed already/],
    [['transfer', 'n77'], /no member of the cluster/],
  ] as const) {
    const { code, output } = await lockstep([...args, '--nodes', leader])
    assert.equal(code, 1)
    assert.match(output, says)
  }
})
