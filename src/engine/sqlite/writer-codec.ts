/**
 * Messages to the writer process and its replies, as bytes. Both ends are always of one build, so
 * there is no version: u8 type, then the fields in the order of the types in engine.ts.
 */
import { unreachable } from '../../base/assert.ts'
import { ByteReader, type ByteWriter } from '../../base/bytes.ts'
import { DbError } from '../../base/errors.ts'
import type {
  AcceptedEntry,
  Divergence,
  EarlierStep,
  EngineEntry,
  EnginePast,
  FinishedTransaction,
  RequestResult,
  TransactionStart,
  WriterMessage,
  WriterReply,
} from '../engine.ts'
import {
  decodeRequestError,
  decodeRequestResult,
  encodeRequestError,
  encodeRequestResult,
} from '../result-codec.ts'
import { decodeRequestId, encodeRequestId } from '../request-id.ts'
import { buildMessage } from './scratch.ts'

const OPEN = 1
const EXECUTE = 2
const COMMIT = 3
const ROLLBACK = 4
const APPLY = 5
const CHECKPOINT = 6
const ACCEPT = 7
const CONDEMN = 8
const STEP = 9
const FINISH = 10

const OPENED = 101
const EXECUTED = 102
const COMMITTED = 103
const ROLLED_BACK = 104
const APPLIED = 105
const CHECKPOINTED = 106
const FAULT = 107
const ACCEPTED = 108
const CONDEMNED = 109
const STEPPED = 110

export function encodeWriterMessage(message: WriterMessage): Uint8Array {
  return buildMessage(writer => writeMessage(writer, message))
}

function writeMessage(writer: ByteWriter, message: WriterMessage): void {
  switch (message.type) {
    case 'open':
      return writer.u8(OPEN)
    case 'execute':
      writer.u8(EXECUTE)
      writer.varint(message.batch)
      writer.varint(message.nowMs)
      writer.bytes(message.seed)
      writer.varint(message.commitIndex)
      writer.varint(message.requests.length)
      for (const request of message.requests) writer.bytes(request)
      return
    case 'step':
      writer.u8(STEP)
      writer.varint(message.batch)
      writeStart(writer, message.start)
      writer.bytes(message.request)
      writer.u8(message.isQuery ? 1 : 0)
      return writer.u8(message.givesWay === true ? 1 : 0)
    case 'finish':
      writer.u8(FINISH)
      writer.varint(message.batch)
      writeStart(writer, message.start)
      encodeRequestId(writer, message.id)
      encodeRequestId(writer, message.ownId)
      writer.varint(message.commitIndex)
      return writeFinished(writer, message.others ?? [])
    case 'commit':
      writer.u8(COMMIT)
      writer.varint(message.batch)
      return writer.varint(message.index)
    case 'rollback':
      writer.u8(ROLLBACK)
      return writer.varint(message.batch)
    case 'apply':
      writer.u8(APPLY)
      writer.varint(message.entries.length)
      for (const entry of message.entries) {
        writer.varint(entry.index)
        writer.bytes(entry.data)
      }
      return
    case 'accept':
      writer.u8(ACCEPT)
      writer.varint(message.index)
      return writer.utf8(message.digest)
    case 'condemn':
      writer.u8(CONDEMN)
      return writeDivergence(writer, message.divergence)
    case 'checkpoint':
      return writer.u8(CHECKPOINT)
    default:
      unreachable(message)
  }
}

/** Byte arrays of the message are views of `bytes`. */
export function decodeWriterMessage(bytes: Uint8Array): WriterMessage {
  const reader = new ByteReader(bytes)
  const tag = reader.u8()
  switch (tag) {
    case OPEN:
      return { type: 'open' }
    case EXECUTE: {
      const batch = reader.varint()
      const nowMs = reader.varint()
      const seed = reader.bytes()
      const commitIndex = reader.varint()
      const requests: Uint8Array[] = []
      for (let left = reader.varint(); left > 0; left--) requests.push(reader.bytes())
      return { type: 'execute', batch, nowMs, seed, commitIndex, requests }
    }
    case STEP:
      return {
        type: 'step',
        batch: reader.varint(),
        ...readStart(reader),
        request: reader.bytes(),
        isQuery: reader.u8() === 1,
        ...(reader.u8() === 1 && { givesWay: true }),
      }
    case FINISH: {
      const batch = reader.varint()
      const start = readStart(reader)
      const ids = readIds(reader)
      const commitIndex = reader.varint()
      const others = readFinished(reader)
      const isGroup = others.length > 0
      return { type: 'finish', batch, ...start, ...ids, commitIndex, ...(isGroup && { others }) }
    }
    case COMMIT:
      return { type: 'commit', batch: reader.varint(), index: reader.varint() }
    case ROLLBACK:
      return { type: 'rollback', batch: reader.varint() }
    case APPLY: {
      const entries: EngineEntry[] = []
      for (let left = reader.varint(); left > 0; left--) {
        entries.push({ index: reader.varint(), data: reader.bytes() })
      }
      return { type: 'apply', entries }
    }
    case ACCEPT:
      return { type: 'accept', index: reader.varint(), digest: reader.utf8() }
    case CONDEMN:
      return { type: 'condemn', divergence: readDivergence(reader) }
    case CHECKPOINT:
      return { type: 'checkpoint' }
    default:
      throw new DbError('CORRUPT', `${tag} is no type of a message to the writer`)
  }
}

