/**
 * Bugs that the simulation found, each with its story, replayed by hand: seeds find other histories
 * once the simulator changes, these stay.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { must } from '../../src/base/assert.ts'
import { Cluster } from '../../sim/cluster.ts'
import { failingRequest } from '../../sim/requests.ts'
import type { SimNode } from '../../sim/sim-node.ts'
import { PLAIN, type Swarm } from '../../sim/swarm.ts'
import { QUIET, World, type WorldOptions } from '../../sim/world.ts'

const FIRST = 'first'
const MARK = { type: 'mark' } as const

/** A cluster with a database, in which nothing fails but what the test breaks. */
function plainCluster(
  changes: Partial<Swarm> = {},
  options: WorldOptions = QUIET,
  seed = 1,
): Cluster & Disposable {
  const cluster = new Cluster(new World(seed, options), { ...PLAIN, ...changes })
  cluster.start()
  cluster.makeDatabase(FIRST)
  return Object.assign(cluster, { [Symbol.dispose]: () => cluster.close() })
}

/** Fails on a node, so that its writer does what it does between two entries. */
function executeInVain(cluster: Cluster, node: SimNode): void {
  let isAnswered = false
  const request = failingRequest('syntax', 1_000_000, FIRST)
  node.replica.execute(request, 5000, () => (isAnswered = true))
  cluster.runUntil('an answer', () => isAnswered)
}

// The executor learnt the term of the last entry only by handing it to the engine. An engine that
// came back with everything applied was handed nothing, and its leader never took a write again.
test('a leader takes writes again after its engine restarted with nothing left to apply', () => {
  using cluster = plainCluster({ engine: { ...PLAIN.engine, checkpointProbability: 1 } })
  const leader = cluster.runUntilLeader()
  assert(cluster.write(leader, FIRST, MARK) > 0)
  executeInVain(cluster, leader)

  leader.killEngine()
  cluster.runUntil('the death', () => leader.replica.status().engine !== 'ready')
  cluster.runUntil('the restart', () => leader.replica.status().engine === 'ready')

  // It was handed nothing since: all that is there had been made durable.
  assert.equal(leader.replica.status().durableIndex, leader.replica.status().log.commitIndex)
  cluster.runUntil('readiness', () => leader.replica.status().isReadyToWrite)
  assert(cluster.write(leader, FIRST, MARK) > 0)
})

// A deposed leader, with a commit still on its way to a slow engine, counted the first entry of its
// successor as applied at once: reads by token then saw a state without the write they followed.
test('an entry without data does not count as applied before the commit that was sent first', () => {
  using cluster = plainCluster({ engine: { ...PLAIN.engine, writerMsMean: 40 } })
  const leader = cluster.runUntilLeader()
  for (let round = 0; round < 5; round++) {
    const node = must(cluster.nodes.find(({ role }) => role === 'leader') ?? leader)
    const { index } = cluster.oracle.model
    let isAnswered = false
    cluster.workload.write(node, FIRST, MARK, () => (isAnswered = true))
    cluster.runUntil('the commit', () => cluster.oracle.model.index > index)
    node.replica.transferLeadership()
    cluster.runUntil('another leader', () =>
      cluster.nodes.some(other => other !== node && other.role === 'leader'),
    )
    cluster.runUntil('an answer', () => isAnswered)
    cluster.runUntilLeader()
  }

  // The executor asserts the order of the engine's answers; the comparison sees what is there.
  cluster.recover()
})

// Linux shows what a failed flush didn't store, and holds it for clean. The next process read it from
// the cache, flushed it to no effect and acknowledged it; a power cut later it was gone.
test('what a failed flush left in the cache only is stored again by the next process', () => {
  for (let seed = 1; seed <= 6; seed++) {
    // A node that ends by itself is expected where disks fail; this one fails when the test says so.
    using cluster = plainCluster({ diskErrorProbability: 1e-12 }, QUIET, seed)
    const leader = cluster.runUntilLeader()
    const follower = must(cluster.nodes.find(node => node !== leader))
    const { onOperation } = follower.disk
    let hasFailed = false
    follower.disk.onOperation = operation => {
      if (hasFailed || operation.type !== 'sync') return onOperation(operation)
      hasFailed = true
      return { type: 'error', code: 'EIO' }
    }

    assert(cluster.write(leader, FIRST, MARK) > 0)
    cluster.runUntil('the end of the follower', () => !follower.isRunning)
    cluster.runUntil('its next life', () => follower.isRunning)
    assert(cluster.write(leader, FIRST, MARK) > 0)
    cluster.runFor(1000)
    follower.crash(true)
    follower.start()

    cluster.recover()
  }
})

// With asynchronous storage the core asks for votes while its own is being written. Elected by the
// others it could crash, forget that term, and be elected to it once more: two leaders of one term.
test('a candidate asks for votes only when its own is on disk', () => {
  const lines: string[] = []
  const options = { keptCount: 0, isVerbose: true, print: (line: string) => lines.push(line) }
  using cluster = plainCluster({ syncMsMean: 20 }, options)
  cluster.runUntilLeader().crash(false)
  cluster.runUntilLeader()

  let count = 0
  for (const [at, line] of lines.entries()) {
    const [, candidate, term] = / vote from (\d) in (\d+) at/.exec(line) ?? []
    if (candidate === undefined) continue
    count++
    const role = `n${candidate} info             role {"role":"candidate","term":${term}`
    const asked = lines.slice(0, at).findLastIndex(other => other.includes(role))
    assert(asked >= 0, `${line}: no such candidate before`)
    const sync = `n${candidate} disk sync  `
    const hasFlushed = lines.slice(asked, at).some(other => other.includes(sync))
    assert(hasFlushed, `${line}: asked before it flushed`)
  }
  assert(count >= 2, `only ${count} requests for votes`)
})
