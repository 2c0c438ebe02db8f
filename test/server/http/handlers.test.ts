import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../../src/base/errors.ts'
import { parseJson } from '../../../src/protocol/json.ts'
import { encodeToken, tokenPrefix } from '../../../src/protocol/token.ts'
import { failed, readOk, startTestServer } from './fake-service.ts'

const STATEMENT = { database: 'main', sql: 'SELECT ?', params: [1] }
const TOKEN = encodeToken(tokenPrefix('hist1', 1), 40)

test('a write is handed over with its values and answered with its proof', async () => {
  await using server = await startTestServer()
  server.service.writeAnswer = {
    type: 'ok',
    index: 42,
    results: [{ rowsAffected: 2, lastInsertId: 2n ** 60n }],
  }
  const { status, json } = await server.post('/execute', { ...STATEMENT, timeoutMs: 77 })

  assert.equal(status, 200)
  const { durationMs, ...rest } = json
  assert.deepEqual(rest, {
    results: [{ rowsAffected: 2, lastInsertId: { $integer: String(2n ** 60n) } }],
    token: encodeToken(tokenPrefix('hist1', 1), 42),
    index: 42,
    node: 'n1',
  })
  assert.equal(typeof durationMs, 'number')
  const statements = [{ sql: 'SELECT ?', params: [1n] }]
  assert.deepEqual(server.service.executed, [
    { request: { type: 'statements', database: 'main', statements }, timeoutMs: 77 },
  ])
})

test('a request that names no deadline gets the one of the node', async () => {
  await using server = await startTestServer({ writeTimeoutMs: 111, readTimeoutMs: 222 })
  await server.post('/execute', STATEMENT)
  await server.post('/query', STATEMENT)

  assert.equal(server.service.executed[0]?.timeoutMs, 111)
  assert.equal(server.service.queried[0]?.options.timeoutMs, 222)
})

test('making or dropping a database has one result, as every Command', async () => {
  await using server = await startTestServer()
  server.service.writeAnswer = { type: 'ok', index: 9, results: [] }
  for (const action of ['create_db', 'drop_db']) {
    const { json } = await server.post('/execute', { action, database: 'main' })
    assert.deepEqual(json['results'], [{ rowsAffected: 0 }])
  }
})

test('the statements of one Command give one result, summed up', async () => {
  await using server = await startTestServer()
  server.service.writeAnswer = {
    type: 'ok',
    index: 9,
    results: [
      { rowsAffected: 50, lastInsertId: 50n, columns: ['id'], rows: [[1n]] },
      { rowsAffected: 20, lastInsertId: 70n, columns: ['id'], rows: [[51n]] },
      { rowsAffected: 1 },
    ],
  }
  const values = Array.from({ length: 70 }, (_, id) => [id])
  const { json } = await server.post('/execute', [
    { action: 'insert', database: 'main', table: 't', values, returning: ['id'] },
    { database: 'main', sql: 'DELETE FROM u' },
  ])

  assert.deepEqual(json['results'], [
    { rowsAffected: 70, lastInsertId: 70, columns: ['id'], rows: [[1], [51]] },
    { rowsAffected: 1 },
  ])
})

test('an error names the item of the request at fault, however many statements came before', async () => {
  await using server = await startTestServer()
  const values = Array.from({ length: 70 }, (_, id) => [id])
  const insert = { action: 'insert', database: 'main', table: 't', values }
  const faultAt = async (statement: number): Promise<unknown> => {
    const error = new DbError('SQL_CONSTRAINT', 'UNIQUE', { details: { statement, sqliteCode: 1 } })
    server.service.writeAnswer = { type: 'failed', error }
    const { json } = await server.post('/execute', [insert, insert, { ...STATEMENT }])
    return json.error?.details
  }

  assert.deepEqual(await faultAt(1), { statement: 0, sqliteCode: 1 })
  assert.deepEqual(await faultAt(2), { statement: 1, sqliteCode: 1 })
  assert.deepEqual(await faultAt(4), { statement: 2, sqliteCode: 1 })
})

test('a select sent to /execute is a linearizable read and no write', async () => {
  await using server = await startTestServer()
  await server.post('/execute', { action: 'select', database: 'main', table: 't' })

  assert.deepEqual(server.service.executed, [])
  assert.equal(server.service.queried[0]?.options.consistency, 'linearizable')
})

test('each level of a read reaches the node as asked', async () => {
  await using server = await startTestServer()
  const ask = async (more: object): Promise<unknown> => {
    const { status } = await server.post('/query', { ...STATEMENT, timeoutMs: 5, ...more })
    assert.equal(status, 200)
    return server.service.queried.at(-1)?.options
  }

  assert.deepEqual(await ask({}), { consistency: 'linearizable', timeoutMs: 5 })
  assert.deepEqual(await ask({ consistency: 'session', atLeast: TOKEN }), {
    consistency: 'session',
    atLeastIndex: 40,
    timeoutMs: 5,
  })
  assert.deepEqual(await ask({ consistency: 'local', maxLagMs: 9 }), {
    consistency: 'local',
    maxLagMs: 9,
    timeoutMs: 5,
  })
})

