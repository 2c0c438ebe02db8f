/**
 * Sends one request until a node answers it: it finds the leader, passes over nodes that don't
 * serve or don't answer any more, and waits between attempts, up to the request's deadline.
 */
import { DbError, type ErrorCode } from '../base/errors.ts'
import { API_HEADER, API_VERSION } from '../protocol/api-version.ts'
import type { NodesResponse } from '../protocol/http-api.ts'
import { LINE_FIELDS } from '../protocol/request-id.ts'
import type { Nodes } from './nodes.ts'
import { backoffMs, nextStep, type RequestKind } from './retry.ts'
import { RetryBudget } from './retry-budget.ts'
import { sleep } from './sleep.ts'
import { Streams } from './streams.ts'
import type { Transport } from './transport.ts'
import type { StreamedWrite } from './write-stream.ts'

/** How long one node may take to say who leads. */
const DISCOVERY_MS = 1000
/** What the client waits longer than the node, so that the node's own word comes first. */
const GRACE_MS = 1000
/** A node that is silent for so long is asked whether it is there at all. */
const SILENCE_MS = 1500
/** How long it may take to say that it is. */
const PROBE_MS = 1000

/** Where streams go to. */
const STREAMED_PATH = '/execute'

const API_HEADERS = { [API_HEADER]: String(API_VERSION) }
const JSON_HEADERS = { ...API_HEADERS, 'content-type': 'application/json' }

/** Errors after which other nodes are asked for a while. */
const RESTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_READY',
  'NO_LEADER',
  'STALE_READ',
  'DIVERGED',
  'REMOVED',
  'SHUTTING_DOWN',
  'LEADERSHIP_LOST',
  'COMMIT_TIMEOUT',
  'CONNECTION_LOST',
  'ENGINE_RESTARTED',
  'DISK_FULL',
  'NODE_FAULT',
  'DISK_FAILED',
  'CORRUPT',
])

export interface Shot<Answer> {
  readonly kind: RequestKind
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** True if any node will do; else the leader is preferred. */
  readonly isAnyNode: boolean
  /**
   * It may share a stream with others of its path. What may be a read must not: it can take long,
   * and those behind it would wait for its answer.
   */
  readonly isStreamable?: boolean
  readonly deadlineMs: number
  readonly signal: AbortSignal | undefined
  /** The body for a node that has this much time left; absent for a GET. */
  readonly body?: (timeoutMs: number) => string
  /** The answer, if it is one. Throws what counts as a failed attempt. */
  readonly read: (json: unknown) => Answer
  /** Told of every attempt that failed, before it is made again. */
  readonly onFailure?: (error: DbError) => void
}

export interface SenderParts {
  readonly nodes: Nodes
  readonly transport: Transport
  /** False: only ever speak to the nodes that were named. */
  readonly discover: boolean
}

export class Sender {
  readonly #parts: SenderParts
  readonly #nodes: Nodes
  readonly #streams: Streams
  /** Attempts at what nodes have no room for. */
  readonly #overload = new RetryBudget()
  #discovery: Promise<void> | undefined

