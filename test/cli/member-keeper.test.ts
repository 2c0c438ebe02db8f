/** What a node remembers of the members, and what it asks for itself. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { type Identity, type IdentityOf, readIdentity } from '../../src/cli/identity.ts'
import { MemberKeeper } from '../../src/cli/member-keeper.ts'
import type { Member, Membership } from '../../src/log/log.ts'
import { foundingMembership } from '../../src/log/membership.ts'
import type { MembersRequest } from '../../src/protocol/http-api.ts'
import { ManualClock } from '../replica/doubles.ts'
import { memoryLogger } from '../platform/peer-kit.ts'
import { temporaryDirectory } from './founding-kit.ts'

const member = (raftId: number, address = `127.0.0.1:700${raftId}`): Member => {
  return { raftId, nodeId: `n${raftId}`, address, incarnation: `disk-${raftId}` }
}
const FOUNDERS = [1, 2, 3].map(raftId => member(raftId))

/** The members as of an entry; `learners` don't vote. */
function at(index: number, members: readonly Member[], learners: readonly number[] = []) {
  const { voters, ...rest } = foundingMembership(members)
  const nextRaftId = 5
  const left = voters.filter(id => !learners.includes(id))
  return { ...rest, index, voters: left, learners, nextRaftId } satisfies Membership
}

interface SetUp {
  readonly keeper: MemberKeeper
  readonly clock: ManualClock
  readonly asked: { request: MembersRequest; done: (error: DbError | undefined) => void }[]
  readonly told: Membership[]
  readonly removed: IdentityOf<'removed'>[]
  readonly stored: () => Identity | undefined
  mayAsk: boolean
}

/** Node 4, which joined to become a voter. */
function setUp(t: TestContext, changes: Partial<IdentityOf<'member'>> = {}): SetUp {
  const directory = temporaryDirectory(t)
  const clock = new ManualClock()
  const members = [...FOUNDERS, member(4)]
  const identity: IdentityOf<'member'> = {
    format: 2,
    type: 'member',
    clusterId: 'c1',
    historyId: 'h1',
    groupId: 1,
    nodeId: 'n4',
    raftId: 4,
    incarnation: 'disk-4',
    founders: FOUNDERS,
    known: { index: 7, members, nextRaftId: 5 },
    hasLog: false,
    isPromotionDue: true,
    starts: 0,
    ...changes,
  }
  const state: Omit<SetUp, 'keeper'> = {
    clock,
    asked: [],
    told: [],
    removed: [],
    stored: () => readIdentity(directory),
    mayAsk: true,
  }
  const keeper = new MemberKeeper({
    directory,
    identity,
    address: '127.0.0.1:7004',
    clock,
    logger: memoryLogger().logger,
    onMembers: membership => state.told.push(membership),
    onRemoved: removed => state.removed.push(removed),
    change: (request, done) => state.asked.push({ request, done }),
    mayAsk: () => state.mayAsk,
  })
  return Object.assign(state, { keeper })
}

test('a log that is read from its beginning does not tell a newcomer that it was removed', t => {
  const state = setUp(t)
  state.keeper.onMembership({ ...at(0, FOUNDERS), nextRaftId: 4 })

  assert.deepEqual(state.removed, [])
  assert.equal(state.told.length, 1)
  state.clock.pass(1000)
  assert.equal(state.asked.length, 0, 'nor does it ask for anything before it has come there')
})

test('it asks to be promoted until it is, and then never again', t => {
  const state = setUp(t)
  state.mayAsk = false
  state.keeper.onMembership(at(7, [...FOUNDERS, member(4)], [4]))
  state.clock.pass(1000)
  assert.equal(state.asked.length, 0, 'not before it has caught up')
  state.mayAsk = true
  state.clock.pass(300)
  assert.deepEqual(state.asked.pop()?.request, { action: 'promote', node: 'n4' })

  state.clock.pass(5000)
  assert.equal(state.asked.length, 0, 'one question at a time')
  state.keeper.onMembership(at(7, [...FOUNDERS, member(4)], [4]))
  state.clock.pass(10)
  state.asked.pop()?.done(new DbError('MEMBERS_BUSY', 'another change is under way'))
  state.clock.pass(300)
  assert.equal(state.asked.length, 1, 'again, after a pause')

  state.keeper.onMembership(at(9, [...FOUNDERS, member(4)]))
  state.asked.pop()?.done(undefined)
  state.clock.pass(60_000)
  assert.equal(state.asked.length, 0)
  const stored = state.stored()
  assert(stored?.type === 'member')
  assert.deepEqual([stored.isPromotionDue, stored.known.index], [false, 9])

  state.keeper.onMembership(at(11, [...FOUNDERS, member(4)], [4]))
  state.clock.pass(60_000)
  assert.equal(state.asked.length, 0, 'who was demoted later stays a learner')
})

test('it tells the others when it is somewhere else than they know', t => {
  const state = setUp(t, { isPromotionDue: false })
  state.keeper.onMembership(at(7, [...FOUNDERS, member(4, '127.0.0.1:9999')]))
  state.clock.pass(10)

  const address = '127.0.0.1:7004'
  assert.deepEqual(state.asked.pop()?.request, { action: 'set-address', node: 'n4', address })
  state.keeper.onMembership(at(8, [...FOUNDERS, member(4)]))
  state.clock.pass(60_000)
  assert.equal(state.asked.length, 0)
})

test('when it was removed it writes that down, and does nothing more', t => {
  const state = setUp(t)
  state.keeper.onMembership(at(12, FOUNDERS))

  assert.equal(state.removed[0]?.reason, 'by entry 12 of its log')
  assert.deepEqual(state.stored(), state.removed[0])
  state.keeper.onMembership(at(13, [...FOUNDERS, member(4)], [4]))
  state.keeper.removed('says node n1')
  state.clock.pass(60_000)
  assert.deepEqual([state.removed.length, state.asked.length], [1, 0])
})

test('what it heard before a restart is not replaced by older news', t => {
  const state = setUp(t)
  state.keeper.noteStart()
  state.keeper.onMembership(at(5, FOUNDERS.slice(0, 2)))

  const stored = state.stored()
  assert(stored?.type === 'member')
  assert.deepEqual([stored.known.index, stored.hasLog, stored.starts], [7, true, 1])
  assert.deepEqual(state.removed, [], 'an older list removes nobody')
})
