/** Taking over the data of another member: the order of steps, and what may go wrong at each. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { encodeManifest } from '../../src/engine/snapshot.ts'
import type { LogStatus } from '../../src/log/log.ts'
import { encodePoint, foundingMembership } from '../../src/log/membership.ts'
import { Snapshots } from '../../src/replica/snapshots.ts'
import type { MemberReport } from '../../src/replica/types.ts'
import { ManualClock, ManualLog, ManualSnapshots, ManualTransfer, SILENT } from './doubles.ts'

const MEMBERSHIP = foundingMembership([])
const ID = '00000000000000aa'

function manifestOf(index: number, id = ID): string {
  const context = encodePoint({ index, term: 1, membership: MEMBERSHIP }).toHex()
  const file = { name: 'system.sqlite', sizeBytes: 10, sha256: '0'.repeat(64), chunks: [1] }
  return encodeManifest({ format: 1, id, index, nowMs: 1, build: 'b', context, files: [file] })
}

class Log extends ManualLog {
  firstIndex = 1
  away: readonly number[] = []

  override status(): LogStatus {
    const { peers, ...status } = super.status()
    const seen = peers.map(peer => ({ ...peer, isConnected: !this.away.includes(peer.raftId) }))
    return { ...status, peers: seen, firstIndex: this.firstIndex }
  }

  take(isTaken = true): void {
    const next = this.installs.shift()
    assert(next !== undefined)
    if (isTaken) {
      this.firstIndex = next.point.index + 1
      this.commitIndex = next.point.index
    }
    next.done(isTaken)
  }
}

function report(appliedIndex: number): MemberReport {
  const isSound = { isDiverged: false, isShortOfRoom: false, lastError: '' }
  return { appliedIndex, durableIndex: 0, ...isSound }
}

class Bench {
  readonly clock = new ManualClock()
  readonly log = new Log(1)
  readonly store = new ManualSnapshots()
  readonly transfer = new ManualTransfer()
  readonly reports = new Map<number, MemberReport>([
    [2, report(50)],
    [3, report(40)],
  ])
  readonly suspects = new Set<number>()
  /** What was done to this replica, in order. */
  readonly done: string[] = []
  onSuspended: () => void = () => assert.fail('nothing is suspended')
  applied = 5
  readonly snapshots = new Snapshots({
    store: this.store,
    log: this.log,
    transfer: this.transfer,
    clock: this.clock,
    logger: SILENT,
    appliedIndex: () => this.applied,
    reports: () => this.reports,
    isSuspect: raftId => this.suspects.has(raftId),
    suspend: done => {
      this.done.push('suspend')
      this.onSuspended = done
    },
    restart: () => this.done.push('restart'),
    abdicate: () => this.done.push('abdicate'),
    onNeeded: () => this.done.push('needed'),
    onInstalled: index => this.done.push(`installed ${index}`),
  })

  constructor() {
    this.log.leader = 3
  }

  taken(): string[] {
    return this.done.splice(0)
  }

  /** Up to the moment when all files are there and checked. */
  fetch(index: number): void {
    this.transfer.offer(manifestOf(index))
    this.store.answer()
    this.transfer.bring()
    this.store.answer()
  }
}

test('staged, then the log, then the engine: in this order, and each only after the last', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  assert(bench.snapshots.isHealing)
  assert.deepEqual(bench.transfer.asked, [{ raftId: 2, minIndex: 30 }])

  bench.transfer.offer(manifestOf(40))
  assert.deepEqual(bench.store.asked, ['stage 40'])
  bench.store.answer()
  assert.deepEqual(bench.transfer.fetched, [{ raftId: 2, id: ID, location: '/staging' }])
  bench.transfer.bring()
  assert.deepEqual(bench.store.asked, ['stage 40', 'finish'])
  assert.deepEqual(bench.taken(), ['needed'])
  bench.store.answer()
  assert.deepEqual(bench.taken(), ['suspend'])
  assert.equal(bench.log.installs.length, 0)
  bench.onSuspended()
  assert.equal(bench.log.installs[0]?.point.index, 40)
  assert.equal(bench.store.asked.length, 2)
  bench.log.take()
  assert.deepEqual(bench.store.asked.slice(2), [`adopt ${ID}`])
  assert.deepEqual(bench.taken(), [])
  bench.store.answer()

  assert.deepEqual(bench.taken(), ['installed 40', 'restart'])
  assert(!bench.snapshots.isHealing)
  assert.equal(bench.snapshots.status().installed, 1)
})

