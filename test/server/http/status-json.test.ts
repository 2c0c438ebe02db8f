import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReplicaStatus } from '../../../src/replica/types.ts'
import {
  leaderOf,
  nodesJson,
  nodeState,
  statusJson,
  whyNotReady,
} from '../../../src/server/http/status-json.ts'
import { FakeService, STATUS } from './fake-service.ts'

const withStatus = (change: Partial<ReplicaStatus>): FakeService => {
  const service = new FakeService()
  service.statusNow = { ...STATUS, ...change }
  return service
}

test('the state of a node is the worst thing to be said of it', () => {
  const divergence = {
    index: 9,
    database: 'main',
    sql: 'X',
    expected: '1',
    actual: '2',
    digest: 'd',
  }
  const leaderless = { ...STATUS.log, leader: undefined }
  const cases: [Partial<ReplicaStatus>, string, string | undefined][] = [
    [{}, 'ready', undefined],
    [{ log: leaderless }, 'no-leader', 'NO_LEADER'],
    [{ engine: 'down', log: leaderless }, 'down', 'NOT_READY'],
    [{ divergence, engine: 'down' }, 'diverged', 'DIVERGED'],
    [{ engine: 'opening' }, 'starting', 'NOT_READY'],
  ]
  for (const [change, state, code] of cases) {
    assert.equal(nodeState(withStatus(change)), state)
    assert.equal(whyNotReady(withStatus(change))?.code, code)
  }
  const away = 'the MySQL server at h:1 is away'
  for (const engine of ['opening', 'down'] as const) {
    const reason = whyNotReady(withStatus({ engine, lastError: away }))
    assert.match(reason?.message ?? '', new RegExp(`: ${away}$`))
  }
  const stopping = withStatus({})
  stopping.isStoppingNow = true
  assert.equal(whyNotReady(stopping)?.code, 'SHUTTING_DOWN')
})

test('the leader is this node, a peer, or nobody', () => {
  assert.deepEqual(leaderOf(withStatus({})), { nodeId: 'n1', address: '127.0.0.1:7070' })
  const led = (leader: number | undefined): FakeService =>
    withStatus({ log: { ...STATUS.log, role: 'follower', leader } })
  assert.deepEqual(leaderOf(led(2)), { nodeId: 'n2', address: '127.0.0.1:7071' })
  assert.equal(leaderOf(led(undefined)), null)
})

test('a leader knows the lag of its followers and what went wrong with each', () => {
  const { leader, term, nodes } = nodesJson(withStatus({}))

  assert.deepEqual([leader?.nodeId, term], ['n1', 3])
  const facts = nodes.map(({ nodeId, isLeader, lagEntries, appliedIndex, lastError }) => {
    return [nodeId, isLeader, lagEntries, appliedIndex, lastError]
  })
  assert.deepEqual(facts, [
    ['n1', true, 0, 41, ''],
    ['n2', false, 2, 39, 'the disk was slow'],
    ['n3', false, 42, null, 'refused: another incarnation'],
  ])
})

test('a follower leaves out what it can not know', () => {
  const log = { ...STATUS.log, role: 'follower', leader: 2 } as const
  const { nodes } = nodesJson(withStatus({ log }))

  assert.deepEqual(
    nodes.map(node => node.lagEntries),
    [null, null, null],
  )
})

test('a status is complete before there is a replica to ask', () => {
  const service = new FakeService()
  const running = statusJson(service, ['main'], 5)
  service.statusNow = undefined
  service.identityNow = undefined
  const starting = statusJson(service, [], 0)

  assert.deepEqual(Object.keys(starting), Object.keys(running))
  assert.deepEqual([starting.state, starting.role, starting.leader], ['starting', 'none', null])
  assert.equal(starting.term, 0)
  assert.ok(Object.values(starting).every(value => value !== undefined))
})
