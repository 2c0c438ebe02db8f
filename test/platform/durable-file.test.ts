import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { makeDirectoryDurably, writeFileDurably } from '../../src/platform/durable-file.ts'
import { PowerCut, PowerCutFiles } from './power-cut-files.ts'

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-durable-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

/** Writes with the power going at the given call; whether the write had returned before. */
function writeUntil(path: string, text: string, files: PowerCutFiles): boolean {
  try {
    writeFileDurably(path, text, { mode: 0o600, files })
    return true
  } catch (error) {
    if (error instanceof PowerCut) return false
    throw error
  }
}

for (const losesNames of [true, false]) {
  const kept = losesNames ? 'lost' : 'kept'
  test(`a power cut at any call leaves the old text or the new one (names ${kept})`, t => {
    const path = join(temporaryDirectory(t), 'file')
    const outcomes: string[] = []
    for (let failAt = 0; outcomes.at(-1) !== 'returned'; failAt++) {
      rmSync(path, { force: true })
      const before = new PowerCutFiles()
      writeFileDurably(path, 'old', { mode: 0o600, files: before })
      const files = new PowerCutFiles(failAt)

      const hasReturned = writeUntil(path, 'new', files)
      files.cutPower(losesNames)

      const text = readFileSync(path, 'utf8')
      if (hasReturned) assert.equal(text, 'new')
      else assert(text === 'old' || text === 'new', `after ${failAt} calls: "${text}"`)
      outcomes.push(hasReturned ? 'returned' : 'cut')
    }
    assert.equal(outcomes.length, 7, 'open, write, sync, rename, open and sync of the directory')
  })
}

test('a file has the rights asked for from its first moment on', t => {
  const path = join(temporaryDirectory(t), 'secret')

  writeFileDurably(path, 'hush', { mode: 0o600 })

  assert.equal(statSync(path).mode & 0o777, 0o600)
})

test('what an earlier crash left half written is written over', t => {
  const path = join(temporaryDirectory(t), 'file')
  writeFileSync(`${path}.new`, 'a longer text that was never finished')

  writeFileDurably(path, 'new', { mode: 0o644 })

  assert.equal(readFileSync(path, 'utf8'), 'new')
  assert.equal(existsSync(`${path}.new`), false)
})

test('a directory that is made is synced in the one above it', t => {
  const path = join(temporaryDirectory(t), 'inside')
  const files = new PowerCutFiles()

  makeDirectoryDurably(path, files)

  assert.equal(files.callCount, 3, 'mkdir, open and sync of the directory above')
  assert(statSync(path).isDirectory())
})