test('what the log has brought meanwhile is not fetched to its end', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  bench.transfer.offer(manifestOf(40))
  bench.store.answer()
  bench.applied = 29
  bench.snapshots.sweep()
  assert(bench.snapshots.isHealing)

  bench.applied = 30
  bench.snapshots.sweep()

  assert(!bench.snapshots.isHealing)
  assert(bench.transfer.isCancelled)
  assert.deepEqual(bench.taken(), ['needed'])
  // Whose data are wrong, or have a gap, fetches on, however far the log is.
  bench.snapshots.heal({ reason: 'wrong', minIndex: 30, isSuspect: () => false })
  bench.snapshots.sweep()
  assert(bench.snapshots.isHealing)
})

test('a follower that has enough is asked before the leader, and nobody who is suspect', () => {
  const suspects = new Set([2])
  const heal = { reason: 'wrong', minIndex: 45, isSuspect: (id: number) => suspects.has(id) }
  const bench = new Bench()
  bench.snapshots.heal(heal)
  // Follower 2 is suspect, 3 leads.
  assert.equal(bench.transfer.asked[0]?.raftId, 3)

  const other = new Bench()
  other.snapshots.needed(3, 60)
  // Nobody has entry 60 but the leader.
  assert.equal(other.transfer.asked[0]?.raftId, 3)
})

test('a member that is making a snapshot is asked again; one that fails is left alone', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  const making = new DbError('NOT_READY', 'making', { details: { isMaking: true } })
  for (let round = 0; round < 100; round++) {
    bench.transfer.offer(making)
    bench.clock.pass(300)
  }
  assert(bench.transfer.asked.every(({ raftId }) => raftId === 2))

  bench.transfer.offer(new DbError('SNAPSHOT_FAILED', 'it broke'))
  bench.clock.pass(299)
  const before = bench.transfer.asked.length
  bench.clock.pass(1)
  assert.equal(bench.transfer.asked.length, before + 1)
  assert.equal(bench.snapshots.status().lastError, 'it broke')
})

test('what is garbled is fetched again, and an offer that is too old or makes no sense refused', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  for (const offer of [
    '{',
    manifestOf(29),
    manifestOf(30).replace('"context":"01', '"context":"ff'),
  ]) {
    bench.transfer.offer(offer)
    assert.deepEqual(bench.store.asked, [], offer)
    bench.clock.pass(10_000)
  }
  bench.transfer.offer(manifestOf(30))
  bench.store.answer()
  bench.transfer.bring()
  bench.store.answer(new DbError('SNAPSHOT_FAILED', 'came with other bytes'))
  bench.clock.pass(10_000)

  bench.fetch(30)
  assert.deepEqual(bench.taken(), ['needed', 'suspend'])
})

test('who gave garbled bytes is avoided, who broke once gets a second chance, and alone any', () => {
  const broken = new DbError('SNAPSHOT_FAILED', 'the connection broke')
  const garbled = new DbError('CORRUPT', 'a chunk came garbled')
  const askedAfter = (errors: readonly DbError[], away: readonly number[] = []): number[] => {
    const bench = new Bench()
    bench.log.away = away
    bench.snapshots.needed(3, 30)
    for (const error of errors) {
      bench.transfer.offer(manifestOf(40))
      bench.store.answer()
      bench.transfer.bring(error)
      bench.clock.pass(10_000)
    }
    return bench.transfer.asked.map(({ raftId }) => raftId)
  }
  assert.deepEqual(askedAfter([broken, broken]), [2, 2, 3])
  assert.deepEqual(askedAfter([garbled]), [2, 3])
  // With all of them bad the next is as good as any.
  assert.deepEqual(askedAfter([garbled, garbled]), [2, 3, 2])
  assert.deepEqual(askedAfter([garbled], [3]), [2, 2])
})

test('a transfer that breaks is begun again, with whatever snapshot is offered then', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  bench.transfer.offer(manifestOf(30))
  bench.store.answer()
  bench.transfer.bring(new DbError('SNAPSHOT_FAILED', 'the connection broke'))
  bench.clock.pass(10_000)
  bench.fetch(42)
  bench.onSuspended()
  assert.equal(bench.log.installs[0]?.point.index, 42)
})

test('a crash between log and engine is finished by the snapshot that is staged', () => {
  const bench = new Bench()
  bench.log.firstIndex = 41
  bench.log.commitIndex = 40
  bench.store.stagedManifest = JSON.parse(manifestOf(40)) as never
  bench.snapshots.gap()
  assert.deepEqual(bench.store.asked, ['look'])
  bench.store.answer()
  bench.onSuspended()
  bench.log.take(false)
  bench.store.answer()

  assert.deepEqual(bench.transfer.asked, [])
  assert.deepEqual(bench.taken(), ['needed', 'suspend', 'installed 40', 'restart'])
})

