/**
 * Messages of Raft as bytes, for the way between nodes.
 *
 *   message  => type u8, from, to, term, logTerm, index, commit varint, flags u8,
 *               rejectHint varint, context bytes, count varint, entry*
 *   entry    => term varint, type u8, data bytes
 *   flags    => 1: reject
 *   bytes    => length varint, then the bytes
 *
 * Entries of one message have consecutive indexes, so only the first one's is derived and none is
 * sent: an append's entries begin after `index`. Snapshots and storage messages never travel here.
 */
import { assert } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { Entry, Message, MessageType } from '../raft/types.ts'
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
]

const FLAG_REJECT = 1

export function encodeMessage(message: Message): Uint8Array {
  const type = TYPES.indexOf(message.type)
  assert(type >= 0 && message.snapshot === undefined, `${message.type} is not sent to peers`)
  const writer = new ByteWriter()
  writer.u8(type)
  writer.varint(message.from)
  writer.varint(message.to)
  writer.varint(message.term)
  writer.varint(message.logTerm)
  writer.varint(message.index)
  writer.varint(message.commit)
  writer.u8(message.reject ? FLAG_REJECT : 0)
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
  return writer.finish()
}

/** Throws if the bytes are not of `encodeMessage`. */
export function decodeMessage(bytes: Uint8Array): Message {
  const reader = new ByteReader(bytes)
  const type = TYPES[reader.u8()]
  if (type === undefined) throw new DbError('CORRUPT', 'unknown type of peer message')
  const from = reader.varint()
  const to = reader.varint()
  const term = reader.varint()
  const logTerm = reader.varint()
  const index = reader.varint()
  const commit = reader.varint()
  const reject = (reader.u8() & FLAG_REJECT) !== 0
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
  })
}
