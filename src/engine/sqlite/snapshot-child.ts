/** The inside of a snapshot's process: one task, and the end. */
import { statfsSync } from 'node:fs'
import { constants, setPriority } from 'node:os'
import { backup } from 'node:sqlite'
import { unreachable } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { openFrames } from './child-loop.ts'
import { digestFiles } from './data-digest.ts'
import { nodeFileSystem } from './file-system.ts'
import { Pace } from './pace.ts'
import { ReadTransactions } from './read-transactions.ts'
import {
  decodeSnapshotMessage,
  encodeSnapshotMessage,
  type SnapshotMessage,
  type SnapshotReply,
} from './snapshot-codec.ts'
import { SnapshotTaker } from './snapshot-taker.ts'
import { localFaultOf } from './sql-errors.ts'
import {
  adoptStaged,
  beginStaging,
  discardStaged,
  finishStaging,
  soundSnapshot,
} from './staging.ts'

/** Pages that are copied at once, 20 MB; after each such step the parent hears that it goes on. */
const COPY_PAGES = 5000
/** At most so many bytes of values are read in a second for a digest. */
const DIGEST_BYTES_PER_SECOND = 32 * 1024 * 1024
/** WALs can't begin anew while a digest reads; more than this is too much. */
const WAL_GROWTH_BYTES_MAX = 1024 * 1024 * 1024
/** How often the parent hears that a digest goes on. */
const TELL_MS = 1000

/** Serves the one task that the parent asks for. */
export async function serveSnapshot(directory: string): Promise<void> {
  const { receive, send } = openFrames()
  const next = (): SnapshotMessage | undefined => {
    const body = receive()
    return body === undefined ? undefined : decodeSnapshotMessage(body)
  }
  const reply = (message: SnapshotReply): void => send(encodeSnapshotMessage(message))
  const message = next()
  if (message === undefined) return
  try {
    if (message.type === 'open') await take(directory, message.id, next, reply)
    else if (message.type === 'digest') await digest(directory, next, reply)
    else reply(answer(directory, message))
  } catch (error) {
    // A full disk is told; a broken invariant ends the process with its words.
    const fault = localFaultOf(error)
    if (fault === undefined) throw error
    reply({ type: 'failed', error: fault })
  }
}

async function take(
  directory: string,
  id: string,
  next: () => SnapshotMessage | undefined,
  reply: (message: SnapshotReply) => void,
): Promise<void> {
  const taker = new SnapshotTaker(directory, id, nodeFileSystem)
  const { bavail, bsize } = statfsSync(directory)
  taker.requireSpace(bavail * bsize)
  reply({ type: 'ready' })
  const message = next()
  if (message?.type !== 'begin') return
  taker.begin(message.index, message.context)
  reply({ type: 'begun' })
  const progress = (): void => reply({ type: 'progress' })
  for (const copy of taker.copies()) {
    await backup(copy.database, copy.target, { rate: COPY_PAGES, progress })
    taker.copied(copy)
  }
  reply({ type: 'made', ...taker.finish(progress) })
}

/** Reads everything, but no faster than others can bear. */
async function digest(
  directory: string,
  next: () => SnapshotMessage | undefined,
  reply: (message: SnapshotReply) => void,
): Promise<void> {
  const files = new ReadTransactions(directory, nodeFileSystem)
  reply({ type: 'ready' })
  const message = next()
  if (message?.type !== 'begin') return
  files.begin(message.index)
  reply({ type: 'begun' })
  // Whatever else the machine has to do comes first, from here on.
  setPriority(constants.priority.PRIORITY_LOW)
  const walBytesMax = files.walBytes + WAL_GROWTH_BYTES_MAX
  const pace = new Pace(DIGEST_BYTES_PER_SECOND)
  const steps = digestFiles(files)
  let toldAtMs = performance.now()
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done === true) return reply({ type: 'digested', digest: step.value })
    await pace.after(step.value)
    if (performance.now() - toldAtMs < TELL_MS) continue
    toldAtMs = performance.now()
    reply({ type: 'progress' })
    // Nobody's write may fill the disk because a WAL can't begin anew.
    if (files.walBytes <= walBytesMax) continue
    const text = `the WALs have grown by ${WAL_GROWTH_BYTES_MAX} bytes while they were read`
    throw new DbError('OVERLOADED', text)
  }
}

function answer(directory: string, message: SnapshotMessage): SnapshotReply {
  switch (message.type) {
    case 'stage':
      return {
        type: 'staged',
        location: beginStaging(directory, message.manifest, nodeFileSystem),
      }
    case 'finish':
      return { type: 'finished', manifest: finishStaging(directory, nodeFileSystem) }
    case 'look': {
      const manifest = soundSnapshot(directory, nodeFileSystem)
      return manifest === undefined ? { type: 'looked' } : { type: 'looked', manifest }
    }
    case 'adopt':
      adoptStaged(directory, message.id, nodeFileSystem)
      return { type: 'adopted' }
    case 'discard':
      discardStaged(directory, nodeFileSystem)
      return { type: 'discarded' }
    case 'open':
    case 'digest':
    case 'begin':
      throw new DbError('SNAPSHOT_FAILED', `${message.type} came out of turn`)
    default:
      return unreachable(message)
  }
}
