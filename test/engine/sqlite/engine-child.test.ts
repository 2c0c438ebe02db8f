import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { EngineChild } from '../../../src/engine/sqlite/engine-child.ts'
import { ChildRegister } from '../../../src/engine/sqlite/orphans.ts'
import { isRunning, temporaryDirectory, waitFor } from './support.ts'

const ECHO = new URL('../../fixtures/echo-child.ts', import.meta.url)
const PARENT = new URL('../../fixtures/doomed-parent.ts', import.meta.url)

/** A child that echoes, with everything that came from it. */
class Echo {
  readonly frames: Buffer[] = []
  readonly exits: string[] = []
  readonly child: EngineChild
  onFrame = (): void => {}

  constructor(directory: string, program = ECHO) {
    const register = new ChildRegister(join(directory, 'engine.pids'), '0123456789abcdef')
    this.child = new EngineChild(
      { kind: 'writer', directory, register, watchParent: true, program },
      {
        onFrame: body => {
          this.frames.push(Buffer.from(body))
          this.onFrame()
        },
        onExit: reason => this.exits.push(reason),
      },
    )
  }

  get texts(): string[] {
    return this.frames.map(String)
  }

  send(text: string): void {
    this.child.send(Buffer.from(text))
  }

  async receive(count: number): Promise<void> {
    await waitFor(`${count} frames`, () => this.frames.length >= count || this.exits.length > 0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill()
    await waitFor('its end', () => this.exits.length > 0)
  }
}

test('frames of all sizes go to the child and back in order', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)
  const bodies = [0, 1, 5_000, 70_000, 3_000_000, 2].map(size => Buffer.alloc(size, size % 251))

  for (const body of bodies) echo.child.send(body)
  await echo.receive(bodies.length)

  assert.deepEqual(
    echo.frames.map(frame => frame.length),
    bodies.map(body => body.length),
  )
  assert(bodies.every((body, index) => body.equals(echo.frames[index] ?? Buffer.alloc(1))))
})

test('a reply of sixteen megabytes comes whole', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)

  echo.send('size 16777216')
  await echo.receive(1)

  assert.equal(echo.frames[0]?.length, 16_777_216)
  assert(echo.frames[0]?.every(byte => byte === 7))
})

test('what a child prints does not disturb its frames', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)

  echo.send('print it')
  echo.send('next')
  await echo.receive(2)

  assert.deepEqual(echo.texts, ['print it', 'next'])
})

test('a child lives in UTC and ignores the signals of a terminal', async () => {
  using directory = temporaryDirectory()
  const zone = process.env['TZ']
  process.env['TZ'] = 'Asia/Tokyo'
  await using echo = new Echo(directory.path)
  if (zone === undefined) delete process.env['TZ']
  else process.env['TZ'] = zone

  echo.send('zone')
  await echo.receive(1)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.kill(echo.child.pid ?? 0, signal)
  }
  echo.send('still here')
  await echo.receive(2)

  assert.deepEqual(echo.texts, ['0', 'still here'])
})

test('a child that waits for a message survives the signal that opens its inspector', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)
  for (let count = 1; count <= 10; count += 1) {
    echo.send(`message ${count}`)
    await echo.receive(count)
    process.kill(echo.child.pid ?? 0, 'SIGUSR1')
  }
  echo.send('still here')
  await echo.receive(11)

  assert.equal(echo.texts.at(-1), 'still here')
})

test('a killed child says nothing more and its end is told once, in the middle of a loop too', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)
  echo.send('spin')
  await echo.receive(1)

  echo.child.kill()
  echo.child.kill()
  assert.deepEqual(echo.exits, [])
  await waitFor('its end', () => echo.exits.length > 0)

  assert.deepEqual(echo.exits, ['killed'])
  assert.deepEqual(echo.texts, ['spin'])
})

test('nothing comes after a kill, also of what was read together with the frame before it', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)
  // Not the first one, which comes alone more often than not.
  echo.onFrame = () => {
    if (echo.frames.length === 50) echo.child.kill()
  }

  echo.send('burst 20000')
  await waitFor('its end', () => echo.exits.length > 0)

  assert.equal(echo.frames.length, 50)
})

