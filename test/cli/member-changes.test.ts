/** Changes of members as a node takes them: who is let in, and what is passed on to whom. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import type { JoinAnswer, JoinRequest } from '../../src/cli/join-messages.ts'
import { type Asked, type Elsewhere, MemberChanges } from '../../src/cli/member-changes.ts'
import type { Member, MembersChange, Membership } from '../../src/log/log.ts'
import { foundingMembership } from '../../src/log/membership.ts'
import { SystemClock } from '../../src/platform/clock.ts'
import type { MembersRequest, MembersResponse } from '../../src/protocol/http-api.ts'
import { ManualLog } from '../replica/doubles.ts'

const ASKED: Asked = { timeoutMs: 1000, isForwarded: false }
const BODY = Buffer.from('{"sealed":true}')

/** A log that takes every change at once. */
class WillingLog extends ManualLog {
  override changeMembers(
    change: MembersChange,
    _timeoutMs?: number,
    done: (outcome: Membership | DbError) => void = () => {},
  ): void {
    this.changes.push(change)
    if (change.type === 'add-learner') {
      const { members, nextRaftId } = this.membership
      const added = [...members, { ...change.node, raftId: nextRaftId }]
      const learners = [nextRaftId]
      const { index } = this.membership
      const next = { ...this.membership, index: index + 1, members: added, learners }
      this.membership = { ...next, nextRaftId: nextRaftId + 1 }
    }
    done(this.membership)
  }
}

interface SetUp {
  readonly log: WillingLog
  readonly handedTo: (number | undefined)[]
  readonly change: (request: MembersRequest, asked?: Asked) => Promise<MembersResponse | DbError>
  readonly admit: (
    changes?: Partial<JoinRequest>,
    asked?: Asked,
  ) => Promise<JoinAnswer | Elsewhere | DbError>
}

/** Node 1, which leads. */
function setUp(membership?: Membership): SetUp {
  const log = new WillingLog()
  if (membership !== undefined) log.membership = membership
  log.become('leader', 2, 1)
  const handedTo: (number | undefined)[] = []
  const members = [...log.membership.members]
  const changes = new MemberChanges({
    identity: {
      format: 2,
      type: 'member',
      clusterId: 'c1',
      historyId: 'h1',
      groupId: 1,
      nodeId: 'n1',
      raftId: 1,
      incarnation: 'disk-1',
      founders: members,
      known: { index: 0, members, nextRaftId: 4 },
      hasLog: true,
      isPromotionDue: false,
      starts: 1,
    },
    secret: '',
    build: 'sqlite 3.50',
    log,
    clock: new SystemClock(),
    handOver: (target, _timeoutMs, done) => {
      handedTo.push(target)
      log.become('follower', 3, 2)
      done(undefined)
    },
  })
  const joiner: JoinRequest = {
    version: 2,
    nodeId: 'n4',
    incarnation: 'disk-4',
    as: 'voter',
    address: '127.0.0.1:7004',
    build: 'sqlite 3.50',
    sentAtMs: 0,
    nonce: '0'.repeat(32),
  }
  return {
    log,
    handedTo,
    change: (request, asked = ASKED) =>
      new Promise(resolve => {
        changes.change(request, asked, resolve)
      }),
    admit: (more = {}, asked = ASKED) =>
      new Promise(resolve => {
        changes.admit({ ...joiner, ...more }, BODY, asked, resolve)
      }),
  }
}

function code(outcome: unknown): string {
  return outcome instanceof DbError ? outcome.code : `no error: ${JSON.stringify(outcome)}`
}

function message(outcome: unknown): string {
  return outcome instanceof DbError ? outcome.message : ''
}

test('a joiner becomes a learner once, however often the same disk asks', async () => {
  const { log, admit } = setUp()

  const first = await admit()
  const again = await admit({ nonce: '1'.repeat(32) })

  assert(!(first instanceof DbError) && first.type === 'joined')
  assert.deepEqual([first.raftId, first.known.nextRaftId], [4, 5])
  assert.deepEqual(again, first)
  assert.equal(log.changes.length, 1)
})

test('who does not belong is refused and told what to do', async () => {
  const founding = foundingMembership(new ManualLog().membership.members)
  const gone = { raftId: 4, nodeId: 'n9', incarnation: 'disk-9' }
  const { log, admit } = setUp({ ...founding, nextRaftId: 5, removed: [gone] })
  const refusals: readonly (readonly [Partial<JoinRequest>, string, RegExp])[] = [
    [{ nodeId: 'n2' }, 'FORBIDDEN', /n2 came with another data directory.*lockstep remove n2/],
    [{ nodeId: 'n9' }, 'FORBIDDEN', /a node n9 was a member before and was removed/],
    [{ incarnation: 'disk-9' }, 'FORBIDDEN', /was removed; ids are not used again/],
    [{ address: '127.0.0.1:7002' }, 'FORBIDDEN', /n2 has the address 127\.0\.0\.1:7002 too/],
    [{ build: 'sqlite 3.51' }, 'FORBIDDEN', /runs the SQL engine "sqlite 3\.51"/],
    [{ address: 'nowhere' }, 'INVALID_REQUEST', /is not an address/],
    [{ address: '192.0.2.7:7070' }, 'UNAUTHENTICATED', /can be reached from other machines/],
  ]
  for (const [changes, expected, says] of refusals) {
    const outcome = await admit(changes)
    assert.equal(code(outcome), expected)
    assert.match(message(outcome), says)
  }
  assert.deepEqual(log.changes, [])
})

