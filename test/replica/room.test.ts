/** A disk that is nearly full: what a leader refuses, whom it hands over to, and when it is over. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DbError } from '../../src/base/errors.ts'
import type { WriteRequest } from '../../src/engine/engine.ts'
import type { LogStatus } from '../../src/log/log.ts'
import { Peers } from '../../src/log/peers.ts'
import { Replica } from '../../src/replica/replica.ts'
import type { ReadAnswer, Outcome, WriteOutcome } from '../../src/replica/types.ts'
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

const LEAST = 1000
const ID = { type: 'key', key: 'k' } as const
const INSERT: WriteRequest = {
  type: 'statements',
  database: 'd',
  statements: [{ sql: 'INSERT INTO t VALUES (1)', params: [] }],
}

/** Notes whom leadership was offered by a hand-over. */
class OfferedLog extends ManualLog {
  readonly offered: (number | undefined)[] = []
  away: readonly number[] = []

  override status(): LogStatus {
    const { peers, ...status } = super.status()
    const seen = peers.map(peer => ({ ...peer, isConnected: !this.away.includes(peer.raftId) }))
    return { ...status, peers: seen }
  }

  override transferLeadership(mayLead?: (raftId: number) => boolean, target?: number): void {
    super.transferLeadership(mayLead)
    this.offered.push(target)
  }
}

class Node {
  readonly log: OfferedLog
  readonly engine = new ManualEngine()
  readonly clock = new ManualClock()
  readonly replica: Replica
  freeBytes: number | undefined = 10 * LEAST

  constructor(raftId: number, network: ManualNetwork, minFreeBytes = LEAST) {
    this.log = new OfferedLog(raftId)
    this.replica = new Replica({
      raftId,
      log: this.log,
      engine: this.engine,
      clock: this.clock,
      transfer: new ManualTransfer(),
      peers: new Peers(network.transportOf(raftId), this.clock, 1),
      random: fixedRandom,
      logger: SILENT,
      options: { ...OPTIONS, minFreeBytes },
      freeBytes: () => this.freeBytes,
      onFatal: reason => assert.fail(reason),
    })
    this.replica.start()
    this.engine.open()
    this.log.become(raftId === 1 ? 'leader' : 'follower', 2, 1)
    this.log.commitForeign('noop')
    this.engine.taken()
  }

  write(request: WriteRequest = INSERT): WriteOutcome[] {
    const heard: WriteOutcome[] = []
    this.replica.execute(request, 5000, outcome => heard.push(outcome))
    return heard
  }
}

/** Three nodes, the first of which leads, and a round of their reports. */
function setUp(minFreeBytes?: number): { nodes: [Node, Node, Node]; report: () => void } {
  const network = new ManualNetwork()
  const node = (raftId: number): Node => new Node(raftId, network, minFreeBytes)
  const nodes: [Node, Node, Node] = [node(1), node(2), node(3)]
  const report = (): void => {
    for (const { clock } of nodes) clock.pass(OPTIONS.reportMs)
    network.deliver()
  }
  report()
  return { nodes, report }
}

/** All disks fill up, and the leader hears it of the others before its own does. */
function runOut([leader, ...others]: readonly [Node, ...Node[]], report: () => void): void {
  for (const node of others) node.freeBytes = LEAST - 1
  report()
  leader.freeBytes = LEAST - 1
  report()
}

function errorOf([outcome]: readonly (WriteOutcome | Outcome<unknown>)[]): DbError {
  assert(outcome?.type === 'failed')
  return outcome.error
}

test('a leader without room refuses writes as not applied, before anything is executed, and goes on when there is room', () => {
  const { nodes, report } = setUp()
  const [leader] = nodes
  runOut(nodes, report)

  const error = errorOf(leader.write())
  assert.equal(error.code, 'DISK_FULL')
  assert.equal(error.fate, 'not-applied')
  assert.match(error.message, /999 bytes left.*below 1000 \(--min-free-bytes\)/)
  assert.deepEqual(leader.engine.taken(), [])
  assert.equal(leader.log.proposed.length, 0)
  assert(leader.replica.status().isShortOfRoom)
  assert.equal(leader.replica.status().freeBytes, LEAST - 1)

  for (const node of nodes) node.freeBytes = 2 * LEAST
  report()
  report()
  leader.write()
  assert.deepEqual(leader.engine.taken(), ['execute'])
  assert(!leader.replica.status().isShortOfRoom)
})

