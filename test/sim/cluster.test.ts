/** Whole nodes under faults: a fixed set of seeds, repetition, and what the judge would notice. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Cluster } from '../../sim/cluster.ts'
import type { Recipe } from '../../sim/options.ts'
import { readAll } from '../../sim/requests.ts'
import { runSeed } from '../../sim/run-seed.ts'
import type { SimNode } from '../../sim/sim-node.ts'
import { PLAIN, type Swarm } from '../../sim/swarm.ts'
import { QUIET, World } from '../../sim/world.ts'

const FIRST = 'first'

const recipe = (seed: number, nodes?: number): Recipe => ({
  seed,
  isRaftOnly: false,
  hasManyTransactions: false,
  nodes,
  steps: 3000,
})

/** A cluster with a database, in which nothing fails; gone at the end of the test. */
function plainCluster(changes: Partial<Swarm> = {}): Cluster & Disposable {
  const cluster = new Cluster(new World(1), { ...PLAIN, ...changes })
  cluster.start()
  cluster.makeDatabase(FIRST)
  return Object.assign(cluster, { [Symbol.dispose]: () => cluster.close() })
}

function others(cluster: Cluster, node: SimNode): SimNode[] {
  return cluster.nodes.filter(other => other !== node)
}

test('no promise breaks in the fixed set of seeds', () => {
  const totals = new Map<string, number>()
  for (let seed = 1; seed <= 60; seed++) {
    const { failure, counts } = runSeed(recipe(seed), QUIET)
    assert.equal(failure, undefined, `seed ${seed}: ${failure?.message}\n${failure?.stack}`)
    for (const [kind, count] of Object.entries(counts)) {
      totals.set(kind, (totals.get(kind) ?? 0) + count)
    }
  }

  // Without these the seeds would prove little.
  for (const kind of [
    'crash',
    'power cut',
    'partition',
    'pause',
    'sql death',
    'exit',
    'ok',
    'read',
  ]) {
    assert((totals.get(kind) ?? 0) > 10, `only ${totals.get(kind)} of "${kind}"`)
  }
  for (const kind of ['members changed', 'added', 'disk stuck', 'snapshot adopted']) {
    assert((totals.get(kind) ?? 0) > 0, `only ${totals.get(kind)} of "${kind}"`)
  }
})

test('a seed run twice gives the same trace; another seed gives another', () => {
  const first = runSeed(recipe(7, 5), QUIET)

  assert.equal(runSeed(recipe(7, 5), QUIET).hash, first.hash)
  assert.notEqual(runSeed(recipe(8, 5), QUIET).hash, first.hash)
})

test('a write is on every node; a read at any level sees it with its token', () => {
  using cluster = plainCluster()
  const leader = cluster.runUntilLeader()

  const index = cluster.write(leader, FIRST, { type: 'bump', key: 1 })
  assert(index > 0)
  for (const node of cluster.nodes) {
    const outcome = cluster.query(node, readAll(FIRST), 'linearizable')
    assert(outcome.type === 'ok')
    assert.deepEqual(outcome.value.results[0]?.rows?.[1], [1n, 2n, 3n])
  }
})

test('a follower passes a write on, and the leader is another after a crash', () => {
  using cluster = plainCluster()
  const leader = cluster.runUntilLeader()
  const [follower] = others(cluster, leader)
  assert(follower !== undefined && cluster.write(follower, FIRST, { type: 'mark' }) > 0)

  leader.crash(false)
  const successor = cluster.runUntilLeader()

  assert.notEqual(successor, leader)
  assert(cluster.write(successor, FIRST, { type: 'mark' }) > 0)
  cluster.recover()
})

test('a leader cut off from the others acknowledges nothing and serves no linearizable read', () => {
  using cluster = plainCluster()
  const leader = cluster.runUntilLeader()
  for (const other of others(cluster, leader)) {
    cluster.network.cut(leader.id, other.id)
    cluster.network.cut(other.id, leader.id)
  }

  let answer: number | undefined
  cluster.workload.write(leader, FIRST, { type: 'mark' }, index => (answer = index))
  const outcome = cluster.query(leader, readAll(FIRST), 'linearizable')
  cluster.runUntil('an answer to the write', () => answer !== undefined)

  assert.equal(answer, 0)
  assert.equal(outcome.type, 'failed')
  cluster.recover()
})

test('a deposed leader that has not heard of it says nothing about its data', () => {
  // Else it would take nothing at all, since it has heard of no engine for so long.
  using cluster = plainCluster({ replica: { ...PLAIN.replica, maxApplyLagMs: 60_000 } })
  const old = cluster.runUntilLeader()
  const [one, two] = others(cluster, old)
  assert(one !== undefined && two !== undefined)
  // Stopped while the others go on, then cut off: it still believes that it leads.
  old.process.pause(3000)
  for (const other of [one, two]) {
    cluster.network.cut(old.id, other.id)
    cluster.network.cut(other.id, old.id)
  }
  const ready = (): SimNode | undefined =>
    [one, two].find(node => node.replica.status().isReadyToWrite)
  cluster.runUntil('a successor', () => ready() !== undefined)
  assert(cluster.write(ready() ?? one, FIRST, { type: 'bump', key: 0 }) > 0)
  assert(old.process.isPaused && old.role === 'leader')

  // The judge knows what is committed: an answer from the old state would end the run.
  let answer: number | undefined
  cluster.workload.readByWriting(old, FIRST, 0, index => (answer = index))
  cluster.runUntil('an answer', () => answer !== undefined)

  assert.equal(answer, 0)
  cluster.recover()
})

test('everything acknowledged is there after all machines lost power at once', () => {
  using cluster = plainCluster()
  const leader = cluster.runUntilLeader()
  for (let write = 0; write < 20; write++) {
    assert(cluster.write(leader, FIRST, { type: 'mark' }) > 0)
  }

  for (const node of cluster.nodes) node.crash(true)
  for (const node of cluster.nodes) node.start()

  // The judge compares what each node holds with what was committed, and that with the answers.
  cluster.recover()
  assert((cluster.oracle.model.database(FIRST)?.marks.size ?? 0) >= 20)
})

test('a follower that computes something else is noticed at that entry and serves nothing', () => {
  using cluster = plainCluster()
  const leader = cluster.runUntilLeader()
  const [wrong, right] = others(cluster, leader)
  assert(wrong !== undefined && right !== undefined)
  wrong.crash(false)
  wrong.alterSql = sql => sql.replace('version + 1', 'version + 2')
  wrong.start()

  const index = cluster.write(leader, FIRST, { type: 'bump', key: 0 })
  const isNoticed = (): boolean => wrong.replica.status().divergence !== undefined
  cluster.runUntil('the divergence', isNoticed)

  assert.equal(wrong.replica.status().divergence?.index, index)
  const refused = cluster.query(wrong, readAll(FIRST), 'local')
  assert(refused.type === 'failed' && refused.error.code === 'DIVERGED')
  assert.equal(right.replica.status().divergence, undefined)
  assert(cluster.write(leader, FIRST, { type: 'bump', key: 0 }) > index)
})

test('a disk that is stuck when the faults end is waited for, however long that takes', () => {
  using cluster = plainCluster({ nodeCount: 1 })
  const [only] = cluster.nodes
  assert(only !== undefined)
  only.crash(false)
  only.stickDisk(20_000)
  only.start()
  cluster.runFor(1000)
  assert.notEqual(only.role, 'leader')

  cluster.recover()
  assert.equal(only.role, 'leader')
})
