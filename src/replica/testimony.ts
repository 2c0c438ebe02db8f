/**
 * What a member says about entries that replicas computed differently, as bytes.
 *
 *   testimony => version u8, copiedIndex varint, appliedIndex varint, agreed after varint, up to
 *                varint, flags u8, [question: divergence], count varint, opinion*,
 *                trust: raftId varint, upTo varint, [data]
 *   flags     => 1: a question; 2: the sender is condemned
 *   divergence => index varint, database, sql, expected, actual, digest text
 *   opinion   => index varint, flags u8, [value text]
 *   flags     => 1: a value, and not silence; 2: it is decided
 *   data      => version u8, flags u8 (1: a digest is about to be taken), build text, count varint,
 *                word*
 *   word      => index varint, flags u8, [value text, count varint, part u32*], [verdict text]
 *   flags     => 1: a value; 2: silence; 4: a verdict
 *
 * A release that takes no digests ends before `data`, and ignores it when it comes. A later version
 * of `data` is as if there were none: its sender is silent.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Divergence } from '../engine/engine.ts'
import { type Agreement, type Opinion, PENDING, SILENT, type Value } from './divergence.ts'

const VERSION = 1
/**
 * Of what is said of data, and of what a digest of them is made of: digests of another version
 * prove nothing. To be raised with any change of either; a test knows the digest of each version.
 */
export const DATA_VERSION = 1
const FLAG_QUESTION = 1
const FLAG_CONDEMNED = 2
const FLAG_VALUE = 1
const FLAG_DECIDED = 2
const FLAG_PREPARING = 1
const FLAG_SILENT = 2
const FLAG_VERDICT = 4
const TEXT_LENGTH_MAX = 1000

/** What the sender says of one entry. */
export interface Statement {
  readonly index: number
  /** Undefined: it computed nothing there itself. */
  readonly value: Value | undefined
  /** This is not what the sender computed but what a majority agreed on. */
  readonly isDecided: boolean
}

/** An operator's word: what this member computed up to there is right. */
export interface Trust {
  readonly raftId: number
  readonly upTo: number
}

/** What the sender says of its data right after an entry. */
export interface DataWord {
  readonly index: number
  readonly opinion: Opinion
  /** Of its value: half of the digest of the catalogue and of the first databases. */
  readonly parts: readonly number[]
  /** What a majority agreed on. */
  readonly verdict: Value | undefined
}

export interface DataTestimony {
  /** The sender, a leader, is about to mark a place for digests in the log. */
  readonly isPreparing: boolean
  /** Build of the sender's SQL engine: digests of another one prove nothing. */
  readonly build: string
  readonly words: readonly DataWord[]
}

export interface Testimony {
  readonly copiedIndex: number
  readonly appliedIndex: number
  readonly agreement: Agreement
  /** Where the sender stopped, having computed something else. */
  readonly question: Divergence | undefined
  /** The sender was found wrong. */
  readonly isCondemned: boolean
  readonly statements: readonly Statement[]
  readonly trust: Trust | undefined
  /** Undefined if the sender's release knows nothing of digests. */
  readonly data: DataTestimony | undefined
}

export function encodeTestimony(testimony: Testimony): Uint8Array {
  const { question, statements, agreement, trust } = testimony
  const writer = new ByteWriter()
  writer.u8(VERSION)
  writer.varint(testimony.copiedIndex)
  writer.varint(testimony.appliedIndex)
  writer.varint(agreement.after)
  writer.varint(agreement.upTo)
  const questionFlag = question === undefined ? 0 : FLAG_QUESTION
  writer.u8(questionFlag | (testimony.isCondemned ? FLAG_CONDEMNED : 0))
  if (question !== undefined) {
    writer.varint(question.index)
    for (const text of [question.database, question.sql, question.expected, question.actual]) {
      writer.utf8(text.slice(0, TEXT_LENGTH_MAX))
    }
    writer.utf8(question.digest)
  }
  writer.varint(statements.length)
  for (const { index, value, isDecided } of statements) {
    writer.varint(index)
    writer.u8((value === undefined ? 0 : FLAG_VALUE) | (isDecided ? FLAG_DECIDED : 0))
    if (value !== undefined) writer.utf8(value)
  }
  writer.varint(trust?.raftId ?? 0)
  writer.varint(trust?.upTo ?? 0)
  if (testimony.data !== undefined) writeData(writer, testimony.data)
  return writer.finish()
}

export function decodeTestimony(body: Uint8Array): Testimony {
  const reader = new ByteReader(body)
  const version = reader.u8()
  if (version !== VERSION) throw new DbError('CORRUPT', `a testimony of version ${version}`)
  const copiedIndex = reader.varint()
  const appliedIndex = reader.varint()
  const agreement = { after: reader.varint(), upTo: reader.varint() }
  const flags = reader.u8()
  const question = (flags & FLAG_QUESTION) === 0 ? undefined : readQuestion(reader)
  const statements: Statement[] = []
  for (let left = reader.varint(); left > 0; left--) {
    const index = reader.varint()
    const kind = reader.u8()
    const value = (kind & FLAG_VALUE) === 0 ? undefined : reader.utf8()
    statements.push({ index, value, isDecided: (kind & FLAG_DECIDED) !== 0 })
  }
  const trust = { raftId: reader.varint(), upTo: reader.varint() }
  return {
    copiedIndex,
    appliedIndex,
    agreement,
    question,
    isCondemned: (flags & FLAG_CONDEMNED) !== 0,
    statements,
    trust: trust.raftId === 0 ? undefined : trust,
    data: reader.remaining === 0 ? undefined : readData(reader),
  }
}

function readQuestion(reader: ByteReader): Divergence {
  return {
    index: reader.varint(),
    database: reader.utf8(),
    sql: reader.utf8(),
    expected: reader.utf8(),
    actual: reader.utf8(),
    digest: reader.utf8(),
  }
}

function writeData(writer: ByteWriter, { isPreparing, build, words }: DataTestimony): void {
  writer.u8(DATA_VERSION)
  writer.u8(isPreparing ? FLAG_PREPARING : 0)
  writer.utf8(build)
  writer.varint(words.length)
  for (const { index, opinion, parts, verdict } of words) {
    const isValue = opinion.type === 'value'
    const flag = isValue ? FLAG_VALUE : opinion.type === 'silent' ? FLAG_SILENT : 0
    writer.varint(index)
    writer.u8(flag | (verdict === undefined ? 0 : FLAG_VERDICT))
    if (isValue) {
      writer.utf8(opinion.value)
      writer.varint(parts.length)
      for (const part of parts) writer.u32(part)
    }
    if (verdict !== undefined) writer.utf8(verdict)
  }
}

function readData(reader: ByteReader): DataTestimony | undefined {
  if (reader.u8() !== DATA_VERSION) return undefined
  const isPreparing = (reader.u8() & FLAG_PREPARING) !== 0
  const build = reader.utf8()
  const words: DataWord[] = []
  for (let left = reader.varint(); left > 0; left--) {
    const index = reader.varint()
    const flags = reader.u8()
    const parts: number[] = []
    let opinion = (flags & FLAG_SILENT) === 0 ? PENDING : SILENT
    if ((flags & FLAG_VALUE) !== 0) {
      opinion = { type: 'value', value: reader.utf8() }
      for (let more = reader.varint(); more > 0; more--) parts.push(reader.u32())
    }
    const verdict = (flags & FLAG_VERDICT) === 0 ? undefined : reader.utf8()
    words.push({ index, opinion, parts, verdict })
  }
  return { isPreparing, build, words }
}
