/** The engine behind processes under the suite of all engines. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { testEngine } from '../engine-suite.ts'
import { EngineHarness } from '../harness.ts'
import { openProcessEngine, temporaryDirectory, waitFor } from './support.ts'

testEngine('process engine', openProcessEngine)

test('reads that came together are answered in order, and keep nothing open after the last', async () => {
  using directory = temporaryDirectory()
  await using harness = await EngineHarness.open(openProcessEngine, directory.path)
  await harness.createDatabase('a')
  await harness.run('a', 'CREATE TABLE t (a)')
  const numbers = Array.from({ length: 200 }, (_, at) => at)
  const answers = await Promise.all(numbers.map(at => harness.rows('a', `SELECT ${at % 50}`)))
  assert.deepEqual(
    answers,
    numbers.map(at => [[BigInt(at % 50)]]),
  )

  const engine = join(directory.path, 'engine')
  const file = readdirSync(engine, { recursive: true, encoding: 'utf8' }).find(name =>
    /db-\d+\.sqlite$/.test(name),
  )
  using database = new DatabaseSync(join(engine, file ?? ''))
  // A transaction that is still open somewhere would keep the WAL from beginning anew.
  await waitFor('the end of all reads', () => {
    const [row] = database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').all()
    return row?.['busy'] === 0
  })
})
