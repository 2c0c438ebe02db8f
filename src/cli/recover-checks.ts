/** What `lockstep recover` looks at before it changes anything: other members, log and engine. */
import { join } from 'node:path'
import { DbError } from '../base/errors.ts'
import type { Clock, Logger } from '../base/ports.ts'
import type { WriterReply } from '../engine/engine.ts'
import { nodeFileSystem } from '../engine/sqlite/file-system.ts'
import { stagedSnapshot } from '../engine/sqlite/staging.ts'
import type { LogEnd } from '../log/only-voter.ts'
import { readLogEnd } from '../log/only-voter.ts'
import type { Member } from '../log/log.ts'
import { SystemClock } from '../platform/clock.ts'
import { openEngine, stagedFiles } from './engine-choice.ts'
import type { IdentityOf } from './identity.ts'
import { type RecoveryPlace, withLog } from './recovery.ts'

/** What a member says that answers although it should be lost. */
export interface OtherNode {
  readonly nodeId: string
  readonly clusterId: string
  readonly leader: string | undefined
  readonly lastIndex: number
}

/** The log, with where it begins. */
export interface FoundLog extends LogEnd {
  readonly firstIndex: number
}

/** Opens the log as a start would. Throws what keeps it from that. */
export async function checkLog(
  place: RecoveryPlace,
  identity: IdentityOf<'member'>,
): Promise<FoundLog> {
  return withLog(place, identity, wal => ({
    ...readLogEnd(wal),
    firstIndex: wal.base().index + 1,
  }))
}

/** Opens the engine's files as a start would, and throws if the node could not serve with them. */
export async function checkEngine(
  place: RecoveryPlace,
  identity: IdentityOf<'member'>,
  log: FoundLog,
  isPardoned: boolean,
): Promise<void> {
  const { appliedIndex, past } = await openData(place, identity)
  const { nodeId } = identity
  if (appliedIndex > log.lastIndex) {
    throw new DbError(
      'WRONG_DATA',
      `the data of node ${nodeId} hold entry ${appliedIndex}, and its log ends at entry ` +
        `${log.lastIndex}: the two are not of the same life. Recover another one`,
    )
  }
  if (appliedIndex + 1 < log.firstIndex && !(await isStaged(place, identity, log))) {
    throw new DbError(
      'WRONG_DATA',
      `the log of node ${nodeId} begins with entry ${log.firstIndex}, and its data end at entry ` +
        `${appliedIndex}: what lies between it was to get from another node by a snapshot. ` +
        'Nothing was changed; recover another one',
    )
  }
  const { condemned } = past
  if (condemned !== undefined && !isPardoned) {
    throw new DbError(
      'FORBIDDEN',
      `a majority found that node ${nodeId} computed something else than they did, at entry ` +
        `${condemned.index} (database ${condemned.database}: ${condemned.sql.slice(0, 200)}), so ` +
        'that its data are wrong. Nothing was changed; recover another one, or, if there is ' +
        'none, make these data the truth with --although-its-data-were-found-wrong',
    )
  }
}

type Opened = Extract<WriterReply, { type: 'opened' }>

async function openData(
  { directory, mysql }: RecoveryPlace,
  identity: IdentityOf<'member'>,
): Promise<Opened> {
  const [clock, logger] = [new SystemClock(), silentLogger()]
  const settings = { directory, mysql, maxReaders: 1 }
  const engine = await openEngine({ settings, identity, clock, logger })
  try {
    return await new Promise((resolve, reject) => {
      const fail = (message: string): void => {
        const text = `the data of this node can not be opened: ${message}. Nothing was changed`
        reject(new DbError('CORRUPT', text))
      }
      const writer = engine.startWriter({
        onReply: reply => {
          if (reply.type === 'opened') resolve(reply)
          else if (reply.type === 'fault') fail(reply.error.message)
        },
        onExit: fail,
      })
      writer.send({ type: 'open' })
    })
  } finally {
    await new Promise<void>(resolve => {
      engine.stop(resolve)
    })
  }
}

