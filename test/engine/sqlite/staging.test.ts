/** A snapshot from elsewhere, staged and adopted, with the machine ending at every step. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { SNAPSHOT_FORMAT, type SnapshotManifest } from '../../../src/engine/snapshot.ts'
import { engineBuild } from '../../../src/engine/sqlite/build.ts'
import { newCatalogueImage } from '../../../src/engine/sqlite/catalogue.ts'
import { newDatabaseImage } from '../../../src/engine/sqlite/database-file.ts'
import { type FileSystem, nodeFileSystem } from '../../../src/engine/sqlite/file-system.ts'
import { currentGeneration, openGeneration } from '../../../src/engine/sqlite/generation.ts'
import { describeFile } from '../../../src/engine/sqlite/snapshot-files.ts'
import {
  adoptStaged,
  beginStaging,
  finishStaging,
  soundSnapshot,
  stagedSnapshot,
} from '../../../src/engine/sqlite/staging.ts'
import { Crash, CrashingFiles } from './crashing-files.ts'
import { newDirectory } from './replica.ts'

const ID = '00000000000000aa'
const FILES: ReadonlyMap<string, Uint8Array> = new Map([
  ['system.sqlite', newCatalogueImage()],
  ['db-3.sqlite', newDatabaseImage(3, 0)],
])

function manifestOf(directory: string, id = ID): SnapshotManifest {
  const files = [...FILES].map(([name, bytes]) => {
    const path = join(directory, `source-${name}`)
    nodeFileSystem.write(path, bytes)
    return describeFile(path, name)
  })
  const build = engineBuild()
  return { format: SNAPSHOT_FORMAT, id, index: 9, nowMs: 1, build, context: '', files }
}

/** All of it, as a node does it: from the first generation to the adopted one. */
function takeOver(engine: string, manifest: SnapshotManifest, files: FileSystem): void {
  openGeneration(engine, files, () => {})
  const location = beginStaging(engine, manifest, files)
  for (const [name, bytes] of FILES) {
    // What comes is written in pieces.
    files.write(join(location, name), bytes.subarray(0, 100))
    files.write(join(location, name), bytes)
  }
  finishStaging(engine, files)
  adoptStaged(engine, manifest.id, files)
}

/** Whether the directory holds every file of the snapshot as it was. */
function isWhole(directory: string, manifest: SnapshotManifest): boolean {
  return manifest.files.every(({ name, sha256 }) => {
    const path = join(directory, name)
    return nodeFileSystem.sizeBytes(path) > 0 && describeFile(path, name).sha256 === sha256
  })
}

