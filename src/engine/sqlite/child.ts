/**
 * The program of an engine process: `node child.ts writer|reader|snapshot DIRECTORY
 * watch-parent|no-guard TOKEN`. The token is for whoever looks for orphans. It speaks through file
 * descriptor 3 only.
 */
import { flushCompileCache } from 'node:module'
import { unreachable } from '../../base/assert.ts'
import { endWithParent, serveFrames } from './child-loop.ts'
import { openFilesWithin } from './descriptors.ts'
import {
  decodeReaderMessage,
  encodeDatabases,
  encodeDigestOutcome,
  encodeJsonOutcome,
  encodeReadOutcome,
  type ReaderMessage,
} from './reader-codec.ts'
import { serveSnapshot } from './snapshot-child.ts'
import { SqliteReader } from './sqlite-reader.ts'
import { OPEN_FILES_MAX, SqliteWriter } from './sqlite-writer.ts'
import { decodeWriterMessage, encodeWriterReply } from './writer-codec.ts'

/** Where the system doesn't say how many descriptors there are. */
const OPEN_FILES_ANYWHERE = 64

async function main(): Promise<void> {
  const [kind, directory = '', guard] = process.argv.slice(2)
  if (guard === 'watch-parent') endWithParent()
  // It would be written at the end, which for this process is most often a kill.
  flushCompileCache()
  if (kind === 'writer') serveWriter(directory)
  else if (kind === 'reader') serveReader(directory)
  else if (kind === 'snapshot') await serveSnapshot(directory)
  else throw new Error(`${kind} is no kind of engine process`)
  // Open transactions are rolled back by the next one who opens the files: closing them here could
  // begin a checkpoint that nobody waits for.
  process.exit(0)
}

function serveWriter(directory: string): void {
  const openFilesMax = openFilesWithin(OPEN_FILES_MAX, OPEN_FILES_ANYWHERE)
  const writer = new SqliteWriter({ directory, openFilesMax })
  serveFrames((body, send) => {
    const reply = writer.handle(decodeWriterMessage(body))
    send(encodeWriterReply(reply))
    if (reply.type === 'fault') process.exit(1)
    // After the reply, so that nobody waits for a checkpoint that is due.
    writer.maintain()
  })
}

function serveReader(directory: string): void {
  const reader = new SqliteReader({ directory })
  serveFrames(
    (body, send) => send(answer(reader, decodeReaderMessage(body))),
    send => send(new Uint8Array(0)),
    () => reader.endBatch(),
  )
}

function answer(reader: SqliteReader, message: ReaderMessage): Uint8Array {
  switch (message.type) {
    case 'query': {
      const outcome = reader.read(message.request)
      const { rows } = message
      return rows === undefined ? encodeReadOutcome(outcome) : encodeJsonOutcome(outcome, rows)
    }
    case 'digest':
      return encodeDigestOutcome(reader.digest(message.request))
    case 'databases':
      return encodeDatabases(reader.databases())
    default:
      return unreachable(message)
  }
}

await main()
