/**
 * Log replication as the Raft thesis has it (sections 3.5, 3.6.2 and 10.2). Each test quotes the
 * sentence it checks.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Message, NO_LIMIT } from '../../src/raft/types.ts'
import {
  Cluster,
  acknowledge,
  bytes,
  entry,
  followerIn,
  leaderOf,
  log,
  outline,
  snapshotAt,
} from './kit.ts'

function appends(messages: readonly Message[]): Message[] {
  return messages.filter(message => message.type === 'append')
}

// 3.5: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in
// parallel to each of the other servers to replicate the entry."
test('a leader appends a proposal in its term and sends it to everybody at once', () => {
  const leader = leaderOf(3)
  acknowledge(leader, leader.flush())
  leader.flush()

  const result = leader.raw.propose(bytes('x'))
  const messages = leader.flush()

  assert.deepEqual(result, { type: 'appended', firstIndex: 2, lastIndex: 2, term: 1 })
  assert.deepEqual(outline(messages), ['append->2', 'append->3'])
  for (const message of messages) {
    assert.deepEqual(message.entries, [entry(1, 2, 'x')])
    assert.deepEqual([message.index, message.logTerm, message.commit], [1, 1, 1])
  }
})

// 3.5: "A log entry is committed once the leader that created the entry has replicated it on a
// majority of the servers".
test('an entry is committed when a majority has it, and not before', () => {
  const cases = [
    { count: 1, answers: [], isCommitted: true },
    { count: 2, answers: [], isCommitted: false },
    { count: 2, answers: [2], isCommitted: true },
    { count: 3, answers: [], isCommitted: false },
    { count: 3, answers: [3], isCommitted: true },
    { count: 4, answers: [2], isCommitted: false },
    { count: 4, answers: [2, 4], isCommitted: true },
    { count: 5, answers: [2], isCommitted: false },
    { count: 5, answers: [2, 5], isCommitted: true },
  ]
  for (const { count, answers, isCommitted } of cases) {
    const leader = leaderOf(count)
    leader.raw.propose(bytes('x'))
    leader.flush()
    for (const from of answers) {
      leader.receive({ type: 'append-response', from, term: 1, index: 2 })
    }
    const name = `${count} nodes, answers of ${answers.join()}`
    assert.equal(leader.status.commit, isCommitted ? 2 : 0, name)
    leader.flush()
    assert.equal(leader.applied.length, isCommitted ? 2 : 0, name)
  }
})

// 3.5: "This also commits all preceding entries in the leader's log, including entries created by
// previous leaders."
test('committing an entry commits and applies all before it, in order', () => {
  const leader = leaderOf(3, {}, { entries: log(1, 2), hardState: { term: 2, vote: 0, commit: 0 } })
  leader.raw.propose(bytes('x'))
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 3, index: 4 })
  leader.flush()

  assert.deepEqual(
    leader.applied.map(one => [one.term, one.index]),
    [
      [1, 1],
      [2, 2],
      [3, 3],
      [3, 4],
    ],
  )
})

// 3.5: "The leader keeps track of the highest index it knows to be committed, and it includes that
// index in future AppendEntries RPCs (including heartbeats) so that the other servers eventually find
// out."
test('followers learn what is committed and apply it', () => {
  const follower = followerIn(1)
  const entries = [entry(1, 1, 'a'), entry(1, 2, 'b')]
  follower.receive({ type: 'append', from: 2, term: 1, entries })
  follower.flush()
  assert.equal(follower.applied.length, 0)

  follower.receive({ type: 'heartbeat', from: 2, term: 1, commit: 1 })
  follower.flush()
  assert.deepEqual(follower.applied, entries.slice(0, 1))
  follower.receive({ type: 'append', from: 2, term: 1, index: 2, logTerm: 1, commit: 2 })
  follower.flush()
  assert.deepEqual(follower.applied, entries)
})

test('a leader tells followers of a commit as soon as they can use it', () => {
  const leader = leaderOf(3)
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 1 })

  const news = appends(leader.flush())
  assert.deepEqual(
    news.map(message => [message.to, message.commit, message.entries.length]),
    [[2, 1, 0]],
    'node 3 is still probed and has a message to answer',
  )
})

// 3.5: "If followers crash or run slowly, or if network packets are lost, the leader retries
// AppendEntries RPCs indefinitely".
test('a follower that missed entries gets them when it is heard again', () => {
  const cluster = Cluster.of(3)
  cluster.campaign(1)
  cluster.isolate(3)
  for (const data of ['a', 'b', 'c']) cluster.propose(1, data)
  cluster.tick(1, 20)
  assert.equal(cluster.node(3).entries.length, 1)
  cluster.heal()
  cluster.tick(1, 2)

  assert.deepEqual(cluster.node(3).entries, cluster.node(1).entries)
  assert.equal(cluster.node(3).applied.length, 4)
})

// 3.5: "If two entries in different logs have the same index and term, then the logs are identical in
// all preceding entries."
test('a follower accepts entries only after one of the same index and term', () => {
  const cases = [
    { logTerm: 0, index: 0, isAccepted: true },
    { logTerm: 1, index: 1, isAccepted: true },
    { logTerm: 2, index: 2, isAccepted: true },
    { logTerm: 1, index: 2, isAccepted: false },
    { logTerm: 3, index: 3, isAccepted: false },
    { logTerm: 2, index: 3, isAccepted: false },
  ]
  for (const { logTerm, index, isAccepted } of cases) {
    const follower = followerIn(3, {}, { entries: log(1, 2) })
    follower.receive({ type: 'append', from: 2, term: 3, logTerm, index, entries: [] })
    const [answer] = follower.flush()
    assert.equal(answer?.reject, !isAccepted, `${logTerm}/${index}`)
    assert.equal(answer?.index, index)
  }
})

// 3.5: "In Raft, the leader handles inconsistencies by forcing the followers' logs to duplicate its
// own. This means that conflicting entries in follower logs will be overwritten with entries from the
// leader's log."
test('whatever a follower’s log is like, it becomes the leader’s', () => {
  const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
  // Figure 3.6 of the thesis: (a) to (f).
  const followers = [
    [1, 1, 1, 4, 4, 5, 5, 6, 6],
    [1, 1, 1, 4],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    [1, 1, 1, 4, 4, 4, 4],
    [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
  ]
  for (const terms of followers) {
    const hardState = { term: 7, vote: 0, commit: 0 }
    const cluster = Cluster.of(3, {}, [
      { entries: log(...leaderTerms), hardState },
      { entries: log(...terms), hardState },
      { entries: log(...leaderTerms), hardState },
    ])
    // Node 3 votes for it even where node 2 would not.
    cluster.campaign(1)
    cluster.propose(1, 'x')

    assert.deepEqual(cluster.node(2).entries, cluster.node(1).entries, terms.join())
    assert.deepEqual(cluster.node(2).terms, [...leaderTerms, 8, 8], terms.join())
    assert.deepEqual(cluster.node(2).applied, cluster.node(1).applied, terms.join())
  }
})

test('entries are cut off only where they conflict: an old message takes nothing away', () => {
  const follower = followerIn(1)
  const entries = [entry(1, 1), entry(1, 2), entry(1, 3)]
  follower.receive({ type: 'append', from: 2, term: 1, entries })
  follower.flush()

  follower.receive({ type: 'append', from: 2, term: 1, entries: entries.slice(0, 1) })
  const [answer] = follower.flush()

  assert.deepEqual(follower.entries, entries)
  assert.equal(answer?.index, 1)
})

// Receiver's rules in figure 3.1: "If leaderCommit > commitIndex, set commitIndex =
// min(leaderCommit, index of last new entry)".
test('a follower commits no further than the entries it knows to be the leader’s', () => {
  const cases = [
    { index: 1, entries: [], leaderCommit: 1, commit: 1 },
    { index: 1, entries: [], leaderCommit: 3, commit: 1 },
    { index: 1, entries: [entry(1, 2)], leaderCommit: 3, commit: 2 },
    { index: 2, entries: [], leaderCommit: 3, commit: 2 },
    { index: 2, entries: [entry(2, 3)], leaderCommit: 9, commit: 3 },
  ]
  for (const { index, entries, leaderCommit, commit } of cases) {
    // The entry 3 of term 1 is a deposed leader's and in no quorum.
    const follower = followerIn(2, {}, { entries: log(1, 1, 1) })
    const fields = { type: 'append', from: 2, term: 2, logTerm: 1 } as const
    follower.receive({ ...fields, index, entries, commit: leaderCommit })
    assert.equal(follower.status.commit, commit, `${index} +${entries.length} ${leaderCommit}`)
  }
})

test('a heartbeat commits only what the leader knows that follower to have', () => {
  const leader = leaderOf(3)
  acknowledge(leader, leader.flush())
  leader.raw.propose(bytes('x'))
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 2 })
  leader.flush()

  leader.ticks(1)
  const commits = leader.flush().map(message => [message.to, message.commit])
  assert.deepEqual(commits, [
    [2, 2],
    [3, 1],
  ])
})

test('an append that begins before the commit index is answered with the commit index', () => {
  const hardState = { term: 2, vote: 0, commit: 2 }
  const follower = followerIn(2, {}, { entries: log(1, 1, 1), hardState })
  follower.receive({ type: 'append', from: 2, term: 2, index: 1, logTerm: 9, entries: [] })
  const [answer] = follower.flush()
  assert.deepEqual([answer?.reject, answer?.index], [false, 2])
})

test('an entry before the first one that is still there can be matched, earlier ones never are', () => {
  const follower = followerIn(2)
  follower.receive({ type: 'snapshot', from: 2, term: 2, snapshot: snapshotAt(5, 2, [1, 2, 3]) })
  follower.flush()
  assert.equal(follower.raw.log.firstIndex(), 6)
  follower.receive({
    type: 'append',
    from: 2,
    term: 2,
    index: 5,
    logTerm: 2,
    entries: [entry(2, 6)],
  })
  assert.deepEqual(
    follower.flush().map(message => [message.index, message.reject]),
    [[6, false]],
  )
})

// 3.6.2: "only log entries from the leader's current term are committed by counting replicas; once an
// entry from the current term has been committed in this way, then all prior entries are committed
// indirectly".
test('a leader does not commit entries of earlier terms by counting', () => {
  const cases = [
    { index: 1, commit: 0 },
    { index: 2, commit: 0 },
    { index: 3, commit: 3 },
  ]
  for (const { index, commit } of cases) {
    const hardState = { term: 2, vote: 0, commit: 0 }
    const leader = leaderOf(3, {}, { entries: log(1, 2), hardState })
    leader.flush()
    leader.receive({ type: 'append-response', from: 2, term: 3, index })
    assert.equal(leader.status.commit, commit, `acknowledged ${index}`)
  }
})

// Figure 3.7: an entry of an old term on a majority can still be overwritten.
test('figure 3.7: an entry of term 2 on a majority is not committed by the leader of term 4', () => {
  const five = { maxSizePerMessageBytes: 0 }
  const cluster = Cluster.of(5, five, [
    { entries: log(1, 2), hardState: { term: 3, vote: 0, commit: 1 } },
    { entries: log(1, 2), hardState: { term: 3, vote: 0, commit: 1 } },
    { entries: log(1), hardState: { term: 3, vote: 0, commit: 1 } },
    { entries: log(1), hardState: { term: 3, vote: 0, commit: 1 } },
    { entries: log(1, 3), hardState: { term: 3, vote: 5, commit: 1 } },
  ])
  // Node 1 leads term 4 and brings the entry of term 2 to node 3, one entry a message; its own first
  // entry is stored by nobody else.
  cluster.isLost = message =>
    message.to === 5 ||
    message.from === 5 ||
    (message.to === 4 && message.type === 'append') ||
    (message.index === 2 && cluster.node(message.to).terms.length === 2)
  cluster.campaign(1)
  assert.deepEqual(cluster.leaders, [1])
  assert.deepEqual(cluster.node(3).terms, [1, 2])
  assert.equal(cluster.node(1).status.commit, 1, 'on a majority, and yet not committed')

  // Node 5 wins term 5 with the votes of 3 and 4 and overwrites it.
  cluster.isLost = message => [1, 2].includes(message.from) || [1, 2].includes(message.to)
  cluster.campaign(5)
  cluster.campaign(5)
  assert.equal(cluster.node(5).role, 'leader')
  assert.deepEqual(cluster.node(3).terms, [1, 3, 5])
  assert.equal(cluster.node(5).status.commit, 3)

  cluster.heal()
  cluster.tick(5, 2)
  assert.deepEqual(cluster.node(1).terms, [1, 3, 5])
})

test('once the own first entry is on a majority, everything before it is committed', () => {
  const hardState = { term: 3, vote: 0, commit: 1 }
  const cluster = Cluster.of(3, { maxSizePerMessageBytes: 0 }, [
    { entries: log(1, 2), hardState },
    { entries: log(1), hardState },
    { entries: log(1), hardState },
  ])
  cluster.campaign(1)
  assert.equal(cluster.node(1).status.commit, 3)
  assert.deepEqual(cluster.node(2).terms, [1, 2, 4])
})

// 10.2.1: "the leader uses its own match index to indicate the latest entry to have been durably
// written to its disk."
test('a leader counts its own copy only when it is stored', () => {
  const leader = leaderOf(2)
  acknowledge(leader, leader.flush())
  leader.raw.propose(bytes('x'))

  const ready = leader.raw.ready()
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 2 })
  assert.equal(leader.status.commit, 1, 'one of two copies is stored')
  leader.store(ready)
  leader.raw.advance()

  assert.equal(leader.status.commit, 2)
})

// 10.2.1: "The leader may even commit an entry before it has been written to its own disk, if a
// majority of followers have written it to their disks; this is still safe."
test('a leader commits what a majority of others has stored, whatever its own disk does', () => {
  const leader = leaderOf(3)
  acknowledge(leader, leader.flush())
  leader.raw.propose(bytes('x'))
  leader.raw.ready()

  for (const from of [2, 3]) leader.receive({ type: 'append-response', from, term: 1, index: 2 })
  assert.equal(leader.status.commit, 2)
})

// 10.2.2 (pipelining): the leader moves on to the next entries before it has heard of the last ones.
test('entries are pipelined up to the window, and the window moves with the answers', () => {
  const leader = leaderOf(2, { maxInflightMessages: 3, maxSizePerMessageBytes: 0 })
  acknowledge(leader, leader.flush())
  leader.flush()
  for (let count = 0; count < 5; count++) leader.raw.propose(bytes('x'))
  const sent = appends(leader.flush())

  assert.deepEqual(
    sent.map(message => message.index + 1),
    [2, 3, 4],
  )
  assert.equal(leader.status.progress.get(2)?.isPaused, true)
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 3 })
  const more = appends(leader.flush()).filter(message => message.entries.length > 0)
  assert.deepEqual(
    more.map(message => message.index + 1),
    [5, 6],
  )
})

test('the window is bounded by bytes, too', () => {
  const options = { maxInflightBytes: 10, maxSizePerMessageBytes: 0 }
  const leader = leaderOf(2, options)
  acknowledge(leader, leader.flush())
  leader.flush()
  for (let count = 0; count < 5; count++) leader.raw.propose(bytes('12345'))

  assert.deepEqual(
    appends(leader.flush()).map(message => message.index + 1),
    [2, 3],
  )
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 3 })
  const more = appends(leader.flush()).filter(message => message.entries.length > 0)
  assert.deepEqual(
    more.map(message => message.index + 1),
    [4, 5],
    'both were freed, none leaked',
  )
})

test('if all messages of a full window are lost, heartbeats find out', () => {
  const leader = leaderOf(2, { maxInflightMessages: 2, maxSizePerMessageBytes: NO_LIMIT })
  acknowledge(leader, leader.flush())
  leader.flush()
  for (let count = 0; count < 4; count++) leader.raw.propose(bytes('x'))
  leader.flush()

  leader.receive({ type: 'heartbeat-response', from: 2, term: 1 })
  const [probe, ...rest] = appends(leader.flush())
  assert.deepEqual([probe?.index, probe?.entries.length, rest.length], [3, 0, 0])
  leader.receive({
    type: 'append-response',
    from: 2,
    term: 1,
    index: 3,
    reject: true,
    rejectHint: 1,
    logTerm: 1,
  })
  const [again] = appends(leader.flush())

  assert.deepEqual([again?.index, again?.entries.length], [1, 4])
})

test('a follower that is probed is sent one message for each heartbeat answered', () => {
  const leader = leaderOf(2)
  leader.flush()
  for (let count = 0; count < 3; count++) leader.raw.propose(bytes('x'))
  assert.deepEqual(appends(leader.flush()), [])
  leader.receive({ type: 'heartbeat-response', from: 2, term: 1 })
  assert.equal(appends(leader.flush()).length, 1)
  assert.deepEqual(appends(leader.flush()), [])
})

test('a fully caught-up follower that is probed is found out by one empty message', () => {
  const leader = leaderOf(2)
  acknowledge(leader, leader.flush())
  leader.flush()
  leader.raw.reportUnreachable(2)
  assert.equal(leader.status.progress.get(2)?.state, 'probe')
  leader.receive({ type: 'heartbeat-response', from: 2, term: 1 })
  acknowledge(leader, leader.flush())
  assert.equal(leader.status.progress.get(2)?.state, 'replicate')
})

test('a follower that acknowledges late is told what is committed meanwhile', () => {
  const leader = leaderOf(3)
  acknowledge(leader, leader.flush())
  leader.raw.propose(bytes('x'))
  leader.flush()
  leader.receive({ type: 'append-response', from: 2, term: 1, index: 2 })
  leader.flush()
  // The commit index sent with that is lost for node 3, as a heartbeat's lower one shows.
  leader.ticks(1)
  leader.flush()
  leader.receive({ type: 'append-response', from: 3, term: 1, index: 2 })
  const news = appends(leader.flush()).map(message => [message.to, message.commit])
  assert.deepEqual(news, [[3, 2]])
})

// 3.5: "the follower can include the term of the conflicting entry [...] With this information, the
// leader can decrement nextIndex to bypass all of the conflicting entries in that term".
test('a leader skips whole terms when a follower rejects', () => {
  const hardState = { term: 5, vote: 0, commit: 0 }
  const entries = log(1, 3, 3, 3, 5, 5, 5, 5, 5)
  const leader = leaderOf(2, {}, { entries, hardState })
  leader.flush()
  // The follower has terms 1 1 1 1 2 2: nothing of terms 3 and 5 can agree.
  const rejection = { type: 'append-response', from: 2, term: 6, reject: true } as const
  leader.receive({ ...rejection, index: 9, rejectHint: 6, logTerm: 2 })
  assert.deepEqual(
    appends(leader.flush()).map(message => message.index),
    [1],
  )
})

test('a follower skips whole terms when it rejects', () => {
  const entries = log(1, 3, 3, 4, 4, 5, 5, 5, 6)
  const follower = followerIn(7, {}, { entries })
  // The leader has term 3 at index 8: the follower's terms 4, 5 and 6 can't agree with anything.
  follower.receive({ type: 'append', from: 2, term: 7, index: 8, logTerm: 3 })
  const [answer] = follower.flush()
  assert.deepEqual([answer?.rejectHint, answer?.logTerm], [3, 3])
})

// A follower answers an append of an older term with a bare response in its own term, so that the
// old leader steps down. If that very node leads again by then, the answer is none to its probe.
test('a reminder of a later term does not pass for the answer to a probe', () => {
  const entries = log(1, 1, 1)
  const leader = leaderOf(3, {}, { entries, hardState: { term: 1, vote: 1, commit: 3 } })
  const probed = leader.status.progress.get(2)

  leader.receive({ type: 'append-response', from: 2, term: leader.status.term, index: 0 })

  assert.equal(probed?.state, 'probe')
  assert.deepEqual(leader.status.progress.get(2)?.state, 'probe')
  assert.equal(leader.status.progress.get(2)?.next, probed?.next)
})
