import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import type { Engine, WriteRequest } from '../../src/engine/engine.ts'
import { LocalEngine } from '../../src/engine/sqlite/local-engine.ts'
import { encodeDigestPoint } from '../../src/engine/entry.ts'
import { encodeManifest } from '../../src/engine/snapshot.ts'
import { encodePoint } from '../../src/log/membership.ts'
import { Peers } from '../../src/log/peers.ts'
import { NO_AGREEMENT } from '../../src/replica/divergence.ts'
import { Replica } from '../../src/replica/replica.ts'
import { encodeTestimony } from '../../src/replica/testimony.ts'
import type { Outcome, ReadOptions, ReplicaOptions, WriteOutcome } from '../../src/replica/types.ts'
import { newDirectory } from '../engine/sqlite/replica.ts'
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

const DIVERGENCE = { index: 1, database: 'd', sql: 's', expected: '1', actual: '2', digest: 'd' }

const INSERT: WriteRequest = statement('INSERT INTO t VALUES (1)')
const CREATE: WriteRequest = statement('CREATE TABLE t (a)')
const READ = { database: 'd', statements: [], maxRows: 1, maxBytes: 1 }
const LINEARIZABLE: ReadOptions = { consistency: 'linearizable', timeoutMs: 1000 }

function statement(sql: string): WriteRequest {
  return { type: 'statements', database: 'd', statements: [{ sql, params: [] }] }
}

function replicaOf(
  raftId: number,
  network: ManualNetwork,
  parts: {
    readonly log: ManualLog
    readonly engine: Engine
    readonly clock: ManualClock
    readonly transfer?: ManualTransfer
  },
  options: Partial<ReplicaOptions> = {},
): Replica {
  const replica = new Replica({
    transfer: new ManualTransfer(),
    ...parts,
    raftId,
    peers: new Peers(network.transportOf(raftId), parts.clock, 1),
    random: fixedRandom,
    logger: SILENT,
    options: { ...OPTIONS, ...options },
    onFatal: reason => assert.fail(reason),
  })
  replica.start()
  return replica
}

class Bench {
  readonly clock = new ManualClock()
  readonly log: ManualLog
  readonly engine = new ManualEngine()
  readonly transfer = new ManualTransfer()
  readonly replica: Replica

  constructor(raftId: number, network: ManualNetwork, options: Partial<ReplicaOptions> = {}) {
    this.log = new ManualLog(raftId)
    this.replica = replicaOf(raftId, network, this, options)
  }

  /** A leader of term 2 that takes writes, or a follower of `leader` in that term. */
  join(leader: number): void {
    this.engine.open()
    this.log.become(leader === this.replica.status().log.raftId ? 'leader' : 'follower', 2, leader)
    this.log.commitForeign('noop')
    this.engine.taken()
  }

  write(request: WriteRequest = INSERT): string[] {
    const heard: string[] = []
    this.replica.execute(request, 1000, outcome => heard.push(codeOf(outcome)))
    return heard
  }

  /** The one open batch is executed, committed and applied. */
  finish(): number {
    const { batches } = this.replica.status().counters
    const results = [{ type: 'ok', results: [] }] as const
    const entry = new Uint8Array([1])
    this.engine.reply({ type: 'executed', batch: batches, taken: 1, entry, results })
    const index = this.log.commitProposal()
    this.engine.reply({ type: 'committed', batch: batches, index, durableIndex: 0 })
    return index
  }

  diverge(): void {
    this.engine.open()
    this.log.become('follower', 1, 2)
    this.log.commitForeign('data')
    this.engine.reply({ type: 'applied', index: 0, durableIndex: 0, divergence: DIVERGENCE })
  }
}

