/** Taking digests: when a place is marked, and how the engine is stopped right after it. */
import type { DataDigest } from '../../src/engine/snapshot.ts'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { newCounters } from '../../src/replica/counters.ts'
import { DigestTaker } from '../../src/replica/digest-taker.ts'
import type { Pause } from '../../src/replica/writer.ts'
import { Bench as ExecutorBench } from './executor-bench.ts'
import { ManualClock, ManualSnapshots, SILENT } from './doubles.ts'

const HOUR_MS = 3_600_000
const DIGEST: DataDigest = { digest: 'd', parts: [] }

class Bench {
  readonly clock = new ManualClock()
  readonly store = new ManualSnapshots()
  readonly counters = newCounters()
  isLeader = true
  mayPropose = true
  wantsAnother = false
  isUnfit = false
  isBusy = false
  proposals = 0
  pause: Pause | undefined
  resumed = 0
  told = 0
  readonly corrupt: string[] = []
  readonly taker: DigestTaker

  constructor(intervalMs = HOUR_MS) {
    this.taker = new DigestTaker({
      store: this.store,
      clock: this.clock,
      logger: SILENT,
      counters: this.counters,
      intervalMs,
      isLeader: () => this.isLeader,
      mayPropose: () => this.mayPropose,
      wantsAnother: () => this.wantsAnother,
      propose: () => (this.proposals += 1),
      pause: pause => {
        if (this.isBusy) return pause.onBroken()
        this.pause = pause
        return undefined
      },
      resume: () => {
        this.pause = undefined
        this.resumed += 1
      },
      isUnfit: () => this.isUnfit,
      onTaken: () => (this.told += 1),
      onCorrupt: reason => this.corrupt.push(reason),
    })
  }

  /** Time passes, and the taker looks at it every now and then. */
  pass(durationMs: number): void {
    for (let left = durationMs; left > 0; left -= 100) {
      this.clock.pass(Math.min(left, 100))
      this.taker.tick()
    }
  }

  ready(): void {
    this.store.digesting?.onReady()
  }

  opinion(index: number): string {
    const opinion = this.taker.taken.get(index)?.opinion
    return opinion?.type === 'value' ? opinion.value : (opinion?.type ?? 'none')
  }
}

test('a leader starts the process first, gives the others time, and then marks a place once', () => {
  const bench = new Bench()
  bench.clock.pass(HOUR_MS - 1)
  bench.taker.tick()
  assert.equal(bench.store.digesting, undefined)
  bench.pass(1)
  assert(bench.taker.isPreparing)
  bench.pass(1000)
  assert.equal(bench.proposals, 0, 'its own process is not ready')
  bench.ready()
  bench.pass(2000)
  assert.equal(bench.proposals, 1)
})

test('a place is marked by nobody but a leader, at no bad time, and never with an interval of 0', () => {
  for (const change of [
    (bench: Bench) => (bench.isLeader = false),
    (bench: Bench) => (bench.mayPropose = false),
    (bench: Bench) => (bench.isUnfit = true),
  ]) {
    const bench = new Bench()
    change(bench)
    bench.clock.pass(HOUR_MS)
    bench.pass(3000)
    assert.deepEqual([bench.store.digesting, bench.proposals], [undefined, 0])
  }
  const never = new Bench(0)
  never.clock.pass(HOUR_MS * 1000)
  never.pass(3000)
  assert.equal(never.store.digesting, undefined)
})

test('a digest is begun when the engine stands still and the files are open, whichever comes last', () => {
  for (const isReadyFirst of [true, false]) {
    const bench = new Bench()
    bench.taker.reached(7)
    const steps = [() => bench.store.digesting?.onReady(), () => bench.pause?.onStill()]
    for (const step of isReadyFirst ? steps : steps.toReversed()) {
      assert.deepEqual(bench.store.digestsBegun, [])
      step()
    }
    assert.deepEqual(bench.store.digestsBegun, [7])
    assert.equal(bench.resumed, 0, 'nothing may be applied before all files are read')
    bench.store.digesting?.onBegun()
    assert.equal(bench.resumed, 1)
    assert.equal(bench.opinion(7), 'pending')
    bench.clock.pass(1234)
    bench.store.digesting?.onDone({ type: 'ok', digest: DIGEST })
    assert.equal(bench.opinion(7), 'd')
    assert.deepEqual([bench.told, bench.resumed, bench.taker.durationMs], [1, 1, 1234])
    assert.equal(bench.counters.digests, 1)
  }
})

