/** Making snapshots for others: one at a time, between two entries, kept while it is read. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import type { SnapshotManifest } from '../../src/engine/snapshot.ts'
import { decodePoint } from '../../src/log/membership.ts'
import { SnapshotSource } from '../../src/replica/snapshot-source.ts'
import type { Outcome } from '../../src/replica/types.ts'
import type { Pause } from '../../src/replica/writer.ts'
import { fixedRandom, ManualClock, ManualLog, ManualSnapshots, SILENT } from './doubles.ts'

const FILE = { name: 'system.sqlite', sizeBytes: 10, sha256: '0'.repeat(64), chunks: [1] }

class Bench {
  readonly clock = new ManualClock()
  readonly log = new ManualLog()
  readonly store = new ManualSnapshots()
  applied = 5
  refusal: DbError | undefined
  pause: Pause | undefined
  resumed = 0
  readonly corrupt: string[] = []
  readonly source = new SnapshotSource({
    store: this.store,
    log: this.log,
    clock: this.clock,
    random: fixedRandom,
    logger: SILENT,
    appliedIndex: () => this.applied,
    pause: pause => (this.pause = pause),
    resume: () => (this.resumed += 1),
    onCorrupt: reason => this.corrupt.push(reason),
    refusal: () => this.refusal,
  })

  constructor() {
    for (let entry = 0; entry < 9; entry++) this.log.commitForeign('data')
  }

  code(minIndex: number): string {
    const outcome: Outcome<string> = this.source.offer(minIndex)
    return outcome.type === 'ok' ? 'ok' : outcome.error.code
  }

  /** Takes a snapshot through all of its steps. */
  make(minIndex: number): SnapshotManifest {
    assert.equal(this.code(minIndex), 'NOT_READY')
    this.store.task?.handler.onReady()
    this.pause?.onStill()
    const { task, begun } = this.store
    assert(task !== undefined && begun !== undefined)
    task.handler.onBegun()
    const { index, context } = begun
    const at = { format: 1, id: task.id, index, nowMs: 1, build: 'b', context }
    const manifest = { ...at, files: [FILE] }
    task.handler.onDone({ type: 'ok', manifest, location: '/made' })
    return manifest
  }
}

test('a snapshot is of the entry at which the engine stands still, with its place in the log', () => {
  const bench = new Bench()
  const manifest = bench.make(3)

  assert.equal(manifest.index, 5)
  assert.equal(decodePoint(Uint8Array.fromHex(manifest.context)).index, 5)
  assert.equal(bench.resumed, 1)
  assert.equal(bench.code(5), 'ok')
  assert.equal(bench.source.location(manifest.id), '/made')
  assert.equal(bench.source.location('another'), undefined)
})

test('one is made at a time, and shared', () => {
  const bench = new Bench()
  assert.equal(bench.code(3), 'NOT_READY')
  const first = bench.store.task
  assert.equal(bench.code(4), 'NOT_READY')
  assert.equal(bench.store.task, first)
})

test('what this node has not applied, and what it must not give, is not to be had', () => {
  const bench = new Bench()
  assert.equal(bench.code(6), 'NOT_READY')
  assert.equal(bench.store.task, undefined)
  bench.refusal = new DbError('DIVERGED', 'wrong')
  assert.equal(bench.code(3), 'DIVERGED')
})

test('an older one is replaced once nobody reads it, and removed when nobody has for a minute', () => {
  const bench = new Bench()
  const { id } = bench.make(3)
  bench.applied = 8
  assert.equal(bench.code(7), 'NOT_READY')
  assert.deepEqual(bench.store.dropped, [])
  bench.clock.pass(9_000)
  bench.source.location(id)
  bench.clock.pass(9_000)
  assert.equal(bench.code(7), 'NOT_READY')
  assert.deepEqual(bench.store.dropped, [])

  bench.clock.pass(2_000)
  bench.make(7)
  assert.deepEqual(bench.store.dropped, [id])
  bench.clock.pass(59_000)
  bench.source.sweep()
  assert.equal(bench.code(7), 'ok')
  bench.clock.pass(61_000)
  bench.source.sweep()
  assert.equal(bench.store.dropped.length, 2)
})

test('writes wait two seconds at most for the files to be read', () => {
  const bench = new Bench()
  bench.code(3)
  bench.store.task?.handler.onReady()
  bench.pause?.onStill()
  bench.clock.pass(1_999)
  assert.equal(bench.resumed, 0)

  bench.clock.pass(1)
  assert.equal(bench.resumed, 1)
  assert(bench.store.isCancelled)
  assert.equal(bench.code(3), 'SNAPSHOT_FAILED')
  // The next one who asks begins anew.
  assert.equal(bench.code(3), 'NOT_READY')
})

test('a writer that dies while the files are opened ends the snapshot', () => {
  const bench = new Bench()
  bench.code(3)
  bench.store.task?.handler.onReady()
  bench.pause?.onStill()
  bench.pause?.onBroken()
  assert(bench.store.isCancelled)
  assert.equal(bench.resumed, 0)
  assert.equal(bench.code(3), 'SNAPSHOT_FAILED')
})

test('a snapshot that fails lets the writer go on, and is told once', () => {
  const bench = new Bench()
  bench.code(3)
  bench.store.task?.handler.onReady()
  bench.pause?.onStill()
  const error = new DbError('DISK_FULL', 'no room')
  bench.store.task?.handler.onDone({ type: 'failed', error })
  assert.equal(bench.resumed, 1)
  assert.equal(bench.code(3), 'DISK_FULL')
  assert.equal(bench.code(3), 'NOT_READY')
})

test('a node that stops lets go of everything', () => {
  const bench = new Bench()
  const { id } = bench.make(3)
  bench.applied = 8
  bench.clock.pass(20_000)
  assert.equal(bench.code(7), 'NOT_READY')
  bench.source.discard()
  assert(bench.store.isCancelled)
  assert.deepEqual(bench.store.dropped, [id])
})

test('a snapshot whose files were damaged is thrown away, and another one made', () => {
  const bench = new Bench()
  const { id } = bench.make(3)
  assert.deepEqual(bench.source.file(id, FILE.name), FILE)
  assert.equal(bench.source.file(id, 'db-1.sqlite'), undefined)
  bench.source.damaged('another', 'a bit')
  assert.equal(bench.code(3), 'ok')

  bench.source.damaged(id, 'a bit')
  assert.equal(bench.source.file(id, FILE.name), undefined)
  assert.deepEqual(bench.store.dropped, [id])
  bench.make(3)
  assert.equal(bench.code(3), 'ok')
})

test('a copy that is garbled tells that the files of this node are', () => {
  const bench = new Bench()
  for (const code of ['SNAPSHOT_FAILED', 'CORRUPT'] as const) {
    assert.equal(bench.code(3), 'NOT_READY')
    const error = new DbError(code, 'a page')
    bench.store.task?.handler.onDone({ type: 'failed', error })
    assert.equal(bench.code(3), code)
  }
  assert.deepEqual(bench.corrupt, ['a page'])
})
