/**
 * Messages of Raft as bytes, for the way between nodes.
 *
 *   message  => version u8 (1), type u8, from, to, term, logTerm, index, commit varint, flags u8,
 *               rejectHint varint, context bytes, count varint, entry*, snapshot if flagged,
 *               commitTerm varint if flagged
 *   entry    => term varint, type u8, data bytes
 *   flags    => 1: reject, 2: a snapshot follows, 4: its membership is left by the leader itself,
 *               8: commitTerm stands at the end, where older programs don't look
 *   snapshot => index, term varint, 4 lists (count varint, raftId varint*): voters, learners,
 *               votersOutgoing, learnersNext; book of members bytes
 *   bytes    => length varint, then the bytes
 *
 * Entries of one message have consecutive indexes, so only the first one's is derived and none is
 * sent: an append's entries begin after `index`. A snapshot is a place in the log, never the data.
 * Storage messages never travel here.
 */
import { assert } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { Entry, Message, MessageType, Snapshot } from '../raft/types.ts'
import { createMessage } from '../raft/types.ts'

/** Numbers on the wire are positions in this list: append to it, never reorder. */
const TYPES: readonly MessageType[] = [
  'append',
  'append-response',
  'vote',
  'vote-response',
  'pre-vote',
  'pre-vote-response',
  'heartbeat',
  'heartbeat-response',
  'transfer-leader',
  'timeout-now',
  'read-index',
  'read-index-response',
  'snapshot',
]

const VERSION = 1
/** Numbers of at most 53 bits, and what stands between them. */
const HEAD_BYTES_MAX = 96
const ENTRY_HEAD_BYTES_MAX = 18
const FLAG_REJECT = 1
const FLAG_SNAPSHOT = 2
const FLAG_AUTO_LEAVE = 4
const FLAG_COMMIT_TERM = 8

export function encodeMessage(message: Message): Uint8Array {
  const type = TYPES.indexOf(message.type)
  assert(type >= 0, `${message.type} is not sent to peers`)
  const { snapshot } = message
  const writer = new ByteWriter(roomFor(message))
  writer.u8(VERSION)
  writer.u8(type)
  writer.varint(message.from)
  writer.varint(message.to)
  writer.varint(message.term)
  writer.varint(message.logTerm)
  writer.varint(message.index)
  writer.varint(message.commit)
  writer.u8(
    (message.reject ? FLAG_REJECT : 0) |
      (snapshot === undefined ? 0 : FLAG_SNAPSHOT) |
      (snapshot?.metadata.confState.autoLeave === true ? FLAG_AUTO_LEAVE : 0) |
      (message.commitTerm === 0 ? 0 : FLAG_COMMIT_TERM),
  )
  writer.varint(message.rejectHint)
  writer.bytes(message.context)
  writer.varint(message.entries.length)
  message.entries.forEach((entry, at) => {
    const expected = message.type === 'append' ? message.index + 1 + at : entry.index
    assert(entry.index === expected, `entry ${entry.index} stands where ${expected} should`)
    writer.varint(entry.term)
    writer.u8(entry.type === 'config' ? 1 : 0)
    writer.bytes(entry.data)
  })
  if (snapshot !== undefined) writeSnapshot(writer, snapshot)
  if (message.commitTerm !== 0) writer.varint(message.commitTerm)
  // Nobody writes to it any more, so that it need not be copied.
  return writer.view()
}

/** Enough for nearly every message, so that its bytes are written once and to one place. */
function roomFor({ entries, context }: Message): number {
  let sizeBytes = HEAD_BYTES_MAX + context.length
  for (const { data } of entries) sizeBytes += ENTRY_HEAD_BYTES_MAX + data.length
  return sizeBytes
}

function writeSnapshot(writer: ByteWriter, { metadata, data }: Snapshot): void {
  const { voters, learners, votersOutgoing, learnersNext } = metadata.confState
  writer.varint(metadata.index)
  writer.varint(metadata.term)
  for (const list of [voters, learners, votersOutgoing, learnersNext]) {
    writer.varint(list.length)
    for (const raftId of list) writer.varint(raftId)
  }
  writer.bytes(data)
}

function readSnapshot(reader: ByteReader, autoLeave: boolean): Snapshot {
  const index = reader.varint()
  const term = reader.varint()
  const readList = (): number[] => {
    const list: number[] = []
    for (let left = reader.varint(); left > 0; left -= 1) list.push(reader.varint())
    return list
  }
  const voters = readList()
  const learners = readList()
  const votersOutgoing = readList()
  const learnersNext = readList()
  const confState = { voters, learners, votersOutgoing, learnersNext, autoLeave }
  return { metadata: { index, term, confState }, data: reader.bytes().slice() }
}

/** Throws CORRUPT if the bytes are damaged, WRONG_DATA if another program wrote them. */
export function decodeMessage(bytes: Uint8Array): Message {
  const reader = new ByteReader(bytes)
  const version = reader.u8()
  if (version !== VERSION) {
    const text = `a message of Raft in format ${version}; this program speaks ${VERSION}`
    throw new DbError('WRONG_DATA', text)
  }
  const typeNumber = reader.u8()
  const type = TYPES[typeNumber]
  if (type === undefined) {
    throw new DbError('WRONG_DATA', `a message of Raft of the unknown type ${typeNumber}`)
  }
  const from = reader.varint()
  const to = reader.varint()
  const term = reader.varint()
  const logTerm = reader.varint()
  const index = reader.varint()
  const commit = reader.varint()
  const flags = reader.u8()
  const reject = (flags & FLAG_REJECT) !== 0
  const rejectHint = reader.varint()
  const context = reader.bytes().slice()
  const count = reader.varint()
  const entries: Entry[] = []
  for (let at = 0; at < count; at += 1) {
    const entryTerm = reader.varint()
    const entryType = reader.u8() === 1 ? 'config' : 'normal'
    // A copy: the transport may reuse its buffer, and an entry may stay in memory for long.
    const data = reader.bytes().slice()
    entries.push({ term: entryTerm, index: index + 1 + at, type: entryType, data })
  }
  const hasSnapshot = (flags & FLAG_SNAPSHOT) !== 0
  const snapshot = hasSnapshot ? readSnapshot(reader, (flags & FLAG_AUTO_LEAVE) !== 0) : undefined
  return createMessage({
    type,
    from,
    to,
    term,
    logTerm,
    index,
    commit,
    reject,
    rejectHint,
    context,
    entries,
    ...(snapshot && { snapshot }),
    commitTerm: (flags & FLAG_COMMIT_TERM) === 0 ? 0 : reader.varint(),
  })
}
