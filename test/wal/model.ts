/** What a log should hold, step by step, and random steps that a Raft core could ask for. */
import { must } from '../../src/base/assert.ts'
import { crc32 } from '../../src/base/crc32.ts'
import type { ConfState, Entry, HardState } from '../../src/raft/types.ts'
import type { LogBase, StoredMembers } from '../../src/wal/payload.ts'
import type { Wal, WalAppend } from '../../src/wal/wal.ts'
import type { SimRandom } from '../../sim/sim-random.ts'

/** The content of a log. */
export interface LogState {
  readonly base: LogBase
  readonly hardState: HardState
  /** From `base.index + 1` on. */
  readonly entries: readonly Entry[]
}

/** Something to ask of a log. */
export type LogStep =
  | { readonly type: 'append'; readonly append: WalAppend }
  | { readonly type: 'compact'; readonly upTo: number; readonly members: StoredMembers }
  | { readonly type: 'flush' }

/** A membership of these voters. */
export function voters(...ids: readonly number[]): ConfState {
  return { voters: ids, learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false }
}

/** With a book of a length of its own. */
export function stored(confState: ConfState): StoredMembers {
  const book = new TextEncoder().encode(`book of ${confState.voters.join('-')}`)
  return { confState, book }
}

/** The members with which the logs of these tests begin. */
export const FOUNDERS = voters(1, 2, 3)
export const FOUNDING = stored(FOUNDERS)

/** The state of a new log. */
export const NEW_LOG: LogState = {
  base: { index: 0, term: 0, ...FOUNDING },
  hardState: { term: 0, vote: 0, commit: 0 },
  entries: [],
}

/** Index of the last entry. */
export function lastIndexOf(state: LogState): number {
  return state.base.index + state.entries.length
}

/** The state after a step. */
export function applyStep(state: LogState, step: LogStep): LogState {
  if (step.type === 'flush') return state
  if (step.type === 'compact') {
    const { upTo, members } = step
    const kept = state.entries.slice(upTo - state.base.index)
    const { term } = must(state.entries[upTo - state.base.index - 1])
    return { ...state, base: { index: upTo, term, ...members }, entries: kept }
  }
  const { snapshot, entries, hardState = state.hardState } = step.append
  const base = snapshot ?? state.base
  const old = snapshot === undefined ? state.entries : []
  const first = entries[0]
  const kept = first === undefined ? old : old.slice(0, first.index - base.index - 1)
  return { base, hardState, entries: [...kept, ...entries] }
}

/** Whether a power cut after its acknowledgement must not undo the step. */
export function isPromise(state: LogState, step: LogStep): boolean {
  if (step.type !== 'append') return true
  const { snapshot, entries, hardState } = step.append
  if (snapshot !== undefined || entries.length > 0) return true
  if (hardState === undefined) return false
  return hardState.term !== state.hardState.term || hardState.vote !== state.hardState.vote
}

/** What a log gives to read. */
export function readState(wal: Wal): LogState {
  const entries = wal.entries(wal.firstIndex(), wal.lastIndex() + 1, Number.POSITIVE_INFINITY)
  if (typeof entries === 'string') throw new Error(`entries are ${entries}`)
  return { base: wal.base(), hardState: wal.initialState().hardState, entries }
}

const digests = new WeakMap<Entry, string>()

function digestOf(entry: Entry): string {
  let digest = digests.get(entry)
  if (digest === undefined) {
    const { term, index, type, data } = entry
    digest = `${term}/${index}/${type}/${data.length}/${crc32(data, 0, data.length, 0)}`
    digests.set(entry, digest)
  }
  return digest
}

/** Equal for equal states, and for no others. */
export function describeState(state: LogState): string {
  const { base, hardState, entries } = state
  const { term, vote, commit } = hardState
  const members = [JSON.stringify(base.confState), new TextDecoder().decode(base.book)]
  const head = [base.index, base.term, ...members, term, vote, commit]
  return [...head, ...entries.map(digestOf)].join(' ')
}

/** A random step that a core in this state could ask for. */
export function nextStep(state: LogState, random: SimRandom): LogStep {
  const { hardState } = state
  const last = lastIndexOf(state)
  const roll = random.below(100)
  if (roll < 50) return appendAfter(state, last, hardState.term, random)
  if (roll < 60) {
    // A vote in a new term, or in this one, if none was given yet.
    const mayVote = hardState.vote === 0 && hardState.term > 0 && random.chance(0.5)
    const term = hardState.term + (mayVote ? 0 : random.between(1, 2))
    return appendOf({ entries: [], hardState: { ...hardState, term, vote: random.below(4) } })
  }
  if (roll < 74) {
    // A new leader replaces what was not committed.
    const from = random.between(hardState.commit, last)
    return appendAfter(state, from, hardState.term + 1, random)
  }
  if (roll < 84) {
    const commit = random.between(hardState.commit, last)
    return appendOf({ entries: [], hardState: { ...hardState, commit } })
  }
  if (roll < 94 && hardState.commit > state.base.index) {
    const upTo = random.between(state.base.index + 1, hardState.commit)
    return { type: 'compact', upTo, members: stored(voters(1, 2, random.between(3, 9))) }
  }
  if (roll < 97) return installSnapshot(state, random)
  return { type: 'flush' }
}

function appendOf(append: WalAppend): LogStep {
  return { type: 'append', append }
}

/** New entries after `index`, in place of any that are there. */
function appendAfter(state: LogState, index: number, term: number, random: SimRandom): LogStep {
  const count = random.between(1, 4)
  const entries = Array.from({ length: count }, (_, position): Entry => {
    return createEntry(term, index + 1 + position, random)
  })
  const old = state.hardState
  if (term === old.term && random.chance(0.5)) return appendOf({ entries })
  const commit = random.chance(0.5) ? old.commit : random.between(old.commit, index + count)
  const vote = term === old.term ? old.vote : 0
  return appendOf({ entries, hardState: { term, vote, commit } })
}

function installSnapshot(state: LogState, random: SimRandom): LogStep {
  const index = Math.max(state.hardState.commit, state.base.index) + random.between(1, 30)
  const term = state.hardState.term + 1
  const snapshot = { index, term, ...stored(voters(2, 3, random.between(4, 9))) }
  const entries = random.chance(0.5) ? [createEntry(term, index + 1, random)] : []
  return appendOf({ snapshot, entries, hardState: { term, vote: 0, commit: index } })
}

/** An entry whose data, of any size that matters, is unlike that of any other. */
export function createEntry(term: number, index: number, random: SimRandom): Entry {
  const sizeBytes = random.pick([0, 1, 7, 8, 16, 40, 60, 100, 200, 400, 700, random.below(6000)])
  const type = random.chance(0.05) ? 'config' : 'normal'
  // Cheap bytes, but not zeros, and others in every entry.
  const data = new Uint8Array(sizeBytes).fill(random.between(1, 255))
  data.set(random.bytes(Math.min(8, sizeBytes)))
  return { term, index, type, data }
}
