import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { DbError, ERRORS, type ErrorCode } from '../../../src/base/errors.ts'
import type { WriteOutcome } from '../../../src/replica/types.ts'
import { HttpServer } from '../../../src/server/http/server.ts'
import {
  FakeService,
  failed,
  MEMBERS,
  OPTIONS,
  QUIET,
  readOk,
  startTestServer,
} from './fake-service.ts'

const STATEMENT = { database: 'main', sql: 'SELECT 1' }

/** A raw connection, for what no HTTP client would send. */
async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  socket.on('error', () => {
    // The server may reset a connection that broke its rules; what it said before counts.
  })
  return socket
}

/** All that the server says until it closes the connection. */
function readAll(socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', chunk => (text += String(chunk)))
  return new Promise(resolve => socket.once('close', () => resolve(text)))
}

/** Resolves when `text` has come in. */
function readUntil(socket: Socket, text: string): Promise<string> {
  let seen = ''
  return new Promise((resolve, reject) => {
    socket.on('data', chunk => {
      seen += String(chunk)
      if (seen.includes(text)) resolve(seen)
    })
    socket.once('close', () => reject(new Error(`closed after: ${seen}`)))
  })
}

test('every failure of a node reaches the client with its row of the table', async () => {
  await using server = await startTestServer()
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    server.service.writeAnswer = failed(code)
    const { status, json } = await server.post('/execute', STATEMENT)

    assert.equal(status, ERRORS[code].http, code)
    assert.deepEqual(json.error, {
      code,
      message: `it is ${code}`,
      fate: ERRORS[code].fate,
      retry: ERRORS[code].retry,
      details: {},
    })
  }
})

test('malformed and misshapen requests are told from each other and never reach the node', async () => {
  await using server = await startTestServer({ maxBodyBytes: 1_000_000 })
  const message = async (body: unknown): Promise<string> => {
    const { status, json } = await server.post('/execute', body)
    assert.equal(status, 400)
    assert.equal(json.error?.code, 'INVALID_REQUEST')
    return json.error?.message ?? ''
  }

  assert.match(await message('{'), /^the body is not JSON/)
  assert.match(await message(''), /^the body is not JSON/)
  const nested = `${'['.repeat(200_000)}1.0${']'.repeat(200_000)}`
  assert.match(await message(nested), /^the body is not JSON: it is nested too deeply/)
  assert.match(await message({ ...STATEMENT, sq: 1 }), /unknown field "sq"/)
  assert.match(await message({ ...STATEMENT, sql: 1 }), /^sql: expected string/)
  assert.deepEqual(server.service.executed, [])
})

test('a body that is no UTF-8, no JSON by its header, or packed is refused', async () => {
  await using server = await startTestServer()
  const send = async (
    body: string | Uint8Array<ArrayBuffer>,
    headers: Record<string, string>,
  ): Promise<string> => {
    const answer = await fetch(`${server.url}/execute`, { method: 'POST', body, headers })
    assert.equal(answer.status, 400)
    const json = (await answer.json()) as { error: { message: string } }
    return json.error.message
  }
  const type = { 'content-type': 'application/json' }

  assert.match(await send(new Uint8Array([0x22, 0xff, 0x22]), type), /not UTF-8/)
  assert.match(await send('{}', { 'content-type': 'text/plain' }), /content-type: application/)
  assert.match(await send('{}', { ...type, 'content-encoding': 'gzip' }), /content-encoding gzip/)
  const answer = await fetch(`${server.url}/execute`, {
    method: 'POST',
    body: JSON.stringify(STATEMENT),
    headers: { 'content-type': 'Application/JSON; charset=utf-8' },
  })
  assert.equal(answer.status, 200)
})

test('a body over the limit is refused, announced or not, and the connection lives on', async () => {
  await using server = await startTestServer({ maxBodyBytes: 1000 })
  const announced = await server.post('/execute', { ...STATEMENT, sql: 'x'.repeat(2000) })
  assert.equal(announced.status, 413)
  assert.equal(announced.json.error?.code, 'TOO_LARGE')
  assert.deepEqual(announced.json.error?.details, { limitBytes: 1000 })

  const socket = await open(server.port)
  const head = 'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  const chunk = `3e8\r\n${'x'.repeat(1000)}\r\n`
  const first = readUntil(socket, 'TOO_LARGE')
  socket.write(`${head}transfer-encoding: chunked\r\n\r\n${chunk}${chunk}`)
  assert.match(await first, /^HTTP\/1.1 413 /)
  const second = readUntil(socket, '"live"')
  socket.write(`${chunk}0\r\n\r\nGET /health/live HTTP/1.1\r\nhost: x\r\n\r\n`)
  assert.match(await second, /HTTP\/1.1 200 OK/)
  socket.destroy()
})

