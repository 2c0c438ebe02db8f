/** Prints what the core hands out in the words of the scenario scripts. */
import { unreachable } from '../../src/base/assert.ts'
import { decodeConfChange, describeSteps } from '../../src/raft/conf-change.ts'
import {
  type ConfState,
  type Entry,
  type HardState,
  LOCAL_APPEND,
  LOCAL_APPLY,
  type Message,
  type MessageType,
  NO_ID,
  type ProgressState,
  type ProgressStatus,
  type RaftId,
  type Ready,
  type Role,
  type Snapshot,
  type SoftState,
} from '../../src/raft/types.ts'

const MESSAGE_NAMES: Readonly<Record<MessageType, string>> = {
  propose: 'MsgProp',
  append: 'MsgApp',
  'append-response': 'MsgAppResp',
  vote: 'MsgVote',
  'vote-response': 'MsgVoteResp',
  'pre-vote': 'MsgPreVote',
  'pre-vote-response': 'MsgPreVoteResp',
  snapshot: 'MsgSnap',
  heartbeat: 'MsgHeartbeat',
  'heartbeat-response': 'MsgHeartbeatResp',
  'transfer-leader': 'MsgTransferLeader',
  'timeout-now': 'MsgTimeoutNow',
  'read-index': 'MsgReadIndex',
  'read-index-response': 'MsgReadIndexResp',
  'storage-append': 'MsgStorageAppend',
  'storage-append-response': 'MsgStorageAppendResp',
  'storage-apply': 'MsgStorageApply',
  'storage-apply-response': 'MsgStorageApplyResp',
}

/** Names that scripts may use for messages which never leave a node of ours. */
const NAMES_WITHOUT_TYPE: ReadonlySet<string> = new Set([
  'MsgHup',
  'MsgBeat',
  'MsgUnreachable',
  'MsgSnapStatus',
  'MsgCheckQuorum',
  'MsgForgetLeader',
])

const ROLE_NAMES: Readonly<Record<Role, string>> = {
  follower: 'StateFollower',
  'pre-candidate': 'StatePreCandidate',
  candidate: 'StateCandidate',
  leader: 'StateLeader',
}

const PROGRESS_NAMES: Readonly<Record<ProgressState, string>> = {
  probe: 'StateProbe',
  replicate: 'StateReplicate',
  snapshot: 'StateSnapshot',
}

export function describeRole(role: Role): string {
  return ROLE_NAMES[role]
}

export function describeMessageType(type: MessageType): string {
  return MESSAGE_NAMES[type]
}

/** Whether a script may name this type of message. */
export function isMessageName(name: string): boolean {
  return NAMES_WITHOUT_TYPE.has(name) || Object.values(MESSAGE_NAMES).includes(name)
}

export function describeReady(ready: Ready): string {
  const { softState, hardState, readStates, snapshot } = ready
  let text = ''
  if (softState !== undefined) text += `${describeSoftState(softState)}\n`
  if (hardState !== undefined) text += `HardState ${describeHardState(hardState)}\n`
  if (readStates.length > 0) {
    const states = readStates.map(state => `{${state.index} [${[...state.context].join(' ')}]}`)
    text += `ReadStates [${states.join(' ')}]\n`
  }
  if (ready.entries.length > 0) text += `Entries:\n${describeEntries(ready.entries)}`
  if (snapshot !== undefined) text += `Snapshot ${describeSnapshot(snapshot)}\n`
  if (ready.committedEntries.length > 0) {
    text += `CommittedEntries:\n${describeEntries(ready.committedEntries)}`
  }
  if (ready.messages.length > 0) {
    text += `Messages:\n${ready.messages.map(message => `${describeMessage(message)}\n`).join('')}`
  }
  return text === '' ? '<empty Ready>' : `Ready MustSync=${ready.mustSync}:\n${text}`
}