/** A snapshot that was to be installed when the node ended, and that the node will install. */
async function isStaged(
  { directory, mysql }: RecoveryPlace,
  { groupId }: IdentityOf<'member'>,
  { firstIndex, lastIndex }: FoundLog,
): Promise<boolean> {
  const group = join(directory, `group-${groupId}`)
  const manifest =
    mysql === undefined
      ? stagedSnapshot(join(group, 'engine'), nodeFileSystem)
      : await stagedFiles(group).sound()
  const index = manifest?.index
  return index !== undefined && index + 1 >= firstIndex && index <= lastIndex
}

function silentLogger(): Logger {
  const silent = (): void => {}
  return { debug: silent, info: silent, warn: silent, error: silent }
}

export interface Lookout {
  readonly clock: Clock
  /** Asks the member at an address; undefined if none answers there. */
  readonly ask: (address: string) => Promise<OtherNode | undefined>
  readonly print: (line: string) => void
}

/** An election, or the restart of a node, takes less than all looks together. */
const LOOKS = 5
const LOOK_PAUSE_MS = 1000

/**
 * Looks for the other members for some seconds. Throws FORBIDDEN if the cluster leads itself, or
 * could: a majority of its voters is there.
 */
export async function refuseIfAlive(
  { clock, ask, print }: Lookout,
  identity: IdentityOf<'member'>,
  { membership, lastIndex }: LogEnd,
): Promise<void> {
  // The log may not name yet, or not any more, whom the node heard of.
  const known = [...identity.known.members, ...membership.members]
  const others = known.filter(({ raftId }) => raftId !== identity.raftId)
  const addresses = [...new Set(others.map(({ address }) => address))]
  if (addresses.length > 0) print(`Looking for the other members: ${addresses.join(', ')}`)
  const seen = new Map<string, OtherNode>()
  for (let look = 1; look <= LOOKS && addresses.length > 0; look += 1) {
    if (look > 1) await wait(clock, LOOK_PAUSE_MS)
    for (const answer of await Promise.all(addresses.map(ask))) {
      if (answer?.clusterId !== identity.clusterId) continue
      seen.set(answer.nodeId, answer)
      if (answer.leader !== undefined) throw stillLed(answer)
    }
  }
  const { voters, votersOutgoing, members } = membership
  const isThere = (raftId: number): boolean =>
    raftId === identity.raftId || seen.has(nameOf(members, raftId))
  if (hasMajority(voters, isThere) && hasMajority(votersOutgoing, isThere)) {
    throw couldLead([...seen.keys()], identity.nodeId)
  }
  for (const { nodeId, lastIndex: last } of seen.values()) {
    print(
      `WARNING: node ${nodeId} answers. If its log reaches further than this one's (its last ` +
        `entry is ${last}, this one's ${lastIndex}), recover that one instead. Stop it in any ` +
        'case: it belongs to the old history and can only join again with an empty directory.',
    )
  }
}

function hasMajority(voters: readonly number[], isThere: (raftId: number) => boolean): boolean {
  return voters.length === 0 || voters.filter(isThere).length * 2 > voters.length
}

function nameOf(members: readonly Member[], raftId: number): string {
  return members.find(member => member.raftId === raftId)?.nodeId ?? ''
}

function stillLed({ nodeId, leader }: OtherNode): DbError {
  return new DbError(
    'FORBIDDEN',
    `the cluster still has a leader: node ${nodeId} follows ${leader}. ` +
      'Nothing has to be recovered; start this node, or remove it there',
  )
}

function couldLead(nodeIds: readonly string[], own: string): DbError {
  const names = nodeIds.join(', ')
  const why =
    names === ''
      ? `node ${own} is a majority of the voters by itself: nothing has to be recovered; start it`
      : `node ${names} runs, and with node ${own} that is a majority of the voters: start node ` +
        `${own}, and they choose a leader and lose nothing. If ${names} can not be helped, stop ` +
        'it and run this again'
  return new DbError('FORBIDDEN', why)
}

function wait(clock: Clock, delayMs: number): Promise<void> {
  return new Promise(resolve => {
    clock.setTimer(delayMs, resolve)
  })
}
