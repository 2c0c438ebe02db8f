/** One whole comparison, of the one system that needs no installation and no server. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
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

test('Lockstep does every workload, at each of its read levels, without an error', () => {
  const directory = mkdtempSync(join(tmpdir(), 'peers-test-'))
  try {
    const out = join(directory, 'results.json')
    const options =
      '--systems lockstep,lockstep-stream --connections 4 --seconds 0.3 --warm-up 0 --repetitions 1'
    const run = spawnSync(
      process.execPath,
      ['bench/main.ts', '--peers', '--no-install', '--out', out, ...options.split(' ')],
      { encoding: 'utf8' },
    )
    assert.equal(run.status, 0, run.stderr)
    const { results, verdicts } = JSON.parse(readFileSync(out, 'utf8')) as Comparison
    const names = results.map(({ workload, level }) => `${workload} ${level}`.trim())
    const reads = ['linearizable', 'session', 'local']
    assert.deepEqual(names, [
      'insert',
      'update',
      'bulk',
      ...reads.map(level => `point-read ${level}`),
      ...reads.map(level => `range-read ${level}`),
      'mixed',
      'transaction',
      'insert',
      'update',
      'bulk',
    ])
    assert.deepEqual(
      results.flatMap(({ samples }) => samples),
      [],
    )
    assert(results.every(({ operations }) => operations > 0))
    assert(verdicts.every(({ acknowledgedUpdates }) => acknowledgedUpdates > 0))
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

test('a comparison that is stopped leaves no data and says so', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'peers-test-'))
  const data = join(directory, '.lockstep')
  const options = ['--peers', '--no-install', '--systems', 'sqlite', '--seconds', '60']
  const child = spawn(process.execPath, [resolve('bench/main.ts'), ...options], { cwd: directory })
  try {
    let said = ''
    child.stderr.on('data', chunk => (said += String(chunk)))
    const end = once(child, 'close')
    const deadlineMs = performance.now() + 60_000
    const isWriting = (): boolean =>
      existsSync(data) &&
      readdirSync(data, { recursive: true }).some(name => String(name).endsWith('-wal'))
    while (!isWriting()) {
      assert(performance.now() < deadlineMs && child.exitCode === null, said)
      await new Promise(done => setTimeout(done, 20))
    }
    child.kill('SIGTERM')
    const [code] = (await end) as [number | null]
    assert.equal(code, 130)
    assert.match(said, /stopped/)
    assert.deepEqual(readdirSync(data), [])
  } finally {
    child.kill('SIGKILL')
    rmSync(directory, { recursive: true })
  }
})
