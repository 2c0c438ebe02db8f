/** One process per data directory, whatever becomes of the processes. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { DataLock } from '../../src/cli/data-lock.ts'
import { temporaryDirectory } from './founding-kit.ts'

const HOLDER = `
  import { DataLock } from ${JSON.stringify(import.meta.resolve('../../src/cli/data-lock.ts'))}
  try {
    DataLock.acquire(process.argv[1])
    process.stdout.write('held')
    setInterval(() => {}, 1000)
  } catch (error) {
    process.stdout.write(error.code + ': ' + error.message)
  }
`

/** A process that takes the lock and keeps it, or says why it can't. */
async function startHolder(
  t: TestContext,
  directory: string,
): Promise<{ child: ChildProcess; said: string }> {
  const args = ['--input-type=module', '--eval', HOLDER, directory]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  assert(child.stdout !== null)
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer]
  return { child, said: chunk.toString() }
}

test('a second process is told who holds the directory', async t => {
  const directory = temporaryDirectory(t)
  const first = await startHolder(t, directory)
  const second = await startHolder(t, directory)

  assert.equal(first.said, 'held')
  assert.match(second.said, /^WRONG_DATA: the data directory .* is in use by process \d+ on /)
  assert(second.said.includes(`process ${first.child.pid} on `))
  assert.throws(() => DataLock.acquire(directory), { code: 'WRONG_DATA' })
})

test('a killed process leaves nothing that must be judged or cleaned', async t => {
  const directory = temporaryDirectory(t)
  const { child } = await startHolder(t, directory)
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert(existsSync(join(directory, 'lock.holder')), 'its note is still there')

  const lock = DataLock.acquire(directory)

  lock.release()
})

test('many processes at once end with one holder', async t => {
  const directory = temporaryDirectory(t)

  const holders = await Promise.all([1, 2, 3, 4].map(() => startHolder(t, directory)))

  assert.equal(holders.filter(({ said }) => said === 'held').length, 1)
})

test('a lock that nobody refers to any more still holds', async t => {
  const directory = temporaryDirectory(t)
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const acquire = (): void => void DataLock.acquire(directory)
  acquire()

  collectGarbage()
  await new Promise(resolve => setImmediate(resolve))
  collectGarbage()

  assert.throws(() => DataLock.acquire(directory), { code: 'WRONG_DATA' })
})

test('a directory in which nothing can be written is not locked, and says so', t => {
  const directory = temporaryDirectory(t)
  mkdirSync(join(directory, 'lock.holder'))
  assert.throws(() => DataLock.acquire(directory), {
    code: 'WRONG_DATA',
    message: /lock\.holder can not be written: EISDIR/,
  })
  rmSync(join(directory, 'lock.holder'), { recursive: true })
  DataLock.acquire(directory).release()
})

test('a lock can be taken again after its release, and released twice', t => {
  const directory = temporaryDirectory(t)
  const first = DataLock.acquire(directory)

  first.release()
  first.release()
  const second = DataLock.acquire(directory)

  assert.throws(() => DataLock.acquire(directory), { code: 'WRONG_DATA' })
  second.release()
})

test('a directory that can not be locked is told apart from one in use', t => {
  const directory = temporaryDirectory(t)
  writeFileSync(join(directory, 'lock'), 'not what SQLite expects in a file of its own'.repeat(99))

  assert.throws(() => DataLock.acquire(directory), {
    code: 'WRONG_DATA',
    message: /can not be locked: file is not a database/,
  })
  assert.throws(() => DataLock.acquire(join(directory, 'none')), {
    code: 'WRONG_DATA',
    message: /can not be locked: unable to open database file/,
  })
})
