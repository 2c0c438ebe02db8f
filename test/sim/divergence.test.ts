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

  constructor(nodeCount: number) {
    const weights = { ...PLAIN.weights, miscompute: 1 }
    this.cluster = new Cluster(new World(1, { keptCount: 100, isVerbose: false }), {
      ...PLAIN,
      nodeCount,
      weights,
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