function codeOf(outcome: Outcome<unknown> | WriteOutcome): string {
  return outcome.type === 'ok' ? 'ok' : outcome.error.code
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

test('a write at a follower is executed by the leader, and its answer comes back', () => {
  const network = new ManualNetwork()
  const [leader, follower] = [new Bench(1, network), new Bench(2, network)]
  leader.join(1)
  follower.join(1)
  const heard = follower.write()
  assert.equal(follower.replica.status().counters.forwarded, 1)
  assert(!follower.replica.isPassedOn)
  network.deliver()
  assert.deepEqual(leader.engine.taken(), ['execute'])
  assert.deepEqual(follower.engine.taken(), [])
  leader.finish()
  network.deliver()
  assert.deepEqual(heard, ['ok'])
  assert(follower.replica.isPassedOn)
})

test('by its rule a follower passes on all writes, only data, or none', () => {
  const passed: Record<string, string[]> = {}
  for (const forward of ['all', 'data', 'none'] as const) {
    const network = new ManualNetwork()
    const [leader, follower] = [new Bench(1, network), new Bench(2, network, { forward })]
    leader.join(1)
    follower.join(1)
    passed[forward] = [INSERT, CREATE, { type: 'drop-database', database: 'd' } as const].map(
      request => {
        const heard = follower.write(request)
        network.deliver()
        if (!leader.engine.taken().includes('execute')) return must(heard[0])
        leader.finish()
        network.deliver()
        return must(heard[0])
      },
    )
  }
  assert.deepEqual(passed, {
    all: ['ok', 'ok', 'ok'],
    data: ['ok', 'NOT_LEADER', 'NOT_LEADER'],
    none: ['NOT_LEADER', 'NOT_LEADER', 'NOT_LEADER'],
  })
})

test('who may not pass a write on says where the leader is', () => {
  const bench = new Bench(2, new ManualNetwork(), { forward: 'none' })
  bench.join(3)
  bench.replica.execute(INSERT, 1000, outcome => {
    assert(outcome.type === 'failed')
    assert.deepEqual(outcome.error.details, {
      leaderId: 'n3',
      leaderAddress: '127.0.0.1:7003',
      forward: 'none',
    })
    assert.match(outcome.error.message, /n3 at 127\.0\.0\.1:7003/)
  })
})

test('a leader executes its own writes whatever its rule', () => {
  const bench = new Bench(1, new ManualNetwork(), { forward: 'none' })
  bench.join(1)
  const heard = bench.write(CREATE)
  bench.finish()
  assert.deepEqual(heard, ['ok'])
})

test('without a leader a write is held, refused at its deadline and never applied later', () => {
  const bench = new Bench(1, new ManualNetwork())
  bench.engine.open()
  const heard = bench.write()
  assert.equal(bench.replica.status().heldRequests, 1)
  assert(bench.replica.isIdle && !bench.replica.isPassedOn)
  bench.clock.pass(1020)
  assert.deepEqual(heard, ['NO_LEADER'])
  bench.log.become('leader', 2, 1)
  bench.log.commitForeign('noop')
  assert.deepEqual(bench.engine.taken(), ['open'])
})

test('without a leader a transaction waits for its beginning, and for nothing else', () => {
  const bench = new Bench(1, new ManualNetwork())
  bench.engine.open()
  const heard: string[] = []
  const listen = (outcome: Outcome<unknown>): void => void heard.push(codeOf(outcome))
  const begin = { type: 'begin', database: 'd', maxMs: undefined } as const
  bench.replica.transact(begin, 1000, listen)
  bench.replica.transact({ type: 'rollback', transaction: '1.2.3.ab.d' }, 1000, listen)
  assert.deepEqual(heard, ['NO_LEADER'])
  assert.equal(bench.replica.status().heldRequests, 1)
  bench.log.become('leader', 2, 1)
  bench.log.commitForeign('noop')
  assert.equal(bench.replica.status().heldRequests, 0)
  assert.deepEqual(heard, ['NO_LEADER', 'ok'])
})

test('a leader that hands over passes on what waited and what still comes', () => {
  const network = new ManualNetwork()
  const [old, next] = [new Bench(1, network), new Bench(2, network)]
  old.join(1)
  next.join(1)
  const first = old.write()
  assert.deepEqual(old.engine.taken(), ['execute'])
  const waiting = old.write()
  old.replica.stopAdmission()
  const late = old.write()
  const forwarded = next.write()
  network.deliver()
  network.deliver()
  assert(!old.replica.isIdle)
  old.finish()
  assert.deepEqual([first, waiting, late, forwarded], [['ok'], [], [], []])
  assert(old.replica.isIdle)

  next.log.become('leader', 3, 2)
  old.log.become('follower', 3, 2)
  next.log.commitForeign('noop')
  network.deliver()
  // Those that came while the first was executed share the second batch.
  for (let batch = 1; batch <= 2; batch += 1) {
    const count = batch === 1 ? 1 : 2
    const results = Array.from({ length: count }, () => ({ type: 'ok', results: [] }) as const)
    const entry = new Uint8Array([1])
    next.engine.reply({ type: 'executed', batch, taken: count, entry, results })
    const index = next.log.commitProposal()
    next.engine.reply({ type: 'committed', batch, index, durableIndex: 0 })
  }
  network.deliver()
  assert.deepEqual([first, waiting, late, forwarded], [['ok'], ['ok'], ['ok'], ['ok']])
  assert(old.replica.isPassedOn)
})

test('a replica that diverged gives leadership away at once, and serves nothing', () => {
  const bench = new Bench(1, new ManualNetwork())
  bench.engine.open()
  bench.log.become('follower', 1, 2)
  bench.log.commitForeign('data')
  const heard: string[] = []
  const listen = (outcome: Outcome<unknown>): void => void heard.push(codeOf(outcome))
  // One read waits for the entry, one for its index, when the engine finds out.
  bench.replica.query(READ, { consistency: 'session', atLeastIndex: 1, timeoutMs: 1000 }, listen)
  bench.replica.query(READ, LINEARIZABLE, listen)
  bench.engine.reply({ type: 'applied', index: 0, durableIndex: 0, divergence: DIVERGENCE })
  assert.deepEqual(heard, ['DIVERGED'])
  bench.log.answerRound(0)
  assert.deepEqual(heard, ['DIVERGED', 'DIVERGED'])

  assert.equal(bench.log.transfers, 1)
  bench.replica.query(READ, LINEARIZABLE, listen)
  bench.replica.digest({ database: 'd' }, { consistency: 'local', timeoutMs: 1000 }, listen)
  assert.deepEqual(heard.slice(2), ['DIVERGED', 'DIVERGED'])
  assert.deepEqual(bench.engine.queries, [])
  bench.log.become('leader', 2, 1)
  const write = bench.write()
  bench.clock.pass(1020)
  assert.deepEqual(write, ['DIVERGED'])
})

/** What member `from` says of its data after entry `index`; of nothing, if no digest is given. */
function testimonyOf(index: number, digest: string | undefined): Uint8Array {
  const opinion = { type: 'value', value: digest ?? '' } as const
  const words = [{ index, opinion, parts: [], verdict: undefined }]
  return encodeTestimony({
    copiedIndex: 0,
    appliedIndex: index,
    agreement: NO_AGREEMENT,
    question: undefined,
    isCondemned: false,
    statements: [],
    trust: undefined,
    data: { isPreparing: false, build: 'b', words: digest === undefined ? [] : words },
  })
}

test('who took the files of another is not judged by the digest of its own', () => {
  const network = new ManualNetwork()
  const bench = new Bench(1, network)
  const { engine, log } = bench
  const others = [2, 3].map(raftId => new Peers(network.transportOf(raftId), bench.clock, 1))
  const say = (digest?: string): void => {
    for (const other of others) other.send(1, 'control', 'testimony', testimonyOf(3, digest))
    network.deliver()
  }
  const apply = (index: number): void => engine.reply({ type: 'applied', index, durableIndex: 0 })
  const digest = (value: string): void => {
    const { digesting } = engine.snapshots
    digesting?.onReady()
    digesting?.onBegun()
    digesting?.onDone({ type: 'ok', digest: { digest: value, parts: [] } })
  }
  bench.engine.open()
  log.become('follower', 2, 2)
  for (const data of [new Uint8Array([1]), new Uint8Array([2]), encodeDigestPoint(1)]) {
    apply(log.commitForeign('data', data))
  }
  digest('of the old files')
  // Its writer begins anew before that, and then a page is garbled.
  engine.die()
  bench.clock.pass(10)
  engine.open(1)
  say()
  engine.reply({ type: 'fault', error: { code: 'CORRUPT', message: 'a page is garbled' } })
  engine.die()
  const context = encodePoint({ index: 2, term: 2, membership: log.membership }).toHex()
  const file = { name: 'system.sqlite', sizeBytes: 1, sha256: '0'.repeat(64), chunks: [1] }
  const id = '00000000000000aa'
  const manifest = { format: 1, id, index: 2, nowMs: 1, build: 'b', context, files: [file] }
  bench.transfer.offer(encodeManifest(manifest))
  engine.snapshots.answer()
  bench.transfer.bring()
  engine.snapshots.answer()
  must(log.installs.shift()).done(true)
  engine.snapshots.answer()
  engine.past = { copiedIndex: 2 }
  engine.open(2)

  say('right')
  assert.equal(bench.replica.status().isCondemned, false)
  apply(3)
  digest('right')
  assert.equal(bench.replica.status().dataDigest.verifiedIndex, 3)
})

test('a leader goes on compacting up to what its engine and every other log have', () => {
  const network = new ManualNetwork()
  const [leader, follower] = [new Bench(1, network), new Bench(2, network)]
  leader.join(1)
  follower.join(1)
  for (let times = 0; times < 8; times += 1) {
    for (const { log } of [leader, follower]) log.commitForeign('noop')
  }
  leader.log.matchIndexes = { 2: 7, 3: 5 }
  const report = (): void => {
    for (let times = 0; times < 3; times += 1) {
      for (const { clock } of [leader, follower]) clock.pass(OPTIONS.reportMs)
      network.deliver()
    }
  }
  report()
  assert.equal(leader.log.compactedTo, 0, 'its engine would need all of it again')

  leader.engine.reply({ type: 'checkpointed', durableIndex: 9 })
  follower.engine.reply({ type: 'checkpointed', durableIndex: 4 })
  report()
  assert.equal(leader.log.compactedTo, 5)
  assert.equal(follower.log.compactedTo, 4)

  leader.log.matchIndexes = { 2: 9, 3: 9 }
  follower.engine.reply({ type: 'checkpointed', durableIndex: 9 })
  report()
  assert.equal(leader.log.compactedTo, 9)
  assert.equal(follower.log.compactedTo, 9, 'a follower hears the floor from the leader')
})

test('a leader whose log is too large still keeps, up to the reserve, what those lack who are there', () => {
  const leader = new Bench(1, new ManualNetwork())
  leader.join(1)
  for (let times = 0; times < 8; times += 1) leader.log.commitForeign('noop')
  leader.engine.reply({ type: 'checkpointed', durableIndex: 9 })
  leader.log.matchIndexes = { 2: 9, 3: 5 }
  leader.log.sizeBytes = OPTIONS.maxLogBytes + OPTIONS.logReserveBytes
  leader.clock.pass(OPTIONS.reportMs)
  assert.equal(leader.log.compactedTo, 5)
  leader.log.sizeBytes += 1
  leader.clock.pass(OPTIONS.reportMs)
  assert.equal(leader.log.compactedTo, 9)
})

test('a leader whom the engines of a majority can not follow takes no more until they do', () => {
  const network = new ManualNetwork()
  const [leader, second, third] = [1, 2, 3].map(id => new Bench(id, network))
  assert(leader !== undefined && second !== undefined && third !== undefined)
  for (const bench of [leader, second, third]) bench.join(1)
  const report = (): void => {
    for (const { clock } of [leader, second, third]) clock.pass(OPTIONS.reportMs)
    network.deliver()
    leader.clock.pass(OPTIONS.reportMs)
  }
  leader.write()
  leader.finish()
  const data = must(leader.log.entries.at(-1)).data
  leader.clock.pass(OPTIONS.maxApplyLagMs + 1)
  assert(leader.replica.status().isAdmissionPaused)
  const heard = leader.write()
  assert.equal(leader.replica.status().queuedRequests, 1)
  report()
  assert(leader.replica.status().isAdmissionPaused, 'nobody else has applied it')

  // With one of the others it is a majority.
  const index = second.log.commitForeign('data', data)
  second.engine.reply({ type: 'applied', index, durableIndex: 0 })
  report()
  assert(!leader.replica.status().isAdmissionPaused)
  assert.equal(leader.replica.status().queuedRequests, 0)
  leader.finish()
  assert.deepEqual(heard, ['ok'])
})

test('a new reign begins without the lag of the last one', () => {
  const bench = new Bench(1, new ManualNetwork())
  bench.join(1)
  bench.write()
  bench.finish()
  bench.clock.pass(OPTIONS.maxApplyLagMs + 1)
  assert(bench.replica.status().isAdmissionPaused)
  bench.log.become('follower', 3, 2)
  bench.log.become('leader', 4, 1)
  assert(!bench.replica.status().isAdmissionPaused)
  assert.equal(bench.replica.status().quorumApplyLagMs, 0)
})

test('a replica that stops tells everyone who waits, and takes nothing more', () => {
  const network = new ManualNetwork()
  const follower = new Bench(2, network)
  follower.join(1)
  const heard = follower.write()
  const reads: string[] = []
  const session = { consistency: 'session', atLeastIndex: 9, timeoutMs: 1000 } as const
  follower.replica.query(READ, session, outcome => reads.push(codeOf(outcome)))
  let isStopped = false
  follower.replica.stop(() => {
    isStopped = true
  })
  assert(isStopped)
  assert.deepEqual(heard, ['CONNECTION_LOST'])
  follower.replica.query(READ, session, outcome => reads.push(codeOf(outcome)))
  assert.deepEqual(reads, ['SHUTTING_DOWN', 'SHUTTING_DOWN'])
  assert.deepEqual(follower.write(), ['SHUTTING_DOWN'])
  const { batches } = follower.replica.status().counters
  follower.log.become('leader', 3, 2)
  follower.clock.pass(10_000)
  assert.equal(follower.replica.status().counters.batches, batches)
})

/** A replica over real SQLite files. */
class RealBench {
  readonly clock = new ManualClock()
  readonly log: ManualLog
  readonly engine: LocalEngine
  readonly replica: Replica
  readonly #steps: (() => void)[] = []

  constructor(raftId: number, directory: string, alterSql?: (sql: string) => string) {
    this.log = new ManualLog(raftId)
    this.engine = new LocalEngine({
      directory,
      later: callback => this.#steps.push(callback),
      ...(alterSql && { alterSqlForTests: alterSql }),
    })
    this.replica = replicaOf(raftId, new ManualNetwork(), this)
    this.settle()
  }

  settle(): void {
    for (let step = this.#steps.shift(); step !== undefined; step = this.#steps.shift()) step()
  }

  digest(): string {
    let digest = 'none'
    const options = { consistency: 'local', timeoutMs: 1000 } as const
    this.replica.digest({ database: 'd' }, options, outcome => {
      digest = outcome.type === 'ok' ? outcome.value.digest : outcome.error.code
    })
    this.settle()
    return digest
  }
}

test('what the leader executed is the same everywhere, and who computes something else says so', t => {
  const directories = [1, 2, 3].map(newDirectory)
  t.after(() => {
    for (const directory of directories) rmSync(directory, { recursive: true })
  })
  const [leader, follower, wrong] = directories.map(
    (directory, at) =>
      new RealBench(at + 1, directory, sql => (at === 2 ? sql.replace('(1', '(2') : sql)),
  )
  assert(leader !== undefined && follower !== undefined && wrong !== undefined)
  leader.log.become('leader', 2, 1)
  for (const { log } of [follower, wrong]) log.become('follower', 2, 1)
  for (const { log } of [leader, follower, wrong]) log.commitForeign('noop')

  const codes: string[] = []
  const write = (request: WriteRequest): void => {
    leader.replica.execute(request, 1000, outcome => codes.push(codeOf(outcome)))
    leader.settle()
    const { data } = must(leader.log.proposed[0])
    leader.log.commitProposal()
    for (const { log } of [follower, wrong]) log.commitForeign('data', data)
    for (const bench of [leader, follower, wrong]) bench.settle()
  }
  write({ type: 'create-database', database: 'd' })
  write(CREATE)
  assert.equal(wrong.digest(), leader.digest())
  write(statement('INSERT INTO t VALUES (1), (random()) RETURNING a'))

  assert.deepEqual(codes, ['ok', 'ok', 'ok'])
  assert.match(leader.digest(), /^[0-9a-f]+$/)
  assert.equal(follower.digest(), leader.digest())
  assert.equal(follower.replica.status().divergence, undefined)
  const { divergence, appliedIndex } = wrong.replica.status()
  assert.deepEqual([divergence?.index, divergence?.database, appliedIndex], [4, 'd', 3])
  assert.equal(wrong.digest(), 'DIVERGED')
  for (const bench of [leader, follower, wrong]) {
    bench.replica.stop(() => {})
    bench.settle()
  }
})
