import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Role } from '../../src/log/log.ts'
import { Peers } from '../../src/log/peers.ts'
import { Reports } from '../../src/replica/reports.ts'
import { ManualClock, ManualLog, ManualNetwork } from './doubles.ts'

class Node {
  readonly log = new ManualLog()
  readonly reports: Reports
  applied = 0
  isShortOfRoom = false
  matchIndexes: Record<number, number> = {}

  constructor(raftId: number, network: ManualNetwork, clock: ManualClock, life: number) {
    const peers = new Peers(network.transportOf(raftId), clock, 1)
    this.reports = new Reports({
      raftId,
      peers,
      clock,
      random: { below: () => life, bytes: count => new Uint8Array(count) },
      logStatus: () => {
        const status = this.log.status()
        const others = [1, 2, 3].filter(id => id !== raftId)
        return {
          ...status,
          raftId,
          peers: others.map(id => ({
            raftId: id,
            nodeId: `n${id}`,
            address: '',
            isConnected: true,
            lastContactMs: 0,
            retries: 0,
            matchIndex: this.matchIndexes[id],
            progress: undefined,
            offeredIndex: undefined,
          })),
        }
      },
      self: () => ({
        appliedIndex: this.applied,
        durableIndex: 0,
        isDiverged: false,
        isShortOfRoom: this.isShortOfRoom,
        lastError: 'none',
      }),
    })
    peers.listen()
  }

  set(role: Role, term: number, commitIndex: number): void {
    this.log.role = role
    this.log.term = term
    this.log.commitIndex = commitIndex
  }
}

function bench(): { nodes: Node[]; network: ManualNetwork; clock: ManualClock; round: () => void } {
  const network = new ManualNetwork()
  const clock = new ManualClock()
  const nodes = [1, 2, 3].map(id => new Node(id, network, clock, id * 10))
  nodes.forEach((node, at) => node.set(at === 0 ? 'leader' : 'follower', 4, 10))
  const round = (): void => {
    for (const { reports } of nodes) reports.send()
    network.deliver()
  }
  return { nodes, network, clock, round }
}

test('a follower does not know how old it is before the leader has echoed its stamp', () => {
  const { nodes, round } = bench()
  const [, follower] = nodes
  assert(follower !== undefined)
  follower.applied = 10
  assert.equal(follower.reports.lagMs(), undefined)
  round()
  assert.equal(follower.reports.lagMs(), undefined)
})

test('a follower that has applied what the leader had is as old as its own stamp and the proof', () => {
  const { nodes, clock, round } = bench()
  const [, follower] = nodes
  assert(follower !== undefined)
  follower.applied = 10
  for (let times = 0; times < 4; times += 1) {
    round()
    clock.pass(100)
  }
  const lagMs = follower.reports.lagMs()
  assert(lagMs !== undefined && lagMs >= 200 && lagMs <= 400, `lag is ${lagMs}`)
})

test('a follower that has not applied so far stays as old as it was', () => {
  const { nodes, clock, round } = bench()
  const [leader, follower] = nodes
  assert(leader !== undefined && follower !== undefined)
  follower.applied = 10
  for (let times = 0; times < 4; times += 1) round()
  assert.equal(follower.reports.lagMs(), 0)
  leader.log.commitIndex = 11
  clock.pass(1000)
  for (let times = 0; times < 4; times += 1) round()
  assert.equal(follower.reports.lagMs(), 1000)

  follower.applied = 11
  assert.equal(follower.reports.lagMs(), 0)
})

test('a leader without a quorum vouches for nothing newer than its last proof', () => {
  const { nodes, network, clock, round } = bench()
  const [leader, follower, other] = nodes
  assert(leader !== undefined && follower !== undefined && other !== undefined)
  follower.applied = 10
  for (let times = 0; times < 4; times += 1) round()
  // The others have gone on to another term; this follower still hears the old leader.
  other.set('leader', 5, 20)
  for (let times = 0; times < 5; times += 1) {
    clock.pass(1000)
    leader.reports.send()
    network.deliver()
  }
  assert.equal(follower.reports.lagMs(), 5000)
})

test('an echo of another life of this process means nothing', () => {
  const { nodes, network, clock, round } = bench()
  for (let times = 0; times < 4; times += 1) round()
  nodes[0]?.reports.send()
  // Node 2 starts anew, with a clock that begins elsewhere, and hears the answer to its old stamp.
  const reborn = new Node(2, network, clock, 99)
  reborn.set('follower', 4, 10)
  reborn.applied = 10
  network.deliver()
  assert.equal(reborn.reports.lagMs(), undefined)
})

test('the quorum has applied what the middle one of the voters has', () => {
  const { nodes, round } = bench()
  const [leader, second, third] = nodes
  assert(leader !== undefined && second !== undefined && third !== undefined)
  leader.applied = 9
  second.applied = 4
  third.applied = 2
  round()
  assert.equal(leader.reports.quorumApplied(), 4)
})

test('the floor is the lowest log of all members, and everybody hears of it', () => {
  const { nodes, round } = bench()
  const [leader, follower] = nodes
  assert(leader !== undefined && follower !== undefined)
  leader.log.entries = Array.from({ length: 9 }, (_, at) => ({
    index: at + 1,
    term: 1,
    type: 'data',
    data: new Uint8Array(0),
  }))
  leader.matchIndexes = { 2: 7, 3: 5 }
  round()
  round()
  assert.equal(leader.reports.floor, 5)
  assert.equal(follower.reports.floor, 5)
})

test('what a member says of itself is there for the operator', () => {
  const { nodes, round } = bench()
  round()
  assert.equal(nodes[0]?.reports.heard.get(2)?.lastError, 'none')
})
