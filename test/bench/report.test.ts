import assert from 'node:assert/strict'
import { test } from 'node:test'
import { latencies } from '../../bench/latencies.ts'
import { pictures } from '../../bench/peers/charts.ts'
import { sectionLines } from '../../bench/peers/document.ts'
import { sections, verdictLines } from '../../bench/peers/report.ts'
import { median, summarise } from '../../bench/peers/results.ts'
import type { Comparison, Result } from '../../bench/peers/results.ts'

function result(parts: Partial<Result>): Result {
  return {
    system: 'one',
    workload: 'insert',
    level: '',
    connections: 1,
    repetition: 1,
    operations: 100,
    operationsPerSecond: 100,
    rowsPerSecond: 100,
    p50Ms: 1,
    p99Ms: 2,
    p999Ms: 3,
    maxMs: 4,
    serverCpuMicros: 50,
    diskBytes: 4096,
    writtenBytes: 4096,
    memoryBytesMax: 1e8,
    generatorCpuMicros: 10,
    conflicts: 0,
    errors: 0,
    samples: [],
    ...parts,
  }
}

const facts = { nodes: 3, version: '1.2', acknowledged: 'flushed', settings: ['defaults'] }
const comparison: Comparison = {
  date: '2026-01-02T03:04:05.000Z',
  machine: { cpus: 2, node: 'v26' },
  seconds: 3,
  warmUpSeconds: 1,
  repetitions: 3,
  systems: [
    { name: 'one', title: 'The one', ...facts },
    { name: 'two', title: 'The other', ...facts },
  ],
  missing: [{ system: 'three', reason: 'it is not here' }],
  results: [
    ...[300, 100, 200].map((rate, at) =>
      result({ operationsPerSecond: rate, repetition: at + 1, errors: at, maxMs: rate }),
    ),
    result({ system: 'two', operationsPerSecond: 7 }),
    result({ system: 'two', operationsPerSecond: 9, connections: 16 }),
    result({ connections: 16, operationsPerSecond: 1234.6 }),
    result({ workload: 'point-read', level: 'local', operationsPerSecond: 5 }),
  ],
  verdicts: [
    {
      system: 'one',
      repetition: 1,
      isRight: true,
      acknowledgedRows: 1000,
      acknowledgedUpdates: 5,
      missingRows: 0,
      faults: [],
    },
    {
      system: 'two',
      repetition: 1,
      isRight: false,
      acknowledgedRows: 10,
      acknowledgedUpdates: 0,
      missingRows: 2,
      faults: ['2 acknowledged rows are not there'],
    },
  ],
}

test('a median is the middle, and of an even number the mean of the two', () => {
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, 1, 2, 3]), 2.5)
  assert.equal(median([7]), 7)
})

test('repetitions become medians with their range; errors are added up', () => {
  const [first] = summarise(comparison.results)
  assert.equal(first?.operationsPerSecond, 200)
  assert.deepEqual([first?.lowest, first?.highest, first?.maxMs, first?.errors], [100, 300, 300, 3])
})

test('rows stand by connections and then in the order of the systems', () => {
  const [inserts, reads] = sections(comparison)
  assert.deepEqual(
    inserts?.rows.map(row => row.slice(0, 3)),
    [
      ['1', 'The one', '200 (3 errors)'],
      ['1', 'The other', '7'],
      ['16', 'The one', '1,235'],
      ['16', 'The other', '9'],
    ],
  )
  assert.deepEqual(reads?.rows[0]?.slice(0, 2), ['1', 'The one, local'])
})

test('a lost write is said as loudly as may be', () => {
  const [right, wrong] = verdictLines(comparison)
  assert.match(right ?? '', /1,000 acknowledged .* all there/)
  assert.match(wrong ?? '', /WRONG: 2 acknowledged rows are not there/)
})

test('the section has every figure, what was left out, and its pictures', () => {
  const made = pictures(comparison)
  assert.deepEqual(
    made.map(({ name }) => name),
    ['inserts', 'latencies', 'cpu', 'reads'],
  )
  for (const { svg } of made) assert.match(svg, /^<svg [^]*The one[^]*<\/svg>$/)
  const text = sectionLines(comparison, 'peers', made).join('\n')
  assert.match(text, /Left out: three: it is not here\./)
  assert.match(text, /\| 16 \| The one \| 1,235 \|/)
  assert.match(text, /!\[.*\]\(performance\/peers\.inserts\.svg\)/)
})

test('percentiles of a histogram are right within its buckets', () => {
  const recorded = latencies()
  for (let ms = 1; ms <= 1000; ms += 1) recorded.add(ms)
  for (const [percent, ms] of [
    [50, 500],
    [99, 990],
    [99.9, 999],
    [100, 1000],
  ] as const) {
    const error = Math.abs(recorded.percentile(percent) / ms - 1)
    assert(error < 0.03, `p${percent} is ${recorded.percentile(percent)}`)
  }
  assert.equal(latencies().percentile(99), 0)
})
