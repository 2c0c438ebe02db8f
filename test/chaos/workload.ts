/** What the clients of a fault run do, and how they note it down. */
import { createWriteStream } from 'node:fs'
import type { WriteStream } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { DbError, type ErrorCode } from '../../src/base/errors.ts'
import { createClient } from '../../src/client/client.ts'
import type { Client } from '../../src/client/client.ts'
import type { WriteReference } from '../../src/client/writes.ts'
import type { SimRandom } from '../../sim/sim-random.ts'
import type { ToldFate } from './exactly-once.ts'

export interface Verdict {
  readonly checker: string
  /** How many answers it looked at. */
  readonly checked: number
  readonly complaints: readonly string[]
  /** What the checker gave up on. */
  readonly undecided: number
}

/** Some clients that do one kind of thing, and the judge of what they were told. */
export interface Workload {
  /** Makes the tables, before anything goes wrong. */
  prepare(): Promise<void>
  /** One request of one client, or a few; it never throws for an expected failure. */
  step(worker: Worker): Promise<void>
  /** Reads what is there when all is well again, and judges. */
  judge(reader: Client): Promise<readonly Verdict[]>
}

/** A client of a workload; it does one thing after another. */
export interface Worker {
  readonly number: number
  readonly random: SimRandom
  /** Of this worker alone: it goes to any node. */
  readonly client: Client
  /** One for each node that belongs to the cluster now, speaking to no other. */
  readonly pinned: readonly Pinned[]
}

export interface Pinned {
  readonly nodeId: string
  readonly client: Client
}

/** What workers know of the nodes; it changes while they work. */
export interface NodeList {
  readonly nodes: readonly { readonly nodeId: string; readonly address: string }[]
}

/** What came of a request, and when. */
export interface Noted<T> {
  readonly fate: ToldFate
  readonly value: T | undefined
  readonly startMs: number
  /** Infinity if its fate is unknown. */
  readonly endMs: number
  readonly code: ErrorCode | undefined
  /** By what an unknown fate can be asked for later. */
  readonly reference: WriteReference | undefined
}

/** Every request of a run with its answer, as lines of JSON. */
export class History {
  readonly acknowledgedAtMs: number[] = []
  readonly failures = new Map<string, number>()
  /** Failures that no fault explains. */
  readonly bugs: string[] = []
  readsAnswered = 0
  /** Requests that ended without a word on what became of them. */
  unknownFates = 0
  readonly #file: WriteStream

  constructor(path: string) {
    this.#file = createWriteStream(path)
  }

  /** Sends a request and notes it; what it is goes into the line as it is. */
  async write<T>(line: object, send: () => Promise<T>): Promise<Noted<T>> {
    const noted = await this.#note(line, send)
    if (noted.fate === 'ok') this.acknowledgedAtMs.push(noted.endMs)
    return noted
  }

  /** The same for one that only reads; without an answer it says nothing. */
  async read<T>(line: object, send: () => Promise<T>): Promise<Noted<T>> {
    const noted = await this.#note(line, send)
    if (noted.fate === 'ok') this.readsAnswered += 1
    return noted
  }

  close(): Promise<void> {
    return new Promise(resolve => this.#file.end(resolve))
  }

  /** A line about something else than a request. */
  remark(line: object): void {
    this.#file.write(`${JSON.stringify({ atMs: round(performance.now()), ...line })}\n`)
  }

  async #note<T>(line: object, send: () => Promise<T>): Promise<Noted<T>> {
    const startMs = performance.now()
    try {
      const value = await send()
      const endMs = performance.now()
      this.#line({ ...line, startMs: round(startMs), endMs: round(endMs), fate: 'ok', value })
      return { fate: 'ok', value, startMs, endMs, code: undefined, reference: undefined }
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      const { code, fate, message } = error
      this.failures.set(code, (this.failures.get(code) ?? 0) + 1)
      const endMs = performance.now()
      const rounded = { startMs: round(startMs), endMs: round(endMs) }
      this.#line({ ...line, ...rounded, fate, code, message })
      if (code === 'INTERNAL') this.bugs.push(`${code}: ${message}`)
      const isKnown = fate === 'not-applied'
      if (!isKnown) this.unknownFates += 1
      const reference = error.details['request'] as WriteReference | undefined
      const times = { startMs, endMs: isKnown ? endMs : Infinity }
      return { fate, value: undefined, ...times, code, reference }
    }
  }

  #line(line: object): void {
    this.#file.write(`${JSON.stringify(line, toPlain)}\n`)
  }
}

export interface WorkerOptions {
  /** Of requests that may go to any node. */
  readonly timeoutMs: number
  /** Of those to one node, which may be cut off for long. */
  readonly pinnedTimeoutMs: number
  /** Mean pause between two requests. */
  readonly pauseMs: number
}

/** Runs some workers of a workload until they are stopped. */
export class Workers {
  readonly #workload: Workload
  readonly #running: Promise<void>[]
  #isStopped = false
  #pauseMs: number

  constructor(
    workload: Workload,
    count: number,
    list: NodeList,
    random: SimRandom,
    options: WorkerOptions,
  ) {
    this.#workload = workload
    this.#pauseMs = options.pauseMs
    this.#running = Array.from({ length: count }, (_, number) => {
      const pinned = new PinnedClients(list, options.pinnedTimeoutMs)
      const addresses = list.nodes.map(({ address }) => address)
      const client = createClient({ nodes: addresses, timeoutMs: options.timeoutMs })
      const own = random.stream(`worker ${number}`)
      return this.#run(number, own, client, pinned)
    })
  }

  /** From now on pauses are so many times longer. */
  slowDown(factor: number): void {
    this.#pauseMs *= factor
  }

  /** Waits for what is on its way. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#running)
  }

  async #run(
    number: number,
    random: SimRandom,
    client: Client,
    clients: PinnedClients,
  ): Promise<void> {
    while (!this.#isStopped) {
      await this.#workload.step({ number, random, client, pinned: clients.all() })
      await pause(random.float(0, 2 * this.#pauseMs))
    }
  }
}

/** Clients that each speak to one node only. */
class PinnedClients {
  readonly #list: NodeList
  readonly #timeoutMs: number
  readonly #byNode = new Map<string, Client>()

  constructor(list: NodeList, timeoutMs: number) {
    this.#list = list
    this.#timeoutMs = timeoutMs
  }

  all(): Pinned[] {
    return this.#list.nodes.map(({ nodeId, address }) => {
      const timeoutMs = this.#timeoutMs
      const client =
        this.#byNode.get(nodeId) ?? createClient({ nodes: [address], discover: false, timeoutMs })
      this.#byNode.set(nodeId, client)
      return { nodeId, client }
    })
  }
}

function round(timeMs: number): number {
  return Math.round(timeMs * 1000) / 1000
}

function toPlain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value
}