test('a leader with room refuses writes that no majority could store without those that have none', () => {
  const { nodes, report } = setUp()
  const [leader, second, third] = nodes
  const isTaken = (): boolean => {
    report()
    report()
    const [outcome] = leader.write()
    if (outcome === undefined) return true
    assert.equal(errorOf([outcome]).code, 'DISK_FULL')
    return false
  }
  second.freeBytes = LEAST - 1
  assert(isTaken(), 'the first and the third are a majority')
  leader.engine.taken()

  third.freeBytes = LEAST - 1
  assert(!isTaken())
  const error = errorOf(leader.write())
  assert.equal(error.fate, 'not-applied')
  assert.match(error.message, /n2 and n3 are nearly full \(--min-free-bytes\).*no majority/)
  assert.deepEqual(error.details['nodes'], ['n2', 'n3'])
  assert(!leader.replica.status().isShortOfRoom)
  assert.deepEqual(leader.log.offered, [], 'another one could do no better')
  assert.equal(leader.log.proposed.length, 0)

  second.freeBytes = 2 * LEAST
  assert(isTaken())
  // Who is away stores nothing: all depends on the one that has no room.
  leader.log.away = [2]
  assert(!isTaken())
  assert.deepEqual(errorOf(leader.write()).details['nodes'], ['n3'])
  // With nobody there room is not what is missing.
  leader.log.away = [2, 3]
  assert(isTaken())
})

test('who comes to lead refuses from its first write on what no majority has room for', () => {
  const { nodes, report } = setUp()
  const [leader, second, third] = nodes
  leader.freeBytes = LEAST - 1
  third.freeBytes = LEAST - 1
  report()
  report()
  second.log.become('leader', 3, 2)
  second.log.commitForeign('noop')
  assert.deepEqual(errorOf(second.write()).details['nodes'], ['n1', 'n3'])
})

test('while the voters change, both the old and the new ones need a majority with room', () => {
  const { nodes, report } = setUp()
  const [leader, second, third] = nodes
  second.freeBytes = LEAST - 1
  third.freeBytes = LEAST - 1
  const members = { ...leader.log.membership, voters: [1], learners: [2, 3] }
  leader.log.membership = members
  report()
  report()
  assert.deepEqual(leader.write(), [], 'learners without room keep nobody from writing')
  leader.log.membership = { ...members, votersOutgoing: [1, 2], learners: [3] }
  report()
  assert.deepEqual(errorOf(leader.write()).details['nodes'], ['n2'])
})

test('a shortage is over only when a good deal more than the least is free', () => {
  const { nodes, report } = setUp()
  const [leader] = nodes
  const states = [999, 1000, 1249, 1250, 1000, 999].map(freeBytes => {
    leader.freeBytes = freeBytes
    report()
    return leader.replica.status().isShortOfRoom
  })
  assert.deepEqual(states, [true, true, true, false, false, true])
})

test('without a least, and where nobody can tell what is free, no disk is short of room', () => {
  for (const [minFreeBytes, freeBytes] of [[0, 0] as const, [LEAST, undefined] as const]) {
    const { nodes, report } = setUp(minFreeBytes)
    const [leader] = nodes
    leader.freeBytes = freeBytes
    report()
    assert(!leader.replica.status().isShortOfRoom)
    leader.write()
    assert.deepEqual(leader.engine.taken(), ['execute'])
  }
})

test('what waits when room runs out is refused; what frees room or asks after a write is taken', () => {
  const { nodes, report } = setUp()
  const [leader] = nodes
  leader.write()
  const waiting = leader.write()
  const dropping = leader.write({ type: 'drop-database', database: 'd' })
  runOut(nodes, report)

  const asking = leader.write({ type: 'cancel', database: 'd', id: ID })
  leader.clock.pass(OPTIONS.reportMs)
  assert.equal(errorOf(waiting).code, 'DISK_FULL')
  assert.deepEqual([dropping, asking], [[], []])
  assert.equal(leader.replica.status().queuedRequests, 2)
  // The one under way was taken before: it goes on.
  const results = [{ type: 'ok', results: [] }] as const
  leader.engine.reply({ type: 'executed', batch: 1, taken: 1, entry: new Uint8Array([1]), results })
  assert.equal(leader.log.proposed.length, 1)
})