  constructor(parts: SenderParts) {
    this.#parts = parts
    this.#nodes = parts.nodes
    this.#streams = new Streams({
      transport: parts.transport,
      url: address => parts.nodes.url(address, STREAMED_PATH),
      isAlive: address => this.#isAlive(address, undefined),
    })
  }

  /** Sends until an answer comes, an error says stop, or the deadline passes. */
  async send<Answer>(shot: Shot<Answer>): Promise<Answer> {
    if (!shot.isAnyNode) await this.#discoverLeader(shot.signal)
    let { isAnyNode } = shot
    for (let attempt = 1; ; attempt += 1) {
      const now = performance.now()
      const address = isAnyNode ? this.#nodes.pickAny(now) : this.#nodes.pickLeader(now)
      try {
        const answer = await this.sendOnce(shot, address)
        this.#nodes.answered(address)
        this.#overload.succeeded()
        return answer
      } catch (error) {
        if (!(error instanceof DbError)) throw error
        shot.onFailure?.(error)
        const target = await this.#prepareNext(shot, address, attempt, error)
        if (target === 'leader') isAnyNode = false
      }
    }
  }

  /** One attempt at the node at `address`. */
  async sendOnce<Answer>(shot: Shot<Answer>, address: string): Promise<Answer> {
    shot.signal?.throwIfAborted()
    const leftMs = Math.max(1, Math.ceil(shot.deadlineMs - performance.now()))
    if (shot.isStreamable !== true) return this.#sendAlone(shot, address, leftMs)
    const lane = this.#streams.lane(address)
    lane.begin()
    try {
      const answer = lane.send(() => streamed(shot, leftMs))
      return await (answer?.then(shot.read) ?? this.#sendAlone(shot, address, leftMs))
    } finally {
      lane.end()
    }
  }

  async #sendAlone<Answer>(shot: Shot<Answer>, address: string, leftMs: number): Promise<Answer> {
    // What can't be sent again can only wait.
    const watch = shot.kind === 'write' ? undefined : this.#watch(address)
    const signals = [AbortSignal.timeout(leftMs + GRACE_MS), shot.signal, watch?.signal]
    const ends = AbortSignal.any(signals.filter(signal => signal !== undefined))
    try {
      const url = this.#nodes.url(address, shot.path)
      const body = shot.body?.(leftMs)
      const request =
        body === undefined
          ? { url, headers: API_HEADERS }
          : { url, body, headers: { ...JSON_HEADERS, ...shot.headers } }
      return shot.read(await this.#parts.transport.send(request, ends))
    } catch (error) {
      // An aborted read is nobody's any more; of an aborted write the caller must know the fate.
      if (shot.kind === 'read') shot.signal?.throwIfAborted()
      throw watch?.signal.aborted === true ? silent(address, error) : error
    } finally {
      watch?.end()
    }
  }

  /** Aborts once the node is not there any more, such as a machine that lost its power. */
  #watch(address: string): { readonly signal: AbortSignal; readonly end: () => void } {
    const silence = new AbortController()
    const probe = async (): Promise<void> => {
      const isAlive = await this.#isAlive(address, ended.signal)
      if (ended.signal.aborted) return
      if (isAlive) timer = setTimeout(again, SILENCE_MS)
      else silence.abort()
    }
    const again = (): void => void probe()
    const ended = new AbortController()
    let timer = setTimeout(again, SILENCE_MS)
    const end = (): void => {
      clearTimeout(timer)
      ended.abort()
    }
    return { signal: silence.signal, end }
  }

  async #isAlive(address: string, signal: AbortSignal | undefined): Promise<boolean> {
    const ends = [AbortSignal.timeout(PROBE_MS), signal].filter(end => end !== undefined)
    try {
      const url = this.#nodes.url(address, '/health/live')
      await this.#parts.transport.send({ url, headers: {} }, AbortSignal.any(ends))
      return true
    } catch {
      return false
    }
  }

  /** Waits and says where to send again. Throws `error` if that isn't safe or too late. */
  async #prepareNext<Answer>(
    shot: Shot<Answer>,
    address: string,
    attempt: number,
    error: DbError,
  ): Promise<'leader' | 'other-node'> {
    // Even if this request gives up, the next one should not run into the same node.
    if (RESTS.has(error.code)) {
      this.#nodes.rest(address, performance.now(), error.details['isSilent'] === true)
    }
    if (error.code === 'NOT_LEADER') this.#nodes.isNoLeader(address)
    const step = nextStep(error, shot.kind, attempt, Math.random())
    if (step.type === 'give-up' || shot.signal?.aborted === true) throw error
    if (performance.now() + step.delayMs > shot.deadlineMs) throw error
    const leader = error.details['leaderAddress']
    if (typeof leader === 'string' && this.#parts.discover) {
      this.#nodes.setLeader(leader, performance.now())
    }
    if (step.delayMs > 0) await sleep(step.delayMs, shot.signal)
    if (error.code === 'OVERLOADED') await this.#mayAgain(shot, attempt, error)
    if (step.target === 'leader' || !shot.isAnyNode) await this.#discoverLeader(shot.signal)
    return step.target
  }

  /** Waits until what was refused may be sent again. Throws `error` if that is too late. */
  async #mayAgain<Answer>(shot: Shot<Answer>, attempt: number, error: DbError): Promise<void> {
    for (let waits = attempt; !this.#overload.take(performance.now()); waits += 1) {
      const delayMs = backoffMs(waits, Math.random())
      if (performance.now() + delayMs > shot.deadlineMs) throw error
      await sleep(delayMs, shot.signal)
    }
  }

  /** Asks the nodes who leads, all requests together once. Finding nobody is no failure. */
  async #discoverLeader(signal: AbortSignal | undefined): Promise<void> {
    if (!this.#parts.discover || this.#nodes.leader !== undefined) return
    this.#discovery ??= this.#askWhoLeads().finally(() => {
      this.#discovery = undefined
    })
    await this.#discovery
    signal?.throwIfAborted()
  }

  async #askWhoLeads(): Promise<void> {
    const asked = this.#nodes.addresses.map(async address => {
      const url = this.#nodes.url(address, '/nodes')
      const signal = AbortSignal.timeout(DISCOVERY_MS)
      const { transport } = this.#parts
      const answer = (await transport.send({ url, headers: {} }, signal)) as NodesResponse
      if (answer.leader === null) throw new DbError('NO_LEADER', `${address} knows no leader`)
      return answer
    })
    try {
      this.#nodes.learn(await Promise.any(asked), performance.now())
    } catch {
      // Nobody knew: the request goes to any node, which waits for a leader or says why not.
    }
  }
}

/** A write as a line: its body, with the fields that stand for its headers. */
function streamed(shot: Shot<unknown>, leftMs: number): StreamedWrite {
  const { body, headers = {}, kind, deadlineMs, signal } = shot
  const fields = Object.entries(headers).map(([name, value]) => {
    const field = LINE_FIELDS[name as keyof typeof LINE_FIELDS]
    return `,"${field}":${JSON.stringify(value)}`
  })
  const line = `${body?.(leftMs).slice(0, -1)}${fields.join('')}}`
  return { line, isNamed: kind === 'named-write', deadlineMs: deadlineMs + GRACE_MS, signal }
}

function silent(address: string, cause: unknown): DbError {
  const message = `${address} does not answer, nor does it say that it lives`
  return new DbError('CONNECTION_LOST', message, { cause, details: { isSilent: true } })
}
