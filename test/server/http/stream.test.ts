import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Agent } from 'node:http'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import type { WriteCallback } from '../../../src/replica/types.ts'
import { HttpServer } from '../../../src/server/http/server.ts'
import {
  FakeService,
  failed,
  OPTIONS,
  QUIET,
  readOk,
  startTestServer,
  type TestServer,
} from './fake-service.ts'
import { StreamClient } from './stream-kit.ts'

const WRITE = { database: 'main', sql: 'INSERT INTO t VALUES (1)' }
const SELECT = { action: 'select', database: 'main', table: 't' }
const OK = { type: 'ok', results: [{ rowsAffected: 1 }] } as const

/** A node that answers when the test says so: its callbacks, in the order of the lines. */
function waiting(server: TestServer): WriteCallback[] {
  const callbacks: WriteCallback[] = []
  server.service.writeAnswer = done => void callbacks.push(done)
  return callbacks
}

const codes = (client: StreamClient): unknown[] =>
  client.answers.map(({ error, index }) => error?.code ?? index)

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('the condition did not come true')
    await new Promise(setImmediate)
  }
}

test('lines are answered as single requests are, in their order, while more come in', async () => {
  await using server = await startTestServer()
  const client = await StreamClient.open(server.url)
  assert.equal(client.status, 200)
  assert.equal(client.response.headers['content-type'], 'application/x-ndjson')

  const bodies = [
    WRITE,
    [WRITE, WRITE],
    { ...WRITE, sq: 1 },
    7,
    { action: 'create_db', database: 'a' },
  ]
  for (const [at, body] of bodies.entries()) {
    const single = (await server.post('/execute', body)).json
    client.send(body)
    await server.until(() => client.answers.length > at)
    const line = client.answers[at]
    assert.deepEqual({ ...line, durationMs: 0 }, { ...single, durationMs: 0 })
    assert.deepEqual(Object.keys(line ?? {}), Object.keys(single))
  }

  const callbacks = waiting(server)
  client.send(WRITE, WRITE, WRITE)
  await server.until(() => callbacks.length === 3)
  const [first, second, third] = callbacks
  third?.({ ...OK, index: 9 })
  second?.(failed('SQL_CONSTRAINT'))
  client.send(WRITE)
  await server.until(() => callbacks.length === 4)
  assert.equal(client.answers.length, bodies.length)
  first?.({ ...OK, index: 7 })
  await server.until(() => client.answers.length === bodies.length + 3)
  assert.deepEqual(codes(client).slice(-3), [7, 'SQL_CONSTRAINT', 9])
  client.request.destroy()
})

test('the answer ends after the last line, even without newline, and the connection serves on', async () => {
  await using server = await startTestServer()
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const client = await StreamClient.open(server.url, agent)
  const callbacks = waiting(server)
  client.send('', WRITE, ' \r')
  client.request.end(JSON.stringify(WRITE))
  await server.until(() => callbacks.length === 2)
  assert.equal(client.isWhole, false)
  for (const done of callbacks) done({ ...OK, index: 3 })
  await server.until(() => client.isOver)
  assert.equal(client.isWhole, true)
  assert.deepEqual(codes(client), [3, 3])

  const next = await StreamClient.open(server.url, agent)
  assert.equal(next.request.reusedSocket, true)
  next.request.end()
  await server.until(() => next.isOver)
  assert.deepEqual([next.isWhole, next.answers.length], [true, 0])
  agent.destroy()
})

