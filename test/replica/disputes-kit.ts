/** Members that compute a log of entries, some of them wrongly, and settle their disputes. */
import { must } from '../../src/base/assert.ts'
import type { AcceptedEntry, Divergence, EnginePast } from '../../src/engine/engine.ts'
import { Peers } from '../../src/log/peers.ts'
import type { Taken } from '../../src/replica/data-digest.ts'
import { Disputes } from '../../src/replica/disputes.ts'
import type { OwnState } from '../../src/replica/divergence.ts'
import { ManualClock, ManualLog, ManualNetwork, SILENT } from './doubles.ts'

/** What an entry gives on a state: `right`, or something else on a state that is wrong. */
type State = string

export class Member implements OwnState {
  readonly raftId: number
  readonly #court: Court
  disputes: Disputes
  /** What it computes from some entry on, in place of what is right. */
  state: State = 'right'
  appliedIndex = 0
  past: EnginePast = { copiedIndex: 0, accepted: [], condemned: undefined }
  divergence: Divergence | undefined
  isCondemned = false
  isDown = false
  isStranded = false
  build = 'sqlite'
  /** Digests of its data, by entry. */
  readonly taken = new Map<number, Taken>()
  /** Entries that were condemned, and how often. */
  readonly condemnations: number[] = []

  constructor(raftId: number, court: Court) {
    this.raftId = raftId
    this.#court = court
    this.disputes = this.#begin()
  }

  #begin(): Disputes {
    const { network, clock } = this.#court
    const peers = new Peers(network.transportOf(this.raftId), clock, 1)
    const disputes = new Disputes({
      raftId: this.raftId,
      peers,
      clock,
      logger: SILENT,
      taken: () => this.taken,
      build: () => this.build,
      isPreparing: () => false,
      onPreparing: () => {},
      logStatus: () => this.#court.log(this.raftId),
      self: () => this,
      accept: entry => this.#accept(entry),
      condemn: divergence => {
        this.condemnations.push(divergence.index)
        this.divergence = divergence
        this.isCondemned = true
        this.past = { ...this.past, condemned: divergence }
      },
    })
    peers.listen()
    return disputes
  }

  /** What this member holds as the outcome of an applied entry. */
  outcomeOf(index: number): State {
    const accepted = this.past.accepted.find(each => each.index === index)
    return accepted === undefined ? this.#court.written(index) : accepted.digest
  }

  /** Applies what it can. */
  apply(): void {
    while (!this.isDown && this.divergence === undefined && this.appliedIndex < this.#court.last) {
      const index = this.appliedIndex + 1
      const own = this.#court.compute(index, this.state)
      const accepted = this.past.accepted.find(each => each.index === index)
      if (own !== (accepted?.digest ?? this.#court.written(index))) {
        const facts = { database: 'd', sql: `entry ${index}`, expected: 'x', actual: own }
        this.divergence = { index, ...facts, digest: own }
      } else {
        this.appliedIndex = index
      }
      this.disputes.changed()
    }
  }

  #accept(entry: AcceptedEntry): void {
    if (this.divergence?.index !== entry.index || this.isCondemned) return
    this.past = { ...this.past, accepted: [...this.past.accepted, entry] }
    this.divergence = undefined
    this.apply()
  }

  /** Its process is gone, and hears nothing. */
  stop(): void {
    this.isDown = true
    const deaf = { onFrame() {}, onConnected() {}, onDisconnected() {}, onAbsent() {} }
    this.#court.network.transportOf(this.raftId).listen(deaf)
  }

  /** A new process over files as of `index`, or of now; it knows what its files know. */
  restart(index = this.appliedIndex): void {
    this.isDown = false
    this.appliedIndex = Math.max(Math.min(index, this.appliedIndex), this.past.copiedIndex)
    this.divergence = this.past.condemned
    this.isCondemned = this.past.condemned !== undefined
    this.disputes = this.#begin()
  }

  /** Takes the data of a member that it doesn't suspect; false if there is none. */
  heal(): boolean {
    const { divergence } = this
    if (!this.isCondemned || divergence === undefined) return false
    const source = this.#court.members.find(
      member =>
        member !== this &&
        !member.isDown &&
        member.divergence === undefined &&
        member.appliedIndex >= divergence.index &&
        !this.disputes.isSuspect(member.raftId),
    )
    if (source === undefined) return false
    this.#court.onHealed(this, source)
    this.copy(source)
    return true
  }

  /** Takes the data of another member, whatever they are. */
  copy(source: Member): void {
    this.state = source.state
    this.appliedIndex = source.appliedIndex
    this.past = { ...source.past, copiedIndex: source.appliedIndex, condemned: undefined }
    this.divergence = undefined
    this.isCondemned = false
  }
}

export class Court {
  readonly clock = new ManualClock()
  readonly network = new ManualNetwork()
  readonly members: Member[]
  voters: number[]
  learners: number[]
  /** The state on which the leader of the time wrote each entry, from 1 on. */
  readonly #authors: State[] = []
  onHealed: (healed: Member, source: Member) => void = () => {}

  constructor(voters: number, learners = 0) {
    const ids = Array.from({ length: voters + learners }, (_, at) => at + 1)
    this.voters = ids.slice(0, voters)
    this.learners = ids.slice(voters)
    this.members = ids.map(id => new Member(id, this))
  }

  member(raftId: number): Member {
    return must(this.members[raftId - 1])
  }

  get last(): number {
    return this.#authors.length
  }

  /** Every state gives another outcome, so that each entry tells. */
  compute(index: number, state: State): string {
    return `${state}@${index}`
  }

  written(index: number): string {
    return this.compute(index, must(this.#authors[index - 1]))
  }

  /** Member `raftId` leads, executes `count` entries, and has them committed. */
  lead(raftId: number, count = 1): void {
    const leader = this.member(raftId)
    for (let left = count; left > 0; left--) {
      this.#authors.push(leader.state)
      leader.apply()
    }
  }

  log(raftId: number): ReturnType<ManualLog['status']> {
    const status = new ManualLog(raftId).status()
    const { voters, learners } = this
    const peers = [...voters, ...learners].filter(id => id !== raftId)
    return {
      ...status,
      lastIndex: this.last,
      voters,
      learners,
      membership: {
        ...status.membership,
        voters,
        learners,
        votersOutgoing: [],
        members: [...voters, ...learners].map(id => ({
          raftId: id,
          nodeId: `n${id}`,
          address: '',
          incarnation: `i${id}`,
        })),
      },
      peers: peers.map(id => ({
        raftId: id,
        nodeId: `n${id}`,
        address: '',
        isConnected: true,
        lastContactMs: 0,
        retries: 0,
        matchIndex: 0,
        progress: undefined,
        offeredIndex: undefined,
      })),
    }
  }

  /** All members that run apply, talk, and settle what they can. */
  settle(rounds = 12): void {
    for (let round = 0; round < rounds; round++) {
      for (const member of this.members) {
        if (member.isDown) continue
        member.apply()
        member.disputes.tick()
      }
      this.network.deliver()
    }
  }
}