test('the engine stands still for two seconds at most; then there is no digest of that entry', () => {
  const bench = new Bench()
  bench.taker.reached(7)
  bench.pause?.onStill()
  bench.clock.pass(1999)
  assert.equal(bench.resumed, 0)
  bench.clock.pass(1)
  assert.deepEqual([bench.resumed, bench.opinion(7), bench.told], [1, 'silent', 1])
  assert.equal(bench.store.digesting, undefined, 'its process is ended')
})

test('a digest that takes half an hour is given up', () => {
  const bench = new Bench()
  bench.taker.reached(7)
  bench.pause?.onStill()
  bench.store.digesting?.onReady()
  bench.store.digesting?.onBegun()
  bench.clock.pass(30 * 60_000 - 1)
  assert.equal(bench.opinion(7), 'pending')
  bench.clock.pass(1)
  assert.equal(bench.opinion(7), 'silent')
  assert.equal(bench.counters.digestFailures, 1)
})

test('a replica that is wrong, busy with a snapshot, or whose engine dies, says nothing', () => {
  const unfit = new Bench()
  unfit.isUnfit = true
  unfit.taker.reached(7)
  assert.equal(unfit.opinion(7), 'silent')

  const busy = new Bench()
  busy.isBusy = true
  busy.taker.reached(7)
  assert.deepEqual([busy.opinion(7), busy.resumed], ['silent', 0])

  const dying = new Bench()
  dying.taker.reached(7)
  dying.pause?.onBroken()
  assert.deepEqual([dying.opinion(7), dying.resumed], ['silent', 0])

  const failing = new Bench()
  failing.taker.reached(7)
  const error = new DbError('CORRUPT', 'a page is garbled')
  failing.store.digesting?.onDone({ type: 'failed', error })
  assert.deepEqual([failing.opinion(7), failing.resumed], ['silent', 1])
  assert.deepEqual(failing.corrupt, ['a page is garbled'])
})

test('when another place comes before a digest is done, the newer one is taken', () => {
  const bench = new Bench()
  bench.taker.reached(7)
  bench.pause?.onStill()
  bench.store.digesting?.onReady()
  bench.store.digesting?.onBegun()
  const late = bench.store.digesting
  bench.taker.reached(9)
  assert.deepEqual([bench.opinion(7), bench.opinion(9)], ['silent', 'pending'])
  late?.onDone({ type: 'ok', digest: DIGEST })
  assert.deepEqual([bench.opinion(7), bench.opinion(9)], ['silent', 'pending'])
})

test('a word on files that another’s have replaced is not kept', () => {
  const bench = new Bench()
  bench.taker.reached(7)
  bench.store.digesting?.onDone({ type: 'ok', digest: DIGEST })
  assert.equal(bench.opinion(7), 'd')
  bench.taker.forget()
  assert.equal(bench.opinion(7), 'none')
})

test('after a disagreement that a silent member may settle another one is taken soon', () => {
  const bench = new Bench()
  bench.taker.reached(7)
  bench.taker.cancel()
  bench.wantsAnother = true
  bench.pass(9900)
  assert.equal(bench.store.digesting, undefined)
  bench.pass(100)
  assert.notEqual(bench.store.digesting, undefined)
})

test('what a follower prepared in vain is ended', () => {
  const bench = new Bench()
  bench.isLeader = false
  bench.taker.prepare()
  assert(!bench.taker.isPreparing)
  bench.pass(30_000)
  assert.notEqual(bench.store.digesting, undefined)
  bench.pass(100)
  assert.equal(bench.store.digesting, undefined)
})