function writeStart(writer: ByteWriter, start: TransactionStart | undefined): void {
  writer.u8(start === undefined ? 0 : 1)
  if (start === undefined) return
  writer.utf8(start.database)
  writer.varint(start.nowMs)
  writer.bytes(start.seed)
  writer.varint(start.earlier.length)
  for (const { request, isQuery, proof } of start.earlier) {
    writer.bytes(request)
    writer.u8(isQuery ? 1 : 0)
    writer.bytes(proof)
  }
}

function writeFinished(writer: ByteWriter, others: readonly FinishedTransaction[]): void {
  writer.varint(others.length)
  for (const { start, id, ownId } of others) {
    writeStart(writer, start)
    encodeRequestId(writer, id)
    encodeRequestId(writer, ownId)
  }
}

function readFinished(reader: ByteReader): readonly FinishedTransaction[] {
  const others: FinishedTransaction[] = []
  for (let left = reader.varint(); left > 0; left--) {
    const { start } = readStart(reader)
    if (start === undefined) throw new DbError('CORRUPT', 'a transaction of a group has no start')
    others.push({ start, ...readIds(reader) })
  }
  return others
}

function readIds(reader: ByteReader): Pick<FinishedTransaction, 'id' | 'ownId'> {
  const id = decodeRequestId(reader)
  const ownId = decodeRequestId(reader)
  return { ...(id && { id }), ...(ownId && { ownId }) }
}

function readStart(reader: ByteReader): { readonly start?: TransactionStart } {
  if (reader.u8() === 0) return {}
  const database = reader.utf8()
  const nowMs = reader.varint()
  const seed = reader.bytes()
  const earlier: EarlierStep[] = []
  for (let left = reader.varint(); left > 0; left--) {
    earlier.push({ request: reader.bytes(), isQuery: reader.u8() === 1, proof: reader.bytes() })
  }
  return { start: { database, nowMs, seed, earlier } }
}

export function encodeWriterReply(reply: WriterReply): Uint8Array {
  return buildMessage(writer => writeReply(writer, reply))
}

function writeReply(writer: ByteWriter, reply: WriterReply): void {
  switch (reply.type) {
    case 'opened':
      writer.u8(OPENED)
      writer.varint(reply.appliedIndex)
      writer.varint(reply.durableIndex)
      writer.varint(reply.nowMs)
      writer.utf8(reply.build)
      return writePast(writer, reply.past)
    case 'executed':
      writer.u8(EXECUTED)
      writer.varint(reply.batch)
      writer.varint(reply.taken)
      writer.u8(reply.entry === undefined ? 0 : 1)
      if (reply.entry !== undefined) writer.bytes(reply.entry)
      writer.varint(reply.results.length)
      for (const result of reply.results) encodeRequestResult(writer, result)
      return
    case 'stepped':
      writer.u8(STEPPED)
      writer.varint(reply.batch)
      writer.varint(reply.nowMs)
      encodeRequestResult(writer, reply.result)
      writer.bytes(reply.proof)
      writer.u8(reply.isReadOnly ? 1 : 0)
      return writer.u8(reply.isOver ? 1 : 0)
    case 'committed':
      writer.u8(COMMITTED)
      writer.varint(reply.batch)
      writer.varint(reply.index)
      return writer.varint(reply.durableIndex)
    case 'rolled-back':
      writer.u8(ROLLED_BACK)
      return writer.varint(reply.batch)
    case 'applied':
      return writeApplied(writer, reply)
    case 'accepted':
      writer.u8(ACCEPTED)
      writer.varint(reply.index)
      return writer.varint(reply.appliedIndex)
    case 'condemned':
      return writer.u8(CONDEMNED)
    case 'checkpointed':
      writer.u8(CHECKPOINTED)
      return writer.varint(reply.durableIndex)
    case 'fault':
      writer.u8(FAULT)
      return encodeRequestError(writer, reply.error)
    default:
      unreachable(reply)
  }
}

