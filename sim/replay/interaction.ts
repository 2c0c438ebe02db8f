/** The commands of scripts that drive whole groups of nodes. */
import {
  type ConfChange,
  type ConfChangeStep,
  type ConfChangeTransition,
  EMPTY_BYTES,
  NO_LIMIT,
  type RaftId,
  type Snapshot,
} from '../../src/raft/types.ts'
import type { Argument, Directive } from './data-driven.ts'
import { describeEntries, describeProgress, describeRole, isMessageName } from './describe.ts'
import {
  CommandError,
  DEFAULT_OPTIONS,
  EMPTY_SNAPSHOT,
  Environment,
  type NodeOptions,
  type Recipient,
} from './environment.ts'

/** Makes a runner of directives with a group of its own. */
export function interactionRunner(): (directive: Directive) => string {
  const environment = new Environment()
  return directive => {
    let failure: string | undefined
    try {
      run(environment, directive)
    } catch (error) {
      if (!(error instanceof CommandError)) throw error
      failure = error.message
    }
    // Errors are told even when everything else is silent.
    if (failure !== undefined && environment.isQuiet) return failure
    environment.write(failure ?? '')
    return environment.takeOutput() || 'ok'
  }
}

function run(environment: Environment, directive: Directive): void {
  const { command, args, input } = directive
  const handler = HANDLERS[command]
  if (handler === undefined) throw new CommandError('unknown command')
  handler(environment, args, input)
}

type Handler = (environment: Environment, args: readonly Argument[], input: string) => void

const HANDLERS: Readonly<Record<string, Handler>> = {
  _breakpoint: () => undefined,
  'log-level': (environment, args) => environment.setLevelByName(args[0]?.key ?? ''),
  'add-nodes': addNodes,
  campaign: (environment, args) => environment.node(firstId(args)).raw.campaign(),
  propose,
  'propose-conf-change': proposeConfChange,
  'tick-heartbeat': (environment, args) => tick(environment, args, 'heartbeatTicks'),
  'tick-election': (environment, args) => tick(environment, args, 'electionTicks'),
  tick: tickCount,
  'set-randomized-election-timeout': setElectionTimeout,
  'process-ready': (environment, args) =>
    forEachNode(environment, args, 'handling Ready', id => environment.processReady(id)),
  'process-append-thread': (environment, args) =>
    forEachNode(environment, args, 'processing append thread', id =>
      environment.processAppendThread(id),
    ),
  'process-apply-thread': (environment, args) =>
    forEachNode(environment, args, 'processing apply thread', id =>
      environment.processApplyThread(id),
    ),
  'deliver-msgs': deliverMessages,
  stabilize,
  status,
  'raft-state': raftState,
  'raft-log': (environment, args) => raftLog(environment, firstId(args)),
  compact,
  'send-snapshot': (environment, args) => {
    const [from, to] = nodeIds(args)
    environment.sendSnapshot(from ?? 0, to ?? 0)
  },
  'transfer-leadership': transferLeadership,
  'forget-leader': (environment, args) => environment.node(firstId(args)).raw.forgetLeader(),
  'report-unreachable': reportUnreachable,
}

function addNodes(environment: Environment, args: readonly Argument[]): void {
  let options: NodeOptions = DEFAULT_OPTIONS
  const voters: RaftId[] = []
  const learners: RaftId[] = []
  let index = 0
  let data = EMPTY_BYTES
  for (const { key, values } of args.slice(1)) {
    for (const value of values) {
      if (key === 'voters') voters.push(Number(value))
      else if (key === 'learners') learners.push(Number(value))
      else if (key === 'content') data = new TextEncoder().encode(value)
      else if (key === 'index') {
        index = Number(value)
        options = { ...options, appliedIndex: index }
      } else options = { ...options, ...nodeOption(key, value) }
    }
  }
  const template: Snapshot = {
    metadata: {
      index,
      term: 0,
      confState: { ...EMPTY_SNAPSHOT.metadata.confState, voters, learners },
    },
    data,
  }
  environment.addNodes(Number(args[0]?.key), options, template)
}

