import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Peers } from '../../src/log/peers.ts'
import { Replica } from '../../src/replica/replica.ts'
import {
  fixedRandom,
  ManualClock,
  ManualEngine,
  ManualLog,
  ManualNetwork,
  OPTIONS,
  SILENT,
} from './doubles.ts'

const DIVERGENCE = { index: 1, database: 'd', sql: 's', expected: '1', actual: '2' }

class Bench {
  readonly clock = new ManualClock()
  readonly network: ManualNetwork
  readonly log: ManualLog
  readonly engine = new ManualEngine()

  constructor(raftId: number, network: ManualNetwork) {
    this.network = network
    this.log = new ManualLog(raftId)
    const { log, engine, clock } = this
    new Replica({
      raftId,
      log,
      engine,
      peers: new Peers(network.transportOf(raftId), clock, 1),
      clock,
      random: fixedRandom,
      logger: SILENT,
      options: OPTIONS,
      onFatal: reason => assert.fail(reason),
    }).start()
  }

  diverge(): void {
    this.engine.open()
    this.log.become('follower', 1, 2)
    this.log.commitForeign('data')
    this.engine.reply({ type: 'applied', index: 0, durableIndex: 0, divergence: DIVERGENCE })
  }
}

test('a replica that diverged and is elected hands leadership on, and to none that diverged too', () => {
  const network = new ManualNetwork()
  const bench = new Bench(1, network)
  const other = new Bench(2, network)
  bench.diverge()
  other.diverge()
  other.clock.pass(OPTIONS.reportMs)
  network.deliver()

  bench.log.transfers = 0
  bench.log.become('leader', 2, 1)
  bench.clock.pass(OPTIONS.reportMs)

  assert.equal(bench.log.transfers, 1)
  assert.equal(bench.log.mayLead(2), false)
  assert.equal(bench.log.mayLead(3), true)
})

test('a leader whose engine does not come up hands leadership on; a short restart is none', () => {
  const bench = new Bench(1, new ManualNetwork())
  bench.engine.open()
  bench.clock.pass(60_000)
  bench.log.become('leader', 2, 1)
  bench.engine.die()
  bench.clock.pass(4000)
  assert.equal(bench.log.transfers, 0)

  bench.engine.open()
  bench.clock.pass(4000)
  bench.engine.die()
  bench.clock.pass(4000)
  assert.equal(bench.log.transfers, 0)

  bench.clock.pass(2000)
  assert(bench.log.transfers > 0)
})
