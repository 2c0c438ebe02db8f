/**
 * Request ids as text: the session and sequence of the typed client, and the `Idempotency-Key` of
 * everybody else. A session names the history of the data, so that it can't be mistaken for one of
 * another cluster, or of this one before it was restored.
 */
import { DbError } from '../base/errors.ts'

/** By what a write is known when it comes again. It has the shape of the engine's. */
export type RequestId =
  | { readonly type: 'session'; readonly session: SessionId; readonly sequence: number }
  | { readonly type: 'key'; readonly key: string; readonly birth?: number }

interface SessionId {
  readonly birth: number
  readonly name: number
}

/** Header of a write of the typed client: `<session>/<sequence>`. */
export const REQUEST_HEADER = 'lockstep-request'
/** Header of a write of anybody, after the draft of the IETF. */
export const KEY_HEADER = 'idempotency-key'

/** Header beside a key: a session that was opened before the write was first sent. */
export const SINCE_HEADER = 'lockstep-since'

/** The fields of a line of a stream that stand for these headers. */
export const LINE_FIELDS = {
  [REQUEST_HEADER]: 'request',
  [KEY_HEADER]: 'idempotencyKey',
  [SINCE_HEADER]: 'since',
} as const

/** Writes of one session that may be without an answer at the same time. */
export const SESSION_WINDOW = 64

const HISTORY_LENGTH = 8
const SESSION = /^([A-Za-z0-9_-]{1,8})-(\d{1,16})-([0-9a-f]{1,12})$/
const REQUEST = /^([^/]{1,40})\/([1-9]\d{0,15})$/
const KEY = /^[\x20-\x7e]{1,255}$/

/** The text of a session. Clients carry it and never look inside. */
export function encodeSession(historyId: string, session: SessionId): string {
  return `${historyId.slice(0, HISTORY_LENGTH)}-${session.birth}-${session.name.toString(16)}`
}

/** Reads the value of {@link REQUEST_HEADER}. Throws INVALID_REQUEST, or WRONG_HISTORY. */
export function decodeRequest(text: string, historyId: string): RequestId {
  const [, name = '', sequence] = REQUEST.exec(text) ?? []
  const session = decodeSession(name, historyId)
  if (session !== undefined && Number.isSafeInteger(Number(sequence))) {
    return { type: 'session', session, sequence: Number(sequence) }
  }
  const message = `${REQUEST_HEADER} must be the session that POST /sessions gave, /, a sequence`
  throw new DbError('INVALID_REQUEST', message)
}

/** Reads the value of {@link SINCE_HEADER}: the entry that it speaks of. Throws as the other. */
export function decodeSince(text: string, historyId: string): number {
  const session = decodeSession(text, historyId)
  if (session !== undefined) return session.birth
  throw new DbError('INVALID_REQUEST', `${SINCE_HEADER} must be what POST /sessions gave`)
}

/** Undefined if the text is no session. Throws WRONG_HISTORY. */
function decodeSession(text: string, historyId: string): SessionId | undefined {
  const [, history, birth, name] = SESSION.exec(text) ?? []
  const session = { birth: Number(birth), name: Number.parseInt(name ?? '', 16) }
  if (![session.birth, session.name].every(Number.isSafeInteger)) return undefined
  if (history === historyId.slice(0, HISTORY_LENGTH)) return session
  // A backup may hold the write, so that this can't be said to be not applied.
  const message =
    'the session is of another cluster or of an earlier history of this one: nothing was ' +
    'executed now, but what it sent before may have been; look, and open a new one'
  throw new DbError('WRONG_HISTORY', message)
}

/**
 * Reads the value of {@link KEY_HEADER}: bare, or in quotes as the draft has it, which mean the
 * same key. Throws INVALID_REQUEST.
 */
export function decodeKey(text: string): RequestId & { readonly type: 'key' } {
  const isQuoted = text.length >= 2 && text.startsWith('"') && text.endsWith('"')
  const key = isQuoted ? text.slice(1, -1).replaceAll(/\\(["\\])/g, '$1') : text
  if (KEY.test(key)) return { type: 'key', key }
  const message = `${KEY_HEADER} must have 1 to 255 printable ASCII characters`
  throw new DbError('INVALID_REQUEST', message)
}
