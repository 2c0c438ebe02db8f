/** Clients that do not read their answers take no more of the node than they may together. */
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { type Holder, UnreadAnswers } from '../../../src/server/http/unread.ts'
import { startTestServer, type TestServer } from './fake-service.ts'

const MB = 1_000_000
/** More than the system keeps of one connection. */
const ANSWER_BYTES = 8 * MB
const BODY = JSON.stringify({ database: 'd', sql: 'SELECT 1', consistency: 'local' })
const QUERY =
  'POST /query HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n' +
  `content-length: ${BODY.length}\r\n\r\n${BODY}`

class Client {
  readonly socket: Socket
  isGone = false

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('close', () => (this.isGone = true))
  }

  static async open({ port }: TestServer): Promise<Client> {
    const socket = connect({ host: '127.0.0.1', port })
    await once(socket, 'connect')
    return new Client(socket)
  }
}

async function startLargeServer(maxUnreadBytes: number, answerBytes: number): Promise<TestServer> {
  const server = await startTestServer({ maxUnreadBytes })
  const rows = [['x'.repeat(answerBytes)]]
  server.service.readAnswer = {
    type: 'ok',
    value: { index: 1, results: [{ rowsAffected: 0, columns: ['a'], rows }] },
  }
  return server
}

async function cutCount({ url }: TestServer): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(/^lockstep_http_cut_connections_total (\d+)$/m.exec(text)?.[1])
}

test('of many clients that read nothing the node keeps no more than the limit, and cuts the rest', async () => {
  await using server = await startLargeServer(40 * MB, ANSWER_BYTES)
  const clients: Client[] = []
  for (let at = 0; at < 12; at += 1) {
    const client = await Client.open(server)
    clients.push(client)
    client.socket.pause()
    client.socket.write(QUERY)
    await server.until(() => server.service.queried.length === at + 1)
  }
  // Less than ten of them would be under the limit.
  await server.until(async () => (await cutCount(server)) >= 3)
  const cut = await cutCount(server)
  assert(cut < 12, `${cut} were cut`)
  // Who reads has its answer all the same.
  const { json } = await server.post('/query', BODY)
  assert.equal(JSON.stringify(json['results']).length > ANSWER_BYTES, true)
  for (const { socket } of clients) socket.resume()
  await server.until(() => clients.filter(({ isGone }) => isGone).length === cut)
  for (const { socket } of clients) socket.destroy()
})

test('answers that wait behind others on one connection count as well', async () => {
  await using server = await startLargeServer(20 * MB, MB)
  const client = await Client.open(server)
  client.socket.pause()
  client.socket.write(QUERY.repeat(60))
  await server.until(async () => (await cutCount(server)) === 1)
  client.socket.resume()
  await server.until(() => client.isGone)
})

test('clients that read are never cut, however much they ask for', async () => {
  await using server = await startLargeServer(4 * MB, MB)
  for (let round = 0; round < 20; round += 1) {
    await Promise.all([1, 2].map(async () => server.post('/query', BODY)))
  }
  assert.equal(await cutCount(server), 0)
})

/** As much of a socket as is looked at. */
class FakeHolder implements Holder {
  readonly socket: Socket
  readonly heldBytes: number
  takenBytes = 0

  constructor(heldBytes: number, cut: FakeHolder[]) {
    this.heldBytes = heldBytes
    const taken = (): number => this.takenBytes
    const fake = {
      writableLength: 0,
      get bytesWritten() {
        return taken()
      },
      destroy: () => cut.push(this),
    }
    this.socket = fake as unknown as Socket
  }
}

test('those that take nothing are cut first, the largest of them before the others', () => {
  const cut: FakeHolder[] = []
  const [slow, small, large] = [50, 20, 30].map(heldBytes => new FakeHolder(heldBytes, cut))
  assert(slow !== undefined && small !== undefined && large !== undefined)
  let holders: FakeHolder[] = []
  const onCut = (): void => {}
  const unread = new UnreadAnswers({ limitBytes: 100, holders: () => holders, onCut })
  unread.answered(26)
  holders = [slow, small]
  unread.answered(26)
  assert.deepEqual(cut, [])
  slow.takenBytes = 1
  holders = [slow, small, large]
  unread.answered(25)
  assert.deepEqual(cut, [])
  unread.answered(1)
  // Nothing is known yet of the one that came last.
  assert.deepEqual(cut, [small, slow])
})
