/**
 * The id by which a client's request is known when it comes again: what it may hold, and its bytes.
 * It stands in the request, so that it goes wherever the request goes.
 */
import type { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { RequestId } from './engine.ts'

const NONE = 0
const SESSION = 1
const KEY = 2
const KEY_WITH_BIRTH = 3

const NAME_MAX = 2 ** 48 - 1
/** Visible ASCII and spaces: what an HTTP header carries unchanged. */
const KEY_TEXT = /^[\x20-\x7e]{1,255}$/

/** Why this can't be a request's id, undefined if it can. */
export function refuseRequestId(id: RequestId): string | undefined {
  if (id.type === 'key') {
    if (!KEY_TEXT.test(id.key)) return 'a key has 1 to 255 printable ASCII characters'
    return isCount(id.birth ?? 0) ? undefined : `${id.birth} is no birth of a key`
  }
  const { session, sequence } = id
  if (!isCount(session.birth)) return `${session.birth} is no birth of a session`
  if (!isCount(session.name) || session.name > NAME_MAX) {
    return `${session.name} is no name of a session`
  }
  return isCount(sequence) && sequence > 0 ? undefined : `${sequence} is no sequence number`
}

/**
 * Layout: u8 kind (0 none, 1 session, 2 key, 3 key with a birth) · of a session: birth varint, name
 * varint, sequence varint · of a key: utf8, and its birth varint if it has one.
 */
export function encodeRequestId(writer: ByteWriter, id: RequestId | undefined): void {
  if (id === undefined) return writer.u8(NONE)
  if (id.type === 'key') {
    writer.u8(id.birth === undefined ? KEY : KEY_WITH_BIRTH)
    writer.utf8(id.key)
    return id.birth === undefined ? undefined : writer.varint(id.birth)
  }
  writer.u8(SESSION)
  writer.varint(id.session.birth)
  writer.varint(id.session.name)
  return writer.varint(id.sequence)
}

/** Reads what {@link encodeRequestId} wrote. Throws `DbError` CORRUPT. */
export function decodeRequestId(reader: ByteReader): RequestId | undefined {
  const kind = reader.u8()
  switch (kind) {
    case NONE:
      return undefined
    case SESSION: {
      const session = { birth: reader.varint(), name: reader.varint() }
      return { type: 'session', session, sequence: reader.varint() }
    }
    case KEY:
      return { type: 'key', key: reader.utf8() }
    case KEY_WITH_BIRTH:
      return { type: 'key', key: reader.utf8(), birth: reader.varint() }
    default:
      throw new DbError('CORRUPT', `a request id of kind ${kind} is not known here`)
  }
}

/** Passes over what {@link encodeRequestId} wrote, without the price of making it. */
export function skipRequestId(reader: ByteReader): void {
  const kind = reader.u8()
  if (kind === KEY || kind === KEY_WITH_BIRTH) reader.bytes()
  const numbers = kind === SESSION ? 3 : kind === KEY_WITH_BIRTH ? 1 : 0
  for (let left = numbers; left > 0; left--) reader.varint()
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}