test('reads go on without room, and so do reading and rolling back in a transaction', () => {
  const { nodes, report } = setUp()
  const [leader] = nodes
  const heard: Outcome<{ transaction: string }>[] = []
  const hear = (outcome: Outcome<{ transaction: string }>): unknown => heard.push(outcome)
  const begin = (): string => {
    leader.replica.transact({ type: 'begin', database: 'd', maxMs: undefined }, 5000, hear)
    const begun = heard.pop()
    assert(begun?.type === 'ok')
    return begun.value.transaction
  }
  const [transaction, writing] = [begin(), begin()]
  runOut(nodes, report)

  const answers: Outcome<ReadAnswer>[] = []
  const read = { database: 'd', statements: [], maxRows: 1, maxBytes: 1 }
  leader.replica.query(read, { consistency: 'local', timeoutMs: 1000 }, each => answers.push(each))
  leader.engine.queries[0]?.done({ type: 'ok', appliedIndex: 1, results: [] })
  assert.equal(answers[0]?.type, 'ok')

  const statements = [{ sql: 'INSERT INTO t VALUES (1)', params: [] }]
  const step = { transaction, database: 'd', statements } as const
  leader.replica.transact({ type: 'execute', ...step, transaction: writing }, 5000, hear)
  assert.equal(errorOf(heard).code, 'DISK_FULL')
  assert.equal(errorOf(heard).details['transaction'], 'over')
  leader.replica.transact({ type: 'query', ...step }, 5000, hear)
  assert.deepEqual(leader.engine.taken(), ['step'])
  leader.replica.transact({ type: 'rollback', transaction }, 5000, hear)
  assert.equal(leader.replica.status().openTransactions, 1, 'until its step is over')
  assert.equal(heard.length, 1)
})

test('a leader without room hands over to a voter that has some, and holds writes meanwhile', () => {
  const { nodes, report } = setUp()
  const [leader, second, third] = nodes
  // The more advanced one is short of room as well.
  leader.log.matchIndexes = { 2: 10, 3: 5 }
  second.freeBytes = 0
  report()
  leader.freeBytes = 0
  report()

  assert.equal(leader.log.offered.at(-1), 3)
  const held = leader.write()
  assert.deepEqual(held, [])
  leader.log.become('follower', 3, 3)
  leader.clock.pass(10)
  assert.deepEqual(held, [], 'it is passed on')
  assert.equal(leader.replica.status().forwardedRequests, 1)
  assert(!third.replica.status().isShortOfRoom)
})

test('a leader without room stays if no voter has any, and refuses writes if nobody takes over', () => {
  const { nodes, report } = setUp()
  const [leader, second, third] = nodes
  runOut(nodes, report)
  assert.deepEqual(leader.log.offered, [])

  third.freeBytes = 10 * LEAST
  report()
  report()
  assert.deepEqual(new Set(leader.log.offered), new Set([3]))
  const held = leader.write()
  leader.clock.pass(2500)
  assert.equal(errorOf(held).code, 'DISK_FULL', 'it did not take over')
  assert.equal(errorOf(leader.write()).code, 'DISK_FULL', 'and is not asked again at once')
  const offers = leader.log.offered.length
  leader.clock.pass(5000)
  assert(leader.log.offered.length > offers, 'but later')
  assert(second.replica.status().isShortOfRoom)
})

test('leadership that must go, goes to one with room, or else to any that is sound', () => {
  const { nodes, report } = setUp()
  const [leader, second, third] = nodes
  second.freeBytes = 0
  report()
  leader.replica.transferLeadership()
  assert.deepEqual([2, 3].map(leader.log.mayLead), [false, true])
  third.freeBytes = 0
  report()
  leader.replica.transferLeadership()
  assert.deepEqual([2, 3].map(leader.log.mayLead), [true, true])
})

test('a follower without room follows, and says that it has none', () => {
  const { nodes, report } = setUp()
  const [leader, second] = nodes
  second.freeBytes = 0
  report()
  report()
  assert.equal(leader.replica.status().reports.get(2)?.isShortOfRoom, true)
  assert.equal(leader.replica.status().reports.get(3)?.isShortOfRoom, false)
  second.log.commitForeign('data', new Uint8Array([1]))
  assert.deepEqual(second.engine.taken(), ['apply'])
})
