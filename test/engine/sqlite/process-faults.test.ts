/** What the engine behind processes does when a read or a process gets out of hand. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ReaderPoolLimits } from '../../../src/engine/sqlite/reader-pool.ts'
import { codeOf, EngineHarness, statements } from '../harness.ts'
import {
  directorySizeBytes,
  isRunning,
  openProcessEngine,
  temporaryDirectory,
  waitFor,
} from './support.ts'

const FIXTURE = new URL('../../fixtures/engine-main.ts', import.meta.url)

/** Runs for hours: ends only by being ended. */
const ENDLESS =
  'WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n'

/** Writes more than the cache holds, so that pages of it are on the disk, and goes on for long. */
const LARGE_AND_LONG = [
  'WITH RECURSIVE n(x) AS (VALUES (2) UNION ALL SELECT x + 1 FROM n WHERE x < 20000) ' +
    'INSERT INTO t SELECT x, zeroblob(5000) FROM n',
  ENDLESS.replace('SELECT count(*)', 'INSERT INTO t SELECT 50000, count(*)').replace(
    'FROM n)',
    'FROM n WHERE x < 100000000)',
  ),
]

async function withTable(directory: string, pool: Partial<ReaderPoolLimits> = {}) {
  const harness = await EngineHarness.open(path => openProcessEngine(path, { pool }), directory)
  await harness.createDatabase('a')
  await harness.run('a', 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)')
  await harness.run('a', "INSERT INTO t VALUES (1, 'one')")
  return harness
}

/** The living children of the engine in `directory`. */
function childrenOf(directory: string): readonly number[] {
  const { children } = JSON.parse(readFileSync(join(directory, 'engine.pids'), 'utf8')) as {
    children: readonly { pid: number }[]
  }
  return children.map(child => child.pid)
}

test('a parameter that is no SQL value is refused before it is sent', async () => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path)
  const beginCount = childrenOf(directory.path).length

  const outcome = await harness.query('a', 'SELECT ?', { params: [Number.NaN] })

  assert.equal(codeOf(outcome), 'INVALID_REQUEST')
  assert.equal(childrenOf(directory.path).length, beginCount)
})

test('a read is ended at its deadline, its neighbours are answered, and the writer goes on', async t => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path)
  // Long enough that another reader starts meanwhile, also on a machine with much else to do.
  const timeoutMs = 6_000
  const beginMs = performance.now()
  let endlessMs = 0

  const endless = harness.query('a', ENDLESS, { timeoutMs })
  void endless.then(() => (endlessMs = performance.now() - beginMs))
  const neighbours = Array.from({ length: 20 }, () => harness.rows('a', 'SELECT name FROM t'))
  const rows = await Promise.all(neighbours)
  await harness.run('a', "INSERT INTO t VALUES (2, 'two')")
  assert.equal(endlessMs, 0, 'neighbours and writer need not wait for it')

  assert.equal(codeOf(await endless), 'QUERY_TIMEOUT')
  assert(rows.every(([row]) => row?.[0] === 'one'))
  // How exact it is on a quiet machine, the tests of the pool say.
  t.diagnostic(`ended ${(endlessMs - timeoutMs).toFixed(0)} ms after its deadline`)
  assert(endlessMs >= timeoutMs && endlessMs < timeoutMs + 2_000, `ended after ${endlessMs} ms`)
})

test('long reads in all places but one do not hold up short ones', async () => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path, { readersMax: 2 })
  const long = Array.from({ length: 3 }, () => harness.query('a', ENDLESS, { timeoutMs: 8_000 }))
  const isLongDone = Promise.race(long).then(() => true)

  for (let round = 0; round < 20; round++) {
    const short = harness.rows('a', 'SELECT count(*) FROM t').then(() => false)
    assert(!(await Promise.race([short, isLongDone])), `round ${round} waited for a long read`)
  }

  const outcomes = await Promise.all(long)
  assert(outcomes.every(outcome => codeOf(outcome) === 'QUERY_TIMEOUT'))
})

test('a long read is not a trouble for checkpoints of the writer or for drops', async () => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path)
  const long = harness.query('a', ENDLESS, { timeoutMs: 1_000 })
  // It is answered by a second reader, when the first one is known to run the long read.
  await harness.rows('a', 'SELECT 1')

  await harness.run('a', "INSERT INTO t VALUES (2, 'two')")
  const [dropped] = await harness.write({ type: 'drop-database', database: 'a' })
  await harness.createDatabase('a')

  assert.equal(dropped?.type, 'ok')
  assert.equal(codeOf(await harness.query('a', 'SELECT * FROM t')), 'UNKNOWN_TABLE')
  assert.equal(codeOf(await long), 'QUERY_TIMEOUT')
})