function nodeOption(key: string, value: string): Partial<NodeOptions> {
  const isOn = parseBoolean(value)
  // In the scripts, 0 means that there is no limit.
  const limit = Number(value) === 0 ? NO_LIMIT : Number(value)
  switch (key) {
    case 'inflight':
      return { maxInflightMessages: Number(value) }
    case 'max-inflight-bytes':
      return { maxInflightBytes: limit, maxSizePerMessageBytes: limit }
    case 'max-size-per-msg':
      return { maxSizePerMessageBytes: Number(value) }
    case 'max-uncommitted-size':
      return { maxUncommittedBytes: limit }
    case 'max-committed-size-per-ready':
      return { maxCommittedSizePerReadyBytes: limit }
    case 'heartbeat-tick':
      return { heartbeatTicks: Number(value) }
    case 'election-tick':
      return { electionTicks: Number(value) }
    case 'async-storage-writes':
      return { asyncStorageWrites: isOn }
    case 'prevote':
      return { preVote: isOn }
    case 'checkquorum':
      return { checkQuorum: isOn }
    case 'step-down-on-removal':
      return { stepDownOnRemoval: isOn }
    case 'disable-conf-change-validation':
      return { disableConfChangeValidation: isOn }
    case 'disable-proposal-forwarding':
      return { disableProposalForwarding: isOn }
    case 'read-only':
      if (value === 'safe') return { readOnly: 'quorum' }
      if (value === 'lease-based') return { readOnly: 'lease' }
      throw new CommandError(`invalid read-only option "${value}"`)
    default:
      return {}
  }
}

function propose(environment: Environment, args: readonly Argument[]): void {
  const data = new TextEncoder().encode(args[1]?.key ?? '')
  const result = environment.node(firstId(args)).raw.propose(data)
  if (result.type === 'dropped') throw new CommandError('raft proposal dropped')
}

function proposeConfChange(
  environment: Environment,
  args: readonly Argument[],
  input: string,
): void {
  let isVersion1 = false
  let transition: ConfChangeTransition = 'auto'
  for (const { key, values } of args.slice(1)) {
    for (const value of values) {
      if (key === 'v1') isVersion1 = parseBoolean(value)
      else if (key !== 'transition') throw new CommandError(`unknown command ${key}`)
      else if (value === 'auto' || value === 'implicit' || value === 'explicit') transition = value
      else throw new CommandError(`unknown transition ${value}`)
    }
  }
  const steps = parseSteps(input)
  if (isVersion1 && (steps.length > 1 || transition !== 'auto')) {
    throw new CommandError('v1 conf change can only have one operation and no transition')
  }
  const change: ConfChange = {
    version: isVersion1 ? 1 : 2,
    transition,
    steps,
    context: EMPTY_BYTES,
  }
  const result = environment.node(firstId(args)).raw.proposeConfChange(change)
  if (result.type === 'dropped') throw new CommandError('raft proposal dropped')
}

const STEP_LETTERS: Readonly<Record<string, ConfChangeStep['type']>> = {
  v: 'add-voter',
  l: 'add-learner',
  r: 'remove',
  u: 'update',
}

/** Reads `v1 l2 r3 u4`; throws a CommandError if it is anything else. */
export function parseSteps(text: string): ConfChangeStep[] {
  const words = text.trim() === '' ? [] : text.trim().split(' ')
  return words.map(word => {
    if (word.length < 2) throw new CommandError(`unknown token ${word}`)
    const type = STEP_LETTERS[word.slice(0, 1)]
    if (type === undefined) throw new CommandError(`unknown input: ${word}`)
    const digits = word.slice(1)
    if (!/^\d+$/.test(digits)) {
      throw new CommandError(`strconv.ParseUint: parsing "${digits}": invalid syntax`)
    }
    return { type, nodeId: Number(digits) }
  })
}

function tick(
  environment: Environment,
  args: readonly Argument[],
  interval: 'heartbeatTicks' | 'electionTicks',
): void {
  const node = environment.node(firstId(args))
  for (let ticks = 0; ticks < node.options[interval]; ticks++) node.raw.tick()
}

function tickCount(environment: Environment, args: readonly Argument[]): void {
  const [id, count] = nodeIds(args)
  for (let ticks = 0; ticks < (count ?? 0); ticks++) environment.node(id ?? 0).raw.tick()
}