test('a line that is no request has its error in its place, and those behind it go on', async () => {
  await using server = await startTestServer({ maxBodyBytes: 1000 })
  const client = await StreamClient.open(server.url)
  client.send('{', 'null', WRITE)
  client.request.write(Buffer.from([0x22, 0xff, 0x22, 0x0a]))
  // The huge one is refused before its end is known.
  client.request.write('x'.repeat(2000))
  await server.until(() => client.answers.length === 5)
  client.request.write(`${'y'.repeat(200_000)}\n`)
  client.send(WRITE, { ...WRITE, request: 1 })
  await server.until(() => client.answers.length === 7)

  const [torn, nothing, , binary, huge] = client.answers
  assert.match(torn?.error?.message ?? '', /^the line is not JSON/)
  assert.match(nothing?.error?.message ?? '', /^the body: must be an object/)
  assert.match(binary?.error?.message ?? '', /^the line is not UTF-8/)
  assert.match(huge?.error?.message ?? '', /^the line is over the limit of 1000 bytes/)
  assert.deepEqual(codes(client).slice(2), [
    42,
    'INVALID_REQUEST',
    'TOO_LARGE',
    42,
    'INVALID_REQUEST',
  ])
  client.request.destroy()
})

test('each line brings its own request id and deadline', async () => {
  await using server = await startTestServer()
  const client = await StreamClient.open(server.url)
  const request = 'hist1-5-a/3'
  client.send(
    { ...WRITE, request },
    { ...WRITE, idempotencyKey: '"order-7"', since: 'hist1-5-a', timeoutMs: 77 },
    { ...WRITE, idempotencyKey: 'order-8' },
    { ...WRITE, request, idempotencyKey: 'order-9' },
    { ...WRITE, request: 'hist9-5-a/3' },
    WRITE,
  )
  await server.until(() => client.answers.length === 6)
  const session = { birth: 5, name: 10 }
  assert.deepEqual(
    server.service.executed.map(({ request: { id }, timeoutMs }) => [id, timeoutMs]),
    [
      [{ type: 'session', session, sequence: 3 }, 1000],
      [{ type: 'key', key: 'order-7', birth: 5 }, 77],
      [{ type: 'key', key: 'order-8', birth: 41 }, 1000],
      [undefined, 1000],
    ],
  )
  assert.deepEqual(codes(client), [42, 42, 42, 'INVALID_REQUEST', 'WRONG_HISTORY', 42])

  const headers = { 'content-type': 'application/x-ndjson', 'idempotency-key': 'a' }
  const refused = await fetch(`${server.url}/execute`, { method: 'POST', headers, body: '{}' })
  assert.equal(refused.status, 400)
  client.request.destroy()
})

test('a select waits for the lines before it, and those behind it wait for the select', async () => {
  await using server = await startTestServer()
  const callbacks = waiting(server)
  const reads: (() => void)[] = []
  const rows = readOk([{ rowsAffected: 0, columns: ['a'], rows: [[1n]] }], 50)
  server.service.readAnswer = done => void reads.push(() => done(rows))
  const client = await StreamClient.open(server.url)
  client.send(WRITE, SELECT, WRITE, SELECT)
  await server.until(() => callbacks.length === 1)
  assert.equal(reads.length, 0)
  callbacks[0]?.({ ...OK, index: 1 })
  await server.until(() => reads.length === 1)
  assert.equal(callbacks.length, 1)
  reads[0]?.()
  await server.until(() => callbacks.length === 2)
  callbacks[1]?.({ ...OK, index: 51 })
  await server.until(() => reads.length === 2)
  reads[1]?.()
  await server.until(() => client.answers.length === 4)
  assert.deepEqual(codes(client), [1, 50, 51, 50])
  client.request.destroy()
})

/** Short answers, after which the node reckons with short ones. */
async function warmUp(server: TestServer, client: StreamClient): Promise<void> {
  const lines = 64
  server.service.writeAnswer = { ...OK, index: 0 }
  client.send(...Array.from({ length: lines }, () => WRITE))
  await server.until(() => client.answers.length === lines)
  client.answers.length = 0
}

