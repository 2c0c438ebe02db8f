/** A planned hand-over: what is held, who is asked, and what happens if nobody takes it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DbError } from '../../src/base/errors.ts'
import type { LogStatus } from '../../src/log/log.ts'
import { HandOver, type HandOverTarget } from '../../src/replica/hand-over.ts'
import type { MemberReport } from '../../src/replica/types.ts'
import { ManualClock, ManualLog } from './doubles.ts'

const REPORT: MemberReport = {
  appliedIndex: 10,
  durableIndex: 10,
  isDiverged: false,
  isShortOfRoom: false,
  lastError: '',
}

/** A log that notes whom leadership was offered, and with peers as a test wants them. */
class OfferedLog extends ManualLog {
  readonly offered: (number | undefined)[] = []
  away: readonly number[] = []
  isAlone = false

  override transferLeadership(_mayLead?: (raftId: number) => boolean, target?: number): void {
    this.offered.push(target)
  }

  override status(): LogStatus {
    const status = super.status()
    const peers = status.peers.map(peer => {
      return { ...peer, isConnected: !this.away.includes(peer.raftId) }
    })
    if (!this.isAlone) return { ...status, peers }
    return { ...status, peers: [], membership: { ...status.membership, voters: [1] } }
  }
}

interface SetUp {
  readonly log: OfferedLog
  readonly clock: ManualClock
  readonly handOver: HandOver
  readonly ends: (DbError | undefined)[]
  readonly resumed: () => number
  isDrained: boolean
  reports: Map<number, MemberReport>
  begin(target?: HandOverTarget): void
  loseLeadership(): void
}

function setUp(): SetUp {
  const log = new OfferedLog()
  log.become('leader', 3, 1)
  const clock = new ManualClock()
  let resumed = 0
  const ends: (DbError | undefined)[] = []
  const state: SetUp = {
    log,
    clock,
    ends,
    isDrained: false,
    reports: new Map([
      [2, REPORT],
      [3, REPORT],
    ]),
    resumed: () => resumed,
    handOver: new HandOver({
      raftId: 1,
      log,
      clock,
      isDrained: () => state.isDrained,
      heard: () => state.reports,
      onResumed: () => (resumed += 1),
    }),
    begin: target => state.handOver.begin(target, 5000, error => ends.push(error)),
    loseLeadership: () => {
      log.become('follower', 4, 2)
      state.handOver.roleChanged('follower')
    },
  }
  return state
}

test('nothing new begins from the first moment, and nobody is asked while a batch is under way', () => {
  const state = setUp()
  state.begin()

  assert(state.handOver.isHolding)
  state.clock.pass(100)
  assert.deepEqual(state.log.offered, [])

  state.isDrained = true
  state.clock.pass(3)
  assert.equal(state.log.offered.length, 1)
  assert(state.handOver.isHolding, 'until it does not lead any more')

  state.loseLeadership()
  assert.deepEqual(state.ends, [undefined])
  assert.equal(state.handOver.isHolding, false)
})

test('the voter with the longest log is asked, and of equal ones the one that applied most', () => {
  const state = setUp()
  state.isDrained = true
  state.log.matchIndexes = { 2: 90, 3: 91 }
  state.begin()
  assert.deepEqual(state.log.offered, [3])

  const equal = setUp()
  equal.isDrained = true
  equal.log.matchIndexes = { 2: 90, 3: 90 }
  equal.reports.set(2, { ...REPORT, appliedIndex: 11 })
  equal.begin()
  assert.deepEqual(equal.log.offered, [2])
})

test('who diverged, is away, or only learns is not asked', () => {
  const state = setUp()
  state.isDrained = true
  state.log.matchIndexes = { 2: 99, 3: 1 }
  state.reports.set(2, { ...REPORT, isDiverged: true })
  state.begin()
  assert.deepEqual(state.log.offered, [3])
  state.loseLeadership()

  const away = setUp()
  away.log.away = [2, 3]
  away.begin()
  assert.equal(away.ends[0]?.code, 'MEMBERS_BUSY')
  assert.match(away.ends[0]?.message ?? '', /no other voter is connected and healthy/)
  assert.equal(away.handOver.isHolding, false)

  // Who is the only voter need not wait for another one: none will come by itself.
  const alone = setUp()
  alone.log.isAlone = true
  alone.begin()
  assert.equal(alone.ends[0]?.code, 'MEMBERS_REFUSED')

  const learner = setUp()
  learner.log.membership = { ...learner.log.membership, voters: [1, 2], learners: [3] }
  learner.begin(3)
  assert.equal(learner.ends[0]?.code, 'MEMBERS_REFUSED')
  learner.isDrained = true
  learner.begin()
  assert.deepEqual(learner.log.offered, [2])
})

test('who is short of room is asked last, and not at all if it is room that is wanted', () => {
  const state = setUp()
  state.isDrained = true
  state.log.matchIndexes = { 2: 99, 3: 1 }
  state.reports.set(2, { ...REPORT, isShortOfRoom: true })
  state.begin()
  state.clock.pass(1010)
  assert.deepEqual(state.log.offered, [3, 2])

  const wanted = setUp()
  wanted.isDrained = true
  wanted.reports = new Map([[2, { ...REPORT, isShortOfRoom: true }]])
  wanted.begin('with-room')
  assert.equal(wanted.ends[0]?.code, 'MEMBERS_BUSY', 'of the other one nothing is known')
  wanted.reports.set(3, REPORT)
  wanted.begin('with-room')
  assert.deepEqual(wanted.log.offered, [3])

  const named = setUp()
  named.reports.set(2, { ...REPORT, isShortOfRoom: true })
  named.begin(2)
  assert.match(named.ends[0]?.message ?? '', /short of room/)
})

test('if one does not take it the next one is asked, and a named one again', () => {
  const state = setUp()
  state.isDrained = true
  state.begin()
  const [first] = state.log.offered
  state.clock.pass(1010)
  assert.equal(state.log.offered.length, 2)
  assert.notEqual(state.log.offered[1], first)
  state.clock.pass(1010)
  assert.equal(state.log.offered.length, 3)

  const named = setUp()
  named.isDrained = true
  named.begin(2)
  named.clock.pass(1010)
  assert.deepEqual(named.log.offered, [2, 2])
})

test('at the deadline this node leads on and takes up what it held', () => {
  const state = setUp()
  state.begin()
  state.clock.pass(5010)

  assert.equal(state.ends[0]?.code, 'MEMBERS_BUSY')
  assert.match(state.ends[0]?.message ?? '', /a write is still under way/)
  assert.deepEqual([state.handOver.isHolding, state.resumed()], [false, 1])

  state.isDrained = true
  state.begin()
  state.clock.pass(5010)
  assert.match(state.ends[1]?.message ?? '', /nobody took it/)
  assert.equal(state.resumed(), 2)
})

test('only one hand-over runs, and none where there is nothing to hand over', () => {
  const state = setUp()
  state.begin()
  state.begin()
  assert.equal(state.ends[0]?.code, 'MEMBERS_BUSY')
  assert(state.handOver.isHolding)

  const follower = setUp()
  follower.log.become('follower', 4, 2)
  follower.begin()
  assert.deepEqual(follower.ends, [undefined])
  assert.equal(follower.handOver.isHolding, false)

  state.handOver.stop()
  assert.equal(state.ends[1]?.code, 'SHUTTING_DOWN')
})