function setElectionTimeout(environment: Environment, args: readonly Argument[]): void {
  const ticks = Number(option(args, 'timeout'))
  environment.node(firstId(args)).raw.setRandomizedElectionTicks(ticks)
}

function forEachNode(
  environment: Environment,
  args: readonly Argument[],
  title: string,
  action: (id: RaftId) => void,
): void {
  const ids = nodeIds(args)
  for (const id of ids) {
    if (ids.length === 1) {
      action(id)
      return
    }
    environment.write(`> ${id} ${title}\n`)
    environment.indented(() => action(id))
  }
}

function deliverMessages(environment: Environment, args: readonly Argument[]): void {
  let typeName: string | undefined
  const recipients: Recipient[] = []
  for (const { key, values } of args) {
    if (values.length === 0) recipients.push({ id: Number(key), isDropped: false })
    else if (key === 'drop') {
      for (const value of values) recipients.push({ id: Number(value), isDropped: true })
    } else if (key === 'type') {
      typeName = values[0] ?? ''
      if (!isMessageName(typeName)) throw new Error(`unknown message type ${typeName}`)
    }
  }
  if (environment.deliver(recipients, typeName) === 0) environment.write('no messages\n')
}

function stabilize(environment: Environment, args: readonly Argument[]): void {
  const before = environment.level
  const level = option(args, 'log-level')
  if (level !== undefined) environment.setLevelByName(level)
  try {
    environment.stabilize(nodeIds(args))
  } finally {
    environment.setLevel(before)
  }
}

function status(environment: Environment, args: readonly Argument[]): void {
  for (const [id, progress] of environment.node(firstId(args)).raw.status().progress) {
    environment.write(`${describeProgress(id, progress)}\n`)
  }
}

function raftState(environment: Environment): void {
  for (const node of environment.nodes) {
    const { id, role, term, lead, confState } = node.raw.status()
    const isVoter = confState.voters.includes(id) || confState.votersOutgoing.includes(id)
    const vote = isVoter ? '(Voter)' : '(Non-Voter)'
    environment.write(`${id}: ${describeRole(role)} ${vote} Term:${term} Lead:${lead}\n`)
  }
}

function raftLog(environment: Environment, id: RaftId): void {
  const { storage } = environment.node(id)
  const first = storage.firstIndex()
  const last = storage.lastIndex()
  if (last < first) {
    environment.write(`log is empty: first index=${first}, last index=${last}`)
    return
  }
  const entries = storage.entries(first, last + 1, NO_LIMIT)
  if (typeof entries !== 'string') environment.write(describeEntries(entries))
}

function compact(environment: Environment, args: readonly Argument[]): void {
  const id = firstId(args)
  if (environment.node(id).storage.compact(Number(args[1]?.key)) === 'compacted') {
    throw new CommandError('requested index is unavailable due to compaction')
  }
  raftLog(environment, id)
}

function transferLeadership(environment: Environment, args: readonly Argument[]): void {
  const from = Number(option(args, 'from'))
  environment.node(from).raw.transferLeader(Number(option(args, 'to')))
}

function reportUnreachable(environment: Environment, args: readonly Argument[]): void {
  const [id, peer] = nodeIds(args)
  if (id === undefined || peer === undefined || args.length !== 2) {
    throw new CommandError(
      'must specify exactly two node indexes: node on which to report, and reported node',
    )
  }
  environment.node(id).raw.reportUnreachable(peer)
}

/** Arguments without values are ids of nodes. */
function nodeIds(args: readonly Argument[]): RaftId[] {
  return args.filter(arg => arg.values.length === 0).map(arg => toId(arg.key))
}

function firstId(args: readonly Argument[]): RaftId {
  return toId(args[0]?.key ?? '')
}

function toId(text: string): RaftId {
  if (!/^\d+$/.test(text)) throw new Error(`"${text}" is no node's id`)
  return Number(text)
}

function option(args: readonly Argument[], key: string): string | undefined {
  return args.find(arg => arg.key === key)?.values[0]
}

function parseBoolean(text: string): boolean {
  return ['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)
}
