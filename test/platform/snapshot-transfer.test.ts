/** Snapshots over real sockets: garbled, cut off, interrupted and resumed, and by whom. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { DbError } from '../../src/base/errors.ts'
import type { CarriedSnapshot } from '../../src/base/ports.ts'
import { SystemClock } from '../../src/platform/clock.ts'
import { type ProofFacts, ProofGate, sealAnswer } from '../../src/platform/peer-proof.ts'
import { SystemRandom } from '../../src/platform/random.ts'
import { HttpSnapshotTransfer } from '../../src/platform/snapshot-transfer.ts'

const FACTS: ProofFacts = { clusterId: 'c', historyId: 'h', secret: 'a secret of a cluster' }
const CHUNK_BYTES = 1000
const DATA = Uint8Array.from({ length: 4500 }, (_, at) => (at * 31) % 251)
const SILENT = { debug() {}, info() {}, warn() {}, error() {} }

function chunksOf(data: Uint8Array): number[] {
  const count = Math.ceil(data.length / CHUNK_BYTES)
  return Array.from({ length: count }, (_, at) =>
    crc32(data.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES)),
  )
}

const SNAPSHOT: CarriedSnapshot = {
  id: 'one',
  files: [{ name: 'a.sqlite', sizeBytes: DATA.length, chunks: chunksOf(DATA) }],
}

type Answer = (response: ServerResponse, offset: number) => void

/** A member that gives the file, each time by the next of `answers`, the last one for ever. */
class Giver implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'lockstep-transfer-'))
  readonly path = join(this.directory, 'a.sqlite')
  readonly offsets: number[] = []
  readonly #server: Server
  readonly #gate = new ProofGate(FACTS, new SystemClock(), new SystemRandom())
  readonly #answers: Answer[]
  manifestProof: (url: string, text: string) => string = (url, text) => sealAnswer(FACTS, url, text)
  #port = 0

  constructor(...answers: Answer[]) {
    this.#answers = answers
    this.#server = createServer((request, response) => this.#answer(request, response))
  }

  async listen(): Promise<this> {
    await new Promise<void>(resolve => {
      this.#server.listen(0, '127.0.0.1', resolve)
    })
    this.#port = (this.#server.address() as AddressInfo).port
    return this
  }

  transfer(facts = FACTS): HttpSnapshotTransfer {
    return new HttpSnapshotTransfer({
      path: '/snapshot',
      facts,
      addressOf: () => `127.0.0.1:${this.#port}`,
      random: new SystemRandom(),
      logger: SILENT,
      chunkSizeBytes: CHUNK_BYTES,
      paces: { silenceMs: 300, retryMs: 1, failuresMax: 3 },
    })
  }

  fetch(transfer = this.transfer(), snapshot = SNAPSHOT): Promise<DbError | undefined> {
    return new Promise(onDone => {
      transfer.fetch(1, snapshot, this.directory, { onProgress: () => {}, onDone })
    })
  }

  ask(transfer = this.transfer()): Promise<string | DbError> {
    return new Promise(done => transfer.ask(1, 7, done))
  }

  get received(): Uint8Array {
    return new Uint8Array(readFileSync(this.path))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
    rmSync(this.directory, { recursive: true })
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? ''
    try {
      this.#gate.check(String(request.headers['lockstep-proof'] ?? ''), url)
    } catch (error) {
      const { code, message, details } = error as DbError
      response.writeHead(401).end(JSON.stringify({ error: { code, message, details } }))
      return
    }
    const search = new URL(url, 'http://x').searchParams
    if (search.has('atLeast')) {
      const text = `manifest from ${search.get('atLeast')}`
      response.writeHead(200, { 'lockstep-proof': this.manifestProof(url, text) }).end(text)
      return
    }
    const offset = Number(search.get('offset'))
    this.offsets.push(offset)
    const answer = this.#answers.length > 1 ? this.#answers.shift() : this.#answers[0]
    ;(answer ?? whole)(response, offset)
  }
}

const whole: Answer = (response, offset) => response.end(DATA.subarray(offset))

/** So many bytes, and then the connection breaks. */
function cutAfter(count: number): Answer {
  return (response, offset) => {
    response.writeHead(200, { 'content-length': DATA.length - offset })
    response.write(DATA.subarray(offset, offset + count), () => response.destroy())
  }
}

