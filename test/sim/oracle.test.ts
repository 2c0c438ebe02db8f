/** The judge of answers and the invariants themselves: each lie is found out. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { DbError } from '../../src/base/errors.ts'
import type { SqlValue } from '../../src/base/sql.ts'
import type { WriteRequest } from '../../src/engine/engine.ts'
import { EntryBuilder } from '../../src/engine/entry.ts'
import { encodeRequest } from '../../src/engine/request.ts'
import type { Entry, Role } from '../../src/raft/types.ts'
import { must } from '../../src/base/assert.ts'
import type { Action } from '../../sim/model.ts'
import { Oracle, type Operation } from '../../sim/oracle.ts'
import { RaftInvariants, type RaftView } from '../../sim/raft-invariants.ts'
import { requestOf } from '../../sim/requests.ts'
import { Violation, World } from '../../sim/world.ts'

const FIRST = 'first'
const FOUND = { name: 'Violation' }

function entryOf(...requests: WriteRequest[]): Uint8Array {
  const builder = new EntryBuilder()
  builder.begin(1, new Uint8Array(16))
  for (const request of requests) builder.add(encodeRequest(request), [])
  return builder.finish()
}

/** An oracle that knows a database with registers 0 and 1, both at version 1, from entry 2 on. */
function oracleWithDatabase(): Oracle {
  const oracle = new Oracle(new World(1))
  oracle.committed(1, entryOf({ type: 'create-database', database: FIRST }))
  const setUp: Action = { type: 'set-up', keyCount: 2 }
  const { number } = oracle.begin(FIRST, setUp)
  oracle.committed(2, entryOf(requestOf(setUp, number, FIRST)))
  return oracle
}

function commit(oracle: Oracle, index: number, ...operations: Operation[]): void {
  const requests = operations.map(({ number, action }) => requestOf(must(action), number, FIRST))
  oracle.committed(index, entryOf(...requests))
}

const bump = (oracle: Oracle, key = 0): Operation => oracle.begin(FIRST, { type: 'bump', key })

function ok(index: number, ...row: SqlValue[]): Parameters<Oracle['answered']>[1] {
  return { type: 'ok', index, results: [{ rowsAffected: 1, rows: [row] }] }
}

function failed(code: ConstructorParameters<typeof DbError>[0]): Parameters<Oracle['answered']>[1] {
  return { type: 'failed', error: new DbError(code, 'no') }
}

/** Registers as rows: key, version, writer. */
const rows = (...registers: [bigint, bigint, bigint][]): Parameters<Oracle['read']>[1] => [
  { rowsAffected: 0, rows: registers },
]

test('an honest answer is taken: ok after the commit, with the version that was made', () => {
  const oracle = oracleWithDatabase()
  const operation = bump(oracle)
  commit(oracle, 3, operation)

  oracle.answered(operation, ok(3, 2n))

  assert.equal(operation.answer, 'ok')
})

test('an answer before the commit, for nothing committed, or with another version is found', () => {
  const oracle = oracleWithDatabase()
  const [early, lost, wrong] = [bump(oracle), bump(oracle), bump(oracle)]

  assert.throws(() => oracle.answered(early, ok(3, 2n)), FOUND)
  commit(oracle, 3, wrong)
  assert.throws(() => oracle.answered(lost, ok(3, 2n)), FOUND)
  assert.throws(() => oracle.answered(wrong, ok(3, 7n)), FOUND)
})

test('a write that was said not to be applied and is committed all the same is found', () => {
  const before = oracleWithDatabase()
  const first = bump(before)
  before.answered(first, failed('NOT_LEADER'))
  assert.throws(() => commit(before, 3, first), FOUND)

  const after = oracleWithDatabase()
  const second = bump(after)
  commit(after, 3, second)
  assert.throws(() => after.answered(second, failed('OVERLOADED')), FOUND)
})

test('a write of unknown fate may be committed, once', () => {
  const oracle = oracleWithDatabase()
  const operation = bump(oracle)
  oracle.answered(operation, failed('LEADERSHIP_LOST'))

  commit(oracle, 3, operation)

  assert.throws(() => commit(oracle, 4, operation), FOUND)
})

test('a name that is said to be taken must be taken in what is committed', () => {
  const oracle = oracleWithDatabase()
  const claim = (): Operation => oracle.begin(FIRST, { type: 'claim', name: 'x' })
  assert.throws(() => oracle.answered(claim(), failed('SQL_CONSTRAINT')), FOUND)

  commit(oracle, 3, claim())

  oracle.answered(claim(), failed('SQL_CONSTRAINT'))
})

