/** The door of the core: what a Ready holds and when, in both modes of storage. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  LOCAL_APPEND,
  LOCAL_APPLY,
  type Message,
  NO_LIMIT,
  type Ready,
  createMessage,
} from '../../src/raft/types.ts'
import {
  TestNode,
  acknowledge,
  bytes,
  change,
  elect,
  entry,
  followerIn,
  leaderOf,
  learnerStep,
  log,
  outline,
  snapshotAt,
  storageWith,
  text,
} from './kit.ts'

test('a node with nothing to do has no Ready', () => {
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3] }))
  assert.equal(node.raw.hasReady(), false)
  const ready = node.raw.ready()
  assert.deepEqual(ready, {
    entries: [],
    readStates: [],
    committedEntries: [],
    messages: [],
    mustSync: false,
  })
})

test('a Ready must be flushed if term, vote or entries changed, not if only the commit index did', () => {
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3] }))
  node.receive({ type: 'heartbeat', from: 2, term: 1 })
  assert.equal(takeReady(node).mustSync, true, 'the term')
  node.raw.forgetLeader()
  node.receive({ type: 'vote', from: 3, term: 1 })
  assert.equal(takeReady(node).mustSync, true, 'the vote')
  node.receive({ type: 'append', from: 3, term: 1, entries: [entry(1, 1)] })
  assert.equal(takeReady(node).mustSync, true, 'an entry')
  node.receive({ type: 'heartbeat', from: 3, term: 1, commit: 1 })
  const last = takeReady(node)
  assert.equal(last.mustSync, false)
  assert.deepEqual(last.hardState, { term: 1, vote: 3, commit: 1 })
  assert.equal(node.raw.hasReady(), false)
})

function takeReady(node: TestNode): Ready {
  const ready = node.raw.ready()
  node.store(ready)
  node.apply(ready.committedEntries)
  node.raw.advance()
  return ready
}

test('in synchronous mode a node may store and apply in one Ready', () => {
  const node = new TestNode(1, storageWith({ voters: [1, 2, 3] }))
  node.receive({ type: 'append', from: 2, term: 1, entries: [entry(1, 1, 'a')], commit: 1 })
  const ready = node.raw.ready()
  assert.deepEqual(ready.entries, ready.committedEntries)
})

test('a Ready is to be finished before the next, and only in synchronous mode by advance', () => {
  const node = leaderOf(1)
  node.raw.ready()
  assert.throws(() => node.raw.ready(), /twice without advance/)
  const other = leaderOf(1, { asyncStorageWrites: false })
  other.flush()
  const asynchronous = asyncNode([1])
  assert.throws(() => asynchronous.raw.advance(), /no meaning/)
})

test('what was applied before a restart is not handed out again', () => {
  const hardState = { term: 1, vote: 0, commit: 3 }
  const storage = storageWith({ voters: [1], entries: log(1, 1, 1), hardState })
  const node = new TestNode(1, storage, { appliedIndex: 2 })
  node.flush()
  assert.deepEqual(
    node.applied.map(one => one.index),
    [3],
  )
})

test('proposals of a batch stand together, and a leader knows where', () => {
  const leader = leaderOf(1)
  leader.flush()
  const result = leader.raw.proposeBatch([bytes('a'), bytes('b')])
  assert.deepEqual(result, { type: 'appended', firstIndex: 2, lastIndex: 3, term: 1 })
  leader.flush()
  assert.deepEqual(
    leader.applied.map(one => text(one.data)),
    ['', 'a', 'b'],
  )
})

test('proposals are dropped while too much is uncommitted, and taken again once it is applied', () => {
  const leader = leaderOf(3, { maxUncommittedBytes: 10 })
  leader.flush()
  // The first one may be as large as it likes, or it could never be made.
  assert.equal(leader.raw.propose(bytes('more than ten bytes')).type, 'appended')
  const dropped = leader.raw.propose(bytes('x'))
  assert.deepEqual(dropped, { type: 'dropped', reason: 'too-much-uncommitted' })
  assert.equal(
    leader.raw.propose(new Uint8Array(0)).type,
    'appended',
    'empty ones are always taken',
  )
  assert.equal(leader.raw.proposeConfChange(change([])).type, 'appended')

  leader.receive({ type: 'append-response', from: 2, term: 1, index: 4 })
  leader.flush()
  assert.equal(leader.raw.propose(bytes('12345')).type, 'appended')
  assert.equal(leader.raw.propose(bytes('12345')).type, 'appended')
  assert.equal(leader.raw.propose(bytes('1')).type, 'dropped')
})

test('what counts as uncommitted neither leaks nor grows over many proposals and terms', () => {
  const leader = leaderOf(2, { maxUncommittedBytes: 10 })
  for (let round = 0; round < 50; round++) {
    const result = leader.raw.propose(bytes('123456789'))
    assert.equal(result.type, 'appended', `round ${round}`)
    acknowledge(leader, leader.flush())
    const index = leader.raw.log.lastIndex()
    leader.receive({ type: 'append-response', from: 2, term: leader.status.term, index })
    leader.flush()
    if (round % 10 === 9) {
      leader.receive({ type: 'heartbeat', from: 2, term: leader.status.term + 1 })
      elect(leader)
    }
  }
})

test('messages that only its own storage may send are refused from others', () => {
  const node = leaderOf(3)
  const stepped = (fields: Partial<Message>): string =>
    node.raw.step(createMessage({ type: 'append', to: 1, ...fields }))
  assert.equal(stepped({ type: 'storage-append-response', from: 2, index: 1 }), 'local-message')
  assert.equal(stepped({ type: 'storage-apply-response', from: 2 }), 'local-message')
})

test('answers of strangers are refused, their requests are not', () => {
  const node = leaderOf(3)
  const stepped = (fields: Partial<Message>): string =>
    node.raw.step(createMessage({ type: 'append', to: 1, ...fields }))
  for (const type of ['append-response', 'vote-response', 'heartbeat-response'] as const) {
    assert.equal(stepped({ type, from: 9, term: 9 }), 'unknown-peer', type)
  }
  assert.equal(node.status.term, 1)
  assert.equal(stepped({ type: 'vote', from: 9, term: 9 }), 'done')
  assert.equal(node.status.term, 9)
})

test('a proposal that was passed on and is dropped says so', () => {
  const node = followerIn(1)
  node.raw.forgetLeader()
  const message = createMessage({ type: 'propose', from: 3, to: 1, entries: [entry(0, 0, 'x')] })
  assert.equal(node.raw.step(message), 'proposal-dropped')
})

test('a node that can not be reached is probed again', () => {
  const leader = leaderOf(2)
  acknowledge(leader, leader.flush())
  leader.flush()
  leader.raw.propose(bytes('x'))
  leader.flush()
  assert.equal(leader.status.progress.get(2)?.next, 3)
  leader.raw.reportUnreachable(2)
  leader.raw.reportUnreachable(9)
  const progress = leader.status.progress.get(2)
  assert.deepEqual([progress?.state, progress?.next, progress?.inflightCount], ['probe', 2, 0])
})

test('a status is a copy', () => {
  const leader = leaderOf(2)
  const before = leader.status
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 1 })
  assert.equal(before.progress.get(2)?.match, 0)
  assert.equal(leader.status.progress.get(2)?.match, 1)
  assert.equal(followerIn(1).status.progress.size, 0)
})

test('every message has the same shape, so that readers of it stay fast', () => {
  const keys = Object.keys(createMessage({ type: 'append', to: 2 }))
  assert.deepEqual(Object.keys(createMessage({ to: 9, type: 'vote', reject: true })), keys)
})

/** A node whose storage work is done by hand. */
function asyncNode(voters: number[], entries: number[] = []): TestNode {
  const stored = { voters, entries: log(...entries) }
  return new TestNode(1, storageWith(stored), { asyncStorageWrites: true })
}

