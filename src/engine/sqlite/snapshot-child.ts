/** The inside of a snapshot's process: one task, and the end. */
import { statfsSync } from 'node:fs'
import { backup } from 'node:sqlite'
import { unreachable } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { openFrames } from './child-loop.ts'
import { nodeFileSystem } from './file-system.ts'
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
    case 'begin':
      throw new DbError('SNAPSHOT_FAILED', `${message.type} came out of turn`)
    default:
      return unreachable(message)
  }
}
