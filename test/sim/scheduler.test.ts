/** Virtual time, chance and the trace: what makes a simulated run repeat exactly. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Scheduler } from '../../sim/scheduler.ts'
import { SimClock } from '../../sim/sim-clock.ts'
import { SimProcess } from '../../sim/sim-process.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { Trace } from '../../sim/trace.ts'
import { World } from '../../sim/world.ts'

test('events run in the order of their time, and of their planning when the time is equal', () => {
  const scheduler = new Scheduler()
  const random = new SimRandom(1, 'order')
  const planned: { timeMs: number; order: number }[] = []
  const ran: { timeMs: number; order: number }[] = []
  for (let order = 0; order < 500; order++) {
    const event = { timeMs: random.below(20), order }
    planned.push(event)
    scheduler.after(event.timeMs, () => ran.push(event))
  }

  scheduler.runUntil(100, () => false)

  planned.sort((left, right) => left.timeMs - right.timeMs || left.order - right.order)
  assert.deepEqual(ran, planned)
  assert.equal(scheduler.nowMs, 100)
})

test('an event planned with no delay runs after the one that planned it', () => {
  const scheduler = new Scheduler()
  const ran: string[] = []
  scheduler.after(5, () => {
    scheduler.after(0, () => ran.push('inner'))
    ran.push('outer')
  })

  while (scheduler.runNext());

  assert.deepEqual(ran, ['outer', 'inner'])
  assert.equal(scheduler.nowMs, 5)
})

test('a cancelled timer does not run, and time does not stop for it', () => {
  const scheduler = new Scheduler()
  const timer = scheduler.after(5, () => assert.fail('it was cancelled'))
  scheduler.after(9, () => {})

  timer.cancel()
  while (scheduler.runNext());

  assert.equal(scheduler.nowMs, 9)
  assert.equal(scheduler.executedCount, 1)
})

test('a dead process runs nothing more; a paused one runs everything later, in order', () => {
  const world = new World(1)
  const [dead, paused] = [new SimProcess(world), new SimProcess(world)]
  const ran: string[] = []
  dead.after(3, () => ran.push('dead'))
  for (const delayMs of [1, 2, 3]) paused.after(delayMs, () => ran.push(`paused ${delayMs}`))
  world.after(2.5, () => ran.push('other'))

  paused.pause(10)
  world.after(1, () => dead.kill())
  while (world.scheduler.runNext());

  assert.deepEqual(ran, ['other', 'paused 1', 'paused 2', 'paused 3'])
  assert.equal(world.nowMs, 10)
})

test('running until a time never runs what a pause moved beyond it', () => {
  const world = new World(1)
  const process = new SimProcess(world)
  process.after(5, () => assert.fail('it is paused until 20'))
  world.after(30, () => assert.fail('it is planned for 30'))
  process.pause(20)

  assert(!world.scheduler.runUntil(10, () => false))
  assert.equal(world.nowMs, 10)
})

test('streams of one seed differ by name, and drawing from one leaves the others alone', () => {
  const numbers = (random: SimRandom): number[] => Array.from({ length: 8 }, () => random.next())
  const network = numbers(new World(7).random('network'))
  const world = new World(7)
  numbers(world.random('disk'))

  assert.deepEqual(numbers(world.random('network')), network)
  assert.notDeepEqual(numbers(world.random('disk')), network)
  assert.notDeepEqual(numbers(new World(8).random('network')), network)
})

test('draws stay in their bounds and reach both ends', () => {
  const random = new SimRandom(3, 'bounds')
  const seen = new Set<number>()
  for (let draw = 0; draw < 1000; draw++) seen.add(random.between(4, 9))

  assert.deepEqual(
    [...seen].sort((left, right) => left - right),
    [4, 5, 6, 7, 8, 9],
  )
  assert.deepEqual(new Set(random.shuffle([1, 2, 3, 4])), new Set([1, 2, 3, 4]))
  assert(!random.chance(0) && random.chance(1))
})

test('the trace hash changes with the kind, the time, the node, the numbers and the order', () => {
  const hashOf = (...events: [number, string, number, number, number][]): string => {
    const trace = new Trace({ keptCount: 0 })
    for (const event of events) trace.add(...event)
    return trace.hash
  }
  const hashes = [
    hashOf([1, 'send', 1, 0, 0]),
    hashOf([1, 'drop', 1, 0, 0]),
    hashOf([1.001, 'send', 1, 0, 0]),
    hashOf([2 ** 33, 'send', 1, 0, 0]),
    hashOf([1, 'send', 2, 0, 0]),
    hashOf([1, 'send', 1, 1, 0]),
    hashOf([1, 'send', 1, 0, 1]),
    hashOf([1, 'send', 1, 0, 0], [2, 'send', 1, 0, 0]),
    hashOf([2, 'send', 1, 0, 0], [1, 'send', 1, 0, 0]),
  ]

  assert.equal(new Set(hashes).size, hashes.length)
  assert.equal(hashOf([1, 'send', 1, 0, 0]), hashes[0])
})

test('the trace keeps the last lines, oldest first', () => {
  const trace = new Trace({ keptCount: 3 })
  for (let event = 1; event <= 5; event++) trace.add(event, 'kind', 1, event, 0, `text ${event}`)

  assert.deepEqual(
    trace.lastLines().map(line => line.slice(-6)),
    ['text 3', 'text 4', 'text 5'],
  )
})

test('a fast clock fires its timers early; a jump moves the wall time only', () => {
  const world = new World(1)
  const clock = new SimClock(world, { rate: 1.25, originMs: 1000, wallOffsetMs: 0 })
  const port = clock.portFor(new SimProcess(world))
  let firedAtMs = -1
  port.setTimer(100, () => (firedAtMs = world.nowMs))
  const wallBefore = port.wallMs()

  while (world.scheduler.runNext());
  clock.jump(-5000)

  assert.equal(firedAtMs, 80)
  assert.equal(port.monotonicMs(), 1100)
  assert.equal(port.wallMs() - wallBefore, 100 - 5000)
})