function writeApplied(writer: ByteWriter, reply: WriterReply & { type: 'applied' }): void {
  const { divergence } = reply
  writer.u8(APPLIED)
  writer.varint(reply.index)
  writer.varint(reply.durableIndex)
  writer.u8(divergence === undefined ? 0 : 1)
  if (divergence !== undefined) writeDivergence(writer, divergence)
}

function writeDivergence(writer: ByteWriter, divergence: Divergence): void {
  writer.varint(divergence.index)
  writer.utf8(divergence.database)
  writer.utf8(divergence.sql)
  writer.utf8(divergence.expected)
  writer.utf8(divergence.actual)
  writer.utf8(divergence.digest)
}

function readDivergence(reader: ByteReader): Divergence {
  return {
    index: reader.varint(),
    database: reader.utf8(),
    sql: reader.utf8(),
    expected: reader.utf8(),
    actual: reader.utf8(),
    digest: reader.utf8(),
  }
}

function writePast(writer: ByteWriter, { copiedIndex, accepted, condemned }: EnginePast): void {
  writer.varint(copiedIndex)
  writer.varint(accepted.length)
  for (const { index, digest } of accepted) {
    writer.varint(index)
    writer.utf8(digest)
  }
  writer.u8(condemned === undefined ? 0 : 1)
  if (condemned !== undefined) writeDivergence(writer, condemned)
}

function readPast(reader: ByteReader): EnginePast {
  const copiedIndex = reader.varint()
  const accepted: AcceptedEntry[] = []
  for (let left = reader.varint(); left > 0; left--) {
    accepted.push({ index: reader.varint(), digest: reader.utf8() })
  }
  const condemned = reader.u8() === 0 ? undefined : readDivergence(reader)
  return { copiedIndex, accepted, condemned }
}

/** The entry is a copy, because it is kept for long; BLOBs of results are views of `bytes`. */
export function decodeWriterReply(bytes: Uint8Array): WriterReply {
  const reader = new ByteReader(bytes)
  const tag = reader.u8()
  switch (tag) {
    case OPENED:
      return {
        type: 'opened',
        appliedIndex: reader.varint(),
        durableIndex: reader.varint(),
        nowMs: reader.varint(),
        build: reader.utf8(),
        past: readPast(reader),
      }
    case EXECUTED: {
      const batch = reader.varint()
      const taken = reader.varint()
      const entry = reader.u8() === 0 ? undefined : new Uint8Array(reader.bytes())
      const results: RequestResult[] = []
      for (let left = reader.varint(); left > 0; left--) results.push(decodeRequestResult(reader))
      return { type: 'executed', batch, taken, entry, results }
    }
    case STEPPED:
      return {
        type: 'stepped',
        batch: reader.varint(),
        nowMs: reader.varint(),
        result: decodeRequestResult(reader),
        // It is kept as long as the transaction is open.
        proof: reader.bytes().slice(),
        isReadOnly: reader.u8() === 1,
        isOver: reader.u8() === 1,
      }
    case COMMITTED: {
      const batch = reader.varint()
      return { type: 'committed', batch, index: reader.varint(), durableIndex: reader.varint() }
    }
    case ROLLED_BACK:
      return { type: 'rolled-back', batch: reader.varint() }
    case APPLIED:
      return readApplied(reader)
    case ACCEPTED:
      return { type: 'accepted', index: reader.varint(), appliedIndex: reader.varint() }
    case CONDEMNED:
      return { type: 'condemned' }
    case CHECKPOINTED:
      return { type: 'checkpointed', durableIndex: reader.varint() }
    case FAULT:
      return { type: 'fault', error: decodeRequestError(reader) }
    default:
      throw new DbError('CORRUPT', `${tag} is no type of a reply of the writer`)
  }
}

function readApplied(reader: ByteReader): WriterReply {
  const index = reader.varint()
  const durableIndex = reader.varint()
  if (reader.u8() === 0) return { type: 'applied', index, durableIndex }
  return { type: 'applied', index, durableIndex, divergence: readDivergence(reader) }
}