test('no more than 1024 lines are taken unanswered, however many a client sends', async () => {
  await using server = await startTestServer()
  const client = await StreamClient.open(server.url)
  await warmUp(server, client)
  const callbacks = waiting(server)
  client.send(...Array.from({ length: 3000 }, () => WRITE))
  await server.until(() => callbacks.length === 1024)
  await new Promise(resolve => setTimeout(resolve, 50))
  assert.equal(callbacks.length, 1024)
  callbacks[0]?.({ ...OK, index: 0 })
  await server.until(() => callbacks.length === 1025)
  for (let at = 1; at < 3000; at += 1) {
    await server.until(() => callbacks.length > at)
    callbacks[at]?.({ ...OK, index: at })
  }
  await server.until(() => client.answers.length === 3000)
  assert.deepEqual(
    codes(client),
    Array.from({ length: 3000 }, (_, at) => at),
  )
  client.request.destroy()
})

test('lines that are taken unanswered have no more than 4 MiB, or are one', async () => {
  await using server = await startTestServer({ maxBodyBytes: 8 * 1024 * 1024 })
  const callbacks = waiting(server)
  const client = await StreamClient.open(server.url)
  const line = (sizeBytes: number): object => ({ ...WRITE, sql: `--${'x'.repeat(sizeBytes)}` })
  client.send(line(6 * 1024 * 1024), ...Array.from({ length: 20 }, () => line(1024 * 1024)))
  await server.until(() => callbacks.length === 1)
  await new Promise(resolve => setTimeout(resolve, 50))
  assert.equal(callbacks.length, 1)
  callbacks[0]?.({ ...OK, index: 0 })
  await server.until(() => callbacks.length === 5)
  await new Promise(resolve => setTimeout(resolve, 50))
  assert.equal(callbacks.length, 5)
  for (let at = 1; at < 21; at += 1) {
    await server.until(() => callbacks.length > at)
    callbacks[at]?.({ ...OK, index: at })
  }
  await server.until(() => client.answers.length === 21)
  client.request.destroy()
})

test('a client that does not read is not read from either, and gets all once it does', async () => {
  await using server = await startTestServer()
  const text = 'x'.repeat(10_000)
  server.service.writeAnswer = {
    ...OK,
    index: 1,
    results: [{ rowsAffected: 0, columns: ['a'], rows: [[text]] }],
  }
  const client = await StreamClient.open(server.url)
  client.response.pause()
  const lines = 10_000
  client.send(...Array.from({ length: lines }, () => WRITE))
  client.request.end()
  let before = -1
  await server.until(async () => {
    const now = server.service.executed.length
    const isStill = now === before && now > 0
    before = now
    await new Promise(resolve => setTimeout(resolve, 100))
    return isStill
  })
  // What the sockets hold, and 4 MiB: of 100 MB.
  assert.ok(before < lines / 5, `${before} lines were taken`)
  client.response.resume()
  await server.until(() => client.isOver)
  assert.equal(client.isWhole, true)
  assert.equal(client.answers.length, lines)
})

test('fewer lines are taken where answers are large, and more again when they are small', async () => {
  await using server = await startTestServer()
  const client = await StreamClient.open(server.url)
  const callbacks = waiting(server)
  let answered = 0
  const answer = async (sizeBytes: number): Promise<void> => {
    const rows = [['x'.repeat(sizeBytes)]]
    const result = { rowsAffected: 0, columns: ['a'], rows }
    callbacks[answered]?.({ type: 'ok', index: 1, results: [result] })
    answered += 1
    await server.until(() => client.answers.length === answered)
  }
  /** Taken without an answer, once no more are. */
  const taken = async (): Promise<number> => {
    const before = callbacks.length
    await new Promise(resolve => setTimeout(resolve, 30))
    return callbacks.length === before ? before - answered : taken()
  }
  client.send(...Array.from({ length: 4000 }, () => WRITE))
  assert.equal(await taken(), 64)
  await answer(1_000_000)
  assert.equal(await taken(), 63)
  for (let at = 0; at < 62; at += 1) await answer(1_000_000)
  assert.equal(await taken(), 5)
  for (let at = 0; at < 80; at += 1) {
    await answer(1)
    await server.until(() => callbacks.length > answered)
  }
  assert.equal(await taken(), 1024)
  client.request.destroy()
})