/** The work for a thread in a Ready. */
function workFor(thread: number, ready: Ready): Message | undefined {
  return ready.messages.find(message => message.to === thread)
}

/** Stores what a storage message says and delivers its responses; returns those to others. */
function finish(node: TestNode, work: Message | undefined): Message[] {
  assert(work !== undefined)
  const { term, vote, commit, entries, snapshot } = work
  node.store({
    ...(term > 0 ? { hardState: { term, vote, commit } } : {}),
    entries,
    ...(snapshot === undefined ? {} : { snapshot }),
  })
  const responses = work.responses ?? []
  for (const response of responses) if (response.to === node.id) node.raw.step(response)
  return responses.filter(response => response.to !== node.id)
}

test('asynchronously, a vote leaves only with the report that it is stored', () => {
  const node = asyncNode([1, 2, 3])
  node.receive({ type: 'vote', from: 2, term: 1 })
  const ready = node.raw.ready()

  assert.deepEqual(
    ready.messages.map(message => message.to),
    [LOCAL_APPEND],
  )
  const work = workFor(LOCAL_APPEND, ready)
  assert.deepEqual([work?.term, work?.vote, work?.commit], [1, 2, 0])
  assert.deepEqual(outline(finish(node, work)), ['vote-response->2'])
  assert.equal(node.raw.hasReady(), false)
})

