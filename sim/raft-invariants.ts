/**
 * What must hold in every Raft cluster after every event, whatever happens to it (thesis 3.2 to
 * 3.6 and 4). It watches all nodes from outside and keeps what has ever been committed; a node
 * that contradicts it ends the run. Used by the raft-only simulation and by the whole one.
 */
import type { ConfState, Entry, RaftId, Role, Snapshot } from '../src/raft/types.ts'
import { hashBytes } from './sim-random.ts'
import { check, type World } from './world.ts'

/** What a node is at this moment, as cheap to make as possible: it is looked at after every event. */
export interface RaftView {
  readonly id: RaftId
  readonly term: number
  readonly role: Role
  readonly commitIndex: number
  readonly appliedIndex: number
  lastIndex(): number
  /** Term of an entry of this node's log; undefined if it is compacted or not there. */
  termAt(index: number): number | undefined
  confState(): ConfState
}

/** Looks into any member's disk, also one that is down. */
export interface Disks {
  /** The term that would be read at `index` after losing power now; `covered` by a snapshot. */
  durableTerm(node: RaftId, index: number): number | 'covered' | undefined
}

interface Committed {
  readonly term: number
  readonly hash: number
  /** Term of the leader that first counted it as committed. */
  readonly leaderTerm: number
}

interface Seen {
  readonly hash: number
  readonly previousTerm: number | undefined
}

/** What is remembered of one life of a node, and of the node over all its lives. */
interface Memory {
  term: number
  role: Role
  commitIndex: number
  appliedIndex: number
  life: number
}

const TERM_LIMIT = 2 ** 20

export class RaftInvariants {
  readonly #world: World
  readonly #disks: Disks
  /** By index. Those up to the base stand for what every founding node is born with. */
  readonly #committed: Committed[] = []
  /** Every entry ever written anywhere, by index and term. */
  readonly #seen = new Map<number, Seen>()
  /** Leader of each term, with its life: a restarted node isn't the same leader. */
  readonly #leaders = new Map<number, string>()
  /** Every vote given, by term and voter. */
  readonly #votes = new Map<string, RaftId>()
  readonly #memories = new Map<RaftId, Memory>()
  /** Membership after each applied membership entry, as the first node that applied it has it. */
  readonly #memberships = new Map<number, string>()

  /** `base` is the position of the log at which the cluster was founded, 0/0 for an empty one. */
  constructor(world: World, disks: Disks, base: { readonly index: number; readonly term: number }) {
    this.#world = world
    this.#disks = disks
    for (let index = 0; index <= base.index; index++) {
      this.#committed.push({ term: index === 0 ? 0 : base.term, hash: 0, leaderTerm: base.term })
    }
  }

  /** Last index that any node ever knew to be committed. */
  get commitIndex(): number {
    return this.#committed.length - 1
  }

  /** Hash of the payload committed at `index`. */
  committedHash(index: number): number | undefined {
    return this.#committed[index]?.hash
  }

