/** What every engine must do with snapshots. The suite of each engine calls it. */
import assert from 'node:assert/strict'
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { must } from '../../src/base/assert.ts'
import type { Engine } from '../../src/engine/engine.ts'
import type {
  DataDigest,
  Done,
  SnapshotManifest,
  SnapshotOutcome,
} from '../../src/engine/snapshot.ts'
import type { SnapshotDialect } from './dialect.ts'
import { EngineHarness, type OpenEngine, statements } from './harness.ts'
import { temporaryDirectory } from './sqlite/support.ts'

const ID = '00000000000000aa'
const OTHER_ID = '00000000000000bb'

/** A snapshot that was made. */
export type Made = Extract<SnapshotOutcome, { type: 'ok' }>

/** Makes a snapshot; `afterBegin` is called once the writer may go on. */
export async function takeSnapshot(
  harness: EngineHarness,
  id: string,
  afterBegin: () => void = () => {},
): Promise<Made> {
  const outcome = await new Promise<SnapshotOutcome>(resolve => {
    const task = harness.engine.snapshots.take(id, {
      onReady: () => task.begin(harness.index, 'context'),
      onBegun: afterBegin,
      onDone: resolve,
    })
  })
  assert(outcome.type === 'ok', inspect(outcome))
  return outcome
}

/** Puts a snapshot where another engine stages it, without the last step. */
export async function carry(made: Made, to: Engine): Promise<string> {
  const staged = await ask<{ location: string }>(done => to.snapshots.stage(made.manifest, done))
  assert(staged.type === 'ok', inspect(staged))
  for (const { name } of made.manifest.files) {
    copyFileSync(join(made.location, name), join(staged.location, name))
  }
  return staged.location
}

/** Has the engine take over what is staged, and starts its next writer. */
export async function adopt(harness: EngineHarness, id: string): Promise<number> {
  await harness.writer.kill()
  const adopted = await ask(done => harness.engine.snapshots.adopt(id, done))
  assert.equal(adopted.type, 'ok', inspect(adopted))
  harness.entries.length = 0
  const { appliedIndex, durableIndex } = await harness.startWriter()
  assert.equal(durableIndex, appliedIndex)
  return appliedIndex
}

/** What a call with a callback comes to. */
export function ask<Result>(
  call: (done: (outcome: Done<Result>) => void) => void,
): Promise<Done<Result>> {
  return new Promise(call)
}

function stagedOf(engine: Engine): Promise<SnapshotManifest | undefined> {
  return new Promise(resolve => engine.snapshots.staged(resolve))
}

/** Two databases, one of them with rows, one dropped. */
async function fill(harness: EngineHarness, { table }: SnapshotDialect): Promise<void> {
  for (const name of ['a', 'gone', 'b']) await harness.createDatabase(name)
  await harness.run('a', table)
  await harness.write({ type: 'drop-database', database: 'gone' })
  for (let id = 0; id < 20; id++) await insert(harness, id)
}

function insert(harness: EngineHarness, id: number): Promise<unknown> {
  const sql = 'INSERT INTO t VALUES (?, ?)'
  return harness.write(statements('a', [sql, [BigInt(id), 'x'.repeat(id * 1000)]]))
}

/** One letter of a value is another: for SQLite the file is as sound as before. */
function flipInText(path: string): void {
  const bytes = readFileSync(path)
  const at = bytes.indexOf('xxxxxxxx')
  assert(at > 0, 'the file holds the text')
  bytes[at + 4] = (bytes[at + 4] ?? 0) ^ 1
  writeFileSync(path, bytes)
}