test('asynchronously, a candidate counts its own vote only once it is stored', () => {
  const node = asyncNode([1, 2, 3])
  node.raw.campaign()
  const work = workFor(LOCAL_APPEND, node.raw.ready())
  node.receive({ type: 'vote-response', from: 2, term: 1 })
  assert.equal(node.role, 'candidate')
  finish(node, work)
  assert.equal(node.role, 'leader')
})

test('asynchronously, a lone leader commits nothing before its own disk has it', () => {
  const node = asyncNode([1])
  node.raw.campaign()
  finish(node, workFor(LOCAL_APPEND, node.raw.ready()))
  assert.equal(node.role, 'leader')
  node.raw.propose(bytes('x'))
  const ready = node.raw.ready()
  assert.equal(node.status.commit, 0)
  assert.equal(workFor(LOCAL_APPLY, ready), undefined)

  finish(node, workFor(LOCAL_APPEND, ready))
  assert.equal(node.status.commit, 2)
  const apply = workFor(LOCAL_APPLY, node.raw.ready())
  assert.deepEqual(
    apply?.entries.map(one => one.index),
    [1, 2],
  )
  assert.equal(node.status.applied, 0)
  finish(node, { ...(apply ?? createMessage({ type: 'storage-apply', to: 0 })), entries: [] })
  assert.equal(node.status.applied, 2)
})

test('asynchronously, entries are applied only when they are stored here', () => {
  const node = asyncNode([1, 2, 3])
  node.receive({ type: 'append', from: 2, term: 1, entries: [entry(1, 1, 'a')], commit: 1 })
  const ready = node.raw.ready()
  assert.equal(node.status.commit, 1)
  assert.equal(workFor(LOCAL_APPLY, ready), undefined)
  finish(node, workFor(LOCAL_APPEND, ready))
  assert.equal(workFor(LOCAL_APPLY, node.raw.ready())?.entries.length, 1)
})

test('asynchronously, writes are pipelined and answered in order', () => {
  const node = asyncNode([1, 2, 3])
  const works: (Message | undefined)[] = []
  for (const index of [1, 2, 3]) {
    const previous = { index: index - 1, logTerm: index > 1 ? 1 : 0 }
    node.receive({ type: 'append', from: 2, term: 1, ...previous, entries: [entry(1, index)] })
    works.push(workFor(LOCAL_APPEND, node.raw.ready()))
  }
  assert.deepEqual(
    works.map(work => work?.entries.map(one => one.index)),
    [[1], [2], [3]],
  )
  const acknowledged = works.flatMap(work => finish(node, work).map(message => message.index))
  assert.deepEqual(acknowledged, [1, 2, 3])
  assert.equal(node.raw.hasReady(), false)
})

test('asynchronously, a rejection waits, too, for what it rests on', () => {
  const node = asyncNode([1, 2, 3])
  node.receive({ type: 'append', from: 2, term: 1, index: 7, logTerm: 1 })
  const ready = node.raw.ready()
  assert.equal(ready.messages.filter(message => message.to > 0).length, 0)
  const [answer] = finish(node, workFor(LOCAL_APPEND, ready))
  assert.deepEqual([answer?.reject, answer?.rejectHint], [true, 0])
})

test('a late report of entries that were overwritten stores nothing (ABA)', () => {
  // Entries 1/1 are being written; a leader of term 2 replaces them, and one of term 3 brings them back.
  const node = asyncNode([1, 2, 3])
  const twice = [entry(1, 1, 'a'), entry(1, 2, 'b')]
  node.receive({ type: 'append', from: 2, term: 1, entries: twice })
  const first = workFor(LOCAL_APPEND, node.raw.ready())
  node.receive({ type: 'append', from: 3, term: 2, entries: [entry(2, 1, 'c')] })
  const second = workFor(LOCAL_APPEND, node.raw.ready())
  node.receive({ type: 'append', from: 2, term: 3, entries: twice })
  const third = workFor(LOCAL_APPEND, node.raw.ready())

  const readLog = (): string => node.entries.map(one => text(one.data)).join('')
  finish(node, first)
  assert.equal(readLog(), 'ab', 'the disk has ab, but c is on its way to overwrite it')
  finish(node, second)
  assert.equal(readLog(), 'ab', 'the disk has only c now: the log must still be read from memory')
  finish(node, third)
  assert.equal(readLog(), 'ab')
  assert.deepEqual(node.storage.entries(1, 3, NO_LIMIT), twice)
})

