import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { nodeFileSystem } from '../../../src/engine/sqlite/file-system.ts'
import { currentGeneration, openGeneration } from '../../../src/engine/sqlite/generation.ts'
import { newDirectory } from './replica.ts'

function withDirectory(act: (directory: string) => void): void {
  const directory = newDirectory()
  try {
    act(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const open = (directory: string): string => openGeneration(directory, nodeFileSystem, () => {})

test('the first opening makes a generation, the next ones find it', () => {
  withDirectory(directory => {
    assert.equal(currentGeneration(directory, nodeFileSystem), undefined)
    assert.equal(open(directory), join(directory, 'gen-1'))
    assert.equal(open(directory), join(directory, 'gen-1'))
    assert.equal(currentGeneration(directory, nodeFileSystem), join(directory, 'gen-1'))
    assert.equal(readFileSync(join(directory, 'CURRENT'), 'utf8'), 'gen-1\n')
  })
})

test('the generation that CURRENT names is the one, whatever lies beside it', () => {
  withDirectory(directory => {
    open(directory)
    mkdirSync(join(directory, 'gen-7'))
    writeFileSync(join(directory, 'CURRENT'), 'gen-7\n')
    assert.equal(open(directory), join(directory, 'gen-7'))
  })
})

test('the wreck of a first opening is cleared away', () => {
  withDirectory(directory => {
    mkdirSync(join(directory, 'gen-1'))
    writeFileSync(join(directory, 'gen-1', 'system.sqlite'), 'half')
    const generation = open(directory)
    assert(nodeFileSystem.sizeBytes(join(generation, 'system.sqlite')) > 4096)
  })
})

test('a CURRENT that names nothing of ours is corrupt, not a path to follow', () => {
  withDirectory(directory => {
    for (const content of ['', '../elsewhere', 'gen-', '/etc']) {
      writeFileSync(join(directory, 'CURRENT'), content)
      assert.throws(() => open(directory), { code: 'CORRUPT' })
    }
  })
})
