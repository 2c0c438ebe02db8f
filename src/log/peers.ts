/**
 * Peers shares one transport among everything that members of a group say to each other: the
 * messages of Raft, forwarded requests and their answers, and the reports of health. Each frame
 * carries the group, although there is only one group yet. The handshake has settled versions; what
 * this program can't read all the same is refused with a sentence, and harms nothing but itself.
 *
 * Frame: u8 version (1), u32 group id (big endian), u8 kind, body.
 */
import { DbError } from '../base/errors.ts'
import type { Clock, Lane, MemberList, PeerHandler, PeerTransport } from '../base/ports.ts'

const FRAME_VERSION = 1
const FRAME_HEAD_BYTES = 6
/** So many different ones are told of. */
const REFUSALS_MAX = 100

const KINDS = ['raft', 'forward', 'forward-reply', 'report', 'testimony'] as const

/** What a frame carries. */
export type FrameKind = (typeof KINDS)[number]

export type LinkListener = (peer: number, lane: Lane, isConnected: boolean) => void

/** What this node knows of the connections to one peer. */
export interface PeerContact {
  readonly isConnected: boolean
  /** Monotonic time of the last frame from it. */
  readonly lastFrameMs: number | undefined
  readonly retries: number
  /** Nobody listened at its address when it was last dialled, and nothing came from it since. */
  readonly isAbsent: boolean
}

interface Contact {
  readonly lanes: Set<Lane>
  lastFrameMs?: number
  retries: number
  isAbsent: boolean
}

export class Peers {
  readonly #transport: PeerTransport
  readonly #clock: Clock
  readonly #head: Uint8Array
  readonly #listeners = new Map<FrameKind, (from: number, body: Uint8Array) => void>()
  readonly #refusals = new Set<string>()
  #onRefused: (from: number, error: DbError) => void = () => {}
  readonly #linkListeners: LinkListener[] = []
  readonly #contacts = new Map<number, Contact>()

  constructor(transport: PeerTransport, clock: Clock, groupId: number) {
    this.#transport = transport
    this.#clock = clock
    this.#head = new Uint8Array(FRAME_HEAD_BYTES)
    const view = new DataView(this.#head.buffer)
    view.setUint8(0, FRAME_VERSION)
    view.setUint32(1, groupId)
  }

  /**
   * Registers the one listener of a kind; all must be there before `listen`. A body that `decode`
   * refuses with CORRUPT or WRONG_DATA is dropped, as if it had been lost on its way, and told.
   */
  on<T>(
    kind: FrameKind,
    decode: (body: Uint8Array) => T,
    listener: (from: number, message: T) => void,
  ): void {
    this.#listeners.set(kind, (from, body) => {
      let message: T
      try {
        message = decode(body)
      } catch (error) {
        if (!(error instanceof DbError)) throw error
        this.#refuse(from, error)
        return
      }
      listener(from, message)
    })
  }

  /** Registers who is told of frames that this program can't read, of each peer and reason once. */
  onRefused(listener: (from: number, error: DbError) => void): void {
    this.#onRefused = listener
  }

  onLink(listener: LinkListener): void {
    this.#linkListeners.push(listener)
  }

  /** Begins to deliver frames. */
  listen(): void {
    const handler: PeerHandler = {
      onFrame: (from, _lane, frame) => this.#onFrame(from, frame),
      onConnected: (peer, lane, retries) => {
        const contact = this.#contact(peer)
        contact.lanes.add(lane)
        contact.retries = retries
        contact.isAbsent = false
        for (const listener of this.#linkListeners) listener(peer, lane, true)
      },
      onDisconnected: (peer, lane) => {
        this.#contact(peer).lanes.delete(lane)
        for (const listener of this.#linkListeners) listener(peer, lane, false)
      },
      onAbsent: peer => {
        const contact = this.#contact(peer)
        contact.isAbsent = contact.lanes.size === 0
      },
    }
    this.#transport.listen(handler)
  }

  /** Whom there is to speak to, from now on. */
  setMembers(list: MemberList): void {
    const ids = new Set(list.members.map(({ raftId }) => raftId))
    for (const raftId of this.#contacts.keys()) {
      if (!ids.has(raftId) && raftId < list.nextRaftId) this.#contacts.delete(raftId)
    }
    this.#transport.setMembers(list)
  }

  /** False if the frame surely did not leave this node. */
  send(to: number, lane: Lane, kind: FrameKind, body: Uint8Array): boolean {
    const frame = new Uint8Array(FRAME_HEAD_BYTES + body.byteLength)
    frame.set(this.#head)
    frame[5] = KINDS.indexOf(kind)
    frame.set(body, FRAME_HEAD_BYTES)
    return this.#transport.send(to, lane, frame)
  }

  contact(peer: number): PeerContact {
    const { lanes, lastFrameMs, retries, isAbsent } = this.#contact(peer)
    const isConnected = lanes.has('control') && lanes.has('data')
    return { isConnected, lastFrameMs, retries, isAbsent }
  }

  #contact(peer: number): Contact {
    let contact = this.#contacts.get(peer)
    if (contact === undefined) {
      contact = { lanes: new Set(), retries: 0, isAbsent: false }
      this.#contacts.set(peer, contact)
    }
    return contact
  }

  #onFrame(from: number, frame: Uint8Array): void {
    const contact = this.#contact(from)
    contact.lastFrameMs = this.#clock.monotonicMs()
    contact.isAbsent = false
    const refusal = this.#refusal(frame)
    if (refusal !== undefined) return this.#refuse(from, new DbError('WRONG_DATA', refusal))
    const kind = KINDS[frame[5] ?? KINDS.length]
    if (kind !== undefined) this.#listeners.get(kind)?.(from, frame.subarray(FRAME_HEAD_BYTES))
  }

  /** Why this frame is not for this program, if it isn't. */
  #refusal(frame: Uint8Array): string | undefined {
    if (frame.byteLength < FRAME_HEAD_BYTES) return `a frame of ${frame.byteLength} bytes`
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
    const version = view.getUint8(0)
    if (version !== FRAME_VERSION) {
      return `a frame in format ${version}; this program speaks ${FRAME_VERSION}`
    }
    for (let at = 1; at < FRAME_HEAD_BYTES - 1; at += 1) {
      if (frame[at] !== this.#head[at]) return `a frame for group ${view.getUint32(1)}`
    }
    const kind = view.getUint8(FRAME_HEAD_BYTES - 1)
    return KINDS[kind] === undefined ? `a frame of the unknown kind ${kind}` : undefined
  }

  #refuse(from: number, error: DbError): void {
    const key = `${from} ${error.message}`
    if (this.#refusals.has(key) || this.#refusals.size >= REFUSALS_MAX) return
    this.#refusals.add(key)
    this.#onRefused(from, error)
  }
}
