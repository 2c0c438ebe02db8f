/** What the listener does when the node has more to do than it can. */
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { DbError } from '../../../src/base/errors.ts'
import { startTestServer } from './fake-service.ts'

const STATEMENT = { database: 'd', sql: 'INSERT INTO t VALUES (1)' }
const BODY = JSON.stringify(STATEMENT)
const TOO_MANY = new DbError('OVERLOADED', 'too many writes wait', { details: { maxQueuedMs: 1 } })

async function open(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port })
  await once(socket, 'connect')
  return socket
}

/** What comes until the text holds so many of `mark`, or the end. */
async function readUntil(socket: Socket, mark: string, times = 1): Promise<string> {
  let text = ''
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.split(mark).length > times) break
  }
  return text
}

function post(body: string, headers = ''): string {
  const head = 'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  return `${head}${headers}content-length: ${body.length}\r\n\r\n${body}`
}

test('a write is refused before its body is there, with when to come again, and its connection stays', async () => {
  await using server = await startTestServer()
  server.service.overloadNow = TOO_MANY
  const socket = await open(server.port)
  socket.write(post(BODY).slice(0, -BODY.length))
  const refused = await readUntil(socket, '}}}')
  assert.match(refused, /^HTTP\/1.1 503 /)
  assert.match(refused, /\r\nretry-after: 1\r\n/)
  assert.doesNotMatch(refused, /connection: close/i)
  assert.match(refused, /"code":"OVERLOADED".*"fate":"not-applied".*"maxQueuedMs":1/)

  // The rest of the body is passed over, and the next request is read behind it.
  server.service.overloadNow = undefined
  socket.write(BODY + post(BODY))
  assert.match(await readUntil(socket, '}'), /^HTTP\/1.1 200 /)
  assert.equal(server.service.executed.length, 1)
  socket.destroy()
})

test('lines of a stream are refused one by one without being read, and the stream goes on', async () => {
  await using server = await startTestServer()
  server.service.overloadNow = TOO_MANY
  const socket = await open(server.port)
  socket.write(
    'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n' +
      'transfer-encoding: chunked\r\n\r\n',
  )
  const send = (lines: string): void =>
    void socket.write(`${lines.length.toString(16)}\r\n${lines}\r\n`)
  send('this is no JSON\n{}\n')
  const refused = await readUntil(socket, 'OVERLOADED', 2)
  assert.doesNotMatch(refused, /INVALID_REQUEST/)

  server.service.overloadNow = undefined
  send(`${BODY}\n`)
  assert.match(await readUntil(socket, '\n', 3), /"results":\[/)
  assert.equal(server.service.executed.length, 1)
  socket.destroy()
})

test('reads go on while writes are refused', async () => {
  await using server = await startTestServer()
  server.service.overloadNow = TOO_MANY
  assert.equal((await server.post('/query', { database: 'd', sql: 'SELECT 1' })).status, 200)
  assert.equal((await server.post('/execute', STATEMENT)).status, 503)
  assert.equal((await server.get('/health/ready')).status, 200)
})

test('whoever is over the limit of connections is told to come again, and let go', async () => {
  await using server = await startTestServer({ maxConnections: 1 })
  const full = await open(server.port)
  await server.until(async () => (await server.get('/status')).json['connections'] === 1)
  const socket = await open(server.port)
  socket.write(post(BODY))
  const refused = await readUntil(socket, '}}}')
  assert.match(refused, /\r\nretry-after: 1\r\n/)
  assert.match(refused, /\r\nconnection: close\r\n/i)
  for (const one of [full, socket]) one.destroy()
})
