/**
 * What follows for one member from the digests that members took of all their data after the same
 * entry: the second guard, against data that differs although no outcome ever did. The majority is
 * counted as it is for outcomes.
 */
import type { DataDigest } from '../engine/snapshot.ts'
import { type Electorate, judge, type Opinion, SILENT, type Value } from './divergence.ts'

/** What this replica can say of its data right after an entry. */
export interface Taken {
  readonly opinion: Opinion
  readonly digest: DataDigest | undefined
}

export type DataVerdict =
  /** Too few took a digest, or have said so, and nobody says anything else than the others. */
  | { readonly type: 'wait' }
  /** Members have different data, and who has not said anything yet may still decide it. */
  | { readonly type: 'open' }
  /** A majority has these data; this member too, or it says nothing about them. */
  | { readonly type: 'verified'; readonly value: Value }
  /** A majority has other data than this member. */
  | { readonly type: 'wrong'; readonly value: Value }
  /** Members have different data and no majority can come about: nobody knows who is right. */
  | { readonly type: 'tie' }

/**
 * What a member can say of its data after `index`: nothing if it copied them later than that, since
 * what it would count for then is another member's data.
 */
export function dataOpinion(index: number, copiedIndex: number, taken: Opinion): Opinion {
  return index <= copiedIndex ? SILENT : taken
}

/** Judges the data of `raftId`, a voter or not, by what the voters say of theirs. */
export function judgeData(
  electorate: Electorate,
  raftId: number,
  opinionOf: (raftId: number) => Opinion,
): DataVerdict {
  const { voters, votersOutgoing } = electorate
  // A voter alone agrees with nobody but itself, which proves nothing.
  if (voters.length < 2 && votersOutgoing.length < 2) return { type: 'wait' }
  const judgement = judge(electorate, opinionOf)
  if (judgement.type === 'decided') {
    const own = opinionOf(raftId)
    const isWrong = own.type === 'value' && own.value !== judgement.value
    return { type: isWrong ? 'wrong' : 'verified', value: judgement.value }
  }
  // Silence alone, of members that were away or took a snapshot, is no disagreement.
  if (valuesOf(electorate, opinionOf).size < 2) return { type: 'wait' }
  return { type: judgement.type }
}

function valuesOf(electorate: Electorate, opinionOf: (raftId: number) => Opinion): Set<Value> {
  const opinions = [...electorate.voters, ...electorate.votersOutgoing].map(opinionOf)
  return new Set(opinions.flatMap(each => (each.type === 'value' ? [each.value] : [])))
}
