import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { failed, STATUS, startTestServer, TRANSACTION, type TestServer } from './fake-service.ts'

const STATEMENT = { database: 'main', sql: 'DELETE FROM t' }
const SESSION = 'hist1-41-1f'

interface Answer {
  readonly status: number
  readonly json: {
    readonly error?: { readonly code: string; readonly message: string }
    readonly [field: string]: unknown
  }
}

async function send(
  server: TestServer,
  path: string,
  headers: Readonly<Record<string, string | string[]>>,
  json: unknown = STATEMENT,
): Promise<Answer> {
  const all = { 'content-type': 'application/json', ...headers }
  return new Promise((resolve, reject) => {
    const call = request(server.url + path, { method: 'POST', headers: all }, answer => {
      let text = ''
      answer.on('data', chunk => (text += String(chunk)))
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, json: JSON.parse(text) as Answer['json'] }),
      )
    })
    call.on('error', reject)
    call.end(JSON.stringify(json))
  })
}

test('the id in the header goes with the write, whatever kind it is', async () => {
  await using server = await startTestServer()
  await send(server, '/execute', { 'Lockstep-Request': `${SESSION}/7` })
  await send(server, '/execute', { 'Idempotency-Key': '"order 7"' })
  const create = { action: 'create_db', database: 'other' }
  await send(server, '/execute', { 'Idempotency-Key': 'k' }, create)
  await send(server, '/execute', {})

  const ids = server.service.executed.map(({ request }) => request.id)
  const session = { birth: 41, name: 31 }
  assert.deepEqual(ids, [
    { type: 'session', session, sequence: 7 },
    // A key that doesn't tell is first sent now, as far as anybody knows.
    { type: 'key', key: 'order 7', birth: STATUS.log.commitIndex },
    { type: 'key', key: 'k', birth: STATUS.log.commitIndex },
    undefined,
  ])
})

test('a session in the header beside a key says since when the write has been sent', async () => {
  await using server = await startTestServer()
  const key = { 'Idempotency-Key': 'k' }
  await send(server, '/execute', { ...key, 'Lockstep-Since': 'hist1-7-1f' })
  await send(server, '/cancel', { ...key, 'Lockstep-Since': 'hist1-7-1f' }, { database: 'main' })
  // Who only asks has sent it some time before.
  await send(server, '/cancel', key, { database: 'main' })

  const ids = server.service.executed.map(({ request }) => request.id)
  const born = { type: 'key', key: 'k', birth: 7 }
  assert.deepEqual(ids, [born, born, { type: 'key', key: 'k' }])
  for (const [since, code] of [
    ['hist2-7-1f', 'WRONG_HISTORY'],
    ['hist1-7-1f/1', 'INVALID_REQUEST'],
    ['7', 'INVALID_REQUEST'],
  ] as const) {
    const { json } = await send(server, '/execute', { ...key, 'Lockstep-Since': since })
    assert.equal(json.error?.code, code)
  }
})

test('the commit of a transaction takes an id as a write does, and says if it is a repeat', async () => {
  await using server = await startTestServer()
  const commit = `/transactions/${TRANSACTION}/commit`
  const value = { transaction: TRANSACTION, index: 9, results: [] }
  server.service.transactionAnswer = { type: 'ok', value: { ...value, isRepeat: true } }
  const { json } = await send(server, commit, { 'idempotency-key': 'k' }, {})
  assert.deepEqual([json['repeated'], json['results'], json['index']], [true, [], 9])
  const id = { type: 'key', key: 'k', birth: STATUS.log.commitIndex }
  assert.deepEqual(server.service.transacted[0]?.operation, {
    type: 'commit',
    transaction: TRANSACTION,
    id,
  })
})

test('an id that is none, or more than one, is refused and nothing is executed', async () => {
  await using server = await startTestServer()
  const code = async (headers: Record<string, string | string[]>): Promise<string | undefined> =>
    (await send(server, '/execute', headers)).json.error?.code
  assert.equal(await code({ 'lockstep-request': 'strange' }), 'INVALID_REQUEST')
  assert.equal(await code({ 'idempotency-key': '' }), 'INVALID_REQUEST')
  assert.equal(await code({ 'idempotency-key': ['a', 'b'] }), 'INVALID_REQUEST')
  const both = { 'lockstep-request': `${SESSION}/7`, 'idempotency-key': 'a' }
  assert.equal(await code(both), 'INVALID_REQUEST')
  assert.equal(await code({ 'lockstep-request': 'hist2-41-1f/7' }), 'WRONG_HISTORY')
  assert.deepEqual(server.service.executed, [])
})

