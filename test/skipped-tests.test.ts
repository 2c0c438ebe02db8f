import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { skippedTests } from './skipped-tests.ts'

test('tests that were skipped are counted by their reason, as Node reports them', t => {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-skipped-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const file = join(directory, 'some.test.mjs')
  const report = join(directory, 'report.xml')
  const skip = (reason: string): string => `test('left out', { skip: ${JSON.stringify(reason)} })`
  const lines = [
    "import test from 'node:test'",
    "test('is run', () => {})",
    skip('no "server" & no <client>'),
    skip('no "server" & no <client>'),
    skip("it isn't Linux"),
  ]
  writeFileSync(file, lines.join('\n'))
  const reporter = ['--test-reporter=junit', `--test-reporter-destination=${report}`]
  const env = { ...process.env }
  // It would report to this run.
  delete env['NODE_TEST_CONTEXT']
  const run = spawnSync(process.execPath, ['--test', ...reporter, file], { env, encoding: 'utf8' })
  assert.equal(run.status, 0, run.stderr)
  assert.deepEqual(skippedTests(readFileSync(report, 'utf8')).trim().split('\n').slice(1), [
    '  2 tests: no "server" & no <client>',
    "  1 test: it isn't Linux",
  ])
})

test('a run that left nothing out says nothing of it', () => {
  assert.equal(skippedTests('<testsuites><testcase name="is run"/></testsuites>'), '')
})

test('with CI=true a missing server is a failure, and else a reason to skip', () => {
  const script =
    "import { whyNoMariaDb } from './test/fixtures/mariadb-server.ts'\n" +
    'console.log(whyNoMariaDb())'
  const run = (ci: string): ReturnType<typeof spawnSync> => {
    const env = { ...process.env, CI: ci, PATH: '/nowhere' }
    return spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script], {
      env,
      encoding: 'utf8',
    })
  }
  assert.match(String(run('').stdout), /mariadb-install-db not found .*apt-get/)
  const failed = run('true')
  assert.notEqual(failed.status, 0)
  assert.match(String(failed.stderr), /mariadb-install-db not found/)
})
