/**
 * Room on this node's disk. A log that can't be written ends its node, so that a leader that is
 * short of room refuses writes before that, as long as the refusal is sure: nothing was proposed.
 * Better still, it hands leadership to a voter that has room. A follower only says so: what others
 * have committed it keeps for as long as it can. But the leader proposes nothing that a majority
 * could not store without those that are short of room: with them it would lose that majority.
 */
import { DbError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { LogStatus, Role } from '../log/log.ts'
import type { MemberReport } from './types.ts'

/** So much more than the least must be free before a shortage is over, or it would come and go. */
const ENOUGH_FACTOR = 1.25
/** How long a leader tries to hand over, and waits after nobody took it. */
const HAND_OVER_MS = 2000
const AGAIN_MS = 5000

export interface RoomParts {
  readonly clock: Clock
  readonly logger: Logger
  /** 0: whatever is free is enough. */
  readonly minFreeBytes: number
  /** As it was seen last; undefined if that is not known. */
  readonly freeBytes: () => number | undefined
  readonly logStatus: () => RoomStatus
  /** What the others last said of themselves. */
  readonly heard: () => ReadonlyMap<number, MemberReport>
  /** Hands leadership to a voter that has room; an error if there is none or none took it. */
  readonly handOver: (timeoutMs: number, done: (error: DbError | undefined) => void) => void
}

type RoomStatus = Pick<LogStatus, 'role' | 'raftId' | 'membership' | 'peers'>

export class Room {
  readonly #parts: RoomParts
  #isShort = false
  /** Names of voters without room, if no majority is there that has some. */
  #shortVoters: readonly string[] = []
  #againAtMs = -Infinity

  constructor(parts: RoomParts) {
    this.#parts = parts
  }

  /** Bytes that are free, as far as is known. */
  get freeBytes(): number | undefined {
    return this.#parts.freeBytes()
  }

  get isShort(): boolean {
    return this.#isShort
  }

  /** Why nothing that needs room is taken here, undefined if it is. */
  refusal(): DbError | undefined {
    if (!this.#isShort) return this.#refusalOfMajority()
    const { minFreeBytes } = this.#parts
    const freeBytes = this.freeBytes ?? 0
    const message =
      `the disk of this node has ${freeBytes} bytes left, and takes no writes below ` +
      `${minFreeBytes} (--min-free-bytes); no voter with more room can lead now`
    return new DbError('DISK_FULL', message, { details: { freeBytes, minFreeBytes } })
  }

  #refusalOfMajority(): DbError | undefined {
    const nodes = this.#shortVoters
    if (nodes.length === 0) return undefined
    const message =
      `the disks of ${nodes.join(' and ')} are nearly full (--min-free-bytes), and without them ` +
      'no majority of the voters could store a write; free some space there'
    return new DbError('DISK_FULL', message, { details: { nodes } })
  }

  /** Who comes to lead knows from the first write on whether a majority has room. */
  roleChanged(role: Role): void {
    const { logStatus, heard } = this.#parts
    this.#shortVoters = role === 'leader' ? neededAndShort(logStatus(), heard()) : []
  }

  /** Looks at what is free, and as a leader without room for somebody who has it. */
  tick(): void {
    this.#look()
    const { clock, logger, logStatus, handOver } = this.#parts
    const { role } = logStatus()
    this.roleChanged(role)
    const isDue = clock.monotonicMs() >= this.#againAtMs
    if (!this.#isShort || role !== 'leader' || !isDue) return
    let isBegun = false
    let isOver = false
    handOver(HAND_OVER_MS, error => {
      isOver = true
      // Writes are held meanwhile: whoever did not take over is not asked without a pause. That
      // there is nobody to ask costs nothing to find out again.
      if (error !== undefined && isBegun) this.#againAtMs = clock.monotonicMs() + AGAIN_MS
    })
    if (isOver) return
    isBegun = true
    logger.warn({}, 'leadership is to go to a node with more room on its disk')
  }

  #look(): void {
    const { minFreeBytes, logger } = this.#parts
    const { freeBytes } = this
    const wanted = this.#isShort ? minFreeBytes * ENOUGH_FACTOR : minFreeBytes
    // A disk that can't be asked isn't called full: a write that fails would tell.
    const isShort = freeBytes !== undefined && freeBytes < wanted
    if (isShort === this.#isShort) return
    this.#isShort = isShort
    const facts = { freeBytes, minFreeBytes }
    if (isShort) logger.error(facts, "this node's disk is nearly full; free some space")
    else logger.info(facts, "this node's disk has room again")
  }
}

/**
 * Other voters that are there and short of room, if those that have room are no majority without
 * them, and would be one with them. Where too few are there at all, room isn't what is missing.
 */
function neededAndShort(
  { raftId: self, membership, peers }: RoomStatus,
  heard: ReadonlyMap<number, MemberReport>,
): readonly string[] {
  const { voters, votersOutgoing } = membership
  const there = peers.filter(({ isConnected }) => isConnected)
  const short = there.filter(({ raftId }) => heard.get(raftId)?.isShortOfRoom === true)
  const isShort = (voter: number): boolean => short.some(({ raftId }) => raftId === voter)
  const isThere = (voter: number): boolean =>
    voter === self || there.some(({ raftId }) => raftId === voter)
  const lacking = [voters, votersOutgoing].filter(set => {
    const majority = Math.floor(set.length / 2) + 1
    const present = set.filter(isThere)
    return present.length >= majority && present.filter(each => !isShort(each)).length < majority
  })
  const needed = short.filter(({ raftId }) => lacking.some(set => set.includes(raftId)))
  return needed.map(({ nodeId }) => nodeId)
}