test('who leads already, as the only voter, finishes a staged snapshot that its log begins after', () => {
  const bench = new Bench()
  bench.log.firstIndex = 41
  bench.log.commitIndex = 45
  bench.log.role = 'leader'
  bench.store.stagedManifest = JSON.parse(manifestOf(40)) as never
  bench.snapshots.gap()
  bench.store.answer()
  assert.deepEqual(bench.taken(), ['needed', 'suspend'])
  bench.onSuspended()
  bench.log.take(false)
  bench.store.answer()
  assert.deepEqual(bench.taken(), ['installed 40', 'restart'])
})

test('a log that begins after the engine, and nothing staged that fits, needs another snapshot', () => {
  const bench = new Bench()
  bench.log.firstIndex = 41
  bench.log.commitIndex = 45
  bench.store.stagedManifest = JSON.parse(manifestOf(39)) as never
  bench.snapshots.gap()
  bench.store.answer()
  assert.deepEqual(bench.transfer.asked, [{ raftId: 2, minIndex: 40 }])
})

test('a leader whose data are wrong hands over before they are replaced', () => {
  const bench = new Bench()
  bench.log.role = 'leader'
  bench.log.leader = 1
  bench.snapshots.heal({ reason: 'wrong', minIndex: 30, isSuspect: () => false })
  bench.fetch(30)
  assert.deepEqual(bench.taken(), ['needed', 'abdicate'])

  bench.log.role = 'follower'
  bench.clock.pass(300)
  assert.deepEqual(bench.taken(), ['suspend'])
})

test('who is healed takes over a snapshot that its log covers anyway', () => {
  const bench = new Bench()
  bench.log.commitIndex = 60
  bench.snapshots.heal({ reason: 'wrong', minIndex: 30, isSuspect: () => false })
  bench.fetch(40)
  bench.onSuspended()
  bench.log.take(false)
  bench.store.answer()
  assert.deepEqual(bench.taken(), ['needed', 'suspend', 'installed 40', 'restart'])
})

test('a log that takes the snapshot not is asked again, and then another snapshot is fetched', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  bench.fetch(30)
  bench.onSuspended()
  for (let round = 0; bench.log.installs.length > 0; round++) {
    assert(round < 50)
    bench.log.take(false)
    bench.clock.pass(300)
    if (bench.taken().includes('suspend')) bench.onSuspended()
  }
  assert(!bench.store.asked.some(question => question.startsWith('adopt')))
  bench.clock.pass(10_000)
  assert.equal(bench.transfer.asked.length, 2)
})

test('a follower that caught up by the log meanwhile stays with its data', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 4)
  bench.fetch(5)
  assert(!bench.snapshots.isHealing)
  assert.deepEqual(bench.taken(), ['needed'])
})

test('more that is wrong makes what was begun void if it is not new enough', () => {
  const bench = new Bench()
  bench.snapshots.heal({ reason: 'first', minIndex: 30, isSuspect: () => false })
  bench.transfer.offer(manifestOf(30))
  bench.store.answer()
  bench.snapshots.heal({ reason: 'second', minIndex: 35, isSuspect: () => false })
  assert(bench.transfer.isCancelled)
  assert.equal(bench.transfer.asked.at(-1)?.minIndex, 35)
  bench.transfer.bring()
  assert.deepEqual(bench.store.asked, ['stage 30'])
})

test('an engine that can not move its pointer is asked again', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  bench.fetch(30)
  bench.onSuspended()
  bench.log.take()
  bench.store.answer(new DbError('DISK_FULL', 'no room'))
  assert(bench.snapshots.isHealing)
  assert.equal(bench.snapshots.status().lastError, 'no room')
  bench.clock.pass(10_000)
  bench.store.answer()
  assert.deepEqual(bench.taken(), ['needed', 'suspend', 'installed 30', 'restart'])
})

test('what came from a member that is suspect by now is not taken', () => {
  const bench = new Bench()
  bench.snapshots.needed(3, 30)
  bench.suspects.add(2)
  bench.fetch(40)
  assert.deepEqual(bench.taken(), ['needed'])
  bench.clock.pass(10_000)
  assert.equal(bench.transfer.asked.at(-1)?.raftId, 3)
})

test('what is staged for nothing is removed after a minute, and not while it is needed', () => {
  const late = new Bench()
  late.snapshots.needed(3, 4)
  late.fetch(5)
  late.clock.pass(59_999)
  late.snapshots.sweep()
  assert(!late.store.asked.includes('discard'))
  late.clock.pass(1)
  late.snapshots.sweep()
  late.snapshots.sweep()
  assert.deepEqual(late.store.asked.slice(2), ['discard'])

  // A need that arises meanwhile waits until that is done.
  late.snapshots.needed(3, 30)
  assert.equal(late.transfer.asked.length, 1)
  late.store.answer()
  late.clock.pass(300)
  assert.equal(late.transfer.asked.length, 2)
  late.clock.pass(60_000)
  late.snapshots.sweep()
  assert.equal(late.store.asked.length, 3)
})