test('a read older than it may be, of two moments at once, or of nothing committed is found', () => {
  const oracle = oracleWithDatabase()
  const [zero, one] = [bump(oracle, 0), bump(oracle, 1)]
  commit(oracle, 3, zero)
  commit(oracle, 4, one)
  const [old0, new0] = [[0n, 1n, 1n] as const, [0n, 2n, BigInt(zero.number)] as const]
  const [old1, new1] = [[1n, 1n, 1n] as const, [1n, 2n, BigInt(one.number)] as const]
  const read = (
    from: number,
    newest: number,
    ...registers: (readonly [bigint, bigint, bigint])[]
  ) => oracle.read({ database: FIRST, from, newest }, rows(...registers.map(([...row]) => row)))

  read(4, 4, new0, new1)
  read(0, 3, new0, old1)
  read(0, 2, old0, old1)

  assert.throws(() => read(4, 4, new0, old1), FOUND, 'older than asked')
  assert.throws(() => read(0, 4, old0, new1), FOUND, 'never at one moment')
  assert.throws(() => read(0, 4, [0n, 3n, 99n], new1), FOUND, 'never committed')
  assert.throws(() => read(0, 3, new0, new1), FOUND, 'newer than it says')
  assert.throws(() => read(0, 9, new0, new1), FOUND, 'of an entry that is not committed')
})

test('a database that is said to be missing must have been missing at some moment', () => {
  const oracle = oracleWithDatabase()
  oracle.missing('UNKNOWN_DATABASE', FIRST, 0)
  assert.throws(() => oracle.missing('UNKNOWN_DATABASE', FIRST, 1), FOUND)

  oracle.committed(3, entryOf({ type: 'drop-database', database: FIRST }))

  oracle.missing('UNKNOWN_DATABASE', FIRST, 1)
})

test('two digests of one database at one entry must be equal', () => {
  const oracle = oracleWithDatabase()
  oracle.digest(FIRST, 2, 'a')

  oracle.digest(FIRST, 2, 'a')

  assert.throws(() => oracle.digest(FIRST, 2, 'b'), FOUND)
})

interface FakeNode extends RaftView {
  term: number
  role: Role
  commitIndex: number
  appliedIndex: number
  readonly entries: Entry[]
}

const VOTERS = {
  voters: [1, 2, 3],
  learners: [],
  votersOutgoing: [],
  learnersNext: [],
  autoLeave: false,
}

function fakeNode(id: number): FakeNode {
  const entries: Entry[] = []
  return {
    id,
    term: 0,
    role: 'follower',
    commitIndex: 0,
    appliedIndex: 0,
    entries,
    lastIndex: () => entries.length,
    termAt: index => (index === 0 ? 0 : entries[index - 1]?.term),
    confState: () => VOTERS,
  }
}

/** Three nodes whose disks hold whatever their logs hold. */
function invariantsOf(): { invariants: RaftInvariants; nodes: FakeNode[] } {
  const nodes = [1, 2, 3].map(fakeNode)
  const disks = { durableTerm: (id: number, index: number) => nodes[id - 1]?.termAt(index) }
  const invariants = new RaftInvariants(new World(1), disks, { index: 0, term: 0 })
  for (const node of nodes) invariants.started(node)
  return { invariants, nodes }
}

function append(invariants: RaftInvariants, node: FakeNode, term: number, data = 0): void {
  const index = node.entries.length + 1
  const entry: Entry = { term, index, type: 'normal', data: Uint8Array.of(data) }
  node.entries.push(entry)
  invariants.appended(node, [entry], () => undefined)
}

function become(invariants: RaftInvariants, node: FakeNode, role: Role, term: number): void {
  node.role = role
  node.term = term
  invariants.observe(node)
}

test('two leaders of a term, two votes in a term, and a term that goes back are found', () => {
  const { invariants, nodes } = invariantsOf()
  const [first, second] = [must(nodes[0]), must(nodes[1])]
  become(invariants, first, 'leader', 2)
  assert.throws(() => become(invariants, second, 'leader', 2), FOUND)

  invariants.voted(3, 2, 1)
  invariants.voted(3, 2, 1)
  assert.throws(() => invariants.voted(3, 2, 2), FOUND)

  first.term = 1
  assert.throws(() => invariants.observe(first), FOUND)
})

test('the same node in a later life is another leader of the same term', () => {
  const { invariants, nodes } = invariantsOf()
  const first = must(nodes[0])
  become(invariants, first, 'leader', 2)
  first.role = 'follower'
  invariants.started(first)

  assert.throws(() => become(invariants, first, 'leader', 2), FOUND)
})

test('a commit of an older term, or on too few disks, or that differs, is found', () => {
  const older = invariantsOf()
  const leader = must(older.nodes[0])
  for (const node of older.nodes) append(older.invariants, node, 1)
  become(older.invariants, leader, 'leader', 2)
  leader.commitIndex = 1
  assert.throws(() => older.invariants.observe(leader), FOUND, 'of an older term')

  const few = invariantsOf()
  const lonely = must(few.nodes[0])
  become(few.invariants, lonely, 'leader', 1)
  append(few.invariants, lonely, 1)
  lonely.commitIndex = 1
  assert.throws(() => few.invariants.observe(lonely), FOUND, 'on one disk of three')

  append(few.invariants, must(few.nodes[1]), 1)
  few.invariants.observe(lonely)
  const third = must(few.nodes[2])
  append(few.invariants, third, 3, 9)
  third.commitIndex = 1
  assert.throws(() => few.invariants.observe(third), FOUND, 'another entry')
})

