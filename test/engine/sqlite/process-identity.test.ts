import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { identifyByPs, identifyProcess } from '../../../src/engine/sqlite/process-identity.ts'
import { temporaryDirectory } from './support.ts'

test('a process keeps its identity while it lives and has none afterwards', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', 'a word'])
  const pid = child.pid ?? assert.fail('no process')

  const before = identifyProcess(pid)
  const after = identifyProcess(pid)
  child.kill('SIGKILL')
  await once(child, 'exit')

  assert.deepEqual(before, after)
  assert.match(before?.commandLine ?? '', /a word/)
  assert.notEqual(before?.startedAt, '')
  assert.equal(identifyProcess(pid), undefined)
})

test('processes started at different times have different start times', async () => {
  const own = identifyProcess(process.pid)
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'])
  const other = identifyProcess(child.pid ?? 0)
  child.kill('SIGKILL')
  await once(child, 'exit')

  assert.notEqual(own?.startedAt, other?.startedAt)
})

test('a program with spaces and parentheses in its name is identified too', async () => {
  using directory = temporaryDirectory()
  const program = join(directory.path, 'a) Z (b 1')
  copyFileSync('/bin/sleep', program)
  const child = spawn(program, ['1000'])

  const identity = identifyProcess(child.pid ?? 0)
  const own = identifyProcess(process.pid)
  child.kill('SIGKILL')
  await once(child, 'exit')

  assert.match(identity?.startedAt ?? '', process.platform === 'linux' ? /^\d+$/ : /\d/)
  assert.notEqual(identity?.startedAt, own?.startedAt)
})

test('where there is no /proc, ps tells the same of a process', async t => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', 'a word'])
  const pid = child.pid ?? assert.fail('no process')
  try {
    const before = identifyByPs(pid)
    assert.match(before?.commandLine ?? '', /a word/)
    assert.match(before?.startedAt ?? '', /^\w+ \w+ \d+ [\d:]+ \d{4}$/)
    assert.deepEqual(identifyByPs(pid), before)
  } catch (error) {
    // Small machines come without ps; where /proc is there, nobody needs it.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || process.platform !== 'linux')
      throw error
    t.diagnostic('this machine has no ps')
    return
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  assert.equal(identifyByPs(pid), undefined)
})