test('a stream whose answers turn out far too large is cut', async () => {
  await using server = await startTestServer()
  const client = await StreamClient.open(server.url)
  const callbacks = waiting(server)
  client.send(...Array.from({ length: 64 }, () => WRITE))
  await server.until(() => callbacks.length === 64)
  const rows = [['x'.repeat(12 * 1024 * 1024)]]
  const results = [{ rowsAffected: 0, columns: ['a'], rows }]
  // The first one has none, so that the others are held: 60 MB, and then 72.
  const [first, ...others] = callbacks
  for (const done of others.slice(0, 5)) done({ type: 'ok', index: 1, results })
  client.send(WRITE)
  await new Promise(resolve => setTimeout(resolve, 50))
  assert.equal(client.isOver, false)
  others[5]?.({ type: 'ok', index: 1, results })
  await server.until(() => client.isOver)
  assert.deepEqual([client.isWhole, client.answers], [false, []])
  first?.({ ...OK, index: 1 })
})

for (const isGoing of [false, true]) {
  const who = isGoing ? 'from a node that goes' : 'of a whole body'
  test(`a client that takes nothing of the end of its answer, ${who}, is cut off`, async () => {
    const service = new FakeService()
    const rows = [['x'.repeat(20_000)]]
    const results = [{ rowsAffected: 0, columns: ['a'], rows }]
    service.writeAnswer = { ...OK, index: 1, results }
    const server = new HttpServer({ ...OPTIONS, receiveTimeoutMs: 300 }, service, QUIET)
    await server.listen()
    const sockets: Socket[] = []
    const onRequest = (message: unknown): void => {
      sockets.push((message as { readonly socket: Socket }).socket)
    }
    subscribe('http.server.request.start', onRequest)
    const client = await StreamClient.open(`http://127.0.0.1:${server.port}`)
    unsubscribe('http.server.request.start', onRequest)
    const [socket] = sockets
    assert.ok(socket !== undefined)
    client.response.pause()
    // Until the system takes no more, but the node does not yet wait for the client.
    for (let at = 1; socket.writableLength === 0; at += 1) {
      client.send(WRITE)
      await until(() => service.executed.length === at)
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    assert.equal(socket.writableNeedDrain, false)
    // What it sends meanwhile is no sign that it takes anything.
    const sending = setInterval(() => isGoing && client.send(WRITE), 20)
    try {
      if (isGoing) void server.drain(0)
      else client.request.end()
      await until(() => socket.destroyed)
    } finally {
      clearInterval(sending)
      client.request.destroy()
      await server.stop(100)
    }
  })
}

test('what is answered in one turn leaves in one piece', async () => {
  await using server = await startTestServer()
  const client = await StreamClient.open(server.url)
  await warmUp(server, client)
  client.pieces = 0
  const callbacks = waiting(server)
  client.send(...Array.from({ length: 100 }, () => WRITE))
  await server.until(() => callbacks.length === 100)
  for (const done of callbacks) done({ ...OK, index: 1 })
  await server.until(() => client.answers.length === 100)
  assert.equal(client.pieces, 1)
  client.request.destroy()
})

test('many streams at once each get their own answers', async () => {
  await using server = await startTestServer()
  server.service.writeAnswer = done => {
    const { request } = server.service.executed.at(-1) ?? {}
    const sql = request?.type === 'statements' ? request.statements[0]?.sql : undefined
    const result = { rowsAffected: 0, columns: ['sql'], rows: [[sql ?? '']] }
    setTimeout(done, Math.random() * 20, { type: 'ok', index: 1, results: [result] })
  }
  const clients = await Promise.all(Array.from({ length: 50 }, () => StreamClient.open(server.url)))
  const texts = (at: number): string[] =>
    Array.from({ length: 100 }, (_, line) => `-- ${at}/${line}`)
  for (const [at, client] of clients.entries()) {
    client.send(...texts(at).map(sql => ({ database: 'main', sql })))
    client.request.end()
  }
  await server.until(() => clients.every(({ isOver }) => isOver))
  for (const [at, client] of clients.entries()) {
    assert.deepEqual(
      client.answers.map(({ results }) => results?.[0]?.rows?.[0]?.[0]),
      texts(at),
    )
  }
})

test('packets may tear lines and the chunks of HTTP anywhere', async () => {
  await using server = await startTestServer()
  const socket = connect(server.port, '127.0.0.1')
  let answer = ''
  socket.on('data', data => (answer += String(data)))
  const head =
    'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson; charset=utf-8\r\n'
  socket.setNoDelay(true)
  socket.write(`${head}transfer-encoding: chunked\r\n\r\n`)
  const body = `${JSON.stringify({ ...WRITE, sql: "INSERT INTO t VALUES ('é')" })}\n`.repeat(5)
  for (const byte of Buffer.from(body)) {
    socket.write(Buffer.from([0x31, 0x0d, 0x0a, byte, 0x0d, 0x0a]))
    await new Promise(setImmediate)
  }
  socket.write('0\r\n\r\n')
  await server.until(() => answer.endsWith('\r\n0\r\n\r\n'))
  assert.equal(answer.split('"index":42').length - 1, 5)
  const [sent] = server.service.executed
  assert.match(JSON.stringify(sent), /VALUES \('é'\)/)
  socket.destroy()
})

/** What a client gets that sends its whole body at once, and closes. */
async function answerAtOnce(port: number, version: string, body: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.on('data', data => (answer += String(data)))
  const closed = new Promise(resolve => {
    socket.once('close', resolve)
  })
  socket.write(
    `POST /execute HTTP/${version}\r\nhost: x\r\nconnection: close\r\n` +
      `content-type: application/x-ndjson\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  )
  await closed
  return answer
}

test('a whole body may come at once, also of a client that closes', async () => {
  await using server = await startTestServer()
  const answer = await answerAtOnce(server.port, '1.1', `${JSON.stringify(WRITE)}\n`.repeat(3))
  assert.equal(answer.split('"index":42').length - 1, 3, answer)
  assert.match(answer, /\r\n0\r\n\r\n$/)
})

test('HTTP/1.0, where the end of an answer can not be told from a dead node, has no streams', async () => {
  await using server = await startTestServer()
  const answer = await answerAtOnce(server.port, '1.0', `${JSON.stringify(WRITE)}\n`.repeat(3))
  assert.match(answer, /^HTTP\/1.1 400 .*"fate":"not-applied"/s)
  assert.match(answer, /a stream needs HTTP\/1.1/)
  assert.equal(server.service.executed.length, 0)
})

test('a broken frame of HTTP ends the connection, and nothing strange gets into the answer', async () => {
  await using server = await startTestServer()
  const callbacks = waiting(server)
  const socket = connect(server.port, '127.0.0.1')
  let answer = ''
  socket.on('data', data => (answer += String(data)))
  socket.on('error', () => {})
  const closed = new Promise(resolve => {
    socket.once('close', resolve)
  })
  const line = `${JSON.stringify(WRITE)}\n`
  socket.write(
    'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n' +
      `transfer-encoding: chunked\r\n\r\n${line.length.toString(16)}\r\n${line}\r\n`,
  )
  await server.until(() => callbacks.length === 1)
  socket.write('no size\r\n')
  await closed
  assert.match(answer, /^HTTP\/1.1 200 OK[^{]*$/)
  callbacks[0]?.({ ...OK, index: 1 })
})

test('what a client that has gone had sent is done, and what it kept of the node is let go', async () => {
  await using server = await startTestServer({ maxBodyBytes: 1000, maxReceivingBytes: 1000 })
  const callbacks = waiting(server)
  const client = await StreamClient.open(server.url)
  client.send(WRITE, WRITE)
  client.request.write('{'.repeat(900))
  await server.until(() => callbacks.length === 2)
  const gauge = async (): Promise<string> => (await fetch(`${server.url}/metrics`)).text()
  assert.match(await gauge(), /^lockstep_http_streams 1$/m)
  client.request.destroy()
  await server.until(async () => /^lockstep_http_streams 0$/m.test(await gauge()))
  for (const done of callbacks) done({ ...OK, index: 1 })
  assert.match(await gauge(), /^lockstep_http_requests_total\{route="execute",status="200"\} 2$/m)
  const body = { ...WRITE, sql: `SELECT '${'x'.repeat(800)}'` }
  server.service.writeAnswer = { ...OK, index: 1 }
  assert.equal((await server.post('/execute', body)).status, 200)
})

test('a stream lives longer than a request may take to arrive, but a line does not', async () => {
  await using server = await startTestServer({ receiveTimeoutMs: 200 })
  const client = await StreamClient.open(server.url)
  const started = performance.now()
  await server.until(() => performance.now() > started + 1500)
  client.send(WRITE)
  await server.until(() => client.answers.length === 1)
  client.request.write('{"database":')
  await server.until(() => client.isOver)
  assert.deepEqual(codes(client), [42, 'SLOW_REQUEST'])
  assert.equal(client.isWhole, true)
})

test('a stream on which nothing is asked is ended as an unused connection is', async () => {
  await using server = await startTestServer({ keepAliveMs: 300, receiveTimeoutMs: 200 })
  const callbacks = waiting(server)
  const client = await StreamClient.open(server.url)
  client.send(WRITE)
  await server.until(() => callbacks.length === 1)
  const started = performance.now()
  await server.until(() => performance.now() > started + 800)
  assert.equal(client.isOver, false)
  callbacks[0]?.({ ...OK, index: 1 })
  await server.until(() => client.isOver)
  assert.deepEqual([client.isWhole, ...codes(client)], [true, 1])
})

test('a node that stops answers what it took, refuses the rest, and ends the stream', async () => {
  const service = new FakeService()
  const callbacks: WriteCallback[] = []
  service.writeAnswer = done => void callbacks.push(done)
  const server = new HttpServer(OPTIONS, service, QUIET)
  await server.listen()
  const client = await StreamClient.open(`http://127.0.0.1:${server.port}`)
  client.send(WRITE, WRITE)
  await until(() => callbacks.length === 2)
  let isDrained = false
  const drained = server.drain(5000).then(() => (isDrained = true))
  client.send(WRITE, WRITE)
  client.request.write('{"database"')
  await new Promise(resolve => setTimeout(resolve, 50))
  assert.deepEqual([callbacks.length, isDrained, client.isOver], [2, false, false])
  const started = performance.now()
  for (const done of callbacks) done({ ...OK, index: 1 })
  await until(() => client.isOver)
  assert.equal(client.isWhole, true)
  assert.deepEqual(codes(client), [1, 1, 'SHUTTING_DOWN', 'SHUTTING_DOWN'])
  assert.equal(client.answers[2]?.error?.fate, 'not-applied')
  await drained
  assert.ok(performance.now() < started + 700, 'the connection was closed at once')
  await server.stop(100)
})

test('one who goes on sending does not keep a stream open that is to end', async () => {
  const service = new FakeService()
  const server = new HttpServer(OPTIONS, service, QUIET)
  await server.listen()
  const client = await StreamClient.open(`http://127.0.0.1:${server.port}`)
  const lines = 100_000
  client.send(...Array.from({ length: lines }, () => WRITE))
  await until(() => client.answers.length > 500)
  await server.drain(4000)
  await until(() => client.isOver)
  assert.ok(client.answers.length < lines / 2, `${client.answers.length} were answered`)
  assert.equal(client.isWhole, true)
  await server.stop(100)
})

test('a node that was removed in the meantime refuses line by line', async () => {
  await using server = await startTestServer()
  const client = await StreamClient.open(server.url)
  client.send(WRITE)
  await server.until(() => client.answers.length === 1)
  server.service.refusalNow = failed('REMOVED').error
  client.send(WRITE)
  await server.until(() => client.answers.length === 2)
  assert.deepEqual(codes(client), [42, 'REMOVED'])
  client.request.destroy()
})