test('all that a child has sent before it ended comes before its end', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)
  let exitsAtLastFrame = -1
  echo.onFrame = () => (exitsAtLastFrame = echo.exits.length)

  echo.send('last 3000000')
  await waitFor('its end', () => echo.exits.length > 0)

  assert.equal(echo.texts.at(-1), 'the last word')
  assert.equal(exitsAtLastFrame, 0)
})

test('a child may keep a message: the next ones do not overwrite it', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)

  echo.send('keep this')
  echo.send('overwritten')
  await echo.receive(1)
  echo.send('kept')
  await echo.receive(2)

  assert.deepEqual(echo.texts, ['overwritten', 'keep this'])
})

test('the last words of a child that dies by itself are its reason, after its last reply', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)

  echo.send('one')
  echo.send('throw')
  await waitFor('its end', () => echo.exits.length > 0)

  assert.deepEqual(echo.texts, ['one'])
  assert.match(echo.exits[0] ?? '', /exit code 1: [^]*a bug of the engine/)
})

test('a child that exits and one that is killed by someone else are told apart', async () => {
  using directory = temporaryDirectory()
  await using leaving = new Echo(directory.path)
  await using killed = new Echo(directory.path)
  leaving.send('exit 3')
  killed.send('hello')
  await killed.receive(1)
  process.kill(killed.child.pid ?? 0, 'SIGKILL')

  await waitFor('both ends', () => leaving.exits.length + killed.exits.length === 2)

  assert.deepEqual(leaving.exits, ['ended with exit code 3'])
  assert.deepEqual(killed.exits, ['ended by SIGKILL'])
})

test('the guard does not hold a child that ends by itself', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)
  echo.send('exit-guarded 3')

  await waitFor('its end', () => echo.exits.length > 0)

  assert.deepEqual(echo.exits, ['ended with exit code 3'])
})

test('a program that is not there ends as a child with a reason', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path, new URL('no-such-program.ts', ECHO))

  await waitFor('its end', () => echo.exits.length > 0)

  assert.match(echo.exits[0] ?? '', /Cannot find module/)
})

test('the register names the children that live, and only them', async () => {
  using directory = temporaryDirectory()
  const read = (): string => readFileSync(join(directory.path, 'engine.pids'), 'utf8')
  const echo = new Echo(directory.path)
  const pid = String(echo.child.pid)

  assert(read().includes(`"pid":${pid},`))
  await echo[Symbol.asyncDispose]()

  assert(!read().includes(`"pid":${pid},`))
})

for (const [state, guard] of [
  ['idle', 'no-guard'],
  ['inside a long call', 'watch-parent'],
] as const) {
  test(`a child that is ${state} ends by itself when its parent is killed (${guard})`, async () => {
    using directory = temporaryDirectory()
    const verb = state === 'idle' ? 'hello' : 'spin'
    const pidPath = join(directory.path, 'pid')
    const parent = spawn(process.execPath, [PARENT.pathname, directory.path, guard, verb], {
      stdio: 'inherit',
    })
    const pid = await waitFor('the child', () =>
      existsSync(pidPath) ? Number(readFileSync(pidPath, 'utf8')) : 0,
    )
    assert(isRunning(pid))

    parent.kill('SIGKILL')
    await once(parent, 'exit')

    await waitFor('the end of the child', () => !isRunning(pid), 5_000)
  })
}

test('a child that can not be noted down does not run, and its end says why', async () => {
  using directory = temporaryDirectory()
  // As on a full disk: the next draft of the register can't be written.
  mkdirSync(join(directory.path, 'engine.pids.draft'))
  await using echo = new Echo(directory.path)
  echo.send('anybody?')
  await waitFor('its end', () => echo.exits.length > 0)

  assert.match(echo.exits[0] ?? '', /could not be noted down: .*EISDIR/)
  assert.deepEqual(echo.texts, [])
})

test('the end of a child is told even if the register can not be written any more', async () => {
  using directory = temporaryDirectory()
  await using echo = new Echo(directory.path)
  echo.send('1')
  await echo.receive(1)
  mkdirSync(join(directory.path, 'engine.pids.draft'))

  echo.child.kill()
  await waitFor('its end', () => echo.exits.length > 0)

  assert.deepEqual(echo.exits, ['killed'])
})