function withDirectory(act: (directory: string) => void): void {
  const directory = newDirectory()
  try {
    act(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('after a power cut at any step the old data are there, or the new ones whole', () => {
  withDirectory(parent => {
    const manifest = manifestOf(parent)
    let hasStaged = 0
    let hasAdopted = 0
    for (let crashAt = 1; ; crashAt++) {
      const before = join(parent, `before-${crashAt}`)
      const after = join(parent, `after-${crashAt}`)
      mkdirSync(before)
      mkdirSync(after)
      const files = new CrashingFiles(join(before, 'engine'), crashAt)
      let isOver = false
      try {
        takeOver(join(before, 'engine'), manifest, files)
        isOver = true
      } catch (error) {
        if (!(error instanceof Crash)) throw error
      }
      files.writeDurable(join(after, 'engine'))
      const engine = join(after, 'engine')
      const current = currentGeneration(engine, nodeFileSystem)
      if (current?.endsWith('gen-2') === true) {
        assert(isWhole(current, manifest), `step ${crashAt}: the adopted data are not whole`)
        hasAdopted += 1
      } else if (current !== undefined) {
        assert(nodeFileSystem.sizeBytes(join(current, 'system.sqlite')) > 0)
        const staged = stagedSnapshot(engine, nodeFileSystem)
        if (staged !== undefined) {
          assert(isWhole(join(engine, 'gen-2'), manifest), `step ${crashAt}: staged, and not whole`)
          hasStaged += 1
        }
      }
      // Whatever was cut short can be begun again.
      takeOver(engine, manifest, nodeFileSystem)
      const now = currentGeneration(engine, nodeFileSystem)
      assert(now !== undefined && isWhole(now, manifest))
      rmSync(before, { recursive: true })
      rmSync(after, { recursive: true })
      if (isOver) break
    }
    assert(hasStaged > 1 && hasAdopted > 1, `${hasStaged} staged, ${hasAdopted} adopted`)
  })
})

/** What may become of a file on its way, or on a bad disk. */
const DAMAGES: Readonly<Record<string, (path: string) => void>> = {
  flipped: path => {
    const bytes = readFileSync(path)
    const middle = bytes.length >> 1
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 16, middle)
    writeFileSync(path, bytes)
  },
  cut: path => truncateSync(path, 4096),
  gone: path => rmSync(path),
}

test('a staged file that is not as it was announced is never taken over, before and after the mark', () => {
  for (const [name, damage] of Object.entries(DAMAGES)) {
    for (const isMarked of [false, true]) {
      withDirectory(directory => {
        const engine = join(directory, 'engine')
        mkdirSync(engine)
        const manifest = manifestOf(directory)
        openGeneration(engine, nodeFileSystem, () => {})
        const stage = (): string => {
          const location = beginStaging(engine, manifest, nodeFileSystem)
          for (const [file, bytes] of FILES) nodeFileSystem.write(join(location, file), bytes)
          return location
        }
        const location = stage()
        if (isMarked) finishStaging(engine, nodeFileSystem)
        damage(join(location, 'db-3.sqlite'))

        if (isMarked) assert.equal(soundSnapshot(engine, nodeFileSystem), undefined, name)
        else assert.throws(() => finishStaging(engine, nodeFileSystem), /were announced/, name)
        assert.equal(stagedSnapshot(engine, nodeFileSystem), undefined, name)
        // The other file stays, and this one comes again.
        assert(nodeFileSystem.sizeBytes(join(location, 'system.sqlite')) > 0)
        assert.equal(nodeFileSystem.sizeBytes(join(location, 'db-3.sqlite')), 0)
        stage()
        finishStaging(engine, nodeFileSystem)
        assert.equal(soundSnapshot(engine, nodeFileSystem)?.id, ID)
      })
    }
  }
})

test('a snapshot that was given away unsound is told from one that came garbled', () => {
  withDirectory(directory => {
    const engine = join(directory, 'engine')
    mkdirSync(engine)
    const bytes = newDatabaseImage(3, 0).slice()
    // What kind of page the first one is.
    bytes[100] = 0
    const path = join(directory, 'source-db-3.sqlite')
    nodeFileSystem.write(path, bytes)
    const announced = manifestOf(directory)
    nodeFileSystem.write(path, bytes)
    const files = announced.files.map(file =>
      file.name === 'db-3.sqlite' ? describeFile(path, file.name) : file,
    )
    openGeneration(engine, nodeFileSystem, () => {})
    const location = beginStaging(engine, { ...announced, files }, nodeFileSystem)
    for (const [name, image] of FILES) nodeFileSystem.write(join(location, name), image)
    nodeFileSystem.write(join(location, 'db-3.sqlite'), bytes)
    assert.throws(() => finishStaging(engine, nodeFileSystem), { code: 'CORRUPT' })
  })
})

test('a snapshot of another build of SQL is refused, and nothing of it is kept', () => {
  withDirectory(directory => {
    const engine = join(directory, 'engine')
    openGeneration(engine, nodeFileSystem, () => {})
    const manifest = { ...manifestOf(directory), build: 'another' }
    assert.throws(() => beginStaging(engine, manifest, nodeFileSystem), /run the same release/)
    assert.throws(() => finishStaging(engine, nodeFileSystem), { code: 'SNAPSHOT_FAILED' })
  })
})

test('the next opening removes what is older than the current generation, not what is staged', () => {
  withDirectory(directory => {
    const engine = join(directory, 'engine')
    const manifest = manifestOf(directory)
    takeOver(engine, manifest, nodeFileSystem)
    mkdirSync(join(engine, 'gen-1'))
    const next = beginStaging(engine, { ...manifest, id: '00000000000000bb' }, nodeFileSystem)

    openGeneration(engine, nodeFileSystem, () => {})

    const names = nodeFileSystem.list(engine).filter(name => name.startsWith('gen-'))
    assert.deepEqual(names, ['gen-2', 'gen-3'])
    assert.equal(next, join(engine, 'gen-3'))
  })
})
