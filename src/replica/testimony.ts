/**
 * What a member says about entries that replicas computed differently, as bytes.
 *
 *   testimony => version u8, copiedIndex varint, appliedIndex varint, agreed after varint, up to
 *                varint, flags u8, [question: divergence], count varint, opinion*,
 *                trust: raftId varint, upTo varint
 *   flags     => 1: a question; 2: the sender is condemned
 *   divergence => index varint, database, sql, expected, actual, digest text
 *   opinion   => index varint, flags u8, [value text]
 *   flags     => 1: a value, and not silence; 2: it is decided
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { Divergence } from '../engine/engine.ts'
import type { Agreement, Value } from './divergence.ts'

const VERSION = 1
const FLAG_QUESTION = 1
const FLAG_CONDEMNED = 2
const FLAG_VALUE = 1
const FLAG_DECIDED = 2
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
