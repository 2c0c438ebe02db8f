/** The bare clients of the load generator, against servers that speak as the real ones do. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttp2Server } from 'node:http2'
import type { ServerHttp2Stream } from 'node:http2'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { test } from 'node:test'
import { GrpcConnection } from '../../bench/peers/drivers/grpc.ts'
import { MysqlConnection } from '../../bench/peers/drivers/mysql-wire.ts'
import type { MysqlError, SqlValue } from '../../bench/peers/drivers/mysql-wire.ts'

async function listen(server: Server | ReturnType<typeof createHttp2Server>): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

test('many gRPC calls share a connection; one that fails is told from those that succeed', async () => {
  const bodies = new Set<string>()
  const server = createHttp2Server()
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    assert.equal(headers[':method'], 'POST')
    assert.equal(headers[':path'], '/a.B/C')
    assert.equal(headers['content-type'], 'application/grpc')
    assert.equal(headers['te'], 'trailers')
    const parts: Buffer[] = []
    stream.on('data', (part: Buffer) => parts.push(part))
    stream.on('end', () => {
      const text = Buffer.concat(parts).toString('latin1', 5)
      bodies.add(text)
      if (text === 'message 7') {
        // Only trailers: how a call ends that has no answer.
        stream.respond({ ':status': 200, 'grpc-status': '14' }, { endStream: true })
        return
      }
      stream.respond({ ':status': 200 }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.end(Buffer.alloc(5))
    })
  })
  const grpc = await GrpcConnection.open(await listen(server), '/a.B/C')
  try {
    const calls = Array.from(
      { length: 32 },
      (_, at) =>
        new Promise<string | undefined>(resolve => {
          grpc.call(Buffer.from(`message ${at}`), resolve)
        }),
    )
    const errors = await Promise.all(calls)
    assert.equal(bodies.size, 32)
    assert.deepEqual(
      errors.flatMap((error, at) => (error === undefined ? [] : [at])),
      [7],
    )
  } finally {
    grpc.close()
    server.close()
  }
})

const PASSWORD = 'a secret'
const SCRAMBLE = Buffer.from('abcdefghijklmnopqrst')
const OK = Buffer.from([0, 0, 0, 2, 0, 0, 0])
const EOF = Buffer.from([0xfe, 0, 0, 2, 0])

/** As much of a server as the client asks for: logs in, prepares, answers by the text. */
function fakeMysql(socket: Socket): void {
  let text = ''
  let state: 'login' | 'ready' = 'login'
  const send = (...packets: Buffer[]): void => {
    for (const [at, packet] of packets.entries()) {
      const head = Buffer.from([packet.length & 0xff, packet.length >> 8, 0, at + 1])
      socket.write(Buffer.concat([head, packet]))
    }
  }
  send(
    Buffer.concat([
      Buffer.from('\x0a5.5.5-fake\0'),
      Buffer.from([1, 0, 0, 0]),
      SCRAMBLE.subarray(0, 8),
      Buffer.alloc(1 + 2 + 1 + 2 + 2 + 1 + 10),
      SCRAMBLE.subarray(8),
      Buffer.from('\0mysql_native_password\0'),
    ]),
  )
  socket.on('data', (data: Buffer) => {
    const packet = data.subarray(4)
    if (state === 'login') {
      state = 'ready'
      const user = packet.indexOf(0, 32)
      const proof = packet.subarray(user + 2, user + 22)
      send(proof.equals(proofOf(PASSWORD)) ? OK : errorPacket(1045, 'access denied'))
      return
    }
    const [command] = packet
    if (command === 0x16) {
      text = packet.toString('utf8', 1)
      const values = text.split('?').length - 1
      const described = Array.from({ length: values }, () => Buffer.from('a description'))
      const head = Buffer.from([0, 9, 0, 0, 0, 0, 0, values, 0, 0, 0, 0])
      send(head, ...described, ...(values > 0 ? [EOF] : []))
    } else if (text.startsWith('SELECT')) {
      // The value of the last execution says how many rows are wanted.
      const rows = Array.from({ length: Number(packet.readBigInt64LE(packet.length - 8)) }, () =>
        Buffer.from([0, 0, 1]),
      )
      send(Buffer.from([1]), Buffer.from('a column'), EOF, ...rows, EOF)
    } else if (text.startsWith('FAIL')) {
      send(errorPacket(1213, 'deadlock'))
    } else send(OK)
  })
}

function errorPacket(code: number, text: string): Buffer {
  return Buffer.concat([Buffer.from([0xff, code & 0xff, code >> 8]), Buffer.from(`#40001${text}`)])
}

function proofOf(password: string): Buffer {
  const sha1 = (...parts: (Buffer | string)[]): Buffer =>
    parts.reduce((hash, part) => hash.update(part), createHash('sha1')).digest()
  const once = sha1(password)
  const mask = sha1(SCRAMBLE, sha1(once))
  return Buffer.from(once.map((byte, at) => byte ^ (mask[at] ?? 0)))
}

function run(
  mysql: MysqlConnection,
  sql: string,
  values: readonly SqlValue[],
): Promise<{ error: MysqlError | undefined; rows: number }> {
  return new Promise(resolve => {
    mysql.execute(sql, values, (error, rows) => resolve({ error, rows }))
  })
}

test('the MySQL client logs in, prepares once, counts rows and tells errors', async () => {
  const server = createServer(fakeMysql)
  const address = await listen(server)
  const mysql = await MysqlConnection.open(address, 'somebody', PASSWORD, 'bench')
  try {
    const select = 'SELECT a FROM r WHERE id = ?'
    for (const rows of [1, 0, 3, 300]) {
      assert.deepEqual(await run(mysql, select, [rows]), { error: undefined, rows })
    }
    const inserted = await run(mysql, 'INSERT INTO t VALUES (?, ?)', [1, 'text'])
    assert.deepEqual(inserted, { error: undefined, rows: 0 })
    const failed = await run(mysql, 'FAIL', [])
    assert.equal(failed.error?.code, 1213)
  } finally {
    mysql.close()
    server.close()
  }
})

test('the MySQL client says that it may not log in', async () => {
  const server = createServer(fakeMysql)
  const address = await listen(server)
  await assert.rejects(MysqlConnection.open(address, 'somebody', 'wrong', 'bench'), /1045.*denied/)
  server.close()
})
