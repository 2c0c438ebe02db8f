/**
 * The PeerTransport over the node's one port. To each peer the node dials two lanes, control and
 * data, on which it only sends; it receives on the lanes that the others dialled, which the HTTP
 * server hands over as upgrades of `GET /replicate`.
 */
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { assert, must } from '../base/assert.ts'
import type { DbError } from '../base/errors.ts'
import type {
  Clock,
  Lane,
  Logger,
  MemberList,
  PeerHandler,
  PeerMember,
  PeerTransport,
  Random,
} from '../base/ports.ts'
import { checkSecretNeeded, isLoopbackHost } from './address.ts'
import { BootRegister } from './boot-register.ts'
import { AcceptorHandshake, type NodeFacts } from './handshake.ts'
import { frameMessage } from './handshake-messages.ts'
import { runHandshake } from './handshake-socket.ts'
import { IncomingLane } from './incoming-lane.ts'
import { OutgoingLane } from './outgoing-lane.ts'
import { type PeerLimits, UPGRADE_PROTOCOL } from './peer-limits.ts'
import { Roster } from './roster.ts'

export interface PeerTransportOptions {
  /** `bootId` is made by the transport. */
  readonly facts: Omit<NodeFacts, 'bootId' | 'roster'>
  /** The newest members that this node has heard of. */
  readonly members: MemberList
  readonly limits: PeerLimits
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** A member proved that this node was removed from the cluster. May be called several times. */
  readonly onRemoved?: (by: PeerMember) => void
}

/** How the connections to one peer are. */
export interface TransportHealth {
  /** Both lanes to the peer are open. */
  readonly isConnected: boolean
  /** Milliseconds since the peer last showed life, undefined if it never did. */
  readonly lastContactMs: number | undefined
  /** Failed attempts to connect since the last success, of the worse lane. */
  readonly retries: number
  /** Why a lane is not open, the one that was dialled last in vain; undefined if both are open. */
  readonly lastError: DbError | undefined
  /** Bytes that wait on both lanes. */
  readonly queuedBytes: number
}

interface Peer {
  readonly member: PeerMember
  /** Not in the list of members yet: newer than what this node knows. */
  isGuest: boolean
  readonly outgoing: Readonly<Record<Lane, OutgoingLane>>
  readonly incoming: Map<Lane, IncomingLane>
  lastContactMs: number | undefined
  /** The same on the lanes that the peer opened. */
  lastIncomingMs: number | undefined
}

/** A peer that was silent for so many of its pings is not thought to be there any more. */
const ALIVE_PINGS = 3

/** How long a refused caller may take to read why. */
const LINGER_MS = 1000

/** At most so many refused callers are logged in so much time; anyone can call. */
const REFUSALS_LOGGED_MAX = 20
const REFUSALS_LOGGED_MS = 60_000

/** Strangers that may be members newer than what this node knows; one change brings at most two. */
const GUESTS_MAX = 8

export class TcpPeerTransport implements PeerTransport {
  readonly #options: PeerTransportOptions
  readonly #facts: NodeFacts
  readonly #roster: Roster
  readonly #peers = new Map<number, Peer>()
  readonly #boots = new BootRegister()
  /** Sockets of callers, from the upgrade to their end. */
  readonly #sockets = new Set<Duplex>()
  /** Callers that have not proved themselves, oldest first, each with what ends it. */
  readonly #unproven = new Map<Duplex, () => void>()
  /** Differences of options that were told already. */
  readonly #differences = new Set<string>()
  #handler: PeerHandler | undefined
  #isStopped = false
  #refusalsLogged = 0
  #refusalsSinceMs = 0

  /** Throws UNAUTHENTICATED if there is no secret and an address can be reached from outside. */
  constructor(options: PeerTransportOptions) {
    const { facts, members, random } = options
    const addresses = members.members.map(member => member.address)
    if (addresses.length > 1) checkSecretNeeded(facts.secret, addresses)
    this.#options = options
    this.#roster = new Roster(members)
    const bootId = Buffer.from(random.bytes(16)).toString('hex')
    this.#facts = { ...facts, bootId, roster: this.#roster }
    this.#dialMembers()
  }

