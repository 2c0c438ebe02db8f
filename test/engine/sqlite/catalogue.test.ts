import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  Catalogue,
  CatalogueReader,
  newCatalogueImage,
  restoredCatalogue,
  SYSTEM_FILE,
} from '../../../src/engine/sqlite/catalogue.ts'
import { refuseName } from '../../../src/engine/names.ts'
import { newDirectory, tamperFile } from './replica.ts'

function withCatalogue(act: (directory: string) => void): void {
  const directory = newDirectory()
  try {
    writeFileSync(join(directory, SYSTEM_FILE), newCatalogueImage())
    act(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('what is added and removed is there after the next opening, with the entry that did it', () => {
  withCatalogue(directory => {
    const catalogue = new Catalogue(directory)
    catalogue.add('b', 3)
    catalogue.add('a', 5)
    catalogue.remove('b', 8)
    catalogue.close()

    const again = new Catalogue(directory)
    assert.deepEqual([...again.entries()], [['a', 5]])
    assert.equal(again.madeBy('a'), 5)
    assert.equal(again.madeBy('b'), undefined)
    assert.equal(again.applied, 8)
    again.close()
  })
})

test('an entry changes the catalogue once, and only in its turn', () => {
  withCatalogue(directory => {
    const catalogue = new Catalogue(directory)
    catalogue.add('a', 5)
    const broken = { name: 'AssertionError' }
    assert.throws(() => catalogue.add('b', 5), broken)
    catalogue.close()

    const behind = new Catalogue(directory)
    tamperFile(join(directory, SYSTEM_FILE), 'UPDATE lockstep_state SET applied = 9')
    assert.throws(() => behind.add('b', 10), broken)
    behind.close()
  })
})

test('the floor only rises, and is kept', () => {
  withCatalogue(directory => {
    const catalogue = new Catalogue(directory)
    assert(catalogue.raiseFloor(4, 1000))
    assert(catalogue.raiseFloor(4, 1000))
    assert.throws(() => catalogue.raiseFloor(3, 1000), { name: 'AssertionError' })
    catalogue.close()
    const again = new Catalogue(directory)
    assert.deepEqual([again.floor, again.nowMs], [4, 1000])
    again.close()
  })
})

test('a reader sees a change at once, and a change only', () => {
  withCatalogue(directory => {
    const catalogue = new Catalogue(directory)
    const reader = new CatalogueReader(directory)
    const empty = reader.databases()
    assert.equal(empty.size, 0)
    assert.equal(reader.databases(), empty)
    catalogue.add('a', 1)
    assert.deepEqual([...reader.databases()], [['a', 1]])
    reader.close()
    catalogue.close()
  })
})

test('a name can be a file, an identifier and a path of a URL, and is not ours', () => {
  for (const name of ['a', '_a', 'A1', 'shop-2026_x', 'x'.repeat(64)]) {
    assert.equal(refuseName(name), undefined, name)
  }
  for (const name of ['', '1', '-a', 'a/b', '..', 'a\n', 'é', 'x'.repeat(65), 'LockStep1']) {
    assert.equal(refuseName(name)?.code, 'INVALID_REQUEST', JSON.stringify(name))
  }
})

test('what a backup does not hold is not taken for what never was', () => {
  withCatalogue(directory => {
    writeFileSync(join(directory, SYSTEM_FILE), restoredCatalogue(new Map([['a', 1]]), 40, 0))
    const catalogue = new Catalogue(directory)
    const find = (birth: number): string =>
      catalogue.requests.find({ type: 'key', key: 'a/k', birth }).type

    assert.deepEqual([find(0), find(39), find(40)], ['expired', 'expired', 'fresh'])
    assert.equal(catalogue.droppedAt('b'), 40)
    catalogue.close()
  })
})
