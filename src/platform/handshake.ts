/**
 * The handshake of two members, without a socket: bytes in, bytes or a verdict out. Both sides
 * prove that they know the cluster secret by an HMAC over everything said so far, and both check
 * that the other is the very node, with the very disk, that the member list names.
 *
 * The dialer proves itself first, so an unknown caller gets nothing that is made from the secret.
 * The two MACs carry different labels: an answer can't be turned round and used against its maker.
 * The handshake tells who is there; it does not encrypt or sign the frames that follow.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { assert } from '../base/assert.ts'
import { DbError, ERRORS, type ErrorCode } from '../base/errors.ts'
import type { Lane, PeerMember } from '../base/ports.ts'
import type { Boot } from './boot-register.ts'
import {
  type Card,
  decodeCard,
  decodeMessage,
  encodeMessage,
  PROTOCOL_VERSION,
  PROTOCOL_VERSION_OLDEST,
} from './handshake-messages.ts'
import { otherDisk, type Roster } from './roster.ts'

/** What a node knows about itself and the others when it shakes hands. */
export interface NodeFacts {
  readonly clusterId: string
  /** Of the data: another one after the cluster was recovered or restored. */
  readonly historyId: string
  readonly groupIds: readonly number[]
  readonly nodeId: string
  readonly raftId: number
  readonly incarnation: string
  /** Where the others reach this node, host:port. */
  readonly address: string
  /** Random name of this run of the process, 32 hexadecimal digits. */
  readonly bootId: string
  /** How often the data directory was started, this time included. */
  readonly starts: number
  /** Names the SQL engine's exact build: replicas must compute the same. */
  readonly build: string
  /** Options that should be the same on every node. */
  readonly options: Readonly<Record<string, number | string>>
  /** Empty only if all addresses are loopback. */
  readonly secret: string
  readonly roster: Roster
}

export type HandshakeStep =
  | { readonly type: 'send'; readonly message: Uint8Array }
  /** The other side is who it says; the acceptor still sends `message`, then frames may flow. */
  | {
      readonly type: 'done'
      readonly message?: Uint8Array
      readonly peer: PeerMember
      readonly boot: Boot
      readonly lane: Lane
      /** The version that both speak. */
      readonly version: number
      /** Options in which the other differs, as a sentence; empty if in none. */
      readonly difference: string
    }
  /** `message`, if there is one, tells the other side before the connection ends. */
  | { readonly type: 'refused'; readonly message?: Uint8Array; readonly error: DbError }

/** One side of one handshake. */
export interface Handshake {
  receive(message: Uint8Array): HandshakeStep
}

/** The side that opened the connection and will send on it. */
export class DialerHandshake implements Handshake {
  readonly #facts: NodeFacts
  readonly #peer: PeerMember
  readonly #lane: Lane
  readonly #transcript: Uint8Array[] = []
  #state: 'hello-sent' | 'proof-sent' | 'over' = 'hello-sent'
  #version = 0

  /** The first message to send. */
  readonly hello: Uint8Array

  /** `nonce`: 32 fresh random bytes. */
  constructor(facts: NodeFacts, peer: PeerMember, lane: Lane, nonce: Uint8Array) {
    assert(nonce.length === 32, `a nonce has 32 bytes, not ${nonce.length}`)
    this.#facts = facts
    this.#peer = peer
    this.#lane = lane
    this.hello = encodeMessage({
      type: 'hello',
      version: PROTOCOL_VERSION,
      oldestVersion: PROTOCOL_VERSION_OLDEST,
      lane,
      nonce: Buffer.from(nonce).toString('hex'),
      to: { nodeId: peer.nodeId, raftId: peer.raftId, incarnation: peer.incarnation },
      from: cardOf(facts),
    })
    this.#transcript.push(this.hello)
  }

