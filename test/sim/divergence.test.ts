/** Whole clusters in which a replica computes something else, without any other fault. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cluster } from '../../sim/cluster.ts'
import { readAll, registersOf } from '../../sim/requests.ts'
import type { SimNode } from '../../sim/sim-node.ts'
import { PLAIN } from '../../sim/swarm.ts'
import { World } from '../../sim/world.ts'

const FIRST = 'first'

class Divided implements Disposable {
  readonly cluster: Cluster

  constructor(nodeCount: number, digestIntervalMs = 0) {
    const weights = { ...PLAIN.weights, miscompute: 1 }
    const replica = { ...PLAIN.replica, digestIntervalMs }
    this.cluster = new Cluster(new World(1, { keptCount: 100, isVerbose: false }), {
      ...PLAIN,
      nodeCount,
      weights,
      replica,
    })
    this.cluster.start()
    this.cluster.makeDatabase(FIRST)
  }

  bump(node: SimNode): number {
    return this.cluster.write(node, FIRST, { type: 'bump', key: 0 })
  }

  others(...nodes: readonly SimNode[]): SimNode[] {
    return this.cluster.nodes.filter(node => !nodes.includes(node))
  }

  until(what: string, isSo: () => boolean): void {
    this.cluster.runUntil(what, isSo)
  }

  version(node: SimNode): number {
    const outcome = this.cluster.query(node, readAll(FIRST), 'local')
    assert(outcome.type === 'ok')
    return registersOf(outcome.value.results[0]).get(0)?.version ?? 0
  }

  [Symbol.dispose](): void {
    this.cluster.close()
  }
}

test('a follower that computed something else takes the data of another and serves again', () => {
  using divided = new Divided(3)
  const { cluster } = divided
  const leader = cluster.runUntilLeader()
  const [wrong] = divided.others(leader)
  assert(wrong !== undefined)
  wrong.miscompute(50)
  const index = divided.bump(leader)
  divided.until('its healing', () => wrong.replica.status().counters.heals === 1)

  const { appliedIndex, divergence, counters } = wrong.replica.status()
  assert(appliedIndex >= index)
  assert.equal(divergence, undefined)
  assert.equal(counters.divergences, 1)
  cluster.recover()
  assert.equal(divided.version(wrong), 2)
})

test('a leader that computed something else gives up, and the others keep what they computed', () => {
  for (const nodeCount of [3, 5]) {
    using divided = new Divided(nodeCount)
    const { cluster } = divided
    const wrong = cluster.runUntilLeader()
    wrong.miscompute(50)
    for (let times = 0; times < 5; times++) divided.bump(wrong)
    divided.until('its healing', () => wrong.replica.status().counters.heals === 1)
    divided.until('another leader', () =>
      divided.others(wrong).some(({ role }) => role === 'leader'),
    )

    for (const node of divided.others(wrong)) {
      assert.equal(node.replica.status().counters.heals, 0, `${node.id} healed`)
    }
    // The judge compares all nodes with what is right.
    cluster.recover()
  }
})

test('a wrong leader that loses power before it knows is told when it is back', () => {
  using divided = new Divided(3)
  const { cluster } = divided
  const wrong = cluster.runUntilLeader()
  const [second, third] = divided.others(wrong)
  assert(second !== undefined && third !== undefined)
  wrong.miscompute(50)
  divided.bump(wrong)
  wrong.crash(true)
  divided.until('what they agree on', () =>
    [second, third].every(node => node.replica.status().divergence === undefined),
  )
  wrong.start()
  cluster.recover()
  assert.equal(divided.version(wrong), 2)
})

test('two that differ stop writing, until an operator says who is right; then both go on', () => {
  for (const isLeaderRight of [true, false]) {
    using divided = new Divided(2)
    const { cluster } = divided
    const leader = cluster.runUntilLeader()
    const [follower] = divided.others(leader)
    assert(follower !== undefined)
    const wrong = isLeaderRight ? follower : leader
    wrong.miscompute(50)
    divided.bump(leader)
    divided.until('the tie', () => leader.replica.status().dispute?.isTie === true)
    assert.equal(divided.bump(leader), 0)
    cluster.runFor(5000)
    assert.equal(divided.bump(leader), 0)
    assert.equal(follower.replica.status().counters.heals, 0)

    const right = isLeaderRight ? leader : follower
    assert.equal(leader.replica.trust(`n${right.id}`), undefined)
    divided.until('healing', () => wrong.replica.status().counters.heals === 1)
    cluster.recover()
    assert.equal(divided.version(wrong), 2)
  }
})

test('with the third node away nobody writes, and when it is back the odd one heals', () => {
  using divided = new Divided(3)
  const { cluster } = divided
  const leader = cluster.runUntilLeader()
  const [wrong, third] = divided.others(leader)
  assert(wrong !== undefined && third !== undefined)
  third.crash(false)
  wrong.miscompute(50)
  divided.bump(leader)
  divided.until('the dispute', () => leader.replica.status().dispute !== undefined)
  assert.equal(leader.replica.status().dispute?.isTie, false)
  assert.equal(divided.bump(leader), 0)
  third.start()
  divided.until('healing', () => wrong.replica.status().counters.heals === 1)
  cluster.recover()
  assert.equal(divided.version(wrong), 2)
})

test('a row that changed silently is found by the digests, on a follower and on a leader', () => {
  for (const isLeaderWrong of [true, false]) {
    using divided = new Divided(3, 1000)
    const { cluster } = divided
    const leader = cluster.runUntilLeader()
    const [follower] = divided.others(leader)
    assert(follower !== undefined)
    const wrong = isLeaderWrong ? leader : follower
    divided.bump(leader)
    // What changes before the follower has applied that would be written anew.
    cluster.runFor(300)
    divided.until('the row', () => wrong.rot())
    divided.until('healing', () => wrong.replica.status().counters.heals === 1)
    for (const node of divided.others(wrong)) {
      assert.equal(node.replica.status().counters.divergences, 0, `${node.id} was condemned`)
    }
    cluster.recover()
    divided.until('its verification', () => wrong.replica.status().dataDigest.verifiedIndex > 0)
  }
})

test('two of which one has changed silently stop writing until an operator says who is right', () => {
  using divided = new Divided(2, 1000)
  const { cluster } = divided
  const leader = cluster.runUntilLeader()
  const [wrong] = divided.others(leader)
  assert(wrong !== undefined)
  divided.bump(leader)
  cluster.runFor(300)
  divided.until('the row', () => wrong.rot())
  divided.until('the tie', () => leader.replica.status().dispute?.isTie === true)
  assert.equal(leader.replica.status().dispute?.subject, 'data')
  assert.equal(divided.bump(leader), 0)
  cluster.runFor(5000)
  assert.equal(divided.bump(leader), 0)
  for (const node of cluster.nodes) assert.equal(node.replica.status().counters.heals, 0)
  assert.equal(leader.replica.trust(`n${leader.id}`), undefined)
  divided.until('healing', () => wrong.replica.status().counters.heals === 1)
  cluster.recover()
})

test('digests of members that agree harm nobody, whatever they write meanwhile', () => {
  using divided = new Divided(5, 700)
  const { cluster } = divided
  const leader = cluster.runUntilLeader()
  for (let times = 0; times < 40; times++) {
    divided.bump(leader)
    cluster.runFor(100)
  }
  for (const node of cluster.nodes) {
    const { counters, dataDigest } = node.replica.status()
    assert(dataDigest.verifiedIndex > 0, `${node.id} has verified nothing`)
    assert.deepEqual([counters.divergences, counters.digestFailures], [0, 0])
  }
  cluster.recover()
})