function flipped(at: number): Answer {
  return (response, offset) => {
    const bytes = DATA.slice(offset)
    bytes[at - offset] = (bytes[at - offset] ?? 0) ^ 1
    response.end(bytes)
  }
}

test('a file comes whole, and the manifest proven', async () => {
  await using giver = await new Giver(whole).listen()
  assert.equal(await giver.ask(), 'manifest from 7')
  assert.equal(await giver.fetch(), undefined)
  assert.deepEqual(giver.received, DATA)
})

test('a connection that breaks is made anew where it broke, at a whole chunk', async () => {
  await using giver = await new Giver(cutAfter(2500), cutAfter(1100), whole).listen()
  assert.equal(await giver.fetch(), undefined)
  assert.deepEqual(giver.received, DATA)
  assert.deepEqual(giver.offsets, [0, 2000, 3000])
})

test('a chunk that comes garbled is asked for again, and never written', async () => {
  await using giver = await new Giver(flipped(1500), flipped(1999), flipped(4499), whole).listen()
  assert.equal(await giver.fetch(), undefined)
  assert.deepEqual(giver.received, DATA)
  assert.deepEqual(giver.offsets, [0, 1000, 1000, 4000])
})

test('what an earlier attempt brought stays, but for a chunk that it did not finish', async () => {
  await using giver = await new Giver(whole).listen()
  writeFileSync(giver.path, DATA.subarray(0, 3400))
  const seen: number[] = []
  const error = await new Promise<DbError | undefined>(onDone => {
    const onProgress = (sizeBytes: number): unknown => seen.push(sizeBytes)
    giver.transfer().fetch(1, SNAPSHOT, giver.directory, { onProgress, onDone })
  })
  assert.equal(error, undefined)
  assert.deepEqual(giver.received, DATA)
  assert.deepEqual(giver.offsets, [3000])
  assert.deepEqual([seen[0], seen.at(-1)], [3000, DATA.length])
})

test('a member that gives garbled bytes again and again, or nothing at all, is given up', async () => {
  await using garbling = await new Giver(flipped(10)).listen()
  const error = await garbling.fetch()
  assert.equal(error?.code, 'CORRUPT')
  assert.equal(garbling.offsets.length, 3)
  await using silent = await new Giver(() => {}).listen()
  assert.equal((await silent.fetch())?.code, 'SNAPSHOT_FAILED')
})

test('more bytes than were announced are refused', async () => {
  const tooLong: Answer = (response, offset) =>
    response.end(Buffer.concat([DATA.subarray(offset), new Uint8Array(5)]))
  await using giver = await new Giver(tooLong).listen()
  await giver.fetch()
  assert.equal(giver.received.length, DATA.length)
})

test('a transfer that is cancelled tells nothing more', async () => {
  await using giver = await new Giver(cutAfter(1200)).listen()
  const { promise, resolve } = Promise.withResolvers<void>()
  const running = giver.transfer().fetch(1, SNAPSHOT, giver.directory, {
    onProgress: () => resolve(),
    onDone: () => assert.fail('it was cancelled'),
  })
  await promise
  running.cancel()
  await new Promise(setImmediate)
})

test('who does not know the secret gets nothing, and is not believed', async () => {
  await using giver = await new Giver(whole).listen()
  const stranger = { ...FACTS, secret: 'another secret' }
  const refused = await giver.ask(giver.transfer(stranger))
  assert(refused instanceof DbError && refused.code === 'UNAUTHENTICATED')
  assert.equal((await giver.fetch(giver.transfer(stranger)))?.code, 'UNAUTHENTICATED')
  assert.deepEqual(giver.offsets, [])

  giver.manifestProof = (url, text) => sealAnswer(stranger, url, text)
  const forged = await giver.ask()
  assert(forged instanceof DbError && forged.code === 'UNAUTHENTICATED')
})

test('another history or another cluster is refused by name', async () => {
  await using giver = await new Giver(whole).listen()
  const history = await giver.ask(giver.transfer({ ...FACTS, historyId: 'other' }))
  assert(history instanceof DbError && history.code === 'WRONG_HISTORY')
  const cluster = await giver.ask(giver.transfer({ ...FACTS, clusterId: 'other' }))
  assert(cluster instanceof DbError && cluster.code === 'FORBIDDEN')
})
