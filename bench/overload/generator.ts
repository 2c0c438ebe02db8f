/**
 * The load generator of the overload bench, a process of its own. Requests leave at a fixed rate
 * whatever the answers, and latency counts from the moment at which a request was to leave. It reads
 * its plan from the first argument and tells its parent of every interval and of the whole.
 */
import { writeFileSync } from 'node:fs'
import { HttpConnection } from '../peers/drivers/http.ts'
import { ask } from '../peers/drivers/lockstep.ts'
import type { Answered } from './answers.ts'
import { Lane, SESSION_WINDOW } from './lane.ts'
import type { Door } from './lane.ts'
import { FATES, FateLedger } from './ledger.ts'
import { Tally } from './tally.ts'
import type { Summary } from './tally.ts'

export interface Plan {
  readonly door: Door
  readonly address: string
  readonly connections: number
  /** Requests on their way on one connection; beyond, none leaves on it. */
  readonly depth: number
  /** Requests a second; 0: each connection always has as many on their way as it may. */
  readonly ratePerSecond: number
  readonly warmUpMs: number
  readonly durationMs: number
  readonly intervalMs: number
  /** Ids of the rows that are inserted: this one and those after it. */
  readonly firstId: number
  /** File for what became of each id. */
  readonly ledger: string
}

export interface Measured {
  readonly summary: Summary
  readonly nextId: number
  /** Connections that were lost. */
  readonly losses: number
  readonly cpuMicros: number
}

export type Message =
  | { readonly type: 'interval'; readonly summary: Summary }
  | { readonly type: 'measured'; readonly measured: Measured }

const TICK_MS = 1
const ANSWERS_MS_MAX = 30_000

class Load {
  readonly #plan: Plan
  readonly #lanes: Lane[]
  /** Lanes with room, those first that have waited longest. */
  #free: Lane[] = []
  readonly #ledger: FateLedger
  #nextId: number
  #fromMs = Infinity
  #toMs = Infinity
  #whole = new Tally(0)
  #interval = new Tally(0)
  #isOver = false

  constructor(plan: Plan, sessions: readonly string[]) {
    this.#plan = plan
    this.#nextId = plan.firstId
    this.#ledger = new FateLedger(plan.firstId)
    const each = sessions.length / plan.connections
    this.#lanes = Array.from({ length: plan.connections }, (_, at) => {
      const own = sessions.slice(at * each, (at + 1) * each)
      const { door, address, depth } = plan
      const lane: Lane = new Lane({
        door,
        address,
        depth,
        sessions: own,
        onAnswer: (id, intendedMs, answered) => this.#onAnswer(lane, id, intendedMs, answered),
        onOpen: lane => this.#free.push(lane),
      })
      return lane
    })
  }

  async run(): Promise<Measured> {
    while (this.#free.length < this.#lanes.length) await pause(TICK_MS)
    const { warmUpMs, durationMs, intervalMs, ratePerSecond } = this.#plan
    const startedMs = performance.now()
    this.#fromMs = startedMs + warmUpMs
    this.#toMs = this.#fromMs + durationMs
    this.#whole = new Tally(this.#fromMs)
    this.#interval = new Tally(this.#fromMs)
    let cpuBefore = process.cpuUsage()
    let nextIntervalMs = this.#fromMs + intervalMs
    let left = 0
    let isWarm = false
    for (let nowMs = startedMs; nowMs < this.#toMs; nowMs = performance.now()) {
      if (!isWarm && nowMs >= this.#fromMs) {
        isWarm = true
        cpuBefore = process.cpuUsage()
      }
      if (nowMs >= nextIntervalMs) {
        this.#endInterval(nowMs)
        nextIntervalMs += intervalMs
      }
      if (ratePerSecond === 0) this.#fill(nowMs)
      else {
        const due = Math.floor(((nowMs - startedMs) * ratePerSecond) / 1000)
        for (; left < due; left += 1) this.#leave(startedMs + (left * 1000) / ratePerSecond, nowMs)
      }
      for (const lane of this.#lanes) lane.flush()
      await pause(TICK_MS)
    }
    const endedMs = performance.now()
    this.#isOver = true
    const cpu = process.cpuUsage(cpuBefore)
    this.#whole.end(endedMs)
    this.#endInterval(endedMs)
    await this.#answers(endedMs + ANSWERS_MS_MAX)
    for (const lane of this.#lanes) lane.close()
    writeFileSync(this.#plan.ledger, this.#ledger.bytes())
    return {
      summary: this.#whole.summary(),
      nextId: this.#nextId,
      losses: this.#lanes.reduce((sum, { losses }) => sum + losses, 0),
      cpuMicros: cpu.user + cpu.system,
    }
  }

  async #answers(deadlineMs: number): Promise<void> {
    while (this.#lanes.some(({ count }) => count > 0) && performance.now() < deadlineMs) {
      await pause(TICK_MS)
    }
  }

  /** As many as the connections take. */
  #fill(nowMs: number): void {
    while (this.#free.length > 0) this.#leave(nowMs, nowMs)
  }

  #leave(intendedMs: number, nowMs: number): void {
    const tallies = intendedMs < this.#fromMs ? [] : [this.#whole, this.#interval]
    let lane = this.#free.shift()
    // One that was lost since comes again when it is open.
    while (lane?.hasRoom === false) lane = this.#free.shift()
    if (lane === undefined) {
      for (const tally of tallies) tally.held()
      return
    }
    for (const tally of tallies) tally.left(nowMs - intendedMs)
    lane.add(this.#nextId, intendedMs)
    this.#nextId += 1
    if (lane.hasRoom) this.#free.push(lane)
  }

  #onAnswer(lane: Lane, id: number, intendedMs: number, answered: Answered): void {
    const nowMs = performance.now()
    if (this.#plan.door !== 'reads') this.#ledger.note(id, FATES[answered.fate])
    if (lane.count === this.#plan.depth - 1 && lane.hasRoom) this.#free.push(lane)
    const isMeasuring = nowMs >= this.#fromMs && !this.#isOver
    for (const tally of [this.#whole, this.#interval]) {
      if (isMeasuring) tally.answered(answered)
      if (intendedMs >= this.#fromMs) tally.took(answered, nowMs - intendedMs)
    }
  }

  #endInterval(nowMs: number): void {
    this.#interval.end(nowMs)
    tell({ type: 'interval', summary: this.#interval.summary() })
    this.#interval = new Tally(nowMs)
  }
}

async function openSessions(address: string, count: number): Promise<string[]> {
  const http = await HttpConnection.open(address)
  const sessions: string[] = []
  while (sessions.length < count) {
    sessions.push((await ask<{ session: string }>(http, '/sessions', '{}')).session)
  }
  http.close()
  return sessions
}

function tell(message: Message): void {
  process.send?.(message)
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}

const plan = JSON.parse(process.argv[2] ?? '') as Plan
const sessions = await openSessions(
  plan.address,
  plan.connections * Math.ceil(plan.depth / SESSION_WINDOW),
)
const measured = await new Load(plan, sessions).run()
tell({ type: 'measured', measured })
process.disconnect?.()