test('a token of another history is refused before the node is asked', async () => {
  await using server = await startTestServer()
  const foreign = encodeToken(tokenPrefix('hist0', 1), 40)
  const read = { ...STATEMENT, consistency: 'session', atLeast: foreign }
  const { status, json } = await server.post('/query', read)

  assert.deepEqual([status, json.error?.code], [409, 'WRONG_HISTORY'])
  assert.match(json.error?.message ?? '', /another cluster or of an earlier history/)
  assert.deepEqual(server.service.queried, [])
})

test('rows come as arrays or objects, with every type of value', async () => {
  await using server = await startTestServer()
  const row = [1n, 1, 1.5, 2n ** 60n, 'é"', null, new Uint8Array([1, 2])] as const
  const columns = ['a', 'b', 'c', 'd', 'e', 'a', 'g']
  server.service.readAnswer = readOk([{ rowsAffected: 0, columns, rows: [row] }])
  const text = async (rows: string): Promise<string> => {
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ ...STATEMENT, rows })
    return (await fetch(`${server.url}/query`, { method: 'POST', headers, body })).text()
  }

  const blob = '{"$blob":"AQI="}'
  assert.ok(
    (await text('arrays')).includes(
      `[[1,1.0,1.5,{"$integer":"${2n ** 60n}"},"é\\"",null,${blob}]]`,
    ),
  )
  const objects = parseJson(await text('objects')) as { results: [{ rows: unknown[] }] }
  assert.deepEqual(objects.results[0].rows, [
    {
      a: 1,
      b: { $real: 1 },
      c: 1.5,
      d: { $integer: String(2n ** 60n) },
      e: 'é"',
      a_2: null,
      g: { $blob: 'AQI=' },
    },
  ])
})

test('a digest is asked for by database, table and level', async () => {
  await using server = await startTestServer()
  const { status, json } = await server.get('/digest?database=main&table=t&timeoutMs=50')

  assert.equal(status, 200)
  const { durationMs, ...rest } = json
  assert.equal(typeof durationMs, 'number')
  assert.deepEqual(rest, {
    database: 'main',
    table: 't',
    digest: 'abcd',
    rowCount: 7,
    token: encodeToken(tokenPrefix('hist1', 1), 41),
    index: 41,
    node: 'n1',
  })
  assert.deepEqual(server.service.digested, [
    {
      request: { database: 'main', table: 't' },
      options: { consistency: 'linearizable', timeoutMs: 50 },
    },
  ])
  await server.get(`/digest?database=main&consistency=session&atLeast=${TOKEN}`)
  assert.equal(server.service.digested[1]?.options.atLeastIndex, 40)
  assert.equal((await server.get('/digest')).status, 400)
  assert.equal((await server.get('/digest?database=main&foo=1')).status, 400)
  assert.equal((await server.get('/digest?database=main&timeoutMs=x')).status, 400)
  server.service.digestAnswer = failed('UNKNOWN_TABLE')
  assert.equal((await server.get('/digest?database=main&table=u')).status, 404)
})

test('a status does not wait for an engine that is busy', async () => {
  await using server = await startTestServer()
  assert.deepEqual((await server.get('/status')).json['databases'], ['main'])
  server.service.databases = () => {
    // Never answers.
  }

  assert.equal((await server.get('/status')).json['databases'], null)
})

test('an operator says which node is right, or hears why there is nothing to decide', async () => {
  await using server = await startTestServer()
  const { service } = server

  const answer = await server.post('/trust', { node: 'n2' })
  assert.deepEqual([answer.status, answer.json], [200, { node: 'n1', trusted: 'n2' }])
  assert.deepEqual(service.trusted, ['n2'])
  service.trustError = new DbError('MEMBERS_REFUSED', 'nothing to decide')
  assert.equal((await server.post('/trust', { node: 'n2' })).json.error?.code, 'MEMBERS_REFUSED')
  assert.equal((await server.post('/trust', {})).status, 400)
})

test('leadership is handed over only by a node that leads', async () => {
  await using server = await startTestServer()
  const { service } = server

  assert.deepEqual((await server.post('/transfer', '')).json, { node: 'n1', isTransferring: true })
  const log = { ...service.statusNow?.log, role: 'follower' }
  service.statusNow = { ...service.statusNow, log } as typeof service.statusNow
  assert.deepEqual((await server.post('/transfer', {})).json, { node: 'n1', isTransferring: false })
  assert.equal((await server.post('/transfer', { to: 'n2' })).status, 400)
  assert.equal(service.transfers, 1)
})
