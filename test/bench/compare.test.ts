/** One whole comparison, of the one system that needs no installation and no server. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Comparison } from '../../bench/peers/results.ts'

test('a comparison of two rounds has a figure of each and has checked what was written', () => {
  const directory = mkdtempSync(join(tmpdir(), 'peers-test-'))
  try {
    const out = join(directory, 'results.json')
    const options = '--systems sqlite --workloads insert --seconds 0.2 --warm-up 0 --repetitions 2'
    const run = spawnSync(
      process.execPath,
      ['bench/main.ts', '--peers', '--no-install', '--out', out, ...options.split(' ')],
      { encoding: 'utf8' },
    )
    assert.equal(run.status, 0, run.stderr)
    assert.match(run.stdout, /node:sqlite alone/)
    const { results, verdicts } = JSON.parse(readFileSync(out, 'utf8')) as Comparison
    assert.deepEqual(
      results.map(({ system, workload, repetition }) => [system, workload, repetition]),
      [
        ['sqlite', 'insert', 1],
        ['sqlite', 'insert', 2],
      ],
    )
    assert(results.every(result => result.operations > 0 && result.p50Ms > 0))
    assert(verdicts.every(verdict => verdict.isRight && verdict.acknowledgedRows > 0))
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('an unknown system is named, and nothing is measured', () => {
  const run = spawnSync(process.execPath, ['bench/main.ts', '--peers', '--systems', 'oracle'], {
    encoding: 'utf8',
  })
  assert.notEqual(run.status, 0)
  assert.match(run.stderr, /unknown: oracle/)
})
