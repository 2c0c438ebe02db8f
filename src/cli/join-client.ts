/** The joiner's side: asks one node after the other until a cluster lets it in. */
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, Random, Timer } from '../base/ports.ts'
import { randomName } from './identity.ts'
import {
  JOIN_VERSION,
  type JoinAnswer,
  type JoinRequest,
  openJoinAnswer,
  sealJoinRequest,
} from './join-messages.ts'
import { postToNode, readNodeError } from './node-call.ts'

export interface JoinClientOptions {
  readonly nodeId: string
  readonly incarnation: string
  readonly as: JoinRequest['as']
  readonly address: string
  readonly build: string
  readonly secret: string
  readonly join: readonly string[]
  readonly pollMs: number
  readonly requestTimeoutMs: number
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly onLetIn: (answer: Exclude<JoinAnswer, { type: 'waiting' }>) => void
  /** The refusal will not pass by itself. */
  readonly onRefused: (error: DbError) => void
}

/** Codes of refusals that asking again does not change. */
const FINAL: readonly ErrorCode[] = [
  'FORBIDDEN',
  'UNAUTHENTICATED',
  'INVALID_REQUEST',
  'MEMBERS_REFUSED',
]

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
    const { join, clock, secret, nodeId, incarnation, as, address, build, random } = this.#options
    const at = join[this.#attempts % join.length] ?? ''
    this.#attempts += 1
    const sentAtMs = clock.wallMs()
    const nonce = randomName(random)
    const who = { version: JOIN_VERSION, nodeId, incarnation, as, address, build } as const
    const sealed = sealJoinRequest({ ...who, sentAtMs, nonce }, secret)
    const call = {
      address: at,
      path: '/join',
      body: JSON.stringify(sealed),
      timeoutMs: this.#options.requestTimeoutMs,
      clock,
      signal: this.#abort.signal,
    }
    postToNode(call, outcome => {
      if (outcome instanceof Error) this.#askLater(at, outcome.message)
      else this.#receive(at, outcome, sealed.mac)
    })
  }

  #receive(at: string, body: string, mac: string): void {
    try {
      const refusal = readNodeError(body)
      if (refusal !== undefined) throw refusal
      const answer = openJoinAnswer(body, mac, this.#options.secret)
      if (answer.type !== 'waiting') return this.#options.onLetIn(answer)
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
    if (text !== this.#lastNews) logger.info({ asked: at, news }, 'waiting to join a cluster')
    this.#lastNews = text
    this.#timer = clock.setTimer(pollMs, () => this.#ask())
  }
}
