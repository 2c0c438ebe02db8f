import assert from 'node:assert/strict'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { fetchTransport } from '../../src/client/fetch-transport.ts'
import { type Client, createClient, DbError, type Transport } from '../../src/client/index.ts'
import type { LineStream } from '../../src/client/transport.ts'
import { failed, startTestServer } from '../server/http/fake-service.ts'
import { okAnswer } from './scripted-node.ts'

const BUSY = 50

interface Line {
  readonly params: readonly [number]
  readonly request: string
  readonly [field: string]: unknown
}

/** A stream whose answers the test gives. */
class ScriptedStream implements LineStream {
  readonly lines: Line[] = []
  isEnded = false
  readonly #pieces: string[] = []
  #wake = (): void => {}
  #end: 'whole' | Error | undefined

  write(text: string): void {
    for (const line of text.trimEnd().split('\n')) this.lines.push(JSON.parse(line) as Line)
  }

  end(): void {
    this.isEnded = true
    this.finish('whole')
  }

  push(text: string): void {
    this.#pieces.push(text)
    this.#wake()
  }

  finish(end: 'whole' | Error): void {
    this.#end ??= end
    this.#wake()
  }

  readonly answer: AsyncIterable<string> = this.#read()

  async *#read(): AsyncGenerator<string> {
    for (;;) {
      const piece = this.#pieces.shift()
      if (piece !== undefined) yield piece
      else if (this.#end instanceof Error) throw this.#end
      else if (this.#end === 'whole') return
      else await new Promise<void>(resolve => (this.#wake = resolve))
    }
  }
}

/** A node that answers single requests well once `open` is called, and streams by the script. */
class ScriptedTransport implements Transport {
  readonly streams: ScriptedStream[] = []
  readonly singles: { path: string; id: string | undefined }[] = []
  isLive = true
  readonly #held: (() => void)[] = []
  readonly #opened = Promise.withResolvers<void>()
  #isOpen = false

  /** The client has a stream and has not had time to give it up. */
  get opened(): Promise<void> {
    return this.#opened.promise
  }

  /** Answers what waits, and from now on at once. */
  open(): void {
    this.#isOpen = true
    for (const go of this.#held.splice(0)) go()
  }

  async send({ url, headers }: Parameters<Transport['send']>[0]): Promise<unknown> {
    const path = new URL(url).pathname
    if (path === '/sessions') return { session: `s-1-${Math.random()}`, window: 64, node: 'n' }
    if (path === '/health/live') {
      if (this.isLive) return {}
      throw new DbError('NOT_READY', 'it is dead')
    }
    this.singles.push({ path, id: headers['lockstep-request'] })
    if (!this.#isOpen) await new Promise<void>(resolve => this.#held.push(resolve))
    return (okAnswer() as { json: unknown }).json
  }

  openStream(_request: unknown, signal: AbortSignal): Promise<LineStream | undefined> {
    const stream = new ScriptedStream()
    signal.addEventListener('abort', () => stream.finish(new Error('aborted')))
    this.streams.push(stream)
    setImmediate(this.#opened.resolve)
    return Promise.resolve(stream)
  }
}

const OK = `${JSON.stringify((okAnswer() as { json: unknown }).json)}\n`

function client(transport: Transport, options: object = {}): Client {
  const nodes = ['127.0.0.1:7070']
  return createClient({ nodes, database: 'app', discover: false, transport, ...options })
}

async function until(condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('the condition did not come true')
    await new Promise(resolve => setTimeout(resolve, 1))
  }
}

/** So many writes that the client opens a stream, and more that go down that. */
async function load(
  transport: ScriptedTransport,
  db: Client,
  timeoutMs = 3000,
): Promise<{ stream: ScriptedStream; first: Promise<unknown>; writes: Promise<unknown>[] }> {
  const write = (value: number): Promise<unknown> =>
    db.execute('INSERT INTO t VALUES (?)', [value], { timeoutMs })
  const first = Promise.all(Array.from({ length: BUSY }, () => write(-1)))
  first.catch(() => {})
  await transport.opened
  const [stream] = transport.streams
  assert.ok(stream !== undefined)
  const before = stream.lines.length
  const writes = Array.from({ length: 5 }, (_, value) => write(value))
  for (const promise of writes) promise.catch(() => {})
  await until(() => stream.lines.length >= before + 5)
  stream.push(OK.repeat(before))
  return { stream, first, writes }
}

test('many writes go down one stream that ends when it is not used, few go alone', async () => {
  await using server = await startTestServer()
  const inner = fetchTransport()
  const count = { single: 0, stream: 0 }
  const transport: Transport = {
    send: (request, signal) => {
      if (request.url.endsWith('/execute')) count.single += 1
      return inner.send(request, signal)
    },
    openStream: (request, signal) => {
      count.stream += 1
      return inner.openStream?.(request, signal) ?? Promise.resolve(undefined)
    },
  }
  const nodes = [`127.0.0.1:${server.port}`]
  const db = createClient({ nodes, database: 'main', discover: false, transport })
  for (let at = 0; at < 20; at += 1) await db.execute('INSERT INTO t VALUES (1)')
  assert.deepEqual(count, { single: 20, stream: 0 })

  const worker = async (): Promise<void> => {
    for (let at = 0; at < 50; at += 1) await db.execute('INSERT INTO t VALUES (?)', [at])
  }
  await Promise.all(Array.from({ length: 40 }, worker))
  assert.equal(count.stream, 1)
  assert.ok(count.single < 600, `${count.single} went alone`)
  const ids = server.service.executed.map(({ request: { id } }) => JSON.stringify(id))
  assert.equal(new Set(ids).size, 2020)
  const openStreams = async (): Promise<boolean> =>
    /^lockstep_http_streams 0$/m.test(await (await fetch(`${server.url}/metrics`)).text())
  await server.until(openStreams)
})

test('each line has its own answer: a result, or the error that the node gave', async () => {
  await using server = await startTestServer()
  server.service.writeAnswer = done => {
    const { request } = server.service.executed.at(-1) ?? {}
    const params = request?.type === 'statements' ? request.statements[0]?.params : []
    const [value] = Array.isArray(params) ? (params as readonly bigint[]) : []
    if (Number(value) % 2 === 0) setImmediate(done, failed('SQL_CONSTRAINT'))
    else {
      const rows = [[value ?? 0n]]
      setImmediate(done, {
        type: 'ok',
        index: 1,
        results: [{ rowsAffected: 1, columns: ['a'], rows }],
      })
    }
  }
  const db = createClient({
    nodes: [`127.0.0.1:${server.port}`],
    database: 'main',
    discover: false,
  })
  const values = Array.from({ length: 500 }, (_, value) => value)
  const worker = async (): Promise<void> => {
    for (let value = values.shift(); value !== undefined; value = values.shift()) {
      const write = db.execute<{ a: number }>('INSERT INTO t VALUES (?)', [value])
      if (value % 2 === 0) await assert.rejects(write, { code: 'SQL_CONSTRAINT' })
      else assert.equal((await write).rows[0]?.a, value)
    }
  }
  await Promise.all(Array.from({ length: 30 }, worker))
})

test('what may be a read goes by itself, and waits for no line of the stream', async () => {
  const transport = new ScriptedTransport()
  transport.open()
  const db = client(transport)
  const { stream, first, writes } = await load(transport, db)
  await first
  const lines = stream.lines.length
  const texts = [
    'SELECT 1',
    ' with a AS (SELECT 1) SELECT * FROM a',
    '-- DELETE\nSELECT 1',
    'PRAGMA user_version',
    'EXPLAIN DELETE FROM t',
    'VALUES (1)',
    'inserted',
  ]
  const select = { action: 'select', database: 'app', table: 't' } as const
  const before = transport.singles.length
  for (const text of texts) await db.execute(text)
  await db.batch(['DELETE FROM t', 'SELECT 1'])
  await db.batch([select])
  assert.deepEqual([transport.singles.length - before, stream.lines.length - lines], [9, 0])

  const insert = { action: 'insert', database: 'app', table: 't', values: [[1]] } as const
  writes.push(
    ...['\n update t SET a = 1', 'Delete FROM t', 'REPLACE INTO t VALUES (1)'].map(text =>
      db.execute(text),
    ),
    db.batch([insert, 'INSERT INTO t VALUES (1)']),
    db.command(insert),
  )
  await until(() => stream.lines.length === lines + 5)
  stream.push(OK.repeat(10))
  await Promise.all(writes)
  assert.equal(transport.singles.length - before, 9)
})

test('a node of an older release is sent single requests', async () => {
  let asked = 0
  const server = createServer((incoming, response) => {
    if (incoming.headers['content-type'] === 'application/x-ndjson') {
      asked += 1
      response.statusCode = 400
      response.end('{"error":{"code":"INVALID_REQUEST"}}')
      return
    }
    incoming.resume()
    const session = { session: 's-1-1', window: 64, node: 'n' }
    const ok = (okAnswer() as { json: unknown }).json
    setTimeout(() => response.end(JSON.stringify(incoming.url === '/sessions' ? session : ok)), 1)
  })
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const nodes = [`127.0.0.1:${(server.address() as AddressInfo).port}`]
  const db = createClient({ nodes, database: 'main', discover: false })
  const worker = async (): Promise<void> => {
    for (let at = 0; at < 20; at += 1) await db.execute('INSERT INTO t VALUES (?)', [at])
  }
  await Promise.all(Array.from({ length: 20 }, worker))
  assert.ok(asked >= 1 && asked <= 3, `it was asked ${asked} times`)
  server.closeAllConnections()
  server.close()
})

test('what a proxy gathers is not waited for', async () => {
  const transport = new ScriptedTransport()
  transport.openStream = (_, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error))
    })
  transport.open()
  const db = client(transport)
  await Promise.all(Array.from({ length: BUSY }, () => db.execute('INSERT INTO t VALUES (1)')))
  assert.equal(transport.singles.length, BUSY)
})

for (const end of ['whole', new Error('broken')] as const) {
  const name = end === 'whole' ? 'ends' : 'breaks'
  test(`writes without an answer when the stream ${name} are sent again under their ids`, async () => {
    const transport = new ScriptedTransport()
    const db = client(transport)
    const { stream, first, writes } = await load(transport, db)
    transport.open()
    await first
    const ids = stream.lines.filter(({ params }) => params[0] >= 0).map(line => line.request)
    stream.push(OK)
    await writes[0]
    const before = transport.singles.length
    stream.finish(end)
    await Promise.all(writes)
    const again = transport.singles.slice(before).map(({ id }) => id)
    assert.deepEqual(new Set(again), new Set(ids.slice(1)))
    assert.equal(again.length, 4)
  })
}

test('a write without an id is sent again if it was not taken, and is unknown if that is', async () => {
  for (const end of ['whole', new Error('broken')] as const) {
    const transport = new ScriptedTransport()
    transport.open()
    const db = client(transport, { requestIds: false })
    const { stream, first, writes } = await load(transport, db)
    await first
    stream.finish(end)
    for (const write of writes) {
      if (end === 'whole') await write
      else await assert.rejects(write, { code: 'CONNECTION_LOST', fate: 'unknown' })
    }
  }
})

test('an answer that is no line of a node is nobody’s, nor are those behind it', async () => {
  const transport = new ScriptedTransport()
  const db = client(transport)
  const { stream, first, writes } = await load(transport, db)
  transport.open()
  await first
  const before = transport.singles.length
  stream.push(`<html>\n${OK.repeat(5)}`)
  await Promise.all(writes)
  assert.equal(transport.singles.length - before, 5)
})

test('a line without an answer fails at its deadline, as a single request does', async () => {
  const transport = new ScriptedTransport()
  transport.open()
  const db = client(transport, { requestIds: false })
  const { stream, first, writes } = await load(transport, db)
  await first
  const controller = new AbortController()
  const options = { timeoutMs: 50, signal: controller.signal }
  const late = db.execute('INSERT INTO t VALUES (9)', [], options)
  await assert.rejects(late, { code: 'CONNECTION_LOST', fate: 'unknown' })
  const left = db.execute('INSERT INTO t VALUES (9)', [], { signal: controller.signal })
  controller.abort()
  await assert.rejects(left)
  // The answers of those that nobody waits for are passed over.
  stream.push(OK.repeat(5))
  await Promise.all(writes)
})

test('where answers were held back, writes go by themselves for a while', async () => {
  const transport = new ScriptedTransport()
  transport.open()
  const db = client(transport, { requestIds: false })
  const { first } = await load(transport, db)
  await first
  const late = db.execute('INSERT INTO t VALUES (9)', [], { timeoutMs: 50 })
  await assert.rejects(late, { code: 'CONNECTION_LOST', fate: 'unknown' })
  const before = transport.singles.length
  const write = (): Promise<unknown> => db.execute('INSERT INTO t VALUES (9)')
  await Promise.all(Array.from({ length: BUSY }, write))
  assert.equal(transport.singles.length - before, BUSY)
  assert.equal(transport.streams.length, 1)
})

test('a node that is silent and does not say that it lives is left', async () => {
  const transport = new ScriptedTransport()
  const db = client(transport)
  // Far more than the silence takes until it is noticed: no deadline must come before that.
  const { stream, first, writes } = await load(transport, db, 60_000)
  try {
    transport.isLive = false
    transport.open()
    let isDone = false
    const all = Promise.allSettled([first, ...writes]).finally(() => (isDone = true))
    await until(() => isDone)
    assert.deepEqual(new Set((await all).map(({ status }) => status)), new Set(['fulfilled']))
    assert.ok(transport.singles.length >= BUSY / 2)
  } finally {
    // Whatever failed, nothing waits for it any more, and the file ends.
    stream.finish('whole')
  }
})

test('a transport on node:http can carry a stream, too', async () => {
  await using server = await startTestServer()
  const inner = fetchTransport()
  let streams = 0
  const transport: Transport = {
    send: (outgoing, signal) => inner.send(outgoing, signal),
    openStream: ({ url, headers }, signal) => {
      const sent = request(url, { method: 'POST', headers: { ...headers }, signal })
      sent.flushHeaders()
      return new Promise((resolve, reject) => {
        sent.on('error', reject)
        sent.on('response', response => {
          streams += 1
          response.setEncoding('utf8')
          resolve({
            write: text => void sent.write(text),
            end: () => void sent.end(),
            answer: response as AsyncIterable<string>,
          })
        })
      })
    },
  }
  const nodes = [`127.0.0.1:${server.port}`]
  const db = createClient({ nodes, database: 'main', discover: false, transport })
  const worker = async (): Promise<void> => {
    for (let at = 0; at < 20; at += 1) await db.execute('INSERT INTO t VALUES (?)', [at])
  }
  await Promise.all(Array.from({ length: 40 }, worker))
  const ids = server.service.executed.map(({ request: { id } }) => JSON.stringify(id))
  assert.equal(new Set(ids).size, 800)
  assert.equal(streams, 1)
})