// The executor: exactly where the engine stops.

function point(bench: ExecutorBench): Uint8Array {
  const sent = bench.log.proposed.at(-1)?.data
  assert(sent !== undefined)
  return sent
}

test('a leader appends a digest point between batches, applies it as everybody does, and goes on', () => {
  const bench = ExecutorBench.leader()
  bench.submit(1)
  bench.executor.proposeDigestPoint()
  assert.deepEqual(bench.engine.taken(), ['execute'])
  bench.executed(1, [{ type: 'ok', results: [] }])
  assert.equal(bench.log.proposed.length, 1, 'it waits for the batch')
  const first = bench.log.commitProposal()
  bench.submit(2)
  assert(point(bench).length < 30)
  assert.deepEqual(bench.engine.taken(), ['commit'], 'nothing is executed before it')
  bench.committed(1, first)
  const index = bench.log.commitProposal()
  assert.deepEqual(bench.engine.taken(), ['apply'])
  assert.deepEqual(bench.digestPoints, [])
  bench.engine.reply({ type: 'applied', index, durableIndex: 0 })
  assert.deepEqual(bench.digestPoints, [index])
  assert.deepEqual(bench.engine.taken(), ['execute'])
})

test('a follower hands over nothing after a digest point until it is applied', () => {
  const leader = ExecutorBench.leader()
  leader.executor.proposeDigestPoint()
  const data = point(leader)
  const bench = new ExecutorBench()
  bench.engine.open()
  bench.engine.taken()
  bench.log.become('follower', 2, 2)
  bench.log.entries.push({ index: 1, term: 2, type: 'data', data: new Uint8Array([1]) })
  bench.log.entries.push({ index: 2, term: 2, type: 'data', data })
  bench.log.entries.push({ index: 3, term: 2, type: 'data', data: new Uint8Array([3]) })
  bench.log.commitForeign('data')

  const [first] = bench.engine.sent
  assert(first?.type === 'apply')
  assert.deepEqual(
    first.entries.map(({ index }) => index),
    [1, 2],
  )
  assert.deepEqual(bench.engine.taken(), ['apply'])
  const stills: number[] = []
  bench.onDigestPoint = () =>
    bench.executor.session.pause({ onStill: () => stills.push(1), onBroken: assert.fail })
  bench.engine.reply({ type: 'applied', index: 2, durableIndex: 0 })
  assert.deepEqual(bench.digestPoints, [2])
  assert.deepEqual(stills, [1], 'it stands still at once, and is told so once')
  assert.deepEqual(bench.engine.taken(), [])
  bench.executor.session.resume()
  assert.deepEqual(bench.engine.taken(), ['apply'])
})

test('a digest point of a leader that is deposed before it is committed changes nothing', () => {
  const bench = ExecutorBench.leader()
  bench.executor.proposeDigestPoint()
  bench.log.become('follower', 3, 2)
  assert.deepEqual(bench.engine.taken(), ['rollback'])
  const index = bench.log.commitProposal(false)
  bench.engine.reply({ type: 'rolled-back', batch: 1 })
  assert.deepEqual(bench.engine.taken(), ['apply'])
  bench.engine.reply({ type: 'applied', index, durableIndex: 0 })
  assert.deepEqual(bench.digestPoints, [index])
})

test('a digest point that is committed after its leader’s engine died is applied by the next one', () => {
  const bench = ExecutorBench.leader()
  bench.executor.proposeDigestPoint()
  bench.engine.die()
  bench.clock.pass(10)
  const index = bench.log.commitProposal()
  bench.engine.taken()
  bench.engine.open(1)
  assert.deepEqual(bench.engine.taken(), ['apply'])
  bench.engine.reply({ type: 'applied', index, durableIndex: 0 })
  assert.deepEqual(bench.digestPoints, [index])
  bench.submit(1)
  assert.deepEqual(bench.engine.taken(), ['execute'])
})
