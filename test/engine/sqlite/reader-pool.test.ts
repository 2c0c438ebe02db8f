import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  READER_POOL_LIMITS,
  ReaderPool,
  type Reader,
  type ReaderHandler,
  type ReaderPoolLimits,
  type ReadResult,
} from '../../../src/engine/sqlite/reader-pool.ts'
import { ManualClock } from './manual-clock.ts'
import { silentLogger } from './support.ts'

/** A reader that answers when it is told to. */
class FakeReader implements Reader {
  readonly handler: ReaderHandler
  readonly inbox: string[] = []
  isKilled = false

  constructor(handler: ReaderHandler) {
    this.handler = handler
  }

  send(message: Uint8Array): void {
    this.inbox.push(Buffer.from(message).toString())
  }

  kill(): void {
    this.isKilled = true
  }

  becomeReady(): void {
    this.handler.onFrame(new Uint8Array(0))
  }

  /** Answers the first message that it has. */
  answer(): void {
    const message = this.inbox.shift()
    assert(message !== undefined, 'there is something to answer')
    this.handler.onFrame(Buffer.from(`${message}!`))
  }

  exit(reason = 'ended by SIGSEGV'): void {
    this.handler.onExit(reason)
  }
}

function fixture(limits: Partial<ReaderPoolLimits> = {}) {
  const clock = new ManualClock()
  const readers: FakeReader[] = []
  const results = new Map<string, string>()
  const pool = new ReaderPool({
    startReader: handler => {
      const reader = new FakeReader(handler)
      readers.push(reader)
      return reader
    },
    clock,
    logger: silentLogger,
    limits: { ...READER_POOL_LIMITS, ...limits },
  })
  const note = (name: string, result: ReadResult): void => {
    assert(!results.has(name), `${name} is answered once`)
    const words = result.type === 'reply' ? Buffer.from(result.body).toString() : result.error.code
    results.set(name, words)
  }
  const run = (name: string, timeoutMs = 60_000): void =>
    pool.run(Buffer.from(name), timeoutMs, result => note(name, result))
  const reader = (index: number): FakeReader => readers[index] ?? assert.fail(`no reader ${index}`)
  return { clock, readers, reader, results, pool, run }
}

const settle = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

test('one reader is started, and reads wait until it is ready', () => {
  const { run, reader, readers, results } = fixture()

  run('a')
  assert.deepEqual(reader(0).inbox, [])
  reader(0).becomeReady()
  reader(0).answer()

  assert.equal(readers.length, 1)
  assert.deepEqual([...results], [['a', 'a!']])
})

test('several short reads are in one reader at a time, answered in order', () => {
  const { run, reader, results } = fixture({ windowCount: 3 })
  reader(0).becomeReady()

  for (const name of ['a', 'b', 'c', 'd']) run(name)
  assert.deepEqual(reader(0).inbox, ['a', 'b', 'c'])
  reader(0).answer()
  assert.deepEqual(reader(0).inbox, ['b', 'c', 'd'])
  for (let i = 0; i < 3; i++) reader(0).answer()

  assert.deepEqual([...results.values()], ['a!', 'b!', 'c!', 'd!'])
})

test('a read that runs long has its reader for itself, and what waits behind it goes elsewhere', () => {
  const { run, reader, results, clock, readers } = fixture({ longMs: 50 })
  reader(0).becomeReady()
  run('long')
  run('short')

  clock.advance(60)
  assert.equal(readers.length, 2)
  reader(1).becomeReady()
  assert.deepEqual(reader(1).inbox, ['short'])
  reader(1).answer()
  reader(0).answer()
  reader(0).answer()

  assert.deepEqual(Object.fromEntries(results), { short: 'short!', long: 'long!' })
})

test('a reader whose long read has ended is used again', () => {
  const { run, reader, clock } = fixture({ longMs: 50, readersMax: 1 })
  reader(0).becomeReady()
  run('long')
  clock.advance(60)

  run('short')
  assert.deepEqual(reader(0).inbox, ['long'])
  reader(0).answer()

  assert.deepEqual(reader(0).inbox, ['short'])
})