  receive(message: Uint8Array): HandshakeStep {
    try {
      if (this.#state === 'hello-sent') return this.#receiveChallenge(message)
      if (this.#state === 'proof-sent') return this.#receiveAccept(message)
      throw new DbError('INVALID_REQUEST', 'the peer went on after the end of the handshake')
    } catch (error) {
      this.#state = 'over'
      if (error instanceof DbError) return { type: 'refused', error }
      throw error
    }
  }

  #receiveChallenge(message: Uint8Array): HandshakeStep {
    const challenge = decodeMessage(message, 'challenge', 'refuse')
    if (challenge.type === 'refuse') throw this.#refusal(challenge)
    const { version } = challenge
    if (version < PROTOCOL_VERSION_OLDEST || version > PROTOCOL_VERSION) {
      throw versionError(this.#peer.nodeId, version, version)
    }
    this.#version = version
    this.#transcript.push(message)
    const mac = macOf(this.#facts.secret, 'dialer', this.#transcript)
    const proof = encodeMessage({ type: 'proof', mac: mac.toString('hex') })
    this.#transcript.push(proof)
    this.#state = 'proof-sent'
    return { type: 'send', message: proof }
  }

  #receiveAccept(message: Uint8Array): HandshakeStep {
    const accept = decodeMessage(message, 'accept', 'refuse')
    if (accept.type === 'refuse') throw this.#refusal(accept)
    this.#transcript.push(Buffer.from(accept.card))
    checkMac(this.#facts.secret, 'acceptor', this.#transcript, accept.mac, this.#peer.nodeId)
    const card = decodeCard(accept.card)
    const peer = checkCard(this.#facts, card)
    if (peer.raftId !== this.#peer.raftId) throw mixedUp(peer.nodeId, this.#peer.nodeId)
    this.#state = 'over'
    const difference = differenceOf(this.#facts, card)
    const version = this.#version
    return { type: 'done', peer, boot: bootOf(card), lane: this.#lane, version, difference }
  }

  #refusal(refusal: Refusal): DbError {
    const { secret } = this.#facts
    const { nodeId } = this.#peer
    let code: ErrorCode = 'FORBIDDEN'
    if (Object.hasOwn(ERRORS, refusal.code)) code = refusal.code as ErrorCode
    // It ends this node for good, so nobody may say it who only sits on the line.
    if (code === 'REMOVED') {
      const parts = [...this.#transcript, refusalBytes(refusal)]
      checkMac(secret, 'refusal', parts, refusal.mac ?? '00'.repeat(32), nodeId)
    }
    return new DbError(code, `node ${nodeId} refused: ${printable(refusal.message)}`)
  }
}

/** The side that was called and will receive. */
export class AcceptorHandshake implements Handshake {
  readonly #facts: NodeFacts
  readonly #nonce: Uint8Array
  readonly #checkBoot: (peer: PeerMember, boot: Boot) => void
  readonly #transcript: Uint8Array[] = []
  #hello:
    | {
        readonly card: Card
        readonly lane: Lane
        readonly to: Card | PeerName
        readonly version: number
      }
    | undefined
  /** The dialer has proved that it knows the secret. */
  #isProven = false
  #isOver = false

  /**
   * `nonce`: 32 fresh random bytes. `checkBoot` throws if this run of the peer must not be let in.
   */
  constructor(
    facts: NodeFacts,
    nonce: Uint8Array,
    checkBoot: (peer: PeerMember, boot: Boot) => void,
  ) {
    assert(nonce.length === 32, `a nonce has 32 bytes, not ${nonce.length}`)
    this.#facts = facts
    this.#nonce = nonce
    this.#checkBoot = checkBoot
  }

  receive(message: Uint8Array): HandshakeStep {
    try {
      if (this.#isOver) {
        throw new DbError('INVALID_REQUEST', 'the peer went on after the end of the handshake')
      }
      return this.#hello === undefined ? this.#receiveHello(message) : this.#receiveProof(message)
    } catch (error) {
      this.#isOver = true
      if (!(error instanceof DbError)) throw error
      return { type: 'refused', error, message: this.#encodeRefusal(error) }
    }
  }

  /** The message that tells a dialer why it is not let in. */
  #encodeRefusal(error: DbError): Uint8Array {
    const refusal = { code: error.code, message: error.message.slice(0, 1000) }
    if (!this.#isProven) return encodeMessage({ type: 'refuse', ...refusal })
    const parts = [...this.#transcript, refusalBytes(refusal)]
    const mac = macOf(this.#facts.secret, 'refusal', parts).toString('hex')
    return encodeMessage({ type: 'refuse', ...refusal, mac })
  }

  #receiveHello(message: Uint8Array): HandshakeStep {
    const hello = decodeMessage(message, 'hello')
    const version = Math.min(hello.version, PROTOCOL_VERSION)
    if (version < PROTOCOL_VERSION_OLDEST || version < hello.oldestVersion) {
      throw versionError(hello.from.nodeId, hello.oldestVersion, hello.version)
    }
    // Told before anything is proved: a cluster id is no secret, and the sentence helps.
    if (hello.from.clusterId !== this.#facts.clusterId) throw otherCluster(this.#facts, hello.from)
    const challenge = encodeMessage({
      type: 'challenge',
      version,
      nonce: Buffer.from(this.#nonce).toString('hex'),
    })
    this.#transcript.push(message, challenge)
    this.#hello = { card: hello.from, lane: hello.lane, to: hello.to, version }
    return { type: 'send', message: challenge }
  }

  #receiveProof(message: Uint8Array): HandshakeStep {
    const proof = decodeMessage(message, 'proof')
    const facts = this.#facts
    assert(this.#hello !== undefined, 'the hello came before the proof')
    const { card, lane, to, version } = this.#hello
    checkMac(facts.secret, 'dialer', this.#transcript, proof.mac, card.nodeId)
    this.#transcript.push(message)
    this.#isProven = true
    const peer = checkCard(facts, card)
    if (to.raftId !== facts.raftId || to.nodeId !== facts.nodeId) {
      throw mixedUp(facts.nodeId, to.nodeId)
    }
    if (to.incarnation !== facts.incarnation) throw otherDisk(facts.nodeId)
    const boot = bootOf(card)
    this.#checkBoot(peer, boot)
    const own = JSON.stringify(cardOf(facts))
    this.#transcript.push(Buffer.from(own))
    const mac = macOf(facts.secret, 'acceptor', this.#transcript).toString('hex')
    this.#isOver = true
    const accept = encodeMessage({ type: 'accept', card: own, mac })
    const difference = differenceOf(facts, card)
    return { type: 'done', message: accept, peer, boot, lane, version, difference }
  }
}

interface PeerName {
  readonly nodeId: string
  readonly raftId: number
  readonly incarnation: string
}

interface Refusal {
  readonly code: string
  readonly message: string
  readonly mac?: string | undefined
}

function refusalBytes(refusal: Refusal): Uint8Array {
  return Buffer.from(`${refusal.code}\0${refusal.message}`)
}

function cardOf(facts: NodeFacts): Card {
  const { clusterId, historyId, nodeId, raftId, incarnation, address } = facts
  const { bootId, starts, build } = facts
  const groupIds = [...facts.groupIds]
  const options = { ...facts.options }
  return {
    clusterId,
    historyId,
    groupIds,
    nodeId,
    raftId,
    incarnation,
    address,
    bootId,
    starts,
    build,
    options,
  }
}

function bootOf({ bootId, starts }: Card): Boot {
  return { bootId, starts }
}

/**
 * A difference is told and not refused: while the nodes of a cluster are restarted one after the
 * other with a new value, some have the old one, and they must go on together.
 */
function differenceOf(facts: NodeFacts, card: Card): string {
  const names = Object.keys(facts.options).filter(name => {
    return Object.hasOwn(card.options, name) && card.options[name] !== facts.options[name]
  })
  return names
    .map(name => {
      const [own, other] = [facts.options[name], card.options[name]]
      return `${name} is ${own} on node ${facts.nodeId} and ${other} on node ${card.nodeId}`
    })
    .join('; ')
}

/** Each part behind its length, so that no two different transcripts give the same bytes. */
function macOf(secret: string, label: string, parts: readonly Uint8Array[]): Buffer {
  const hmac = createHmac('sha256', secret).update(`lockstep replicate ${label}\0`)
  const length = Buffer.allocUnsafe(4)
  for (const part of parts) {
    length.writeUInt32BE(part.length)
    hmac.update(length).update(part)
  }
  return hmac.digest()
}

function checkMac(
  secret: string,
  label: string,
  parts: readonly Uint8Array[],
  mac: string,
  nodeId: string,
): void {
  if (timingSafeEqual(macOf(secret, label, parts), Buffer.from(mac, 'hex'))) return
  throw new DbError(
    'UNAUTHENTICATED',
    `node ${nodeId} has another cluster secret; give every node the same one`,
  )
}

/** The member that the card names, if it is that member with its disk and our build of SQL. */
function checkCard(facts: NodeFacts, card: Card): PeerMember {
  if (card.clusterId !== facts.clusterId) throw otherCluster(facts, card)
  if (card.historyId !== facts.historyId) throw otherHistory(facts, card)
  if (card.raftId === facts.raftId || card.nodeId === facts.nodeId) throw sameId(facts, card)
  const member = facts.roster.identify(card, facts.secret)
  if (!card.groupIds.some(groupId => facts.groupIds.includes(groupId))) {
    throw new DbError('FORBIDDEN', `node ${card.nodeId} serves no group that this node serves`)
  }
  if (card.build !== facts.build) {
    throw new DbError(
      'FORBIDDEN',
      `node ${card.nodeId} runs the SQL engine "${card.build}" and node ${facts.nodeId} ` +
        `"${facts.build}"; run the same release on every node, replicas must compute the same`,
    )
  }
  return member
}

function versionError(nodeId: string, oldest: number, newest: number): DbError {
  const theirs = oldest === newest ? `version ${newest}` : `versions ${oldest} to ${newest}`
  const age = oldest > PROTOCOL_VERSION ? 'a newer' : 'an older'
  return new DbError(
    'FORBIDDEN',
    `node ${nodeId} speaks ${age} protocol (${theirs}; here ${PROTOCOL_VERSION_OLDEST} to ` +
      `${PROTOCOL_VERSION}); run the same release on every node`,
  )
}

function otherCluster(facts: NodeFacts, card: Card): DbError {
  return new DbError(
    'FORBIDDEN',
    `node ${card.nodeId} belongs to cluster ${card.clusterId} and node ${facts.nodeId} to ` +
      `cluster ${facts.clusterId}; check the addresses and data directories`,
  )
}

function sameId(facts: NodeFacts, card: Card): DbError {
  const isSelf = card.incarnation === facts.incarnation && card.bootId === facts.bootId
  return new DbError(
    'FORBIDDEN',
    isSelf
      ? `the address of a peer leads back to node ${facts.nodeId} itself; correct it`
      : `two nodes run as ${card.nodeId} (raft id ${card.raftId}); ` +
          'stop one of them, an id belongs to one data directory',
  )
}

function otherHistory(facts: NodeFacts, card: Card): DbError {
  return new DbError(
    'FORBIDDEN',
    `nodes ${card.nodeId} and ${facts.nodeId} have different histories of cluster ` +
      `${facts.clusterId}: it was recovered or restored without one of them, which can only ` +
      'join again with an empty directory under a new id',
  )
}

function mixedUp(actual: string, expected: string): DbError {
  return new DbError(
    'FORBIDDEN',
    `the address given for node ${expected} leads to node ${actual}; correct the addresses`,
  )
}

/** A stranger's words are cut and stripped before they reach a terminal. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 500)
}
