/** One HTTP request from a node to another node's port, with a deadline. */
import { request } from 'node:http'
import * as z from 'zod'
import { DbError, ERRORS, type ErrorCode } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import { parseAddress } from '../platform/address.ts'

export interface NodeCall {
  /** Of the node that is asked, host:port. */
  readonly address: string
  readonly path: string
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly clock: Clock
  readonly signal?: AbortSignal
  /** Largest answer that is read, if not a quarter of a megabyte. */
  readonly answerBytesMax?: number
}

/** Largest answer that is read; a list of members is a few kilobytes. */
const ANSWER_BYTES_MAX = 256 * 1024

const errorBody = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    details: z.record(z.string(), z.unknown()).optional(),
  }),
})

/** Posts JSON. `done` is called once, with the text of the answer or why there is none. */
export function postToNode(call: NodeCall, done: (outcome: string | Error) => void): void {
  const { host, port } = parseAddress(call.address)
  const { body, path, timeoutMs, clock, signal, headers = {} } = call
  const { answerBytesMax = ANSWER_BYTES_MAX } = call
  const exchange = request({
    host,
    port,
    path,
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...headers,
    },
    agent: false,
    ...(signal && { signal }),
  })
  const deadline = clock.setTimer(timeoutMs, () =>
    exchange.destroy(new Error(`no answer within ${timeoutMs} ms`)),
  )
  let text = ''
  let isDone = false
  const finish = (outcome: string | Error): void => {
    deadline.cancel()
    if (!isDone) done(outcome)
    isDone = true
  }
  exchange.on('error', finish)
  exchange.on('response', response => {
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => {
      text += chunk
      if (text.length > answerBytesMax) exchange.destroy(new Error('the answer is too long'))
    })
    response.on('error', finish)
    response.on('end', () => finish(text))
  })
  exchange.end(body)
}

/** The error that an answer carries, if it carries one or is no answer of ours at all. */
export function readNodeError(text: string): DbError | undefined {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return new DbError('NOT_READY', 'the address answers, but not as a node does')
  }
  const parsed = errorBody.safeParse(json)
  if (!parsed.success) return undefined
  const { code, message, details = {} } = parsed.data.error
  const known = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'NOT_READY'
  return new DbError(known, message.slice(0, 1000), { details })
}