test('a new leader that lacks a committed entry is found', () => {
  const { invariants, nodes } = invariantsOf()
  const [first, second, third] = [must(nodes[0]), must(nodes[1]), must(nodes[2])]
  become(invariants, first, 'leader', 1)
  append(invariants, first, 1)
  append(invariants, second, 1)
  first.commitIndex = 1
  invariants.observe(first)

  assert.throws(() => become(invariants, third, 'leader', 2), FOUND)
})

test('two different entries at one index and term, or an applied one that differs, are found', () => {
  const { invariants, nodes } = invariantsOf()
  const [first, second] = [must(nodes[0]), must(nodes[1])]
  append(invariants, first, 1, 5)
  assert.throws(() => append(invariants, second, 1, 6), FOUND)

  const entry = must(first.entries[0])
  assert.throws(() => invariants.applied(2, entry, 0), FOUND, 'nobody committed it')
})

test('a Violation says what is broken', () => {
  const { invariants } = invariantsOf()
  invariants.voted(1, 4, 2)

  assert.throws(
    () => invariants.voted(1, 4, 3),
    (error: unknown) =>
      error instanceof Violation && error.message === 'vote twice: 1 voted for 2 and 3 in term 4',
  )
})

const ID = { type: 'session', session: { birth: 1, name: 7 }, sequence: 1 } as const

/** Commits an operation under the id, or what is given in its place. */
function commitWithId(oracle: Oracle, index: number, request?: WriteRequest): Operation {
  const operation = bump(oracle)
  const asked = requestOf(must(operation.action), operation.number, FIRST)
  oracle.committed(index, entryOf(request ?? { ...asked, id: ID }))
  return operation
}

const CANCEL: WriteRequest = { type: 'cancel', database: FIRST, id: ID }
const only = { id: ID, database: FIRST, isCancel: false, isOnly: true }
const oneOfMany = { ...only, isOnly: false }
const repeat = (index: number, ...row: SqlValue[]) =>
  ({ ...ok(index, ...row), isRepeat: true }) as ReturnType<typeof ok>

test('an id that comes again, is cancelled or expires in all honesty is taken', () => {
  const oracle = oracleWithDatabase()
  const operation = commitWithId(oracle, 3)
  assert(!oracle.identified(operation, oneOfMany, failed('LEADERSHIP_LOST')))
  assert(!oracle.identified(operation, oneOfMany, failed('SQL_CONSTRAINT')))
  assert(oracle.identified(operation, oneOfMany, ok(3, 2n)))
  assert(oracle.identified(operation, { ...oneOfMany, isCancel: true }, repeat(3, 2n)))
  assert(oracle.identified(operation, oneOfMany, failed('REQUEST_EXPIRED')))

  const cancelled = oracleWithDatabase()
  cancelled.committed(3, entryOf(CANCEL))
  assert(cancelled.identified(bump(cancelled), only, failed('REQUEST_CANCELLED')))
})

test('an id that takes effect twice is found, whatever the requests are', () => {
  for (const [first, second] of [
    [undefined, undefined],
    [undefined, CANCEL],
    [CANCEL, undefined],
    [CANCEL, CANCEL],
  ]) {
    const oracle = oracleWithDatabase()
    commitWithId(oracle, 3, first)
    assert.throws(() => commitWithId(oracle, 4, second), FOUND)
  }
})

test('lies about the fate of an id are found', () => {
  const lies: readonly (readonly [asked: typeof only, ...Parameters<typeof failed>])[] = [
    [only, 'SQL_CONSTRAINT'],
    [only, 'REQUEST_EXPIRED'],
    [oneOfMany, 'REQUEST_CANCELLED'],
    [oneOfMany, 'REQUEST_ID_REUSED'],
  ]
  for (const [asked, code] of lies) {
    const oracle = oracleWithDatabase()
    const operation = commitWithId(oracle, 3)
    assert.throws(() => oracle.identified(operation, asked, failed(code)), FOUND, code)
  }
  const oracle = oracleWithDatabase()
  const operation = bump(oracle)
  assert.throws(() => oracle.identified(operation, only, failed('REQUEST_CANCELLED')), FOUND)
  assert.throws(() => oracle.identified(operation, only, ok(2, 2n)), FOUND)
})

test('what was denied must never take effect', () => {
  const oracle = oracleWithDatabase()
  const operation = bump(oracle)
  assert(oracle.identified(operation, only, failed('OVERLOADED')))
  const request = requestOf(must(operation.action), operation.number, FIRST)
  assert.throws(() => oracle.committed(3, entryOf({ ...request, id: ID })), FOUND)
})

test('a second answer must be the first one again, and say so', () => {
  for (const second of [repeat(3, 3n), ok(3, 2n)]) {
    const oracle = oracleWithDatabase()
    const operation = commitWithId(oracle, 3)
    oracle.identified(operation, oneOfMany, ok(3, 2n))
    assert.throws(() => oracle.identified(operation, oneOfMany, second), FOUND)
  }
})
