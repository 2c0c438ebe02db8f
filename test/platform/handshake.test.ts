/** The handshake without sockets: who is let in, who is not, and what each is told. */
import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DbError } from '../../src/base/errors.ts'
import type { Boot } from '../../src/platform/boot-register.ts'
import {
  AcceptorHandshake,
  DialerHandshake,
  type HandshakeStep,
  type NodeFacts,
} from '../../src/platform/handshake.ts'
import type { PeerMember } from '../../src/base/ports.ts'
import { Roster } from '../../src/platform/roster.ts'

const MEMBERS: PeerMember[] = [1, 2, 3].map(raftId => ({
  raftId,
  nodeId: `n${raftId}`,
  address: `127.0.0.1:${7000 + raftId}`,
  incarnation: `disk-${raftId}`,
}))

const ROSTER = new Roster({ index: 0, members: MEMBERS, nextRaftId: 4 })

function facts(raftId: number, changes: Partial<NodeFacts> = {}): NodeFacts {
  return {
    clusterId: 'c1',
    historyId: 'h1',
    address: `127.0.0.1:${7000 + raftId}`,
    options: { tickMs: 50 },
    groupIds: [1],
    nodeId: `n${raftId}`,
    raftId,
    incarnation: `disk-${raftId}`,
    bootId: `${raftId}`.repeat(32),
    starts: 1,
    build: 'sqlite 3.50',
    secret: 'the secret of the tests',
    roster: ROSTER,
    ...changes,
  }
}

const nonce = (number: number): Uint8Array => new Uint8Array(32).fill(number)
const member = (raftId: number): PeerMember =>
  MEMBERS.find(member => member.raftId === raftId) ?? assert.fail()

interface Outcome {
  readonly dialer: HandshakeStep | undefined
  readonly acceptor: HandshakeStep | undefined
  /** The messages in the order in which they were sent, as they were sent. */
  readonly messages: readonly Uint8Array[]
}

type Tamper = (message: Uint8Array, index: number) => Uint8Array

/** Runs both sides against each other; `tamper` is the wire. */
function shake(
  dialerFacts: NodeFacts,
  acceptorFacts: NodeFacts,
  to = member(2),
  tamper: Tamper = message => message,
  checkBoot: (peer: PeerMember, boot: Boot) => void = () => {},
): Outcome {
  const dialer = new DialerHandshake(dialerFacts, to, 'data', nonce(1))
  const acceptor = new AcceptorHandshake(acceptorFacts, nonce(2), checkBoot)
  const messages: Uint8Array[] = []
  const pass = (message: Uint8Array): Uint8Array => {
    messages.push(message)
    return tamper(message, messages.length - 1)
  }
  let dialerStep: HandshakeStep | undefined
  let acceptorStep: HandshakeStep | undefined
  let toAcceptor: Uint8Array | undefined = dialer.hello
  while (toAcceptor !== undefined) {
    acceptorStep = acceptor.receive(pass(toAcceptor))
    if (acceptorStep.message === undefined) break
    dialerStep = dialer.receive(pass(acceptorStep.message))
    toAcceptor = dialerStep.message
  }
  return { dialer: dialerStep, acceptor: acceptorStep, messages }
}

function refusal(step: HandshakeStep | undefined): DbError {
  return step?.type === 'refused' ? step.error : assert.fail(`not refused: ${step?.type}`)
}

test('two members of a cluster let each other in and know who the other is', () => {
  const { dialer, acceptor } = shake(facts(1), facts(2))

  assert(dialer?.type === 'done' && acceptor?.type === 'done')
  assert.deepEqual([dialer.peer.nodeId, dialer.lane], ['n2', 'data'])
  assert.deepEqual([acceptor.peer.nodeId, acceptor.lane], ['n1', 'data'])
  assert.deepEqual(acceptor.boot, { bootId: '1'.repeat(32), starts: 1 })
})

test('members without a secret let each other in if all agree on having none', () => {
  const { acceptor } = shake(facts(1, { secret: '' }), facts(2, { secret: '' }))

  assert.equal(acceptor?.type, 'done')
})

test('a member that is newer than what the other knows is let in, with its own address', () => {
  const { dialer, acceptor } = shake(facts(4), facts(2))

  assert(dialer?.type === 'done' && acceptor?.type === 'done')
  const { nodeId, incarnation } = facts(4)
  assert.deepEqual(acceptor.peer, { raftId: 4, nodeId, incarnation, address: '127.0.0.1:7004' })
  assert.equal(acceptor.version, 2)
})

