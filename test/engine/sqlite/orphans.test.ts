import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ChildRegister, endOrphans } from '../../../src/engine/sqlite/orphans.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { isRunning, temporaryDirectory } from './support.ts'

const TOKEN = '00112233445566778899aabbccddeeff'

/** A process that runs until it is ended, with `token` on its command line. */
class Sleeper {
  readonly process: ChildProcess
  readonly exit: Promise<unknown>

  constructor(token: string) {
    this.process = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', token])
    this.exit = once(this.process, 'exit')
  }

  get pid(): number {
    return this.process.pid ?? assert.fail('the process did not start')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGKILL')
    await this.exit
  }
}

function end(path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    endOrphans(path, new SystemClock(), (error, count) => (error ? reject(error) : resolve(count)))
  })
}

test('a process in the register is ended, and gone when the call comes back', async () => {
  using directory = temporaryDirectory()
  const path = join(directory.path, 'engine.pids')
  await using orphan = new Sleeper(TOKEN)
  new ChildRegister(path, TOKEN).add(orphan.pid)

  assert.equal(await end(path), 1)

  assert(!isRunning(orphan.pid))
})

test('a process that was taken out of the register stays', async () => {
  using directory = temporaryDirectory()
  const path = join(directory.path, 'engine.pids')
  await using child = new Sleeper(TOKEN)
  const register = new ChildRegister(path, TOKEN)
  register.add(child.pid)
  register.remove(child.pid)

  assert.equal(await end(path), 0)

  assert(isRunning(child.pid))
})

test('another process that got the number of a recorded one is not ended', async () => {
  using directory = temporaryDirectory()
  const path = join(directory.path, 'engine.pids')
  await using stranger = new Sleeper(TOKEN)
  new ChildRegister(path, TOKEN).add(stranger.pid)
  const record = readFileSync(path, 'utf8')

  writeFileSync(path, record.replace(/"startedAt":"/, '"startedAt":"9'))
  assert.equal(await end(path), 0)
  writeFileSync(path, record.replace(TOKEN, TOKEN.replaceAll('0', '1')))
  assert.equal(await end(path), 0)
  assert(isRunning(stranger.pid))
  writeFileSync(path, record)

  assert.equal(await end(path), 1)
})

test('a process that has ended but was not collected counts as gone', async () => {
  using directory = temporaryDirectory()
  const path = join(directory.path, 'engine.pids')
  await using orphan = new Sleeper(TOKEN)
  const register = new ChildRegister(path, TOKEN)
  register.add(orphan.pid)

  // This loop holds up the event loop, so that the dead process stays a zombie meanwhile.
  process.kill(orphan.pid, 'SIGKILL')
  const deadlineMs = performance.now() + 10_000
  while (isRunning(orphan.pid)) assert(performance.now() < deadlineMs)

  const ended = end(path)
  assert.equal(await ended, 0)
})

test('no register, and one that was cut off by a power loss, name nobody', async () => {
  using directory = temporaryDirectory()
  const path = join(directory.path, 'engine.pids')

  assert.equal(await end(path), 0)
  for (const text of [
    '',
    '{"format":1,"children":[{"pid":',
    '[]',
    'null',
    '{"children":[null,1]}',
  ]) {
    writeFileSync(path, text)
    assert.equal(await end(path), 0)
  }
})

test('records that could name the first process or a group are not obeyed', async () => {
  using directory = temporaryDirectory()
  const path = join(directory.path, 'engine.pids')
  const children = [0, 1, -1, 1.5].map(pid => ({ pid, startedAt: '', token: '' }))

  writeFileSync(path, JSON.stringify({ format: 1, children }))

  assert.equal(await end(path), 0)
})