test('a reader killed from outside is replaced and its reads are answered all the same', async () => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path)
  await harness.rows('a', 'SELECT 1')
  const before = childrenOf(directory.path)
  const slow = ENDLESS.replace('FROM n)', 'FROM n WHERE x < 400000)')

  const reads = Array.from({ length: 5 }, () => harness.rows('a', slow))
  await waitFor('a second reader, so that the first one runs', () =>
    childrenOf(directory.path).length > before.length ? true : undefined,
  )
  // The first child was the first reader.
  process.kill(before[0] ?? 0, 'SIGKILL')

  for (const rows of await Promise.all(reads)) assert.deepEqual(rows, [[400_000n]])
  assert(!childrenOf(directory.path).includes(before[0] ?? 0))
})

test('a writer killed from outside in the middle of a transaction leaves no trace of it', async () => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path)
  const [, writerPid] = childrenOf(directory.path)
  const executed = harness.execute(statements('a', ...LARGE_AND_LONG))
  executed.catch(() => {})
  const sizeBytes = (): number => directorySizeBytes(join(directory.path, 'engine'))
  await waitFor('pages on the disk', () => sizeBytes() > 20_000_000, 25_000)
  process.kill(writerPid ?? 0, 'SIGKILL')

  assert.match(await harness.writer.exit, /SIGKILL/)
  await harness.startWriter()
  assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM t'), [[1n]])
  assert.deepEqual(await harness.rows('a', 'PRAGMA integrity_check'), [['ok']])
})

test('the queue of reads is bounded: what is over the limit is told OVERLOADED at once', async () => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path, {
    readersMax: 1,
    windowCount: 1,
    queueCountMax: 10,
  })
  const long = harness.query('a', ENDLESS, { timeoutMs: 500 })
  await harness.rows('a', 'SELECT 1').catch(() => {})

  const outcomes = await Promise.all(
    Array.from({ length: 50 }, () => harness.query('a', 'SELECT 1', { timeoutMs: 10_000 })),
  )

  assert.equal(codeOf(await long), 'QUERY_TIMEOUT')
  const codes = outcomes.map(outcome => (outcome.type === 'ok' ? 'ok' : outcome.error.code))
  assert(codes.filter(code => code === 'ok').length >= 10)
  assert(codes.includes('OVERLOADED'))
})

test('the pool grows under long reads and shrinks to one reader when it is idle', async () => {
  using directory = temporaryDirectory()
  await using harness = await withTable(directory.path, { readersMax: 3, idleMs: 100 })

  const long = Array.from({ length: 2 }, () => harness.query('a', ENDLESS, { timeoutMs: 4_000 }))
  await waitFor('two readers and the writer', () => childrenOf(directory.path).length >= 3)
  await Promise.all(long)

  await waitFor('one reader and the writer', () => childrenOf(directory.path).length === 2)
  assert.deepEqual(await harness.rows('a', 'SELECT name FROM t'), [['one']])
})

test('when the engine has stopped none of its processes is left', async () => {
  using directory = temporaryDirectory()
  const harness = await withTable(directory.path)
  const long = harness.query('a', ENDLESS)
  const pids = childrenOf(directory.path)
  assert.equal(pids.length, 2)

  await harness.stop()

  assert(pids.every(pid => !isRunning(pid)))
  assert.deepEqual(childrenOf(directory.path), [])
  assert.equal(codeOf(await long), 'SHUTTING_DOWN')
})

for (const guard of ['no-guard', 'watch-parent']) {
  test(`an orphan of a killed main process is gone before the files are opened again (${guard})`, async () => {
    using directory = temporaryDirectory()
    const main = spawn(process.execPath, [FIXTURE.pathname, directory.path, guard], {
      stdio: 'inherit',
    })
    const busy = join(directory.path, 'busy')
    const exit = once(main, 'exit')
    try {
      await waitFor('a statement under way', () => existsSync(busy), 30_000)
    } finally {
      main.kill('SIGKILL')
    }
    await exit
    const orphans = childrenOf(directory.path)
    // Without a guard nothing but the next start ends it: it is inside its statement.
    if (guard === 'no-guard')
      assert(orphans.some(isRunning), 'the writer outlives its main process')

    const engine = await openProcessEngine(directory.path)
    const left = orphans.filter(isRunning)
    for (const pid of left) process.kill(pid, 'SIGKILL')
    const log = JSON.parse(readFileSync(join(directory.path, 'log.json'), 'utf8')) as string[]
    const entries = log.map((data, at) => ({ index: at + 1, data: Buffer.from(data, 'base64') }))
    await using harness = await EngineHarness.open(
      () => Promise.resolve(engine),
      directory.path,
      entries,
    )

    assert.deepEqual(left, [])
    assert.equal(harness.index, 3)
    assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM t'), [[1_000n]])
    assert.equal(codeOf(await harness.query('a', 'SELECT * FROM large')), 'UNKNOWN_TABLE')
    assert.deepEqual(await harness.rows('a', 'PRAGMA integrity_check'), [['ok']])
    await harness.run('a', 'INSERT INTO t VALUES (5000)')
    assert.deepEqual(await harness.rows('a', 'SELECT count(*) FROM t'), [[1_001n]])
  })
}
