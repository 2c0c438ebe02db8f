/** The joiner's side of the founding: asks one node after the other until there is a cluster. */
import { request } from 'node:http'
import * as z from 'zod'
import { DbError, ERRORS, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, Random, Timer } from '../base/ports.ts'
import { parseAddress } from '../platform/address.ts'
import { randomName } from './identity.ts'
import { type JoinAnswer, openJoinAnswer, sealJoinRequest } from './join-messages.ts'

export interface JoinClientOptions {
  readonly nodeId: string
  readonly incarnation: string
  readonly address: string
  readonly build: string
  readonly secret: string
  readonly join: readonly string[]
  readonly pollMs: number
  readonly requestTimeoutMs: number
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly onFounded: (answer: Extract<JoinAnswer, { type: 'founded' }>) => void
  /** The refusal will not pass by itself. */
  readonly onRefused: (error: DbError) => void
}

/** An answer is a list of at most seven members. */
const ANSWER_BYTES_MAX = 64 * 1024

/** Codes of refusals that asking again does not change. */
const FINAL: readonly ErrorCode[] = ['FORBIDDEN', 'UNAUTHENTICATED', 'INVALID_REQUEST']

const errorBody = z.object({ error: z.object({ code: z.string(), message: z.string() }) })

export class JoinClient {
  readonly #options: JoinClientOptions
  readonly #abort = new AbortController()
  #timer: Timer | undefined
  #attempts = 0
  #lastNews = ''

  constructor(options: JoinClientOptions) {
    this.#options = options
  }

  start(): void {
    this.#ask()
  }

  stop(): void {
    this.#abort.abort()
    this.#timer?.cancel()
  }

  #ask(): void {
    const { join, clock, secret, nodeId, incarnation, address, build, random } = this.#options
    const at = join[this.#attempts % join.length] ?? ''
    this.#attempts += 1
    const nonce = randomName(random)
    const sentAtMs = clock.wallMs()
    const question = { version: 1, nodeId, incarnation, address, build, sentAtMs, nonce } as const
    const sealed = sealJoinRequest(question, secret)
    this.#post(at, JSON.stringify(sealed), outcome => {
      if (outcome instanceof Error) this.#askLater(at, outcome.message)
      else this.#receive(at, outcome, sealed.mac)
    })
  }

  #receive(at: string, body: string, mac: string): void {
    try {
      const refusal = readError(body)
      if (refusal !== undefined) throw refusal
      const answer = openJoinAnswer(body, mac, this.#options.secret)
      if (answer.type === 'founded') return this.#options.onFounded(answer)
      this.#askLater(at, `${answer.present} of ${answer.voters} nodes are there`)
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      if (FINAL.includes(error.code)) this.#options.onRefused(error)
      else this.#askLater(at, error.message)
    }
  }

  #askLater(at: string, news: string): void {
    if (this.#abort.signal.aborted) return
    const { logger, clock, pollMs } = this.#options
    const text = `${at}: ${news}`
    if (text !== this.#lastNews) logger.info({ founder: at, news }, 'waiting to join a cluster')
    this.#lastNews = text
    this.#timer = clock.setTimer(pollMs, () => this.#ask())
  }

  /** `done` is called once, with the answer's body or why there is none. */
  #post(at: string, body: string, done: (outcome: string | Error) => void): void {
    const { host, port } = parseAddress(at)
    const { clock, requestTimeoutMs } = this.#options
    const call = request({
      host,
      port,
      path: '/join',
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      agent: false,
      signal: this.#abort.signal,
    })
    const deadline = clock.setTimer(requestTimeoutMs, () =>
      call.destroy(new Error(`no answer within ${requestTimeoutMs} ms`)),
    )
    let text = ''
    let isDone = false
    const finish = (outcome: string | Error): void => {
      deadline.cancel()
      if (!isDone) done(outcome)
      isDone = true
    }
    call.on('error', finish)
    call.on('response', response => {
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
        if (text.length > ANSWER_BYTES_MAX) call.destroy(new Error('the answer is too long'))
      })
      response.on('error', finish)
      response.on('end', () => finish(text))
    })
    call.end(body)
  }
}

/** The error that an answer carries, if it carries one or is no answer of ours at all. */
function readError(body: string): DbError | undefined {
  let json: unknown
  try {
    json = JSON.parse(body)
  } catch {
    return new DbError('NOT_READY', 'the address answers, but not as a node does')
  }
  const parsed = errorBody.safeParse(json)
  if (!parsed.success) return undefined
  const { code, message } = parsed.data.error
  const known = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'NOT_READY'
  return new DbError(known, message.slice(0, 1000))
}