test('unknown paths, methods and search fields are refused by name', async () => {
  await using server = await startTestServer()
  const unknown = await server.get('/db/query')
  assert.equal(unknown.status, 404)
  assert.match(unknown.json.error?.message ?? '', /POST \/query/)

  const answer = await fetch(`${server.url}/execute`)
  assert.equal(answer.status, 405)
  assert.equal(answer.headers.get('allow'), 'POST')
  const search = await server.get('/status?pretty')
  assert.equal(search.status, 400)
  assert.match(search.json.error?.message ?? '', /"pretty"/)
  const head = await fetch(`${server.url}/health/live`, { method: 'HEAD' })
  assert.equal(head.status, 200)
})

test('a request that does not arrive in time is ended as SLOW_REQUEST', async () => {
  await using server = await startTestServer({ receiveTimeoutMs: 150 })
  const head = 'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  const slow = await open(server.port)
  slow.write(`${head}content-length: 100\r\n\r\n{"database"`)
  const mute = await open(server.port)
  const [slowText, muteText] = await Promise.all([readAll(slow), readAll(mute)])

  assert.match(slowText, /^HTTP\/1.1 408 .*SLOW_REQUEST.*within 150 ms/s)
  assert.match(muteText, /^HTTP\/1.1 408 /)
  assert.deepEqual(server.service.executed, [])
})

test('what is no HTTP is answered with an error and closed', async () => {
  await using server = await startTestServer()
  const strange = await open(server.port)
  strange.write('\x16\x03\x01 this is TLS\r\n\r\n')
  assert.match(await readAll(strange), /^HTTP\/1.1 400 .*INVALID_REQUEST.*not HTTP/s)

  const huge = await open(server.port)
  huge.write(`GET /status HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)
  assert.match(await readAll(huge), /^HTTP\/1.1 413 .*TOO_LARGE/s)
})

test('a client that has gone does not disturb the node or the others', async () => {
  await using server = await startTestServer()
  const waiting: ((outcome: WriteOutcome) => void)[] = []
  server.service.writeAnswer = done => waiting.push(done)
  const body = JSON.stringify(STATEMENT)
  const head = 'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  const sockets = await Promise.all(Array.from({ length: 5 }, () => open(server.port)))
  for (const socket of sockets) {
    socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`)
  }
  const half = await open(server.port)
  half.write(`${head}content-length: 500\r\n\r\n${body}`)
  await server.until(() => waiting.length === 5)
  for (const socket of [...sockets, half]) socket.destroy()
  await server.until(async () => (await server.get('/status')).json['connections'] === 1)

  for (const done of waiting) done({ type: 'ok', index: 1, results: [] })
  server.service.writeAnswer = { type: 'ok', index: 43, results: [{ rowsAffected: 1 }] }
  const { json } = await server.post('/execute', STATEMENT)
  assert.equal(json['index'], 43)
})

test('over the limit of connections only what is always on is answered', async () => {
  await using server = await startTestServer({ maxConnections: 3 })
  const full = await Promise.all(Array.from({ length: 3 }, () => open(server.port)))
  await server.until(async () => (await server.get('/status')).json['connections'] === 3)

  const { status, json } = await server.post('/execute', STATEMENT)
  assert.equal(status, 503)
  assert.equal(json.error?.code, 'OVERLOADED')
  assert.match(json.error?.message ?? '', /3 connections/)
  assert.equal((await server.get('/health/ready')).status, 200)
  for (const socket of full) socket.destroy()
  await server.until(async () => (await server.post('/execute', STATEMENT)).status === 200)
})

