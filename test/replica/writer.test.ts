import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { WriterSession } from '../../src/replica/writer.ts'
import { ManualClock, ManualEngine, SILENT } from './doubles.ts'

class Bench {
  readonly clock = new ManualClock()
  readonly engine = new ManualEngine()
  readonly heard: string[] = []
  readonly session = new WriterSession(this.engine, this.clock, SILENT, {
    onOpened: ({ appliedIndex }) => this.heard.push(`opened ${appliedIndex}`),
    onReply: ({ type }) => this.heard.push(type),
    onLost: ({ code }) => this.heard.push(`lost ${code}`),
    onHopeless: (reason, code = 'INTERNAL') => this.heard.push(`hopeless ${code}: ${reason}`),
    onCorrupt: ({ code }) => this.heard.push(`corrupt ${code}`),
  })

  constructor() {
    this.session.start()
  }

  taken(): string[] {
    return this.heard.splice(0)
  }
}

/** How long it takes until another writer is started, in steps of 1 ms. */
function restartMs({ clock, engine }: Bench): number {
  const before = engine.writers
  let ms = 0
  for (; engine.writers === before; ms += 1) {
    assert(ms < 10_000, 'no writer is started')
    clock.pass(1)
  }
  return ms
}

test('a writer is opened first, and ready once it says so', () => {
  const bench = new Bench()
  assert.deepEqual(bench.engine.taken(), ['open'])
  assert.equal(bench.session.state, 'opening')
  bench.engine.open(5)
  assert.equal(bench.session.state, 'ready')
  assert.equal(bench.session.build, 'b')
  assert.deepEqual(bench.taken(), ['opened 5'])

  bench.session.send({ type: 'checkpoint' })
  assert.deepEqual(bench.engine.taken(), ['checkpoint'])
  bench.engine.reply({ type: 'checkpointed', durableIndex: 5 })
  assert.deepEqual(bench.taken(), ['checkpointed'])
})

test('a death is told once, before anything else, and another writer follows', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.taken()
  bench.engine.die()
  assert.deepEqual(bench.taken(), ['lost ENGINE_RESTARTED'])
  assert.equal(bench.session.state, 'down')
  assert.match(bench.session.lastError, /SIGKILL/)
  restartMs(bench)
  assert.deepEqual(bench.engine.taken(), ['open', 'open'])
  bench.engine.open(3)
  assert.deepEqual(bench.taken(), ['opened 3'])
})

test('a writer that dies while it opens had nothing to lose', () => {
  const bench = new Bench()
  bench.engine.die()
  assert.deepEqual(bench.taken(), [])
  restartMs(bench)
  assert.equal(bench.session.state, 'opening')
})

test('a writer says why it ends, and a killed one ends for the reason given', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.taken()
  bench.engine.reply({ type: 'fault', error: { code: 'DISK_FULL', message: 'no space' } })
  assert.deepEqual(bench.taken(), [], 'a fault is told when the writer is gone')
  bench.engine.die()
  assert.deepEqual(bench.taken(), ['lost DISK_FULL'])
  assert.equal(bench.session.lastError, 'no space')

  restartMs(bench)
  bench.engine.open()
  bench.taken()
  bench.session.kill(new DbError('STATEMENT_TIMEOUT', 'too long'))
  assert(bench.engine.isKilled)
  bench.engine.die()
  assert.deepEqual(bench.taken(), ['lost STATEMENT_TIMEOUT'])

  // The reasons of earlier deaths are not this one's.
  restartMs(bench)
  bench.engine.open()
  bench.engine.die()
  assert.deepEqual(bench.taken(), ['opened 0', 'lost ENGINE_RESTARTED'])
})

test('the pauses between deaths in a row double up to a limit, and progress ends the row', () => {
  const bench = new Bench()
  const pauses: number[] = []
  for (let deaths = 0; deaths < 4; deaths += 1) {
    bench.engine.die()
    pauses.push(restartMs(bench))
  }
  assert.deepEqual(pauses, [10, 20, 40, 80])

  bench.engine.open()
  bench.session.progressed()
  bench.engine.die()
  assert.equal(restartMs(bench), 10)
})

test('eight deaths in a row without progress are hopeless, and no writer follows', () => {
  const bench = new Bench()
  for (let deaths = 0; deaths < 7; deaths += 1) {
    bench.engine.open()
    bench.engine.die()
    restartMs(bench)
  }
  bench.engine.open()
  bench.taken()
  const { writers } = bench.engine
  bench.engine.die()
  assert.deepEqual(bench.taken(), [
    'lost ENGINE_RESTARTED',
    'hopeless INTERNAL: the SQL process ended 8 times in a row: SIGKILL',
  ])
  bench.clock.pass(60_000)
  assert.equal(bench.engine.writers, writers)
})