test('a reader is ended when it runs long for what another reader has taken over', () => {
  const { run, reader, clock, results } = fixture({ longMs: 50 })
  reader(0).becomeReady()
  run('first')
  run('second')
  clock.advance(60)
  reader(1).becomeReady()
  reader(0).answer()

  // The second is in both; only its answer from reader 1 is waited for.
  clock.advance(60)
  assert(reader(0).isKilled)
  assert(!reader(1).isKilled)
  reader(1).answer()

  assert.deepEqual(Object.fromEntries(results), { first: 'first!', second: 'second!' })
})

test('a read at its deadline is killed with its reader and its neighbours are run again unseen', () => {
  const { run, reader, clock, results } = fixture({ longMs: 1_000 })
  reader(0).becomeReady()
  run('slow', 200)
  run('neighbour')

  clock.advance(190)
  assert.equal(results.size, 0)
  clock.advance(20)
  assert.deepEqual([...results], [['slow', 'QUERY_TIMEOUT']])
  assert(reader(0).isKilled)
  reader(1).becomeReady()
  reader(1).answer()

  assert.equal(results.get('neighbour'), 'neighbour!')
})

test('what is left of a deadline is told in whole milliseconds', () => {
  const { pool, clock } = fixture()
  const results: ReadResult[] = []
  pool.run(Buffer.from('slow'), 493.852181000002, result => results.push(result))
  clock.advance(600)
  assert.deepEqual(results, [
    {
      type: 'failed',
      error: {
        code: 'QUERY_TIMEOUT',
        message: 'the read was stopped at its deadline of 494 ms',
        details: { timeoutMs: 494 },
      },
    },
  ])
})

test('a read that never came to run fails at its deadline too', () => {
  const { run, reader, clock, results } = fixture({ readersMax: 1 })
  reader(0).becomeReady()
  run('long')
  clock.advance(100)

  run('waiting', 300)
  clock.advance(310)

  assert.deepEqual([...results], [['waiting', 'QUERY_TIMEOUT']])
  assert(!reader(0).isKilled)
})

test('one place is kept for short reads: the youngest long read gives way and starts over later', () => {
  const { run, reader, readers, clock, results } = fixture({ readersMax: 2 })
  reader(0).becomeReady()
  run('elder')
  clock.advance(60)
  run('younger')
  reader(1).becomeReady()
  clock.advance(60)
  assert.equal(reader(0).isKilled || reader(1).isKilled, false)

  run('short')
  clock.advance(20)
  assert(reader(1).isKilled)
  assert(!reader(0).isKilled)
  reader(2).becomeReady()
  assert.deepEqual(reader(2).inbox, ['short'])
  reader(2).answer()

  // The younger long read is not in the way of another short one while the elder still runs.
  assert.deepEqual(reader(2).inbox, [])
  reader(0).answer()
  const last = [reader(0), reader(2)].find(one => one.inbox.length > 0)
  last?.answer()
  assert.deepEqual(Object.fromEntries(results), {
    elder: 'elder!',
    younger: 'younger!',
    short: 'short!',
  })
  assert.equal(readers.length, 3)
})

test('a reader that dies by itself has its reads retried once, then the one that ran fails', () => {
  const { run, reader, readers, results } = fixture()
  reader(0).becomeReady()
  run('poison')
  run('neighbour')

  reader(0).exit()
  reader(1).becomeReady()
  assert.deepEqual(reader(1).inbox, ['poison', 'neighbour'])
  reader(1).exit()
  assert.equal(results.get('poison'), 'ENGINE_RESTARTED')
  reader(2).becomeReady()
  reader(2).answer()

  assert.equal(results.get('neighbour'), 'neighbour!')
  assert.equal(readers.length, 3)
})

test('readers that can not start are tried at growing distances and what waits is told', () => {
  const { run, reader, readers, clock, results } = fixture()
  run('a')

  reader(0).exit('no such program')
  assert.equal(readers.length, 1)
  clock.advance(110)
  reader(1).exit('no such program')
  clock.advance(110)
  assert.equal(readers.length, 2)
  clock.advance(110)
  reader(2).exit('no such program')

  assert.deepEqual([...results], [['a', 'ENGINE_RESTARTED']])
  clock.advance(500)
  reader(3).becomeReady()
  run('b')
  reader(3).answer()
  assert.equal(results.get('b'), 'b!')
})

