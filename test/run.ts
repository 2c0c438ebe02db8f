/**
 * Runs the tests: all of them, or those whose paths are given, and says at the end which were
 * skipped and why. Being TypeScript itself it fails loudly under a Node that can't run the sources,
 * where `node --test` would find nothing and pass.
 */
import { spawn } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { skippedTests } from './skipped-tests.ts'

const chosen = process.argv.slice(2)
const files = chosen.length > 0 ? chosen : globSync('test/**/*.test.ts').sort()
if (files.length === 0) throw new Error('no test was found')
// Tests of real processes measure nothing, but they do have deadlines; two files at a time keep
// these honest on small machines.
const chance = resolve('test/fixtures/fixed-chance.ts')
const directory = mkdtempSync(join(tmpdir(), 'lockstep-tests-'))
const report = join(directory, 'report.xml')
const args = [
  '--import',
  chance,
  '--test',
  '--test-concurrency=2',
  '--test-timeout=300000',
  '--test-reporter=spec',
  '--test-reporter-destination=stdout',
  '--test-reporter=junit',
  `--test-reporter-destination=${report}`,
  ...files,
]
// Hundreds of processes compile the same sources: they share what they made of them.
const cache = { NODE_COMPILE_CACHE: resolve('node_modules/.cache/compile') }
const child = spawn(process.execPath, args, {
  stdio: 'inherit',
  env: { ...cache, ...process.env, TZ: 'UTC' },
})
child.on('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1
  if (existsSync(report)) process.stdout.write(skippedTests(readFileSync(report, 'utf8')))
  rmSync(directory, { recursive: true, force: true })
})