  /**
   * The members have changed. Lanes to those that stay are left alone, the others are closed. What
   * is older than what is known changes nothing.
   */
  setMembers(list: MemberList): void {
    if (this.#isStopped || !this.#roster.update(list)) return
    for (const [raftId, peer] of this.#peers) {
      const member = this.#roster.member(raftId)
      if (member !== undefined) peer.isGuest = false
      if (this.#roster.wasRemoved(raftId)) this.#drop(peer)
    }
    this.#dialMembers()
  }

  /** Starts to dial and to let peers in. */
  listen(handler: PeerHandler): void {
    assert(this.#handler === undefined, 'a transport has one handler')
    this.#handler = handler
    for (const peer of this.#peers.values()) start(peer)
  }

  send(to: number, lane: Lane, frame: Uint8Array): boolean {
    return this.#peers.get(to)?.outgoing[lane].send(frame) ?? false
  }

  /** Some member has let this run of the node in, or there is none but this node. */
  get isLetIn(): boolean {
    const peers = [...this.#peers.values()]
    return peers.length === 0 || peers.some(({ outgoing }) => outgoing.control.isOpen)
  }

  /** Where the peer is reached, undefined if there is no such peer. */
  addressOf(raftId: number): string | undefined {
    return this.#peers.get(raftId)?.member.address
  }

  /** Undefined if there is no such peer. */
  health(raftId: number): TransportHealth | undefined {
    const peer = this.#peers.get(raftId)
    if (peer === undefined) return undefined
    const { control, data } = peer.outgoing
    const nowMs = this.#options.clock.monotonicMs()
    return {
      isConnected: control.isOpen && data.isOpen,
      lastContactMs: peer.lastContactMs === undefined ? undefined : nowMs - peer.lastContactMs,
      retries: Math.max(control.retries, data.retries),
      lastError: control.lastError ?? data.lastError,
      queuedBytes: control.queuedBytes + data.queuedBytes,
    }
  }

  /** Ends all connections and lets nobody in any more. The handler hears nothing of it. */
  stop(): void {
    this.#isStopped = true
    for (const peer of this.#peers.values()) {
      peer.outgoing.control.stop()
      peer.outgoing.data.stop()
      for (const lane of peer.incoming.values()) lane.close()
    }
    for (const giveUp of this.#unproven.values()) giveUp()
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Takes over an HTTP request to upgrade `GET /replicate`, and its socket for good. */
  accept(request: IncomingMessage, socket: Duplex, head: Uint8Array): void {
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    // An error without a listener would end the process; what broke is told by 'close'.
    socket.on('error', () => {})
    const refusal = this.#whyNotUpgraded(request)
    if (refusal !== undefined) {
      const [status, sentence] = refusal
      const headers = `Connection: close\r\nContent-Length: ${sentence.length}`
      this.#endSoftly(socket, `HTTP/1.1 ${status}\r\n${headers}\r\n\r\n${sentence}`)
      return
    }
    const headers = `Connection: Upgrade\r\nUpgrade: ${UPGRADE_PROTOCOL}`
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers}\r\n\r\n`)
    this.#shakeHands(socket, head)
  }

  #whyNotUpgraded(
    request: IncomingMessage,
  ): readonly [status: string, sentence: string] | undefined {
    if (request.headers.upgrade?.toLowerCase() !== UPGRADE_PROTOCOL) {
      return ['426 Upgrade Required', `this path is for Upgrade: ${UPGRADE_PROTOCOL}`]
    }
    if (this.#handler === undefined || this.#isStopped) {
      return ['503 Service Unavailable', 'this node is starting or stopping']
    }
    const from = request.socket.remoteAddress
    if (this.#facts.secret === '' && !isLoopbackHost(from ?? '')) {
      return ['403 Forbidden', 'without a cluster secret only this machine may connect']
    }
    return undefined
  }

  #shakeHands(socket: Duplex, head: Uint8Array): void {
    const { limits, clock, random } = this.#options
    if (this.#unproven.size >= limits.unprovenCountMax) {
      // The oldest has had the most time: a peer needs milliseconds, a stalling stranger for ever.
      const [oldest, giveUp] = must(this.#unproven.entries().next().value)
      giveUp()
      this.#unproven.delete(oldest)
      oldest.destroy()
    }
    const handshake = new AcceptorHandshake(this.#facts, random.bytes(32), (peer, boot) =>
      this.#boots.check(peer, boot, this.#isHere(peer.raftId)),
    )
    let isProvenOrGone = false
    const giveUp = runHandshake({
      socket,
      head,
      handshake,
      timeoutMs: limits.handshakeTimeoutMs,
      clock,
      onFailed: (error, message) => {
        isProvenOrGone = true
        this.#unproven.delete(socket)
        this.#logRefusal(socket, error)
        if (message === undefined) socket.destroy()
        else this.#endSoftly(socket, frameMessage(message))
      },
      onDone: (step, rest) => {
        isProvenOrGone = true
        this.#unproven.delete(socket)
        this.#boots.admit(step.peer, step.boot)
        this.#warnOf(step.difference)
        this.#admit(this.#peerAt(step.peer), step.lane, socket, rest)
      },
    })
    if (!isProvenOrGone) this.#unproven.set(socket, giveUp)
  }

  /** True while the peer is connected and shows life: no new run of it can have begun. */
  #isHere(raftId: number): boolean {
    const peer = this.#peers.get(raftId)
    if (peer?.lastIncomingMs === undefined || peer.incoming.size === 0) return false
    const { clock, limits } = this.#options
    return clock.monotonicMs() - peer.lastIncomingMs < ALIVE_PINGS * limits.pingMs
  }

  #admit(peer: Peer, lane: Lane, socket: Duplex, rest: Uint8Array): void {
    const { limits, clock, logger } = this.#options
    const { raftId, nodeId } = peer.member
    // The peer dials again only when it has given up the old connection, whatever we see of it.
    peer.incoming.get(lane)?.close()
    const incoming: IncomingLane = new IncomingLane({
      socket,
      limits,
      clock,
      onContact: () => this.#contact(raftId, true),
      onFrame: body => must(this.#handler).onFrame(raftId, lane, body),
      onClosed: error => {
        if (peer.incoming.get(lane) === incoming) peer.incoming.delete(lane)
        const facts = { peer: nodeId, lane, error }
        if (error.code === 'CORRUPT') logger.error(facts, 'a peer sent something that is no frame')
        else logger.debug(facts, 'a peer closed its lane')
      },
    })
    peer.incoming.set(lane, incoming)
    this.#contact(raftId, true)
    logger.debug({ peer: nodeId, lane }, 'a peer opened its lane')
    peer.outgoing.control.wake()
    peer.outgoing.data.wake()
    incoming.start(rest)
  }

  /** Has a peer for every member but this node, at the member's address. */
  #dialMembers(): void {
    for (const member of this.#roster.list.members) {
      if (member.raftId !== this.#facts.raftId) this.#peerAt(member)
    }
  }

  /** The peer, reached at the address that it has now: a member may have moved. */
  #peerAt(member: PeerMember): Peer {
    const { logger } = this.#options
    const present = this.#peers.get(member.raftId)
    if (present?.member.address === member.address) return present
    if (present !== undefined) {
      logger.info({ peer: member.nodeId, address: member.address }, 'a peer has moved')
      this.#hangUp(present)
    }
    const isGuest = this.#roster.member(member.raftId) === undefined
    if (isGuest) {
      logger.info({ peer: member.nodeId, address: member.address }, 'a newer member called')
      const guests = [...this.#peers.values()].filter(peer => peer.isGuest)
      if (guests.length >= GUESTS_MAX) this.#drop(must(guests[0]))
    }
    const peer = this.#createPeer(member, isGuest, present?.incoming ?? new Map())
    this.#peers.set(member.raftId, peer)
    if (this.#handler !== undefined) start(peer)
    return peer
  }

  /** Forgets a peer that is no member any more. */
  #drop(peer: Peer): void {
    this.#peers.delete(peer.member.raftId)
    this.#hangUp(peer)
    for (const lane of peer.incoming.values()) lane.close()
  }

  /** Ends the lanes to a peer, and says so: they don't come back. */
  #hangUp(peer: Peer): void {
    for (const lane of ['control', 'data'] as const) {
      const { isOpen } = peer.outgoing[lane]
      peer.outgoing[lane].stop()
      if (!isOpen) continue
      setImmediate(() => {
        if (this.#isStopped) return
        this.#handler?.onDisconnected(peer.member.raftId, lane, 'the members changed')
      })
    }
  }

  #createPeer(member: PeerMember, isGuest: boolean, incoming: Map<Lane, IncomingLane>): Peer {
    const createLane = (lane: Lane): OutgoingLane =>
      new OutgoingLane({
        ...this.#options,
        facts: this.#facts,
        peer: member,
        lane,
        onOpen: retries => must(this.#handler).onConnected(member.raftId, lane, retries),
        onClosed: reason => must(this.#handler).onDisconnected(member.raftId, lane, reason),
        onAbsent: () => must(this.#handler).onAbsent(member.raftId),
        onContact: () => this.#contact(member.raftId, false),
        onRefused: error => {
          if (error.code === 'REMOVED') this.#options.onRemoved?.(member)
        },
      })
    return {
      member,
      isGuest,
      outgoing: { control: createLane('control'), data: createLane('data') },
      incoming,
      lastContactMs: undefined,
      lastIncomingMs: undefined,
    }
  }

  #warnOf(difference: string): void {
    if (difference === '' || this.#differences.has(difference)) return
    this.#differences.add(difference)
    const message = 'nodes differ in an option that should be the same on all of them'
    this.#options.logger.warn({ difference }, message)
  }

  #contact(raftId: number, isIncoming: boolean): void {
    const peer = this.#peers.get(raftId)
    if (peer === undefined) return
    peer.lastContactMs = this.#options.clock.monotonicMs()
    if (isIncoming) peer.lastIncomingMs = peer.lastContactMs
  }

  #endSoftly(socket: Duplex, lastBytes: string | Uint8Array): void {
    const timer = this.#options.clock.setTimer(LINGER_MS, () => socket.destroy())
    socket.on('close', () => timer.cancel())
    socket.on('end', () => socket.destroy())
    socket.resume()
    socket.end(lastBytes)
  }

  #logRefusal(socket: Duplex, error: DbError): void {
    const { logger, clock } = this.#options
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#refusalsSinceMs > REFUSALS_LOGGED_MS) {
      this.#refusalsSinceMs = nowMs
      this.#refusalsLogged = 0
    }
    const from = socket instanceof Socket ? socket.remoteAddress : undefined
    this.#refusalsLogged += 1
    if (this.#refusalsLogged > REFUSALS_LOGGED_MAX) return
    logger.warn({ from, error }, 'a caller was not let in as a peer')
  }
}

function start(peer: Peer): void {
  peer.outgoing.control.start()
  peer.outgoing.data.start()
}