test('a member is reached where the members say, wherever it calls from', () => {
  const { acceptor } = shake(facts(1, { address: '127.0.0.1:9999' }), facts(2))

  assert(acceptor?.type === 'done')
  assert.equal(acceptor.peer.address, '127.0.0.1:7001')
})

test('options that differ are told to both sides, and keep nobody out', () => {
  const options = { tickMs: 20, another: 1 }
  const { dialer, acceptor } = shake(facts(1, { options }), facts(2))

  assert(dialer?.type === 'done' && acceptor?.type === 'done')
  assert.equal(dialer.difference, 'tickMs is 20 on node n1 and 50 on node n2')
  assert.equal(acceptor.difference, 'tickMs is 50 on node n2 and 20 on node n1')
  const same = shake(facts(1), facts(2)).dialer
  assert(same?.type === 'done')
  assert.equal(same.difference, '')
})

test('nobody on the line can make a node believe that it was removed', () => {
  const refuse = { type: 'refuse', code: 'REMOVED', message: 'go away' }
  const later = new Roster({ index: 9, members: MEMBERS.slice(1), nextRaftId: 4 })
  for (const forged of [refuse, { ...refuse, mac: '00'.repeat(32) }]) {
    for (const target of [1, 3]) {
      const text = Buffer.from(JSON.stringify(forged))
      const replace: Tamper = (message, index) => (index === target ? text : message)
      const { dialer } = shake(facts(1), facts(2), member(2), replace)
      assert.equal(refusal(dialer).code, 'UNAUTHENTICATED')
    }
  }
  const { dialer, messages } = shake(facts(1), facts(2, { roster: later }))
  assert.equal(refusal(dialer).code, 'REMOVED')
  // What is said before the dialer has proved itself carries no proof either.
  const [, , , last] = messages
  const recorded: Tamper = (message, index) => (index === 1 && last !== undefined ? last : message)
  const replayed = shake(facts(1), facts(2), member(2), recorded)
  assert.equal(refusal(replayed.dialer).code, 'UNAUTHENTICATED')
})

