/** The routes of snapshots and backups, over real sockets. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { DbError } from '../../../src/base/errors.ts'
import { SendRate } from '../../../src/server/http/send-rate.ts'
import type { SnapshotAnswer } from '../../../src/server/service.ts'
import { startTestServer } from './fake-service.ts'

const DATA = Uint8Array.from({ length: 700_000 }, (_, at) => (at * 7) % 251)

/** A file with the data, gone at the end. */
function dataFile(): { readonly path: string } & Disposable {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-snapshot-'))
  const path = join(directory, 'system.sqlite')
  writeFileSync(path, DATA)
  return { path, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) }
}

const CHUNK_BYTES = 300_000

/** The answer for a file that was written with the data. */
function fileAnswer(
  path: string,
  onDamaged: (reason: string) => void,
): SnapshotAnswer & { readonly type: 'file' } {
  const chunks = [0, 1, 2].map(number =>
    crc32(DATA.subarray(number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES)),
  )
  const sizeBytes = DATA.length
  return {
    type: 'file',
    path,
    sizeBytes,
    offset: 0,
    chunks,
    chunkSizeBytes: CHUNK_BYTES,
    onDamaged,
  }
}

test('a manifest is asked for with the proof, and comes with one', async () => {
  await using server = await startTestServer()
  server.service.snapshotAnswer = { type: 'manifest', text: '{"x":1}', proof: 'abc' }
  const answer = await fetch(`${server.url}/snapshot?atLeast=7&nonce=1`, {
    headers: { 'lockstep-proof': 'a proof' },
  })
  assert.equal(await answer.text(), '{"x":1}')
  assert.equal(answer.headers.get('lockstep-proof'), 'abc')
  const [request] = server.service.snapshotRequests
  assert.equal(request?.url, '/snapshot?atLeast=7&nonce=1')
  assert.equal(request.proof, 'a proof')
  assert.deepEqual(request.wish, { type: 'manifest', minIndex: 7 })
  assert(!request.isBackup)
})

test('a file comes from the offset on', async () => {
  await using server = await startTestServer()
  using file = dataFile()
  const offset = 333_333
  const sizeBytes = DATA.length
  server.service.snapshotAnswer = { ...fileAnswer(file.path, () => {}), offset }
  const answer = await fetch(`${server.url}/backup?id=aa&file=system.sqlite&offset=${offset}`)
  assert.equal(answer.headers.get('content-length'), String(sizeBytes - offset))
  assert.deepEqual(new Uint8Array(await answer.arrayBuffer()), DATA.subarray(offset))
  const [request] = server.service.snapshotRequests
  assert.deepEqual(request?.wish, { type: 'file', id: 'aa', file: 'system.sqlite', offset })
  assert(request.isBackup)
})

test('nothing of a chunk that is not what was written is sent, and its damage is told', async () => {
  const flip = (path: string): void => {
    const bytes = DATA.slice()
    bytes[CHUNK_BYTES + 5] = 255 - (bytes[CHUNK_BYTES + 5] ?? 0)
    writeFileSync(path, bytes)
  }
  const cut = (path: string): void => truncateSync(path, CHUNK_BYTES + 1000)
  for (const [damage, reason] of [
    [flip, /has other bytes from 300000 on than were written/],
    [cut, /ends at byte 301000/],
  ] as const) {
    await using server = await startTestServer()
    using file = dataFile()
    damage(file.path)
    const told: string[] = []
    server.service.snapshotAnswer = fileAnswer(file.path, text => told.push(text))
    const answer = await fetch(`${server.url}/snapshot?id=aa&file=system.sqlite`)
    let sizeBytes = 0
    await assert.rejects(async () => {
      for await (const piece of answer.body ?? []) sizeBytes += piece.length
    })
    assert(sizeBytes <= CHUNK_BYTES, `${sizeBytes} bytes came`)
    assert.equal(told.length, 1)
    assert.match(told.join(), reason)
  }
})

test('a refusal is an answer like any other, and so is a wish that makes no sense', async () => {
  await using server = await startTestServer()
  const details = { challenge: 'c' }
  server.service.snapshotAnswer = new DbError('UNAUTHENTICATED', 'prove it', { details })
  const refused = await fetch(`${server.url}/snapshot?atLeast=7`)
  assert.equal(refused.status, 401)
  const { error } = (await refused.json()) as { error: { details: unknown } }
  assert.deepEqual(error.details, details)
  for (const search of ['', '?atLeast=x', '?id=a', '?atLeast=1&more=2', '?id=a&file=b&offset=-1']) {
    assert.equal((await fetch(`${server.url}/snapshot${search}`)).status, 400, search)
  }
})

test('a file that goes away in the middle breaks the connection, and the server lives on', async () => {
  await using server = await startTestServer()
  const path = join(tmpdir(), 'lockstep-is-not-there')
  const damage: string[] = []
  server.service.snapshotAnswer = fileAnswer(path, reason => damage.push(reason))
  await assert.rejects(
    (async () => (await fetch(`${server.url}/snapshot?id=a&file=b`)).arrayBuffer())(),
  )
  assert.equal((await fetch(`${server.url}/health/live`)).status, 200)
  assert.match(damage.join(), /ENOENT/)
})

test('so many bytes go in a second, whoever takes them', async () => {
  const rate = new SendRate(1_000_000)
  const startMs = performance.now()
  await Promise.all(Array.from({ length: 10 }, () => rate.take(20_000)))
  const tookMs = performance.now() - startMs
  assert(tookMs >= 150, `200 kB at 1 MB/s took ${tookMs} ms`)
})
