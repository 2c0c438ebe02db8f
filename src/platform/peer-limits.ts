/** Limits and paces of the connections between members. */
import type { Lane } from '../base/ports.ts'

export interface PeerLimits {
  /** From the first byte to the last message of a handshake, connecting included. */
  readonly handshakeTimeoutMs: number
  /** Connections that have not proved themselves yet; beyond, the oldest is closed. */
  readonly unprovenCountMax: number
  /** A sender that has been silent for so long sends a ping. */
  readonly pingMs: number
  /** A receiver confirms what came at this pace. */
  readonly confirmMs: number
  /** Bytes are under way and none was confirmed for so long: the connection is dead. */
  readonly stallMs: number
  /** Nothing came, not even a ping, for so long: the connection is dead. */
  readonly idleMs: number
  /** Pause before the second attempt to connect; it doubles up to the maximum. */
  readonly backoffMsMin: number
  readonly backoffMsMax: number
  /** Pause after a refusal that will not pass by itself, such as a wrong secret. */
  readonly refusedMs: number
  /** Bytes that may wait on a lane; beyond, frames are dropped. */
  readonly laneBytesMax: Readonly<Record<Lane, number>>
}

export const PEER_LIMITS: PeerLimits = {
  handshakeTimeoutMs: 5000,
  unprovenCountMax: 64,
  pingMs: 1000,
  confirmMs: 500,
  stallMs: 5000,
  idleMs: 10_000,
  backoffMsMin: 50,
  backoffMsMax: 2000,
  refusedMs: 10_000,
  laneBytesMax: { control: 1024 * 1024, data: 64 * 1024 * 1024 },
}

/** Value of the HTTP header `Upgrade` by which a member asks for a lane. */
export const UPGRADE_PROTOCOL = 'lockstep-replicate'