test('the pool grows while reads wait, to its limit, and shrinks to one when idle', () => {
  const { run, reader, readers, clock, pool } = fixture({
    windowCount: 1,
    readersMax: 3,
    idleMs: 5_000,
  })
  reader(0).becomeReady()
  for (const name of 'abcdefgh') run(name)

  clock.advance(20)
  assert.equal(pool.readerCount, 2)
  reader(1).becomeReady()
  clock.advance(20)
  assert.equal(pool.readerCount, 3)
  reader(2).becomeReady()
  clock.advance(20)
  assert.equal(pool.readerCount, 3)

  for (let i = 0; i < 8; i++) readers.find(one => one.inbox.length > 0)?.answer()
  clock.advance(4_000)
  assert.equal(pool.readerCount, 3)
  clock.advance(3_000)
  assert.equal(pool.readerCount, 1)
  assert.equal(clock.alarmCount, 0)
})

test('the pool grows for short reads as far as its processors go, and for long ones further', () => {
  const { run, reader, clock, pool } = fixture({
    windowCount: 1,
    readersMax: 3,
    shortReadersMax: 1,
    growMs: 10,
    longMs: 50,
  })
  reader(0).becomeReady()
  run('a')
  run('b')

  clock.advance(40)
  assert.equal(pool.readerCount, 1)
  clock.advance(40)
  assert.equal(pool.readerCount, 2)
  reader(1).becomeReady()

  assert.deepEqual(reader(1).inbox, ['b'])
})

test('when reads take long they stand in line before the readers, not in one of them', () => {
  const { run, reader, clock } = fixture({ windowCount: 16, growMs: 10, longMs: 1_000 })
  reader(0).becomeReady()
  run('first')
  clock.advance(40)
  reader(0).answer()

  for (const name of ['a', 'b', 'c']) run(name)
  assert.deepEqual(reader(0).inbox, ['a'])
  clock.advance(20)
  reader(1).becomeReady()

  assert.deepEqual(reader(1).inbox, ['b'])
})

test('a full queue refuses the next read with OVERLOADED and keeps what it has', async () => {
  const { run, reader, results } = fixture({ queueCountMax: 2 })

  for (const name of ['a', 'b', 'c']) run(name)
  assert.equal(results.size, 0)
  await settle()
  assert.deepEqual([...results], [['c', 'OVERLOADED']])
  reader(0).becomeReady()
  reader(0).answer()
  reader(0).answer()

  assert.equal(results.size, 3)
})

test('the queue is bounded in bytes too, and its count is right after takes and returns', async () => {
  const { run, reader, results, clock } = fixture({ queueBytesMax: 10, windowCount: 2 })
  reader(0).becomeReady()
  run('aaaa')
  run('bbbb')
  clock.advance(60)
  // The second is back in the queue with its four bytes; six are left.
  run('cccccc')
  run('d')
  await settle()
  assert.deepEqual([...results], [['d', 'OVERLOADED']])

  reader(1).becomeReady()
  reader(1).answer()
  reader(1).answer()
  for (const name of ['e', 'f']) run(name)
  reader(1).answer()
  reader(1).answer()

  assert.deepEqual([...results.values()], ['OVERLOADED', 'bbbb!', 'cccccc!', 'e!', 'f!'])
})

test('stopping ends all readers and everything that waits, and calls back when they are gone', async () => {
  const { run, reader, clock, pool, results } = fixture({ windowCount: 1 })
  reader(0).becomeReady()
  run('running')
  run('waiting')
  clock.advance(20)
  let isStopped = false

  pool.stop(() => (isStopped = true))
  assert.deepEqual(Object.fromEntries(results), {
    running: 'SHUTTING_DOWN',
    waiting: 'SHUTTING_DOWN',
  })
  reader(0).exit('killed')
  assert(!isStopped)
  reader(1).exit('killed')
  assert(isStopped)
  run('later')
  await settle()

  assert.equal(results.get('later'), 'SHUTTING_DOWN')
  assert.equal(clock.alarmCount, 0)
})

test('a read queued by the callback of one that failed is not lost', () => {
  const { pool, reader, clock, run, results } = fixture({ readersMax: 1 })
  reader(0).becomeReady()
  run('long')
  clock.advance(100)

  pool.run(Buffer.from('first'), 50, () => run('second'))
  clock.advance(100)
  reader(0).answer()
  reader(0).answer()

  assert.deepEqual([...results.values()], ['long!', 'second!'])
})
