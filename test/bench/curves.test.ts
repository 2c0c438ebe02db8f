import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { Ledger, faultsOf } from '../../bench/curves/audit.ts'
import { picture } from '../../bench/curves/charts.ts'
import { CURVES, choose } from '../../bench/curves/curves.ts'
import { sectionLines } from '../../bench/curves/document.ts'
import { withPoint } from '../../bench/curves/results.ts'
import type { CurvesFile, PointResult } from '../../bench/curves/results.ts'
import {
  FIRST_INSERTED_ID,
  databaseOfInserted,
  loadedRowsOf,
  placeOfLoaded,
} from '../../bench/curves/rows.ts'

const VOTERS = must(CURVES.find(({ name }) => name === 'voters'))

function measured(point: string, parts: Partial<PointResult> = {}): PointResult {
  const load = { operation: 'insert', connections: 64 } as const
  return {
    curve: 'voters',
    point,
    settings: must(VOTERS.points[0]).settings,
    date: '2026-01-02T03:04:05.000Z',
    machine: { cpus: 2 },
    version: 'abc',
    seconds: 5,
    results: [
      {
        ...load,
        operations: 100,
        operationsPerSecond: 1234,
        p50Ms: 1,
        p99Ms: 2,
        p999Ms: 3,
        maxMs: 4,
        serverCpuMicros: 90,
        leaderCpuMicros: 50,
        generatorCpuMicros: 9,
        operationsPerBatch: 60,
        memoryBytesMax: 5e8,
        errors: 0,
        samples: [],
      },
    ],
    verdict: { acknowledgedInserts: 1000, acknowledgedUpdates: 10, faults: [] },
    ...parts,
  }
}

test('a name chooses a curve or one point of it, and long points only by their own', () => {
  const namesOf = (names: readonly string[]): string[] =>
    choose(names).map(({ curve, point }) => `${curve.name}/${point.label}`)
  assert.deepEqual(namesOf(['voters']), ['voters/1', 'voters/3', 'voters/5', 'voters/7'])
  assert.deepEqual(namesOf(['size/10GB', 'flush/5']), ['size/10GB', 'flush/5'])
  assert(!namesOf(['size']).includes('size/10GB'))
  assert(!namesOf([]).includes('size/10GB'))
  assert(namesOf([]).length > 20)
  assert.throws(() => choose(['voters', 'vaters']), /unknown: vaters/)
})

test('every loaded row is in one database, and inserted ones are spread over all', () => {
  const spread = { databases: 7, loadedRows: 100 }
  const places = Array.from({ length: 100 }, (_, row) => placeOfLoaded(row, spread))
  assert.equal(new Set(places.map(place => JSON.stringify(place))).size, 100)
  for (let database = 0; database < 7; database += 1) {
    const ids = places.filter(place => place.database === database).map(({ id }) => id)
    const rows = loadedRowsOf(database, spread)
    assert.deepEqual([Math.min(...ids), Math.max(...ids), ids.length], [1, rows, rows])
  }
  const counts = Array.from({ length: 7 }, () => 0)
  for (let id = 1; id <= 7000; id += 1) {
    const database = databaseOfInserted(id, spread)
    counts[database] = (counts[database] ?? 0) + 1
  }
  for (const count of counts) assert(count > 800 && count < 1200, counts.join())
})

test('a lost insert, one that nobody made, and a lost or doubled update are found', () => {
  const ledger = new Ledger({ databases: 1, loadedRows: 10 })
  const load = measured('3').results[0]
  ledger.add({
    ...must(load),
    operationsInAll: 4,
    seconds: 1,
    cpuMicros: 1,
    conflicts: 0,
    nextId: 4,
    unacknowledged: [2],
    updated: [5, 5, 6],
    maybeUpdated: [5],
  })
  const expected = must(ledger.expected().get(0))
  const ids = (...numbers: number[]): number[] => numbers.map(id => FIRST_INSERTED_ID + id)
  assert.deepEqual(faultsOf(expected, { ids: ids(1, 3), updates: 3 }), [])
  assert.deepEqual(faultsOf(expected, { ids: ids(1, 2, 3), updates: 4 }), [])
  const faults = (given: number[], updates: number): string =>
    faultsOf(expected, { ids: given, updates }).join()
  assert.match(faults(ids(1, 2), 3), /1 acknowledged rows are not there/)
  assert.match(faults(ids(1, 3, 4), 3), /1 rows are there that nobody inserted/)
  assert.match(faults(ids(1, 3, 3), 3), /twice/)
  assert.match(faults(ids(1, 3), 2), /2 updates took effect; 3 were acknowledged, 1 perhaps/)
  assert.match(faults(ids(1, 3), 5), /5 updates took effect/)
})

test('a point measured anew takes the place of the old one, in the order of its curve', () => {
  let file: CurvesFile = { points: [] }
  for (const point of ['5', '3', '7', '3']) {
    file = withPoint(file, measured(point, { version: `v${file.points.length}` }))
  }
  assert.deepEqual(
    file.points.map(({ point, version }) => [point, version]),
    [
      ['3', 'v3'],
      ['5', 'v0'],
      ['7', 'v2'],
    ],
  )
})

test('a section has every figure, says why one is absent, and shouts about lost writes', () => {
  const failed = { results: [], trouble: 'no room' }
  const lost = { acknowledgedInserts: 5, acknowledgedUpdates: 0, faults: ['1 is lost'] }
  const points = [measured('3'), measured('5', failed), measured('7', { verdict: lost })]
  const text = sectionLines(VOTERS, points, true).join('\n')
  assert.match(
    text,
    /\| 3 \| insert, 64 conn\. \| 1,234 \| 1\.00 \| 2\.00 \| 90 \| 50 \| 9 \| 60\.0 \| 500 \|/,
  )
  assert.match(text, /\| 5 \| no room \| – /)
  assert.match(text, /WRONG: 7: 1 is lost/)
  assert.match(text, /!\[Voters\]\(performance\/curve-voters\.curve\.svg\)/)
  assert.equal(text.match(/Measured on 2026-01-02: cpus 2, Lockstep abc; 5 s a load\./g)?.length, 1)
  const { svg } = must(picture(VOTERS, points))
  for (const text of ['<svg ', '>Voters<', '>insert, 64 conn.<', '</svg>']) {
    assert(svg.includes(text), `the picture has no ${text}`)
  }
  assert.equal(picture(VOTERS, points.slice(0, 2)), undefined)
})

test('points with slow flushes and delay are measured and checked', () => {
  const directory = mkdtempSync(join(tmpdir(), 'curves-test-'))
  try {
    const out = join(directory, 'curves.json')
    const run = spawnSync(
      process.execPath,
      ['bench/main.ts', '--curves', 'flush/5,delay/10', '--seconds', '1', '--out', out],
      { encoding: 'utf8' },
    )
    assert.equal(run.status, 0, run.stderr)
    assert.match(run.stdout, /all there, on every node/)
    const { points } = JSON.parse(readFileSync(out, 'utf8')) as CurvesFile
    assert.deepEqual(
      points.map(({ curve, point }) => `${curve}/${point}`),
      ['delay/10', 'flush/5'],
    )
    for (const { results, trouble, verdict } of points) {
      assert.equal(trouble, undefined)
      assert(results.every(({ operations, errors }) => operations > 0 && errors === 0))
      assert(verdict.acknowledgedInserts > 0)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
})