test('1,000 connections at once are all answered', async () => {
  await using server = await startTestServer({ maxConnections: 500 })
  const sockets = await Promise.all(Array.from({ length: 1000 }, () => open(server.port)))
  const body = JSON.stringify(STATEMENT)
  const answers = await Promise.all(
    sockets.map(async socket => {
      const answer = readUntil(socket, '}')
      const head = 'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
      socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`)
      return (await answer).slice(9, 12)
    }),
  )
  for (const socket of sockets) socket.destroy()

  assert.equal(answers.filter(status => status === '200').length, 500)
  assert.equal(answers.filter(status => status === '503').length, 500)
})

test('a node that is not founded answers health and joining, and nothing else', async () => {
  await using server = await startTestServer()
  server.service.identityNow = undefined
  server.service.statusNow = undefined

  assert.equal((await server.get('/health/live')).status, 200)
  const ready = await server.get('/health/ready')
  assert.deepEqual([ready.status, ready.json.error?.code], [503, 'NOT_READY'])
  assert.equal((await server.get('/status')).json['state'], 'starting')
  assert.deepEqual((await server.get('/nodes')).json['nodes'], [])
  for (const path of ['/execute', '/query']) {
    assert.equal((await server.post(path, STATEMENT)).json.error?.code, 'NOT_READY', path)
  }
  assert.equal((await server.get('/digest?database=main')).json.error?.code, 'NOT_READY')
  assert.deepEqual(await server.post('/join', '{}'), { status: 200, json: { state: 'waiting' } })
  server.service.joinAnswer = failed('FORBIDDEN')
  assert.equal((await server.post('/join', '{}')).status, 403)
})

test('a node that stops answers what comes on open connections, and closes each with it', async () => {
  const service = new FakeService()
  const server = new HttpServer(OPTIONS, service, QUIET)
  await server.listen()
  const url = `http://127.0.0.1:${server.port}`
  const post = (): Promise<Response> =>
    fetch(`${url}/execute`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(STATEMENT),
    })
  // Two connections, of which the client keeps both.
  const waiting: ((outcome: WriteOutcome) => void)[] = []
  const both = Promise.withResolvers<void>()
  service.writeAnswer = done => {
    waiting.push(done)
    if (waiting.length === 2) both.resolve()
  }
  const first = [post(), post()]
  await both.promise
  for (const done of waiting) done({ type: 'ok', index: 1, results: [] })
  await Promise.all(first.map(async answer => (await answer).json()))
  const asked = Promise.withResolvers<(outcome: WriteOutcome) => void>()
  service.writeAnswer = done => asked.resolve(done)
  const open = post()
  const finish = await asked.promise

  service.writeAnswer = { type: 'ok', index: 2, results: [] }
  const drained = server.drain(10_000)
  // On a connection that was there already, and it is closed with the answer.
  const late = await post()
  assert.deepEqual([late.status, late.headers.get('connection')], [200, 'close'])
  finish({ type: 'ok', index: 1, results: [] })
  assert.equal((await open).status, 200)
  await drained
  await server.stop(10_000)
  await assert.rejects(post())
})

test('an idle connection is closed when its time is over, a request under way is answered', async () => {
  const service = new FakeService()
  const server = new HttpServer(OPTIONS, service, QUIET)
  await server.listen()
  const url = `http://127.0.0.1:${server.port}`
  await (await fetch(`${url}/health/live`)).text()
  const asked = Promise.withResolvers<(outcome: WriteOutcome) => void>()
  service.writeAnswer = done => asked.resolve(done)
  const headers = { 'content-type': 'application/json' }
  const body = JSON.stringify(STATEMENT)
  const open = fetch(`${url}/execute`, { method: 'POST', headers, body })
  const finish = await asked.promise

  await server.drain(20)
  const stopped = server.stop(10_000)
  finish({ type: 'ok', index: 1, results: [] })

  assert.equal((await open).status, 200)
  await stopped
})

test('a removed node says so to everybody, and answers status and health', async () => {
  const service = new FakeService()
  service.refusalNow = new DbError('REMOVED', 'node n1 was removed from cluster c1')
  service.statusNow = undefined
  await using server = await startTestServer({}, service)

  for (const path of ['/execute', '/query', '/transfer']) {
    assert.equal((await server.post(path, STATEMENT)).json.error?.code, 'REMOVED', path)
  }
  assert.equal((await server.post('/members', {})).json.error?.code, 'REMOVED')
  assert.equal((await server.get('/members')).json.error?.code, 'REMOVED')
  assert.equal((await server.get('/health/ready')).json.error?.code, 'REMOVED')
  assert.equal((await server.get('/health/live')).status, 200)
  const status = (await server.get('/status')).json
  assert.deepEqual([status['state'], status['role']], ['removed', 'none'])
  assert.match(String(status['lastError']), /was removed from cluster c1/)
})

test('members are shown and changed, and a request that was passed on is known as such', async () => {
  await using server = await startTestServer()
  const { service } = server

  assert.deepEqual((await server.get('/members')).json, MEMBERS)
  const changed = await server.post('/members', { action: 'remove', node: 'n2' })
  assert.deepEqual(changed, { status: 200, json: MEMBERS })
  const headers = { 'content-type': 'application/json', 'lockstep-forwarded': '1' }
  const body = JSON.stringify({ action: 'transfer', timeoutMs: 77 })
  await fetch(`${server.url}/members`, { method: 'POST', headers, body })
  await fetch(`${server.url}/join`, { method: 'POST', headers, body: '{}' })

  assert.deepEqual(service.changed, [
    { request: { action: 'remove', node: 'n2' }, timeoutMs: 1000, isForwarded: false },
    { request: { action: 'transfer', timeoutMs: 77 }, timeoutMs: 77, isForwarded: true },
  ])
  assert.equal(service.joined[0]?.isForwarded, true)
  for (const wrong of [
    { action: 'expel', node: 'n2' },
    { action: 'remove' },
    { action: 'remove', node: 'n 2' },
    { action: 'remove', node: 'n2', force: true },
  ]) {
    const answer = await server.post('/members', wrong)
    assert.equal(answer.json.error?.code, 'INVALID_REQUEST', JSON.stringify(wrong))
  }
  service.membersAnswer = failed('MEMBERS_BUSY')
  assert.equal((await server.post('/members', { action: 'promote', node: 'n3' })).status, 409)
})

test('a port in use, or an address of another machine, is told in a sentence', async () => {
  await using server = await startTestServer()
  const listen = (options: object): Promise<void> =>
    new HttpServer({ ...OPTIONS, ...options }, new FakeService(), QUIET).listen()

  await assert.rejects(listen({ port: server.port }), {
    code: 'PORT_IN_USE',
    message: `127.0.0.1:${server.port} is taken; stop the other program or choose another port`,
  })
  await assert.rejects(listen({ host: '192.0.2.1' }), { code: 'INVALID_REQUEST' })
})

test('only /replicate is upgraded, and its socket is the node’s from then on', async () => {
  await using server = await startTestServer({ maxConnections: 1 })
  const upgrade = (path: string): string =>
    `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: lockstep\r\n\r\n`
  const peer = await open(server.port)
  peer.write(upgrade('/replicate'))
  assert.match(await readAll(peer), /^HTTP\/1.1 101 /)
  assert.equal(server.service.upgraded.length, 1)

  const plain = await server.get('/replicate')
  assert.equal(plain.status, 400)
})

test('a client that offers HTTP/2 by an Upgrade is answered in HTTP/1.1', async () => {
  await using server = await startTestServer()
  const client = await open(server.port)
  const head = 'GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\n'
  const answer = readUntil(client, '"live"')
  client.write(`${head}upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n`)

  assert.match(await answer, /^HTTP\/1.1 200 /)
  client.destroy()
})

test('bodies that are received at once are bounded together', async () => {
  await using server = await startTestServer({ maxReceivingBytes: 1000 })
  const head = 'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  const waiting = await open(server.port)
  waiting.write(`${head}content-length: 2000\r\n\r\n${'x'.repeat(900)}`)
  const large = { ...STATEMENT, sql: 'x'.repeat(500) }
  await server.until(async () => (await server.post('/execute', large)).status === 503)
  const refused = await server.post('/execute', large)
  assert.equal(refused.json.error?.code, 'OVERLOADED')
  assert.equal((await server.post('/execute', STATEMENT)).status, 200)

  waiting.destroy()
  await server.until(async () => (await server.post('/execute', large)).status === 200)
})

test('a client that waits for leave to send a large body is refused before it sends', async () => {
  await using server = await startTestServer({ maxBodyBytes: 1000 })
  const head = 'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  const large = await open(server.port)
  const refusal = readUntil(large, 'TOO_LARGE')
  large.write(`${head}expect: 100-continue\r\ncontent-length: 5000\r\n\r\n`)
  assert.match(await refusal, /^HTTP\/1.1 413 /)
  large.destroy()

  const body = JSON.stringify(STATEMENT)
  const small = await open(server.port)
  const leave = readUntil(small, '100 Continue')
  small.write(`${head}expect: 100-continue\r\ncontent-length: ${body.length}\r\n\r\n`)
  await leave
  const answer = readUntil(small, '"results"')
  small.write(body)
  assert.match(await answer, /200 OK/)
  small.destroy()
})

test('a client that does not take its long answer is cut off', async () => {
  await using server = await startTestServer({ receiveTimeoutMs: 200 })
  const text = 'x'.repeat(32 * 1024 * 1024)
  server.service.readAnswer = readOk([{ rowsAffected: 0, columns: ['a'], rows: [[text]] }])
  const body = JSON.stringify(STATEMENT)
  const client = await open(server.port)
  client.pause()
  const head = 'POST /query HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  client.write(`${head}content-length: ${body.length}\r\n\r\n${body}`)
  await server.until(() => server.service.queried.length === 1)

  await server.until(async () => (await server.get('/status')).json['connections'] === 1)
  const patient = await server.post('/query', STATEMENT)
  assert.equal(patient.status, 200)
  client.destroy()
})

test('a bug in a handler is an answer and no end of the node', async () => {
  await using server = await startTestServer()
  server.service.execute = () => {
    throw new TypeError('undefined is not a function')
  }
  const { status, json } = await server.post('/execute', STATEMENT)

  assert.equal(status, 500)
  assert.deepEqual([json.error?.code, json.error?.fate], ['INTERNAL', 'unknown'])
  assert.equal((await server.get('/health/live')).status, 200)
})

test('a page of the named origin may use the API, and others are not told so', async () => {
  await using closed = await startTestServer()
  const preflight = (url: string): Promise<Response> =>
    fetch(`${url}/execute`, { method: 'OPTIONS', headers: { origin: 'https://app.example' } })
  assert.equal((await preflight(closed.url)).status, 405)

  await using server = await startTestServer({ corsOrigin: 'https://app.example' })
  const answer = await preflight(server.url)
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.get('access-control-allow-origin'), 'https://app.example')
  const allowed = 'content-type, lockstep-api, idempotency-key, lockstep-request, lockstep-since'
  assert.equal(answer.headers.get('access-control-allow-headers'), allowed)
  const health = await fetch(`${server.url}/health/live`)
  assert.equal(health.headers.get('access-control-allow-origin'), 'https://app.example')
})

test('what a strange page sends is not carried out, even under a host name of its own', async () => {
  const send = async (url: string, path: string, origin: string): Promise<[number, unknown]> => {
    const { host } = new URL(origin)
    const headers = { 'content-type': 'application/json', host, origin }
    const body = path === '/transfer' ? '' : JSON.stringify(STATEMENT)
    const answer = await fetch(`${url}${path}`, { method: 'POST', headers, body })
    const { error } = (await answer.json()) as { error?: { code: string } }
    return [answer.status, error?.code]
  }
  await using closed = await startTestServer()
  await using open = await startTestServer({ corsOrigin: 'https://app.example' })
  await using wide = await startTestServer({ corsOrigin: '*' })
  for (const path of ['/execute', '/query', '/transfer']) {
    assert.deepEqual(await send(closed.url, path, 'http://evil.example'), [403, 'FORBIDDEN'])
    assert.deepEqual(await send(open.url, path, 'http://evil.example'), [403, 'FORBIDDEN'])
    assert.deepEqual(await send(open.url, path, 'https://app.example'), [200, undefined])
    assert.deepEqual(await send(wide.url, path, 'http://evil.example'), [200, undefined])
  }
  const { executed, queried, transfers } = closed.service
  assert.deepEqual([executed, queried, transfers], [[], [], 0])
})

test('the answer of a slow node is still given after the client asked for more', async () => {
  await using server = await startTestServer()
  server.service.readAnswer = readOk([{ rowsAffected: 0, columns: ['a'], rows: [[1n]] }], 7)
  const body = JSON.stringify(STATEMENT)
  const head = 'POST /query HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  const one = `${head}content-length: ${body.length}\r\n\r\n${body}`
  const socket = await open(server.port)
  const both = readUntil(socket, '"live"')
  socket.write(`${one}GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n`)

  const text = await both
  assert.ok(text.indexOf('"index":7') < text.indexOf('"live"'), text)
  socket.destroy()
})

test('a client of a newer version of the API is told so, and nothing is carried out', async () => {
  await using server = await startTestServer()
  const post = async (version: string): Promise<{ status: number; text: string }> => {
    const answer = await fetch(`${server.url}/execute`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'lockstep-api': version },
      body: JSON.stringify({ database: 'main', sql: 'DELETE FROM t' }),
    })
    return { status: answer.status, text: await answer.text() }
  }
  assert.equal((await post('1')).status, 200)
  for (const version of ['2', '0', 'new', '1.5']) {
    const { status, text } = await post(version)
    assert.equal(status, 400, version)
    assert.match(text, /speaks version 1 of the API, not .*; upgrade the nodes/)
  }
  assert.equal(server.service.executed.length, 1)
})