test('after a change of term, stored entries are still reported as stable', () => {
  const node = asyncNode([1, 2, 3])
  node.receive({ type: 'append', from: 2, term: 1, entries: [entry(1, 1)] })
  const write = workFor(LOCAL_APPEND, node.raw.ready())
  node.receive({ type: 'heartbeat', from: 3, term: 2 })
  const termWrite = workFor(LOCAL_APPEND, node.raw.ready())
  finish(node, write)
  finish(node, termWrite)
  node.receive({ type: 'heartbeat', from: 3, term: 2, commit: 1 })
  assert.equal(workFor(LOCAL_APPLY, node.raw.ready())?.entries.length, 1)
})

test('the leader’s own late acknowledgement of an earlier term counts for nothing', () => {
  const node = asyncNode([1, 2, 3])
  node.raw.campaign()
  finish(node, workFor(LOCAL_APPEND, node.raw.ready()))
  node.receive({ type: 'vote-response', from: 2, term: 1 })
  const ownEntry = workFor(LOCAL_APPEND, node.raw.ready())
  // Another leader replaces that entry; then this node leads again.
  node.receive({ type: 'append', from: 2, term: 2, entries: [entry(2, 1, 'other')] })
  const replaced = workFor(LOCAL_APPEND, node.raw.ready())
  node.raw.campaign()
  const vote = workFor(LOCAL_APPEND, node.raw.ready())
  node.receive({ type: 'vote-response', from: 3, term: 3 })
  assert.equal(node.role, 'candidate', 'its own vote is not stored')
  for (const work of [ownEntry, replaced, vote]) finish(node, work)
  assert.equal(node.role, 'leader')
  assert.equal(node.status.progress.get(1)?.match, 1)
  assert.equal(node.status.commit, 0)
})

test('asynchronously, a snapshot is installed once, also if the term changes meanwhile', () => {
  const node = asyncNode([1, 2, 3])
  const snapshot = snapshotAt(9, 1, [1, 2, 3])
  node.receive({ type: 'snapshot', from: 2, term: 1, snapshot })
  const work = workFor(LOCAL_APPEND, node.raw.ready())
  assert.equal(work?.snapshot, snapshot)
  node.receive({ type: 'heartbeat', from: 3, term: 2 })
  const [acknowledgement] = finish(node, work)

  assert.deepEqual([acknowledgement?.index, acknowledgement?.term], [9, 1])
  assert.deepEqual([node.status.applied, node.status.commit], [9, 9])
  assert.equal(node.raw.ready().snapshot, undefined)
})

test('asynchronously, applying pauses at its limit until something is applied', () => {
  const options = { asyncStorageWrites: true, maxCommittedSizePerReadyBytes: 1 }
  const hardState = { term: 1, vote: 0, commit: 3 }
  const storage = storageWith({ voters: [1, 2, 3], entries: log(1, 1, 1), hardState })
  const node = new TestNode(1, storage, options)
  const handedOut: number[] = []
  for (let round = 0; round < 3; round++) {
    const work = workFor(LOCAL_APPLY, node.raw.ready())
    handedOut.push(...(work?.entries.map(one => one.index) ?? []))
    assert.equal(workFor(LOCAL_APPLY, node.raw.ready()), undefined)
    for (const response of work?.responses ?? []) node.raw.step(response)
  }
  assert.deepEqual(handedOut, [1, 2, 3])
  assert.equal(node.status.commit, 3)
})

test('a membership change takes effect when it is applied, not when it is committed', () => {
  const leader = leaderOf(1)
  leader.flush()
  leader.raw.proposeConfChange(change([learnerStep(2)]))
  takeReady(leader)
  assert.equal(leader.status.commit, 2)
  assert.deepEqual(leader.status.confState.learners, [])
  takeReady(leader)
  assert.deepEqual(leader.status.confState.learners, [2])
})

test('the log can be looked at', () => {
  const leader = leaderOf(1)
  leader.flush()
  const { log: view } = leader.raw
  assert.deepEqual([view.firstIndex(), view.lastIndex(), view.term(1), view.applied], [1, 1, 1, 1])
})