test('a fault of this machine is never hopeless: a full disk may be emptied', () => {
  const bench = new Bench()
  for (let deaths = 0; deaths < 20; deaths += 1) {
    bench.engine.reply({ type: 'fault', error: { code: 'DISK_FULL', message: 'no space' } })
    bench.engine.die()
    assert(restartMs(bench) <= 2000)
  }
  assert.deepEqual(bench.taken(), [])
})

test('garbled files are told each time, also when they can not even be opened', () => {
  const bench = new Bench()
  const fault = { type: 'fault', error: { code: 'CORRUPT', message: 'garbled' } } as const
  bench.engine.reply(fault)
  bench.engine.die()
  assert.deepEqual(bench.taken(), ['corrupt CORRUPT'])
  restartMs(bench)
  bench.engine.open()
  bench.engine.reply(fault)
  bench.engine.die()
  assert.deepEqual(bench.taken(), ['opened 0', 'lost CORRUPT', 'corrupt CORRUPT'])
})

test('a session that is stopped hears nothing and starts nothing', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.taken()
  bench.engine.die()
  bench.taken()
  bench.session.stop()
  const { writers } = bench.engine
  bench.clock.pass(60_000)
  assert.equal(bench.engine.writers, writers)

  const other = new Bench()
  other.engine.open()
  other.taken()
  other.session.stop()
  other.engine.reply({ type: 'checkpointed', durableIndex: 1 })
  other.engine.die()
  other.clock.pass(60_000)
  assert.deepEqual(other.taken(), [])
  assert.equal(other.engine.writers, 1)
})

test('a pause lets finish what was sent, and holds back what comes', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.session.send({ type: 'apply', entries: [] })
  bench.engine.taken()
  let isStill = false
  bench.session.pause({ onStill: () => (isStill = true), onBroken: () => assert.fail() })
  bench.session.send({ type: 'checkpoint' })
  assert(!isStill)
  assert.deepEqual(bench.engine.taken(), [])

  bench.engine.reply({ type: 'applied', index: 1, durableIndex: 0 })
  assert(isStill)
  assert.deepEqual(bench.engine.taken(), [])
  bench.session.resume()
  assert.deepEqual(bench.engine.taken(), ['checkpoint'])
})

test('a writer that dies in a pause breaks it, and forgets what was held back', () => {
  const bench = new Bench()
  bench.engine.open()
  let brokenCount = 0
  bench.session.pause({ onStill: () => {}, onBroken: () => (brokenCount += 1) })
  bench.session.send({ type: 'checkpoint' })
  bench.engine.die()
  bench.engine.taken()
  assert.equal(brokenCount, 1)
  restartMs(bench)
  bench.engine.open()
  assert.deepEqual(bench.engine.taken(), ['open'])
  bench.session.send({ type: 'checkpoint' })
  assert.deepEqual(bench.engine.taken(), ['checkpoint'])
})

test('a suspended writer is killed and not started again before it is asked for', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.taken()
  let isGone = false
  bench.session.suspend(() => (isGone = true))
  assert(bench.engine.isKilled && !isGone)
  bench.engine.reply({ type: 'checkpointed', durableIndex: 9 })
  bench.engine.die()
  assert(isGone)
  // What it sent with its last breath is nobody's any more; its death is told as any other.
  assert.deepEqual(bench.taken(), ['lost ENGINE_RESTARTED'])
  bench.clock.pass(60_000)
  assert.equal(bench.engine.writers, 1)

  bench.session.start()
  bench.engine.open(7)
  assert.equal(bench.engine.writers, 2)
  assert.deepEqual(bench.taken(), ['opened 7'])
})

test('a checkpoint that is wanted goes out now and again before the next batch', () => {
  const bench = new Bench()
  bench.engine.open()
  bench.engine.taken()
  bench.session.checkpoint()
  assert.deepEqual(bench.engine.taken(), ['checkpoint'])
  const seed = new Uint8Array(16)
  const batch = { type: 'execute', nowMs: 1, commitIndex: 0, seed, requests: [] } as const
  bench.session.send({ ...batch, batch: 1 })
  bench.session.send({ ...batch, batch: 2 })
  assert.deepEqual(bench.engine.taken(), ['checkpoint', 'execute', 'execute'])
})

test('what the engine told keeps it from running until it is opened again', () => {
  const bench = new Bench()
  bench.engine.reply({ type: 'fault', error: { code: 'SERVER_DOWN', message: 'away' } })
  bench.engine.die()
  restartMs(bench)
  assert.equal(bench.session.outage?.code, 'SERVER_DOWN')
  bench.engine.open()
  assert.equal(bench.session.outage, undefined)
  bench.session.kill(new DbError('STATEMENT_TIMEOUT', 'too long'))
  bench.engine.die()
  assert.equal(bench.session.outage, undefined, 'who waits has nothing to do with that statement')
})

test('data of somebody else end the node under their own code', () => {
  const bench = new Bench()
  bench.engine.reply({ type: 'fault', error: { code: 'WRONG_DATA', message: 'of another' } })
  bench.engine.die()
  assert.deepEqual(bench.taken(), ['hopeless WRONG_DATA: of another'])
})
