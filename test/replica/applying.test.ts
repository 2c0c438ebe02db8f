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
  ManualTransfer,
  OPTIONS,
  SILENT,
} from './doubles.ts'

const READ = { database: 'd', statements: [], maxRows: 1, maxBytes: 1 }

/** A follower whose engine would rather have several entries at once. */
function gatheringFollower() {
  const clock = new ManualClock()
  const log = new ManualLog(2)
  const engine = new ManualEngine(10)
  const replica = new Replica({
    log,
    engine,
    clock,
    transfer: new ManualTransfer(),
    raftId: 2,
    peers: new Peers(new ManualNetwork().transportOf(2), clock, 1),
    random: fixedRandom,
    logger: SILENT,
    options: OPTIONS,
    onFatal: reason => assert.fail(reason),
  })
  replica.start()
  engine.open()
  log.become('follower', 2, 1)
  log.commitForeign('noop')
  clock.pass(10)
  engine.taken()
  return { clock, log, engine, replica }
}

test('a follower gathers what is committed, if its engine wishes so', () => {
  const { engine, log, clock } = gatheringFollower()
  log.commitForeign('data')
  clock.pass(9)
  log.commitForeign('data')
  assert.equal(engine.sent.length, 0)
  clock.pass(1)

  const [apply] = engine.sent
  assert(apply?.type === 'apply')
  assert.deepEqual(
    apply.entries.map(({ index }) => index),
    [2, 3],
  )
  // The wait of the next one is its own.
  engine.sent = []
  log.commitForeign('data')
  clock.pass(9)
  assert.deepEqual(engine.taken(), [])
  clock.pass(1)
  assert.deepEqual(engine.taken(), ['apply'])
})

test('entries wait for nothing while they are many, or a read waits for them', () => {
  const { replica, engine, log } = gatheringFollower()
  for (let count = 1; count < 64; count += 1) log.commitForeign('data')
  assert.deepEqual(engine.taken(), [])
  log.commitForeign('data')
  assert.deepEqual(engine.taken(), ['apply'])
  engine.reply({ type: 'applied', index: 65, durableIndex: 0 })

  log.commitForeign('data')
  assert.deepEqual(engine.taken(), [])
  replica.query(READ, { consistency: 'session', timeoutMs: 1000, atLeastIndex: 67 }, () => {})
  assert.deepEqual(engine.taken(), ['apply'])
  log.commitForeign('data')
  assert.deepEqual(engine.taken(), ['apply'])
})

test('a node that follows nobody any more applies at once what it has', () => {
  for (const role of ['pre-candidate', 'candidate', 'leader'] as const) {
    const { engine, log } = gatheringFollower()
    log.commitForeign('data')
    assert.deepEqual(engine.taken(), [])
    log.become(role, 3)
    assert.deepEqual(engine.taken(), ['apply'])
  }
})
