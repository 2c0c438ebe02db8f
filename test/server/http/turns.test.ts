/** What clients send takes a share of each turn of the event loop, and no more. */
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { Turns } from '../../../src/server/http/turns.ts'
import type { WriteOutcome } from '../../../src/replica/types.ts'
import { startTestServer, type TestServer } from './fake-service.ts'

const BODY = JSON.stringify({ database: 'd', sql: 'INSERT INTO t VALUES (1)' })
const POST =
  'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n' +
  `content-length: ${BODY.length}\r\n\r\n${BODY}`
const STREAM =
  'POST /execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n' +
  'transfer-encoding: chunked\r\n\r\n'
const OK: WriteOutcome = { type: 'ok', index: 1, results: [{ rowsAffected: 1 }] }
const CONNECTIONS = 8
const EACH = 150

/** Keeps the processor for so long. */
function burn(ms: number): void {
  const untilMs = performance.now() + ms
  while (performance.now() < untilMs);
}

async function turn(): Promise<void> {
  await new Promise(setImmediate)
}

async function open(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port })
  await once(socket, 'connect')
  socket.on('error', () => {})
  socket.resume()
  return socket
}

/**
 * Sends the same down many connections, twice; tells how many requests were taken within one turn
 * of the second time, when it is known who sends without waiting.
 */
async function mostInOneTurn(server: TestServer, head: string, text: string): Promise<number> {
  const { executed } = server.service
  server.service.writeAnswer = done => {
    burn(0.1)
    done(OK)
  }
  const sockets = await Promise.all(Array.from({ length: CONNECTIONS }, () => open(server.port)))
  for (const socket of sockets) socket.write(head)
  let most = 0
  for (const wave of [1, 2]) {
    most = 0
    for (const socket of sockets) socket.write(text)
    await server.until(async () => {
      const before = executed.length
      await turn()
      most = Math.max(most, executed.length - before)
      return executed.length === wave * CONNECTIONS * EACH
    })
  }
  for (const socket of sockets) socket.destroy()
  return most
}

test('what waits for its turn runs in order, with other work between', async () => {
  const turns = new Turns()
  assert.equal(turns.isSpent, false)
  const seen: string[] = []
  for (const name of ['a', 'b', 'c']) {
    turns.later(() => {
      seen.push(name)
      burn(6)
    })
  }
  while (!seen.includes('c')) {
    await turn()
    seen.push('between')
  }
  const order = seen.filter(one => one !== 'between')
  assert.deepEqual(order, ['a', 'b', 'c'])
  assert.equal(seen[seen.indexOf('b') - 1], 'between')
  assert.equal(seen[seen.indexOf('c') - 1], 'between')
})

test('a turn is spent after its share, and the next one is a new one', async () => {
  const turns = new Turns()
  assert.equal(turns.isSpent, false)
  burn(6)
  assert.equal(turns.isSpent, true)
  await turn()
  assert.equal(turns.isSpent, false)
})

test('lines of many streams at once leave each turn time for others', async () => {
  await using server = await startTestServer()
  const lines = `${BODY}\n`.repeat(EACH)
  const chunk = `${lines.length.toString(16)}\r\n${lines}\r\n`
  const most = await mostInOneTurn(server, STREAM, chunk)
  assert(most <= 100, `${most} lines were taken in one turn`)
})

test('clients that send without waiting for answers leave each turn time for others', async () => {
  await using server = await startTestServer()
  const most = await mostInOneTurn(server, '', POST.repeat(EACH))
  // A piece that was read is taken whole.
  assert(most <= 2 * EACH, `${most} requests were taken in one turn`)
})