/** Registers the suite for the engine that `open` opens. */
export function testSnapshots(kind: string, open: OpenEngine, dialect: SnapshotDialect): void {
  test(`${kind}: a snapshot holds just what was there when it began`, async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    await using target = await EngineHarness.open(open, there.path)
    await fill(source, dialect)
    const before = await source.digest('a')
    const { index } = source

    let writes: Promise<void> | undefined
    const made = await takeSnapshot(source, ID, () => {
      writes = (async () => {
        for (let id = 100; id < 120; id++) await insert(source, id)
        await source.createDatabase('later')
      })()
    })
    await writes
    await carry(made, target.engine)
    assert.equal((await ask(done => target.engine.snapshots.finish(done))).type, 'ok')
    assert.deepEqual(await stagedOf(target.engine), made.manifest)

    assert.equal(made.manifest.index, index)
    assert.equal(made.manifest.context, 'context')
    assert.equal(await adopt(target, ID), index)
    assert.deepEqual(await target.databases(), ['a', 'b'])
    assert.deepEqual(await target.digest('a'), before)
    assert.equal(await stagedOf(target.engine), undefined)
  })

  test(`${kind}: who adopted a snapshot goes on from its entry, and stays with it`, async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    const target = await EngineHarness.open(open, there.path)
    await fill(source, dialect)
    await target.apply(source.entries.slice(0, 1))
    target.index = 1
    await target.run('a', dialect.otherTable)
    const made = await takeSnapshot(source, ID)
    const location = await carry(made, target.engine)
    await ask(done => target.engine.snapshots.finish(done))
    await adopt(target, ID)
    await source.run('a', dialect.insertChance)
    await target.apply(source.entries.filter(({ index }) => index > made.manifest.index))
    assert.deepEqual(await target.digest('a'), await source.digest('a'))
    const entries = source.entries.filter(({ index }) => index > made.manifest.index)
    await target.stop()

    await using again = await EngineHarness.open(open, there.path, entries)

    assert.deepEqual(await again.digest('a'), await source.digest('a'))
    assert(dialect.isTidy(location))
  })

  test(`${kind}: a staged file that is short, torn or flipped is refused, and comes again`, async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    await using target = await EngineHarness.open(open, there.path)
    await fill(source, dialect)
    const made = await takeSnapshot(source, ID)
    const bySize = made.manifest.files.toSorted((a, b) => b.sizeBytes - a.sizeBytes)
    const { name, sizeBytes } = must(bySize[0])
    const damages: readonly ((path: string) => void)[] = [
      path => truncateSync(path, 5000),
      path => writeFileSync(path, 'torn', { flag: 'r+' }),
      path => writeFileSync(path, new Uint8Array(sizeBytes)),
      flipInText,
    ]
    for (const damage of damages) {
      const location = await carry(made, target.engine)
      damage(join(location, name))

      const outcome = await ask(done => target.engine.snapshots.finish(done))

      assert(outcome.type === 'failed' && outcome.error.code === 'SNAPSHOT_FAILED')
      assert.match(outcome.error.message, new RegExp(name))
      assert(!existsSync(join(location, name)), 'what is wrong is removed')
      assert.equal(await stagedOf(target.engine), undefined)
    }
    await carry(made, target.engine)
    assert.equal((await ask(done => target.engine.snapshots.finish(done))).type, 'ok')
    assert.equal(await adopt(target, ID), source.index)
  })

  test(`${kind}: what was staged of one snapshot stays for it and goes with the next`, async () => {
    using here = temporaryDirectory()
    using there = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    await using target = await EngineHarness.open(open, there.path)
    await fill(source, dialect)
    const first = await takeSnapshot(source, ID)
    const location = await carry(first, target.engine)
    const again = await ask<{ location: string }>(done =>
      target.engine.snapshots.stage(first.manifest, done),
    )
    assert(again.type === 'ok' && again.location === location)
    assert(existsSync(join(location, dialect.systemFile)))

    const second = await takeSnapshot(source, OTHER_ID)
    const other = await carry(second, target.engine)

    assert.notEqual(second.manifest.id, first.manifest.id)
    assert(existsSync(other))
    const isLeft = other !== location && existsSync(location)
    assert(!isLeft)
    await new Promise<void>(resolve => {
      target.engine.snapshots.discard(resolve)
    })
    assert(!existsSync(other))
  })

  test(`${kind}: a snapshot that is cancelled or dropped leaves nothing`, async () => {
    using here = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    await fill(source, dialect)
    await new Promise<void>(resolve => {
      const task = source.engine.snapshots.take(ID, {
        onReady: () => task.begin(source.index, ''),
        onBegun: () => {
          task.cancel()
          resolve()
        },
        onDone: () => assert.fail('nothing is told of what was cancelled'),
      })
    })
    const made = await takeSnapshot(source, OTHER_ID)
    assert(existsSync(made.location))

    source.engine.snapshots.drop(made.manifest.id)

    const directory = dirname(made.location)
    const isOne = (name: string): boolean => name.includes(ID) || name.includes(OTHER_ID)
    const isGone = (): boolean => !readdirSync(directory).some(isOne)
    const deadline = performance.now() + 5000
    while (!isGone() && performance.now() < deadline) await new Promise(setImmediate)
    assert(isGone())
  })

  test(`${kind}: a digest is of just what was there when it began`, async () => {
    using here = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    await fill(source, dialect)
    const before = await takeDigest(source)
    let writes: Promise<unknown> | undefined
    const during = await takeDigest(source, () => {
      writes = insert(source, 100)
    })
    await writes

    assert.deepEqual(during, before)
    assert.deepEqual(
      before.parts.map(({ name }) => name),
      ['', 'a', 'b'],
    )
    assert.notEqual((await takeDigest(source)).digest, before.digest)
  })

  test(`${kind}: nothing is heard of a digest that was cancelled, and another can be taken`, async () => {
    using here = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    await fill(source, dialect)
    await new Promise<void>(resolve => {
      const task = source.engine.snapshots.digest({
        onReady: () => task.begin(source.index),
        onBegun: () => {
          task.cancel()
          resolve()
        },
        onDone: () => assert.fail('nothing is told of what was cancelled'),
      })
    })
    await takeDigest(source)
  })

  test(`${kind}: a digest of files that are ahead is refused`, async () => {
    using here = temporaryDirectory()
    await using source = await EngineHarness.open(open, here.path)
    await fill(source, dialect)
    const outcome = await new Promise<Done<object>>(resolve => {
      const task = source.engine.snapshots.digest({
        onReady: () => task.begin(source.index - 1),
        onBegun: () => assert.fail('it began'),
        onDone: resolve,
      })
    })
    assert(outcome.type === 'failed')
    assert.equal(outcome.error.code, 'NOT_READY')
  })
}

/** Digests all data; `afterBegin` is called once the writer may go on. */
async function takeDigest(
  harness: EngineHarness,
  afterBegin: () => void = () => {},
): Promise<DataDigest> {
  const outcome = await new Promise<Done<{ readonly digest: DataDigest }>>(resolve => {
    const task = harness.engine.snapshots.digest({
      onReady: () => task.begin(harness.index),
      onBegun: afterBegin,
      onDone: resolve,
    })
  })
  assert(outcome.type === 'ok', inspect(outcome))
  return outcome.digest
}