export function describeMessage(message: Message, indent = ''): string {
  const { from, to, type, term, logTerm, index, entries, snapshot, responses = [] } = message
  let text = `${indent}${describeId(from)}->${describeId(to)} ${MESSAGE_NAMES[type]}`
  text += ` Term:${term} Log:${logTerm}/${index}`
  if (message.reject) text += ` Rejected (Hint: ${message.rejectHint})`
  if (message.commit !== 0) text += ` Commit:${message.commit}`
  if (message.vote !== NO_ID) text += ` Vote:${message.vote}`
  const [first] = entries
  if (entries.length === 1 && first !== undefined) text += ` Entries:[${describeEntry(first)}]`
  else if (entries.length > 1) {
    const lines = entries.map(entry => `\n${indent}  ${describeEntry(entry)}`)
    text += ` Entries:[${lines.join('')}\n${indent}]`
  }
  if (snapshot !== undefined) text += `\n${indent}  Snapshot: ${describeSnapshot(snapshot)}`
  if (responses.length > 0) {
    const lines = responses.map(response => `\n${describeMessage(response, `${indent}  `)}`)
    text += ` Responses:[${lines.join('')}\n${indent}]`
  }
  return text
}

/** One line each. */
export function describeEntries(entries: readonly Entry[]): string {
  return entries.map(entry => `${describeEntry(entry)}\n`).join('')
}

export function describeEntry(entry: Entry): string {
  const head = `${entry.term}/${entry.index}`
  switch (entry.type) {
    case 'normal':
      return `${head} EntryNormal ${quote(entry.data)}`
    case 'config': {
      const change = decodeConfChange(entry.data)
      const name = change.version === 1 ? 'EntryConfChange' : 'EntryConfChangeV2'
      return `${head} ${name} ${describeSteps(change.steps)}`.trimEnd()
    }
    default:
      return unreachable(entry.type)
  }
}

/** `1: StateReplicate match=11 next=12`, with whatever else is the case. */
export function describeProgress(id: RaftId, progress: ProgressStatus): string {
  const { match, next, state, pendingSnapshot, inflightCount } = progress
  let text = `${id}: ${PROGRESS_NAMES[state]} match=${match} next=${next}`
  if (progress.isLearner) text += ' learner'
  if (progress.isPaused) text += ' paused'
  if (pendingSnapshot > 0) text += ` pendingSnap=${pendingSnapshot}`
  if (!progress.isRecentlyActive) text += ' inactive'
  if (inflightCount > 0) {
    text += ` inflight=${inflightCount}${progress.isInflightFull ? '[full]' : ''}`
  }
  return text
}

function describeSoftState(state: SoftState): string {
  return `Lead:${state.lead} State:${ROLE_NAMES[state.role]}`
}

function describeHardState(state: HardState): string {
  const vote = state.vote === NO_ID ? '' : ` Vote:${state.vote}`
  return `Term:${state.term}${vote} Commit:${state.commit}`
}

function describeSnapshot(snapshot: Snapshot): string {
  const { index, term, confState } = snapshot.metadata
  return `Index:${index} Term:${term} ConfState:${describeConfState(confState)}`
}

function describeConfState(state: ConfState): string {
  const list = (ids: readonly RaftId[]): string => `[${ids.join(' ')}]`
  return (
    `Voters:${list(state.voters)} VotersOutgoing:${list(state.votersOutgoing)} ` +
    `Learners:${list(state.learners)} LearnersNext:${list(state.learnersNext)} ` +
    `AutoLeave:${state.autoLeave}`
  )
}

function describeId(id: RaftId): string {
  if (id === NO_ID) return 'None'
  if (id === LOCAL_APPEND) return 'AppendThread'
  return id === LOCAL_APPLY ? 'ApplyThread' : id.toString(16)
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
}

/** Quotes text as the scripts do; bytes that are no text become `\\x` and two digits. */
function quote(data: Uint8Array): string {
  let characters: string[]
  try {
    characters = Array.from(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data))
  } catch {
    // Not text at all: every byte stands for itself.
    characters = Array.from(data, byte => (byte < 0x80 ? String.fromCharCode(byte) : hex(byte)))
  }
  return `"${characters.map(escape).join('')}"`
}

function escape(character: string): string {
  const known = ESCAPES[character]
  if (known !== undefined) return known
  const code = character.codePointAt(0) ?? 0
  return code < 0x20 || code === 0x7f ? hex(code) : character
}

function hex(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`
}