  /** A new life of a node begins with what its disk kept. */
  started(view: RaftView): void {
    const before = this.#memories.get(view.id)
    this.#memories.set(view.id, {
      term: view.term,
      role: view.role,
      commitIndex: view.commitIndex,
      appliedIndex: view.appliedIndex,
      life: (before?.life ?? 0) + 1,
    })
    this.#checkCommitted(view, 0)
  }

  /**
   * `view`'s node puts `entries` into its log, in place of whatever it had there. `storedTerm` tells
   * what that was.
   */
  appended(
    view: RaftView,
    entries: readonly Entry[],
    storedTerm: (index: number) => number | undefined,
  ): void {
    let previousTerm = view.termAt((entries[0]?.index ?? 0) - 1)
    for (const entry of entries) {
      const { index, term } = entry
      check(term < TERM_LIMIT, () => `term ${term} is beyond what the checker can hold`)
      const hash = hashEntry(entry)
      const key = index * TERM_LIMIT + term
      const seen = this.#seen.get(key)
      if (seen === undefined) {
        this.#seen.set(key, { hash, previousTerm })
      } else {
        const isSame =
          seen.hash === hash &&
          (seen.previousTerm === previousTerm ||
            seen.previousTerm === undefined ||
            previousTerm === undefined)
        check(
          isSame,
          () => `log matching: ${view.id} has another entry at ${index} of term ${term}`,
        )
      }
      // A node that missed it may still be told otherwise by a deposed leader, and will be put right.
      const committed = this.#committed[index]
      check(
        committed === undefined || committed.term === term || storedTerm(index) !== committed.term,
        () => `${view.id} replaced committed entry ${index}/${committed?.term} by one of ${term}`,
      )
      previousTerm = term
    }
  }

  /** A vote (not a pre-vote) has left the node, or counts for itself. */
  voted(voter: RaftId, term: number, candidate: RaftId): void {
    const key = `${term}/${voter}`
    const before = this.#votes.get(key)
    check(
      before === undefined || before === candidate,
      () => `vote twice: ${voter} voted for ${before} and ${candidate} in term ${term}`,
    )
    this.#votes.set(key, candidate)
  }

  /** Called after every event for the node it happened to. */
  observe(view: RaftView): void {
    const memory = this.#memories.get(view.id)
    if (memory === undefined) return
    const { id, term, role, commitIndex, appliedIndex } = view
    check(term >= memory.term, () => `${id}: term went from ${memory.term} back to ${term}`)
    check(
      commitIndex >= memory.commitIndex,
      () => `${id}: commit went from ${memory.commitIndex} back to ${commitIndex}`,
    )
    check(
      appliedIndex >= memory.appliedIndex && appliedIndex <= commitIndex,
      () => `${id}: applied ${memory.appliedIndex} -> ${appliedIndex}, commit ${commitIndex}`,
    )
    if (commitIndex > memory.commitIndex) this.#commit(view, memory)
    const isNews = role !== memory.role || term !== memory.term
    if (role === 'leader' && isNews) this.#elected(view, memory)
    if (role === 'candidate' && isNews) this.#mayCampaign(view)
    memory.term = term
    memory.role = role
    memory.commitIndex = commitIndex
    memory.appliedIndex = appliedIndex
  }

  /** A committed entry reached the state machine of `node`. */
  applied(node: RaftId, entry: Entry, previousIndex: number): void {
    const { index } = entry
    check(index === previousIndex + 1, () => `${node} applied ${index} after ${previousIndex}`)
    const committed = this.#committed[index]
    check(committed !== undefined, () => `${node} applied ${index}, which nobody committed`)
    check(
      committed?.term === entry.term && committed.hash === hashEntry(entry),
      () => `state machine safety: ${node} applied another entry at ${index}`,
    )
  }

  /** `node` has switched to `confState` by applying the membership entry at `index`. */
  membershipApplied(node: RaftId, index: number, confState: ConfState): void {
    const text = describe(confState)
    const before = this.#memberships.get(index)
    check(
      before === undefined || before === text,
      () => `${node} has membership ${text} after ${index}, another has ${before}`,
    )
    this.#memberships.set(index, text)
  }

  /** `node` has replaced its log by a snapshot. */
  installed(node: RaftId, snapshot: Snapshot): void {
    const { index, term } = snapshot.metadata
    const committed = this.#committed[index]
    check(
      committed?.term === term,
      () => `${node} installed a snapshot of ${index}/${term}, committed is ${committed?.term}`,
    )
    const made = [...this.#memberships.keys()].filter(at => at <= index)
    const members = this.#memberships.get(Math.max(...made))
    const text = describe(snapshot.metadata.confState)
    check(
      members === undefined || members === text,
      () => `${node} installed a snapshot of ${index} with ${text}, the members were ${members}`,
    )
  }

  /** Thesis 3.2, election safety: "at most one leader can be elected in a given term". */
  #elected(view: RaftView, memory: Memory): void {
    const { id, term } = view
    const name = `${id} in life ${memory.life}`
    const before = this.#leaders.get(term)
    check(
      before === undefined || before === name,
      () => `election safety: ${name} and ${before} both lead term ${term}`,
    )
    this.#leaders.set(term, name)
    this.#world.note('leader', id, term, view.lastIndex())
    const { voters, votersOutgoing } = view.confState()
    check(
      voters.includes(id) || votersOutgoing.includes(id),
      () => `${id} leads term ${term} without being a voter`,
    )
    this.#isComplete(view)
  }

  /** Leader completeness: what was committed in an earlier term is in the log of every later leader. */
  #isComplete(view: RaftView): void {
    for (let index = this.commitIndex; index > 0; index--) {
      const committed = this.#committed[index]
      // A leader may learn late that it was elected, when a later one has committed already.
      if (committed === undefined || committed.leaderTerm > view.term) continue
      const term = view.termAt(index)
      const isThere = term === committed.term || (term === undefined && index <= view.commitIndex)
      check(
        isThere,
        () =>
          `leader completeness: ${view.id} leads term ${view.term} with ${term} at ${index}, ` +
          `where ${committed.term} was committed in term ${committed.leaderTerm}`,
      )
      // By log matching everything before it agrees too.
      return
    }
  }

  #mayCampaign(view: RaftView): void {
    const { voters, votersOutgoing } = view.confState()
    check(
      voters.includes(view.id) || votersOutgoing.includes(view.id),
      () => `${view.id} campaigns in term ${view.term} without being a voter`,
    )
  }

  #commit(view: RaftView, memory: Memory): void {
    const { id, term, commitIndex } = view
    if (commitIndex > this.commitIndex) {
      check(
        view.role === 'leader' || memory.role === 'leader',
        () => `${id} knows ${commitIndex} as committed before any leader does`,
      )
      // Thesis 3.6.2: "Raft never commits log entries from previous terms by counting replicas."
      const lastTerm = view.termAt(commitIndex)
      check(
        lastTerm === term,
        () => `${id} leads term ${term} and committed ${commitIndex} of term ${lastTerm}`,
      )
      this.#isOnQuorum(view, commitIndex)
      for (let index = this.commitIndex + 1; index <= commitIndex; index++) {
        const entryTerm = view.termAt(index)
        const seen = this.#seen.get(index * TERM_LIMIT + (entryTerm ?? 0))
        check(seen !== undefined, () => `${id} committed ${index}/${entryTerm}, never appended`)
        this.#committed.push({ term: entryTerm ?? 0, hash: seen?.hash ?? 0, leaderTerm: term })
      }
      this.#world.note('commit', id, commitIndex, term)
    }
    this.#checkCommitted(view, memory.commitIndex)
  }

  /** What a node calls committed is what was committed. By log matching the last one is enough. */
  #checkCommitted(view: RaftView, from: number): void {
    const { id, commitIndex } = view
    if (commitIndex <= from) return
    const committed = this.#committed[commitIndex]
    const term = view.termAt(commitIndex)
    check(
      committed !== undefined && (term === undefined || committed.term === term),
      () => `${id} has ${commitIndex}/${term} as committed, but ${committed?.term} is`,
    )
  }

  /** A committed entry is on the disks, not in the memories, of a quorum of each half. */
  #isOnQuorum(view: RaftView, index: number): void {
    const { voters, votersOutgoing } = view.confState()
    const term = view.termAt(index)
    for (const half of [voters, votersOutgoing]) {
      const kept = half.filter(voter => {
        const durable = this.#disks.durableTerm(voter, index)
        return durable === term || durable === 'covered'
      })
      check(
        half.length === 0 || kept.length > half.length / 2,
        () =>
          `${view.id} committed ${index}/${term}, only on disks ${kept.join()} of ${half.join()}`,
      )
    }
  }
}

function hashEntry(entry: Entry): number {
  return entry.type === 'config' ? ~hashBytes(entry.data) : hashBytes(entry.data)
}

function describe(confState: ConfState): string {
  const { voters, learners, votersOutgoing, learnersNext } = confState
  return [voters, learners, votersOutgoing, learnersNext].map(ids => ids.join()).join('|')
}
