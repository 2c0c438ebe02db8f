/**
 * Snapshots: how a replica whose log or data can't lead it on gets the data of another one, and how
 * it gives its own to those that ask.
 */
import type { Logger } from '../base/ports.ts'

/** Why this replica's data must be replaced, and by what. */
export interface HealRequest {
  /** Shown to the operator. */
  readonly reason: string
  /** The snapshot must be of this entry or a later one. */
  readonly minIndex: number
  /** Nothing is taken from such a member. */
  readonly isSuspect: (raftId: number) => boolean
}

export interface SnapshotsParts {
  readonly logger: Logger
}

export class Snapshots {
  readonly #parts: SnapshotsParts
  #request: HealRequest | undefined

  constructor(parts: SnapshotsParts) {
    this.#parts = parts
  }

  /** A snapshot was asked for and is not installed yet. */
  get isHealing(): boolean {
    return this.#request !== undefined
  }

  /** Replaces this replica's data by a healthy member's; once at a time. */
  heal(request: HealRequest): void {
    this.#request = request
    const { reason, minIndex } = request
    this.#parts.logger.error({ reason, minIndex }, 'this replica needs the data of another')
  }
}