test('names become numbers, and unknown ones are told apart from removed ones', async () => {
  const { log, change } = setUp()
  await change({ action: 'remove', node: 'n3' })
  await change({ action: 'replace', remove: 'n2', promote: 'n3' })
  await change({ action: 'set-address', node: 'n2', address: '127.0.0.1:9' })

  assert.deepEqual(log.changes, [
    { type: 'remove', raftId: 3 },
    { type: 'replace', remove: 2, promote: 3 },
    { type: 'set-address', raftId: 2, address: '127.0.0.1:9' },
  ])
  const unknown = await change({ action: 'promote', node: 'n7' })
  assert.equal(code(unknown), 'UNKNOWN_NODE')
  assert.match(message(unknown), /members are n1, n2, n3/)
  assert.equal(
    code(await change({ action: 'set-address', node: 'n2', address: 'x' })),
    'INVALID_REQUEST',
  )
})

test('a leader that is to go hands over, and its successor is asked to do it', async t => {
  const asked: { url: string; forwarded: unknown; body: string }[] = []
  const address = await listen(t, (url, forwarded, body) => {
    asked.push({ url, forwarded, body })
    return { node: 'n2', members: [] }
  })
  const { log, change, handedTo } = setUp(withAddress(2, address))

  const outcome = await change({ action: 'remove', node: 'n1' })

  assert.deepEqual(outcome, { node: 'n2', members: [] })
  assert.deepEqual(handedTo, [undefined])
  assert.deepEqual(log.changes, [], 'not by itself')
  assert.deepEqual(
    asked.map(({ url, forwarded }) => [url, forwarded]),
    [['/members', '1']],
  )
  assert.deepEqual(JSON.parse(asked[0]?.body ?? ''), {
    action: 'remove',
    node: 'n1',
    timeoutMs: 1000,
  })
})

test('the only voter neither goes nor hands over', async () => {
  const alone = { ...new ManualLog().membership, voters: [1], learners: [2, 3] }
  const { change, handedTo, log } = setUp(alone)

  for (const action of ['remove', 'demote'] as const) {
    const outcome = await change({ action, node: 'n1' })
    assert.equal(code(outcome), 'MEMBERS_REFUSED')
    assert.match(message(outcome), /it is the only voter/)
  }
  assert.deepEqual([handedTo, log.changes], [[], []])
})

test('a follower passes on once, byte for byte, and what the leader says comes back', async t => {
  let answer: unknown = { payload: 'sealed by the leader', mac: '' }
  const bodies: string[] = []
  const address = await listen(t, (_url, _forwarded, body) => {
    bodies.push(body)
    return answer
  })
  const { log, change, admit } = setUp(withAddress(2, address))
  log.become('follower', 3, 2)

  const let_ = await admit()
  assert.deepEqual(let_, { type: 'elsewhere', text: JSON.stringify(answer) })
  assert.equal(bodies[0], BODY.toString(), 'the seal is over these very bytes')

  answer = { error: { code: 'MEMBERS_BUSY', message: 'another change is under way' } }
  assert.equal(code(await change({ action: 'promote', node: 'n3' })), 'MEMBERS_BUSY')
  const twice = await change({ action: 'promote', node: 'n3' }, { ...ASKED, isForwarded: true })
  assert.equal(code(twice), 'NO_LEADER', 'a request does not go round')
  assert.equal(bodies.length, 2)
  log.become('follower', 4)
  assert.equal(code(await admit()), 'NO_LEADER')
})

test('a leader that does not answer leaves the fate open', async () => {
  const { log, change } = setUp(withAddress(2, '127.0.0.1:1'))
  log.become('follower', 3, 2)

  const outcome = await change({ action: 'promote', node: 'n3' })

  assert.equal(code(outcome), 'CONNECTION_LOST')
  assert(outcome instanceof DbError)
  assert.equal(outcome.fate, 'unknown')
})

function withAddress(raftId: number, address: string): Membership {
  const { membership } = new ManualLog()
  const members = membership.members.map((member): Member => {
    return member.raftId === raftId ? { ...member, address } : member
  })
  return { ...membership, members }
}

/** A node that answers every request as told. */
async function listen(
  t: TestContext,
  answer: (url: string, forwarded: unknown, body: string) => unknown,
): Promise<string> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      const forwarded = request.headers['lockstep-forwarded']
      response.end(JSON.stringify(answer(request.url ?? '', forwarded, body)))
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}
