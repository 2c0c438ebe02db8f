/** Who sends writes without waiting for their answers is not read while enough of them wait. */
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { DbError } from '../../../src/base/errors.ts'
import { type Comer, Crowd } from '../../../src/server/http/crowd.ts'
import { Turns } from '../../../src/server/http/turns.ts'
import type { WriteCallback } from '../../../src/replica/types.ts'
import { startTestServer, type TestServer } from './fake-service.ts'

const BODY = JSON.stringify({ database: 'd', sql: 'INSERT INTO t VALUES (1)' })
const POST =
  'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n' +
  `content-length: ${BODY.length}\r\n\r\n${BODY}`
const STREAM =
  'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n' +
  'transfer-encoding: chunked\r\n\r\n'
/** More than is read from a connection at once. */
const MANY = 2000
const PIECE_MAX = Math.ceil(65_536 / POST.length) + 1

class Client {
  readonly socket: Socket
  #text = ''

  private constructor(socket: Socket) {
    this.socket = socket
    socket.setEncoding('latin1')
    socket.on('data', text => (this.#text += String(text)))
    socket.on('error', () => {})
  }

  static async open({ port }: TestServer): Promise<Client> {
    const socket = connect({ host: '127.0.0.1', port })
    await once(socket, 'connect')
    return new Client(socket)
  }

  lines(count: number): void {
    const lines = `${BODY}\n`.repeat(count)
    this.socket.write(`${lines.length.toString(16)}\r\n${lines}\r\n`)
  }

  count(mark: string): number {
    return this.#text.split(mark).length - 1
  }
}

/** Writes wait until they are let go, and only so many are wanted. */
class Queue {
  readonly #waiting: WriteCallback[] = []

  constructor({ service }: TestServer, wantedCount: number) {
    service.writeAnswer = done => this.#waiting.push(done)
    Object.defineProperty(service, 'wantedNow', { get: () => wantedCount - this.#waiting.length })
  }

  get count(): number {
    return this.#waiting.length
  }

  answer(): void {
    for (const done of this.#waiting.splice(0)) {
      done({ type: 'ok', index: 1, results: [{ rowsAffected: 1 }] })
    }
  }
}

/** Long enough for what can still be read to be read. */
async function settle(queue: Queue): Promise<void> {
  for (let still = 0, before = -1; still < 50; still = before === queue.count ? still + 1 : 0) {
    before = queue.count
    await new Promise(setImmediate)
  }
}

test('pipelined writes wait in the system while enough are here, and all are taken in the end', async () => {
  await using server = await startTestServer({ maxQueuedMs: 60_000 })
  const queue = new Queue(server, 10)
  const client = await Client.open(server)
  client.socket.write(POST.repeat(MANY))
  await server.until(() => queue.count > 0)
  await settle(queue)
  assert(queue.count <= PIECE_MAX, `${queue.count} were taken`)
  await server.until(() => {
    queue.answer()
    return client.count('"results"') === MANY
  })
  assert.equal(client.count('OVERLOADED'), 0)
  client.socket.destroy()
})

test('answers that go out while a connection waits do not have it read on', async () => {
  await using server = await startTestServer({ maxQueuedMs: 60_000 })
  server.service.wantedNow = 0
  const client = await Client.open(server)
  client.socket.write(POST.repeat(MANY))
  await server.until(() => client.count('"results"') > 1)
  const taken = server.service.executed.length
  const other = await Client.open(server)
  for (let round = 1; round <= 50; round += 1) {
    other.socket.write(POST)
    await server.until(() => other.count('"results"') === round)
  }
  assert(server.service.executed.length - 50 <= PIECE_MAX, `${taken} were taken`)
  for (const { socket } of [client, other]) socket.destroy()
})

test('a connection whose writes are refused at once waits, too', async () => {
  await using server = await startTestServer({ maxQueuedMs: 60_000 })
  server.service.wantedNow = 0
  server.service.overloadNow = new DbError('OVERLOADED', 'too many writes wait')
  const client = await Client.open(server)
  client.socket.write(POST.repeat(MANY))
  await server.until(() => client.count('OVERLOADED') > 1)
  await settleFor(50)
  const refused = client.count('OVERLOADED')
  assert(refused <= PIECE_MAX, `${refused} were refused`)
  client.socket.destroy()
})

test('who waits for each answer is served while others wait to be read', async () => {
  await using server = await startTestServer({ maxQueuedMs: 60_000 })
  const queue = new Queue(server, 10)
  const crowd = await Promise.all(Array.from({ length: 4 }, () => Client.open(server)))
  for (const { socket } of crowd) socket.write(POST.repeat(MANY))
  await server.until(() => queue.count >= 10)
  await settle(queue)
  const before = queue.count
  const single = await Client.open(server)
  single.socket.write(POST)
  await server.until(() => queue.count === before + 1)
  queue.answer()
  await server.until(() => single.count('"results"') === 1)
  for (const { socket } of [...crowd, single]) socket.destroy()
})

test('lines of a stream wait as well, and only the wanted ones are taken', async () => {
  await using server = await startTestServer({ maxQueuedMs: 60_000 })
  const queue = new Queue(server, 10)
  const client = await Client.open(server)
  client.socket.write(STREAM)
  client.lines(MANY)
  await server.until(() => queue.count === 10)
  await settle(queue)
  assert.equal(queue.count, 10)
  await server.until(() => {
    queue.answer()
    return client.count('"results"') === MANY
  })
  assert.equal(client.count('OVERLOADED'), 0)
  client.socket.destroy()
})

for (const [name, isStream] of [
  ['connection', false],
  ['stream', true],
] as const) {
  test(`a ${name} that has waited as long as it may is refused what it sent, and goes on`, async () => {
    await using server = await startTestServer({ maxQueuedMs: 20 })
    const queue = new Queue(server, 10)
    const client = await Client.open(server)
    const send = (count: number): void => {
      if (isStream) client.lines(count)
      else client.socket.write(POST.repeat(count))
    }
    if (isStream) client.socket.write(STREAM)
    send(MANY)
    await server.until(() => queue.count >= 10)
    const taken = queue.count
    assert(taken <= PIECE_MAX, `${taken} were taken`)
    // Answers come in order: none is seen before those to the first ones.
    const answered = client.count('"results"')
    assert.equal(answered, 0)
    // They are seen once those before them are answered.
    for (let round = 0; round < 50 && client.count('OVERLOADED') === 0; round += 1) {
      await settleFor(60)
      queue.answer()
    }
    assert(client.count('OVERLOADED') > 0)
    await server.until(() => {
      queue.answer()
      return client.count('"results"') + client.count('OVERLOADED') === MANY
    })
    assert.equal(client.count('"fate":"not-applied"'), client.count('OVERLOADED'))
    assert.equal(client.count('"maxQueuedMs":20'), client.count('OVERLOADED'))
    send(1)
    await server.until(() => queue.count === 1)
    queue.answer()
    client.socket.destroy()
  })
}

/** The time itself is what matters here. */
async function settleFor(ms: number): Promise<void> {
  const untilMs = performance.now() + ms
  while (performance.now() < untilMs) await new Promise(setImmediate)
}

/** Remembers how it was let in. */
class FakeComer implements Comer {
  readonly expectedCount: number
  readonly letIns: (string | undefined)[] = []

  constructor(expectedCount: number) {
    this.expectedCount = expectedCount
  }

  letIn(refusal: { readonly code: string } | undefined): void {
    this.letIns.push(refusal?.code)
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 5000
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error('the condition did not come true')
    await new Promise(setImmediate)
  }
}

test('those in a crowd are let in in the order of their coming, as many as are wanted', async () => {
  let wantedCount = 0
  const crowd = new Crowd({ turns: new Turns(), wanted: () => wantedCount, maxWaitMs: 60_000 })
  const [first, second, third] = [new FakeComer(5), new FakeComer(5), new FakeComer(5)]
  for (const comer of [first, second, third]) crowd.join(comer)
  assert.equal(crowd.isFull, true)
  wantedCount = 6
  await until(() => second.letIns.length === 1)
  // What the first two are expected to bring is enough.
  assert.deepEqual([first.letIns.length, third.letIns.length, crowd.count], [1, 0, 1])
  crowd.leave(third)
  assert.equal(crowd.count, 0)
})

test('whoever has waited as long as a write may is let in to be refused', async () => {
  const crowd = new Crowd({ turns: new Turns(), wanted: () => 0, maxWaitMs: 5 })
  const comer = new FakeComer(1)
  crowd.join(comer)
  await until(() => crowd.count === 0)
  assert.deepEqual(comer.letIns, ['OVERLOADED'])
})
