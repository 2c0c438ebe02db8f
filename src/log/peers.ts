/**
 * Peers shares one transport among everything that members of a group say to each other: the
 * messages of Raft, forwarded requests and their answers, and the reports of health. Each frame
 * carries the group, although there is only one group yet.
 *
 * Frame: u8 version (1), u32 group id (big endian), u8 kind, body.
 */
import type { Clock, Lane, MemberList, PeerHandler, PeerTransport } from '../base/ports.ts'

const FRAME_VERSION = 1
const FRAME_HEAD_BYTES = 6

const KINDS = ['raft', 'forward', 'forward-reply', 'report', 'testimony'] as const

/** What a frame carries. */
export type FrameKind = (typeof KINDS)[number]

export type FrameListener = (from: number, body: Uint8Array) => void

export type LinkListener = (peer: number, lane: Lane, isConnected: boolean) => void

/** What this node knows of the connections to one peer. */
export interface PeerContact {
  readonly isConnected: boolean
  /** Monotonic time of the last frame from it. */
  readonly lastFrameMs: number | undefined
  readonly retries: number
}

export class Peers {
  readonly #transport: PeerTransport
  readonly #clock: Clock
  readonly #head: Uint8Array
  readonly #listeners = new Map<FrameKind, FrameListener>()
  readonly #linkListeners: LinkListener[] = []
  readonly #contacts = new Map<
    number,
    { lanes: Set<Lane>; lastFrameMs?: number; retries: number }
  >()

  constructor(transport: PeerTransport, clock: Clock, groupId: number) {
    this.#transport = transport
    this.#clock = clock
    this.#head = new Uint8Array(FRAME_HEAD_BYTES)
    const view = new DataView(this.#head.buffer)
    view.setUint8(0, FRAME_VERSION)
    view.setUint32(1, groupId)
  }

  /** Registers the one listener of a kind; all must be there before `listen`. */
  on(kind: FrameKind, listener: FrameListener): void {
    this.#listeners.set(kind, listener)
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
        for (const listener of this.#linkListeners) listener(peer, lane, true)
      },
      onDisconnected: (peer, lane) => {
        this.#contact(peer).lanes.delete(lane)
        for (const listener of this.#linkListeners) listener(peer, lane, false)
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
    const { lanes, lastFrameMs, retries } = this.#contact(peer)
    return { isConnected: lanes.has('control') && lanes.has('data'), lastFrameMs, retries }
  }

  #contact(peer: number): { lanes: Set<Lane>; lastFrameMs?: number; retries: number } {
    let contact = this.#contacts.get(peer)
    if (contact === undefined) {
      contact = { lanes: new Set(), retries: 0 }
      this.#contacts.set(peer, contact)
    }
    return contact
  }

  #onFrame(from: number, frame: Uint8Array): void {
    this.#contact(from).lastFrameMs = this.#clock.monotonicMs()
    // A frame of another version or group is for somebody else. The handshake has settled versions
    // already, so this is only reached when a group was removed on one side.
    if (frame.byteLength < FRAME_HEAD_BYTES) return
    for (let at = 0; at < FRAME_HEAD_BYTES - 1; at += 1) if (frame[at] !== this.#head[at]) return
    const kind = KINDS[frame[5] ?? KINDS.length]
    if (kind === undefined) return
    this.#listeners.get(kind)?.(from, frame.subarray(FRAME_HEAD_BYTES))
  }
}