const REFUSALS: readonly {
  readonly who: string
  readonly dialer: NodeFacts
  readonly acceptor: NodeFacts
  readonly to?: PeerMember
  readonly code: string
  readonly says: RegExp
}[] = [
  {
    who: 'a node with another secret',
    dialer: facts(1, { secret: 'another secret' }),
    acceptor: facts(2),
    code: 'UNAUTHENTICATED',
    says: /n1 has another cluster secret/,
  },
  {
    who: 'a node without a secret',
    dialer: facts(1, { secret: '' }),
    acceptor: facts(2),
    code: 'UNAUTHENTICATED',
    says: /n1 has another cluster secret/,
  },
  {
    who: 'a node of another cluster',
    dialer: facts(1, { clusterId: 'c2' }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /n1 belongs to cluster c2 and node n2 to cluster c1/,
  },
  {
    who: 'a second node under the id of the node it calls',
    dialer: facts(2, { incarnation: 'disk-of-a-copycat' }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /two nodes run as n2 \(raft id 2\)/,
  },
  {
    who: 'a node that calls itself because an address is wrong',
    dialer: facts(2),
    acceptor: facts(2),
    to: { ...member(1), address: member(2).address },
    code: 'FORBIDDEN',
    says: /the address of a peer leads back to node n2 itself/,
  },
  {
    who: 'a node whose disk was wiped',
    dialer: facts(1, { incarnation: 'disk-1-again' }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /n1 came with another data directory than the one it joined with/,
  },
  {
    who: 'a node that calls one whose disk was wiped',
    dialer: facts(1),
    acceptor: facts(2, { incarnation: 'disk-2-again' }),
    code: 'FORBIDDEN',
    says: /n2 came with another data directory than the one it joined with/,
  },
  {
    who: 'a node that was removed',
    dialer: facts(4),
    acceptor: facts(2, { roster: new Roster({ index: 9, members: MEMBERS, nextRaftId: 5 }) }),
    code: 'REMOVED',
    says: /n4 was removed from the cluster/,
  },
  {
    who: 'a newer node under the name of a member',
    dialer: facts(4, { nodeId: 'n3' }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /n3 \(raft id 4\) is not a member/,
  },
  {
    who: 'a node with the history from before a recovery',
    dialer: facts(1, { historyId: 'h0' }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /n1 and n2 have different histories of cluster c1/,
  },
  {
    who: 'a newer node that others could reach, in a cluster without a secret,',
    dialer: facts(4, { secret: '', address: '192.0.2.7:7070' }),
    acceptor: facts(2, { secret: '' }),
    code: 'UNAUTHENTICATED',
    says: /192\.0\.2\.7:7070 can be reached from other machines/,
  },
  {
    who: 'a node under the raft id of another',
    dialer: facts(3, { nodeId: 'n1' }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /n1 \(raft id 3\) is not a member/,
  },
  {
    who: 'a node that meant another one',
    dialer: facts(1),
    acceptor: facts(2),
    to: member(3),
    code: 'FORBIDDEN',
    says: /the address given for node n3 leads to node n2/,
  },
  {
    who: 'a node with another build of SQLite',
    dialer: facts(1, { build: 'sqlite 3.51' }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /n1 runs the SQL engine "sqlite 3.51" and node n2 "sqlite 3.50"/,
  },
  {
    who: 'a node that serves other groups',
    dialer: facts(1, { groupIds: [7] }),
    acceptor: facts(2),
    code: 'FORBIDDEN',
    says: /n1 serves no group/,
  },
]

for (const { who, dialer, acceptor, to, code, says } of REFUSALS) {
  test(`${who} is refused and told why`, () => {
    const outcome = shake(dialer, acceptor, to)

    const seen = refusal(outcome.acceptor)
    const told = refusal(outcome.dialer)
    assert.deepEqual([seen.code, told.code], [code, code])
    assert.match(seen.message, says)
    assert.match(told.message, says)
  })
}

test('a node that only speaks a newer protocol is refused and told to run the same release', () => {
  const newer: Tamper = (message, index) => {
    if (index > 0) return message
    const hello: object = JSON.parse(Buffer.from(message).toString())
    return Buffer.from(JSON.stringify({ ...hello, version: 9, oldestVersion: 8 }))
  }

  const { dialer, acceptor } = shake(facts(1), facts(2), member(2), newer)

  assert.match(refusal(acceptor).message, /n1 speaks a newer protocol \(versions 8 to 9; here 2/)
  assert.match(refusal(dialer).message, /run the same release on every node/)
})

test('a newer node that still speaks our version is met in that version', () => {
  const dialer = new DialerHandshake(facts(1), member(2), 'data', nonce(1))
  const acceptor = new AcceptorHandshake(facts(2), nonce(2), () => {})
  const hello: object = JSON.parse(Buffer.from(dialer.hello).toString())

  const step = acceptor.receive(Buffer.from(JSON.stringify({ ...hello, version: 5, extra: {} })))

  assert(step.type === 'send')
  assert.match(Buffer.from(step.message).toString(), /"challenge","version":2/)
})

test('a run of a peer that must not be let in is refused with the given sentence', () => {
  const { acceptor, dialer } = shake(facts(1), facts(2), member(2), undefined, () => {
    throw refusal(shake(facts(3, { nodeId: 'n1' }), facts(2)).acceptor)
  })

  assert.equal(refusal(acceptor).code, 'FORBIDDEN')
  assert.match(refusal(dialer).message, /is not a member/)
})

test('changing any byte on the wire never lets a side in that was not meant', () => {
  const clean = shake(facts(1), facts(2))
  assert.equal(clean.messages.length, 4)
  for (const [target, original] of clean.messages.entries()) {
    for (let at = 0; at < original.length; at++) {
      const flip: Tamper = (message, index) => {
        if (index !== target) return message
        const changed = Buffer.from(message)
        changed[at] = (changed[at] ?? 0) ^ 1
        return changed
      }

      const { dialer, acceptor } = shake(facts(1), facts(2), member(2), flip)

      const place = `byte ${at} of message ${target}`
      assert.notEqual(dialer?.type, 'done', place)
      // The acceptor is done before its last message travels; before that it must notice too.
      if (target < 3) assert.notEqual(acceptor?.type, 'done', place)
    }
  }
})

test('a proof that was overheard is worth nothing in the next handshake', () => {
  const [hello, , proof] = shake(facts(1), facts(2)).messages
  assert(hello !== undefined && proof !== undefined)
  const acceptor = new AcceptorHandshake(facts(2), nonce(3), () => {})
  acceptor.receive(hello)

  assert.equal(refusal(acceptor.receive(proof)).code, 'UNAUTHENTICATED')
})

test('an acceptor without the secret is not believed, also if it turns the proof round', () => {
  const dialer = new DialerHandshake(facts(1), member(2), 'data', nonce(1))
  const challenge = { type: 'challenge', version: 2, nonce: '00'.repeat(32) }
  const step = dialer.receive(Buffer.from(JSON.stringify(challenge)))
  assert(step.type === 'send')
  const { mac } = JSON.parse(Buffer.from(step.message).toString()) as { mac: string }
  const { roster: _roster, secret: _secret, ...card } = facts(2)

  const accept = { type: 'accept', card: JSON.stringify(card), mac }
  const last = dialer.receive(Buffer.from(JSON.stringify(accept)))

  assert.equal(refusal(last).code, 'UNAUTHENTICATED')
})

/** The MAC as it is specified, made a second time and from the specification only. */
function macOf(secret: string, label: string, parts: readonly Uint8Array[]): string {
  const framed = parts.flatMap(part => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(part.length)
    return [length, part]
  })
  const bytes = Buffer.concat([Buffer.from(`lockstep replicate ${label}\0`), ...framed])
  return createHmac('sha256', secret).update(bytes).digest('hex')
}

test('a dialer checks the card of whoever answers, also if it knows the secret', () => {
  const answers: readonly (readonly [Partial<NodeFacts>, RegExp | undefined])[] = [
    [{}, undefined],
    [{ incarnation: 'disk-2-again' }, /n2 came with another data directory/],
    [{ nodeId: 'n3', raftId: 3, incarnation: 'disk-3' }, /for node n2 leads to node n3/],
    [{ clusterId: 'c2' }, /n2 belongs to cluster c2/],
    [{ build: 'sqlite 3.51' }, /n2 runs the SQL engine "sqlite 3\.51"/],
    [{ nodeId: 'n1', raftId: 1, incarnation: 'x' }, /two nodes run as n1/],
  ]
  for (const [changes, says] of answers) {
    const dialer = new DialerHandshake(facts(1), member(2), 'data', nonce(1))
    const challenge = { type: 'challenge', version: 2, nonce: '02'.repeat(32) }
    const challengeText = Buffer.from(JSON.stringify(challenge))
    const step = dialer.receive(challengeText)
    assert(step.type === 'send')
    const { roster: _roster, secret, ...own } = facts(2, changes)
    const card = JSON.stringify(own)
    const parts = [dialer.hello, challengeText, step.message, Buffer.from(card)]
    const accept = { type: 'accept', card, mac: macOf(secret, 'acceptor', parts) }

    const last = dialer.receive(Buffer.from(JSON.stringify(accept)))

    if (says === undefined) assert.equal(last.type, 'done')
    else assert.match(refusal(last).message, says)
  }
})

test('nothing that is sent holds the secret or a plain hash of it', () => {
  const { messages } = shake(facts(1), facts(2))

  const wire = Buffer.concat(messages).toString()

  const secret = facts(1).secret
  assert(!wire.includes(secret))
  assert(!wire.includes(createHash('sha256').update(secret).digest('hex')))
})

test('arbitrary bytes in any place end in a refusal, never in an exception', () => {
  const jsonish = fc.json().map(text => Buffer.from(text))
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ maxLength: 300 }), jsonish),
      fc.nat(3),
      (garbage, target) => {
        const replace: Tamper = (message, index) => (index === target ? garbage : message)

        const { dialer, acceptor } = shake(facts(1), facts(2), member(2), replace)

        assert.notEqual(dialer?.type, 'done')
        if (target < 3) assert.notEqual(acceptor?.type, 'done')
      },
    ),
    { numRuns: 300 },
  )
})

test('words of a stranger are stripped of what could steer a terminal', () => {
  const dialer = new DialerHandshake(facts(1), member(2), 'data', nonce(1))
  const refuse = { type: 'refuse', code: 'NO_SUCH_CODE', message: '\u001b[2Jgone\nforged line' }

  const step = dialer.receive(Buffer.from(JSON.stringify(refuse)))

  assert.equal(refusal(step).code, 'FORBIDDEN')
  assert.equal(refusal(step).message, 'node n2 refused: ?[2Jgone?forged line')
})