test('a repeated answer says so, also that its rows are left out', async () => {
  await using server = await startTestServer()
  const results = [{ rowsAffected: 3 }]
  const key = { 'idempotency-key': 'k' }
  server.service.writeAnswer = { type: 'ok', index: 42, results, isRepeat: true }
  const repeated = (await send(server, '/execute', key)).json
  server.service.writeAnswer = { ...server.service.writeAnswer, rowsDropped: true }
  const dropped = (await send(server, '/execute', key)).json
  server.service.writeAnswer = { type: 'ok', index: 42, results }
  const first = (await send(server, '/execute', key)).json

  const marks = [first, repeated, dropped].map(json => [json['repeated'], json['rowsDropped']])
  assert.deepEqual(marks, [
    [undefined, undefined],
    [true, undefined],
    [true, true],
  ])
  assert.deepEqual(repeated['results'], [{ rowsAffected: 3 }])
  const metrics = await (await fetch(`${server.url}/metrics`)).text()
  assert.match(metrics, /^lockstep_repeated_answers_total 2$/m)
})

test('a session names the history and what was committed, and is never given twice', async () => {
  await using server = await startTestServer()
  const open = async (): Promise<string> => {
    const { json } = await server.post('/sessions', '')
    assert.deepEqual([json['window'], json['node']], [64, 'n1'])
    return String(json['session'])
  }
  const first = await open()
  assert.match(first, /^hist1-41-[0-9a-f]{1,12}$/)
  assert.notEqual(await open(), first)
  assert.equal((await send(server, '/execute', { 'lockstep-request': `${first}/1` })).status, 200)

  // After a restart the engine may know better than the log how far things were committed.
  server.service.statusNow = { ...STATUS, log: { ...STATUS.log, commitIndex: 0 } }
  assert.match(await open(), /^hist1-41-/)
  assert.equal((await server.post('/sessions', { strange: 1 })).json.error?.code, 'INVALID_REQUEST')
})

test('the fate of an id is applied, with its first answer, or for good not applied', async () => {
  await using server = await startTestServer()
  const key = { 'idempotency-key': 'k' }
  const body = { database: 'main', timeoutMs: 77 }
  const results = [{ rowsAffected: 3 }]
  server.service.writeAnswer = { type: 'ok', index: 42, results, isRepeat: true }
  const applied = await send(server, '/cancel', key, body)
  assert.deepEqual([applied.status, applied.json['fate']], [200, 'applied'])
  assert.deepEqual(applied.json['results'], results)
  server.service.writeAnswer = failed('REQUEST_CANCELLED')
  const { durationMs, ...rest } = (await send(server, '/cancel', key, body)).json
  assert.equal(typeof durationMs, 'number')
  assert.deepEqual(rest, { fate: 'not-applied', node: 'n1' })

  const cancel = { type: 'cancel', database: 'main', id: { type: 'key', key: 'k' } }
  assert.deepEqual(server.service.executed, [
    { request: cancel, timeoutMs: 77 },
    { request: cancel, timeoutMs: 77 },
  ])
  const metrics = await (await fetch(`${server.url}/metrics`)).text()
  assert.match(metrics, /^lockstep_cancelled_total 1$/m)
})

test('a fate that nobody can tell is an error, as is a question that names no write', async () => {
  await using server = await startTestServer()
  server.service.writeAnswer = failed('REQUEST_EXPIRED')
  const key = { 'idempotency-key': 'k' }
  const expired = await send(server, '/cancel', key, { database: 'main' })
  assert.deepEqual([expired.status, expired.json.error?.code], [409, 'REQUEST_EXPIRED'])
  const nameless = await send(server, '/cancel', {}, { database: 'main' })
  assert.match(nameless.json.error?.message ?? '', /idempotency-key or lockstep-request/)
  const homeless = await send(server, '/cancel', key, {})
  assert.equal(homeless.json.error?.code, 'INVALID_REQUEST')
})
