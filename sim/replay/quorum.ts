/**
 * The commands of scripts about majorities. Each result is computed in other ways too; one that
 * differs is added to the output, which then fits no script.
 */
import {
  type AckedIndex,
  type JointVoters,
  type VoteResult,
  committedIndex,
  majorityCommittedIndex,
  majorityVoteResult,
  voteResult,
} from '../../src/raft/quorum.ts'
import type { RaftId } from '../../src/raft/types.ts'
import type { Argument, Directive } from './data-driven.ts'

interface Question {
  readonly voters: ReadonlySet<RaftId>
  readonly joint: ReadonlySet<RaftId>
  readonly isJoint: boolean
  /** Values by voter; a voter of which nothing is known has none. */
  readonly values: ReadonlyMap<RaftId, number>
}

const REJECTED = 1
const GRANTED = 2

/** Makes a runner of directives; they don't depend on each other. */
export function quorumRunner(): (directive: Directive) => string {
  return directive => {
    const question = readQuestion(directive)
    if (typeof question === 'string') return question
    if (directive.command === 'committed') return answerCommitted(question)
    if (directive.command === 'vote') return answerVote(question)
    throw new Error(`unknown command ${directive.command}`)
  }
}

function readQuestion(directive: Directive): Question | string {
  const ids = valuesOf(directive.args, 'cfg').map(Number)
  const jointValues = valuesOf(directive.args, 'cfgj')
  const jointIds = jointValues[0] === 'zero' ? [] : jointValues.map(Number)
  const given =
    directive.command === 'vote'
      ? valuesOf(directive.args, 'votes').map(readVote)
      : valuesOf(directive.args, 'idx').map(value => (value === '_' ? 0 : Number(value)))
  const everybody = [...new Set([...ids, ...jointIds])]
  if (everybody.length !== given.length) {
    const list = everybody.sort((a, b) => a - b).map(id => `${id}:{}`)
    return `error: mismatched input (explicit or _) for voters map[${list.join(' ')}]: [${given.join(' ')}]`
  }
  // Values are in the order in which voters are named first; 0 stands for "nothing known".
  const values = new Map<RaftId, number>()
  for (const [position, id] of everybody.entries()) {
    const value = given[position] ?? 0
    if (value !== 0) values.set(id, value)
  }
  return {
    voters: new Set(ids),
    joint: new Set(jointIds),
    isJoint: jointValues.length > 0,
    values,
  }
}

function readVote(value: string): number {
  if (value === 'y') return GRANTED
  if (value === 'n') return REJECTED
  if (value === '_') return 0
  throw new Error(`unknown vote: ${value}`)
}

function answerCommitted(question: Question): string {
  const { voters, joint, values } = question
  const acked: AckedIndex = id => values.get(id)
  if (question.isJoint) {
    const index = committedIndex({ voters, outgoing: joint }, acked)
    const swapped = committedIndex({ voters: joint, outgoing: voters }, acked)
    let text = describeIndexes(new Set([...voters, ...joint]), values)
    if (swapped !== index) text += `${formatIndex(swapped)} <-- via symmetry\n`
    return text + formatIndex(index)
  }

  const index = majorityCommittedIndex(voters, acked)
  let text = describeIndexes(voters, values)
  const check = (other: number, way: string): void => {
    if (other !== index) text += `${formatIndex(other)} <-- ${way}\n`
  }
  check(countedCommittedIndex(voters, values), 'via alternative computation')
  check(committedIndex({ voters, outgoing: new Set() }, acked), 'via zero-joint quorum')
  check(committedIndex({ voters, outgoing: voters }, acked), 'via self-joint quorum')
  for (const id of voters) {
    const own = values.get(id) ?? 0
    if (!(index > own && own > 0)) continue
    // Whoever is below the committed index can fall further without changing it.
    const lowered = (value: number): AckedIndex => {
      return other => (other === id ? value : values.get(other))
    }
    check(majorityCommittedIndex(voters, lowered(own - 1)), `overlaying ${id}->${own}`)
    check(majorityCommittedIndex(voters, lowered(0)), `overlaying ${id}->0`)
  }
  return text + formatIndex(index)
}

/** The committed index by counting, for each index, how many have reached it. */
function countedCommittedIndex(
  voters: ReadonlySet<RaftId>,
  values: ReadonlyMap<RaftId, number>,
): number {
  if (voters.size === 0) return Number.POSITIVE_INFINITY
  const indexes = [...voters].map(id => values.get(id) ?? 0)
  const reached = indexes.filter(
    index => indexes.filter(other => other >= index).length * 2 > voters.size,
  )
  return Math.max(0, ...reached)
}

function answerVote(question: Question): string {
  const votes = new Map([...question.values].map(([id, value]) => [id, value === GRANTED] as const))
  const { voters, joint } = question
  if (!question.isJoint) return VOTE_NAMES[majorityVoteResult(voters, votes)]
  const group: JointVoters = { voters, outgoing: joint }
  const result = voteResult(group, votes)
  const swapped = voteResult({ voters: joint, outgoing: voters }, votes)
  const note = swapped === result ? '' : `${VOTE_NAMES[swapped]} <-- via symmetry\n`
  return note + VOTE_NAMES[result]
}

const VOTE_NAMES: Readonly<Record<VoteResult, string>> = {
  pending: 'VotePending',
  won: 'VoteWon',
  lost: 'VoteLost',
}

/** A small chart: the further a voter is ahead of others, the longer its bar. */
function describeIndexes(voters: ReadonlySet<RaftId>, values: ReadonlyMap<RaftId, number>): string {
  if (voters.size === 0) return '<empty majority quorum>'
  const width = voters.size
  const ids = [...voters].sort((a, b) => a - b)
  const ascending = ids.map(id => values.get(id) ?? 0).sort((a, b) => a - b)
  const lines = ids.map(id => {
    const index = values.get(id)
    const barLength = ascending.indexOf(index ?? 0)
    const bar = index === undefined ? '?'.padEnd(width + 1) : `${'x'.repeat(barLength)}>`
    return `${bar.padEnd(width + 1)} ${String(index ?? 0).padStart(5)}    (id=${id})\n`
  })
  return `${' '.repeat(width)}    idx\n${lines.join('')}`
}

function formatIndex(index: number): string {
  return index === Number.POSITIVE_INFINITY ? '∞' : String(index)
}

function valuesOf(args: readonly Argument[], key: string): string[] {
  return args.filter(arg => arg.key === key).flatMap(arg => [...arg.values])
}
