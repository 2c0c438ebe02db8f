/** The id of a write: as the headers of its HTTP request give it, or the fields of its line. */
import type { IncomingMessage } from 'node:http'
import { DbError } from '../../base/errors.ts'
import type { LineId } from '../../protocol/parse-line.ts'
import {
  decodeKey,
  decodeRequest,
  decodeSince,
  KEY_HEADER,
  REQUEST_HEADER,
  type RequestId,
  SINCE_HEADER,
} from '../../protocol/request-id.ts'

/**
 * Undefined if the request has none. `bornNow`: the entry after which a key is first sent that
 * doesn't tell; left out where it was sent before. Throws INVALID_REQUEST, or WRONG_HISTORY.
 */
export function requestIdOf(
  request: IncomingMessage,
  historyId: string,
  bornNow?: () => number,
): RequestId | undefined {
  const { headers } = request
  // Nearly all requests of bare clients come without: they must not pay for the others.
  if (headers[REQUEST_HEADER] === undefined && headers[KEY_HEADER] === undefined) return undefined
  const id = {
    request: only(request, REQUEST_HEADER),
    idempotencyKey: only(request, KEY_HEADER),
    since: only(request, SINCE_HEADER),
  }
  return decodeId(id, historyId, bornNow)
}

/** As {@link requestIdOf}, of texts that stood anywhere. */
export function decodeId(
  { request, idempotencyKey: key, since }: LineId,
  historyId: string,
  bornNow?: () => number,
): RequestId | undefined {
  if (request !== undefined && key !== undefined) {
    const message = `send ${REQUEST_HEADER} or ${KEY_HEADER}, not both: a write has one id`
    throw new DbError('INVALID_REQUEST', message)
  }
  if (request !== undefined) return decodeRequest(request, historyId)
  if (key === undefined) return undefined
  const birth = since === undefined ? bornNow?.() : decodeSince(since, historyId)
  return birth === undefined ? decodeKey(key) : { ...decodeKey(key), birth }
}

/** Node joins two headers of one name to one text: it would be an id that nobody chose. */
function only(request: IncomingMessage, name: string): string | undefined {
  const [value, ...others] = request.headersDistinct[name] ?? []
  if (others.length === 0) return value
  throw new DbError('INVALID_REQUEST', `the header ${name} stands there more than once`)
}
