/** The pool of readers under random reads, deaths and deadlines, in virtual time. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  READER_POOL_LIMITS,
  ReaderPool,
  type Reader,
  type ReaderHandler,
} from '../../../src/engine/sqlite/reader-pool.ts'
import { ManualClock } from './manual-clock.ts'
import { silentLogger } from './support.ts'

interface Plan {
  readonly atMs: number
  readonly runMs: number
  readonly timeoutMs: number
  /** How many readers die while they run it. */
  readonly deaths: number
}

const READERS_MAX = 3
const START_MS = 60
const KILL_MS = 8
/** The pool looks at its readers every 10 ms. */
const LATE_MS = 21

/** A reader that takes the time that the plan says, one read after another. */
class TimedReader implements Reader {
  readonly #world: World
  readonly #handler: ReaderHandler
  readonly #inbox: number[] = []
  #isReady = false
  #isRunning = false
  #isGone = false

  constructor(world: World, handler: ReaderHandler) {
    this.#world = world
    this.#handler = handler
    world.clock.setTimer(START_MS, () => {
      if (this.#isGone) return
      this.#isReady = true
      handler.onFrame(new Uint8Array(0))
      this.#next()
    })
  }

  send(message: Uint8Array): void {
    assert(this.#isReady, 'nothing is sent to a reader that is not ready')
    this.#inbox.push(Number(Buffer.from(message).toString()))
    this.#next()
  }

  kill(): void {
    this.#end(KILL_MS, 'killed')
  }

  #next(): void {
    const [number] = this.#inbox
    if (this.#isRunning || this.#isGone || number === undefined) return
    const plan = this.#world.planOf(number)
    this.#isRunning = true
    if (this.#world.takeDeath(number)) {
      this.#world.clock.setTimer(plan.runMs / 2, () => this.#end(0, 'ended by SIGSEGV'))
      return
    }
    this.#world.clock.setTimer(plan.runMs, () => {
      if (this.#isGone) return
      this.#isRunning = false
      this.#inbox.shift()
      this.#handler.onFrame(Buffer.from(String(number)))
      this.#next()
    })
  }

  #end(delayMs: number, reason: string): void {
    if (this.#isGone) return
    this.#isGone = true
    this.#world.livingCount -= 1
    this.#world.clock.setTimer(delayMs, () => this.#handler.onExit(reason))
  }
}

class World {
  readonly clock = new ManualClock()
  readonly #plans: readonly Plan[]
  readonly #deathsLeft: number[]
  readonly answers = new Map<number, { readonly word: string; readonly tookMs: number }>()
  readonly pool: ReaderPool
  livingCount = 0
  livingCountMax = 0

  constructor(plans: readonly Plan[]) {
    this.#plans = plans
    this.#deathsLeft = plans.map(plan => plan.deaths)
    this.pool = new ReaderPool({
      startReader: handler => {
        this.livingCount += 1
        this.livingCountMax = Math.max(this.livingCountMax, this.livingCount)
        return new TimedReader(this, handler)
      },
      clock: this.clock,
      logger: silentLogger,
      limits: { ...READER_POOL_LIMITS, readersMax: READERS_MAX, windowCount: 4 },
    })
  }

  planOf(number: number): Plan {
    return this.#plans[number] ?? assert.fail(`no plan ${number}`)
  }

  takeDeath(number: number): boolean {
    const left = this.#deathsLeft[number] ?? 0
    this.#deathsLeft[number] = left - 1
    return left > 0
  }

  run(): void {
    const order = this.#plans.map((_, number) => number)
    order.sort((a, b) => this.planOf(a).atMs - this.planOf(b).atMs)
    let nowMs = 0
    for (const number of order) {
      const plan = this.planOf(number)
      this.clock.advance(plan.atMs - nowMs)
      nowMs = plan.atMs
      const beginMs = this.clock.monotonicMs()
      this.pool.run(Buffer.from(String(number)), plan.timeoutMs, result => {
        assert(!this.answers.has(number), `read ${number} is answered once`)
        const isReply = result.type === 'reply'
        if (isReply) assert.equal(Buffer.from(result.body).toString(), String(number))
        const word = isReply ? 'ok' : result.error.code
        this.answers.set(number, { word, tookMs: this.clock.monotonicMs() - beginMs })
      })
    }
    this.clock.advance(60_000)
  }
}

function plans(runMs: fc.Arbitrary<number>, deaths: fc.Arbitrary<number>): fc.Arbitrary<Plan[]> {
  const atMs = fc.nat(2_000)
  const timeoutMs = fc.integer({ min: 100, max: 3_000 })
  return fc.array(fc.record({ atMs, runMs, timeoutMs, deaths }), { minLength: 1, maxLength: 40 })
}

const mixed = fc.oneof(fc.nat(5), fc.integer({ min: 30, max: 80 }), fc.nat(5_000))
const deadly = fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.constantFrom(1, Infinity))

test('whatever reads take and whoever dies, each read is answered once and in time', () => {
  fc.assert(
    fc.property(plans(mixed, deadly), list => {
      const world = new World(list)
      world.run()

      for (const [number, plan] of list.entries()) {
        const answer = world.answers.get(number)
        assert(answer !== undefined, `read ${number} is answered`)
        assert(answer.tookMs <= plan.timeoutMs + LATE_MS, `read ${number} in ${answer.tookMs} ms`)
        if (plan.deaths === 0) assert.notEqual(answer.word, 'ENGINE_RESTARTED')
        if (plan.deaths === Infinity) assert.notEqual(answer.word, 'ok')
        if (answer.word === 'QUERY_TIMEOUT') assert(answer.tookMs >= plan.timeoutMs)
      }
      assert(world.livingCountMax <= READERS_MAX)
      assert.equal(world.pool.readerCount, 1)
      assert.equal(world.clock.alarmCount, 0)
    }),
    { numRuns: 300 },
  )
})

test('short reads are answered soon, however many long ones there are', () => {
  const long = plans(fc.integer({ min: 1_000, max: 100_000 }), fc.constant(0))
  const soonMs = 2 * READER_POOL_LIMITS.longMs + START_MS + 3 * LATE_MS
  fc.assert(
    fc.property(long, fc.integer({ min: 3_000, max: 4_000 }), (list, atMs) => {
      const patient = list.map(plan => ({ ...plan, timeoutMs: 30_000 }))
      const short = { atMs, runMs: 1, timeoutMs: 30_000, deaths: 0 }
      const world = new World([...patient, short])
      world.run()

      const answer = world.answers.get(list.length)
      assert.equal(answer?.word, 'ok')
      assert(answer.tookMs <= soonMs, `it took ${answer.tookMs} ms`)
    }),
    { numRuns: 200 },
  )
})
