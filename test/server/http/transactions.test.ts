import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failed, startTestServer, TRANSACTION } from './fake-service.ts'

const PATH = `/transactions/${TRANSACTION}`

test('a transaction begins with its database and how long it may last', async () => {
  await using server = await startTestServer()
  const { status, json } = await server.post('/transactions', { database: 'main', timeoutMs: 500 })

  assert.equal(status, 200)
  assert.equal(json['transaction'], TRANSACTION)
  assert.equal(json['node'], 'n1')
  assert.deepEqual(server.service.transacted, [
    { operation: { type: 'begin', database: 'main', maxMs: 500 }, timeoutMs: 1000 },
  ])
})

test('a step is what /execute takes, and its database goes without saying', async () => {
  await using server = await startTestServer()
  const bodies = [
    { sql: 'INSERT INTO t VALUES (?1)', params: [1] },
    { sql: 'INSERT INTO t VALUES (?1)', params: [1], database: 'main', timeoutMs: 70 },
    [{ action: 'insert', table: 't', columns: ['a'], values: [[1]] }],
  ]
  for (const body of bodies) {
    const { status, json } = await server.post(`${PATH}/execute`, body)
    assert.equal(status, 200)
    assert.deepEqual(json['results'], [{ rowsAffected: 1 }])
    assert.equal(json['token'], undefined, 'nothing has taken effect that a token could speak of')
  }
  const { transacted } = server.service
  assert.deepEqual(
    transacted.map(({ timeoutMs }) => timeoutMs),
    [1000, 70, 1000],
  )
  for (const { operation } of transacted) {
    assert(operation.type === 'execute')
    assert.equal(operation.transaction, TRANSACTION)
    assert.equal(operation.database, 'main')
    assert.equal(operation.statements.length, 1)
  }
})

test('a select is a reading step, by /query or as a Command', async () => {
  await using server = await startTestServer()
  await server.post(`${PATH}/query`, { sql: 'SELECT 1' })
  await server.post(`${PATH}/execute`, { action: 'select', table: 't' })

  const types = server.service.transacted.map(({ operation }) => operation.type)
  assert.deepEqual(types, ['query', 'query'])
})

test('what can be no step is refused before any node hears of it', async () => {
  await using server = await startTestServer()
  const refused = async (path: string, body: unknown, code: string): Promise<void> => {
    const { json } = await server.post(path, body)
    assert.equal(json.error?.code, code, `${path} ${JSON.stringify(body)}`)
  }
  await refused(`${PATH}/execute`, { action: 'create_db', database: 'main' }, 'UNSUPPORTED')
  await refused(`${PATH}/execute`, { sql: 'SELECT 1', database: 'other' }, 'INVALID_REQUEST')
  await refused(`${PATH}/query`, { sql: 'SELECT 1', consistency: 'local' }, 'INVALID_REQUEST')
  await refused(`${PATH}/query`, { action: 'insert', table: 't' }, 'INVALID_REQUEST')
  await refused(`${PATH}/commit`, { isSure: true }, 'INVALID_REQUEST')
  await refused('/transactions/7/commit', {}, 'INVALID_REQUEST')
  await refused('/transactions', {}, 'INVALID_REQUEST')
  assert.deepEqual(server.service.transacted, [])
})

test('a step with a request id is refused, because it would run twice all the same', async () => {
  await using server = await startTestServer()
  for (const header of ['idempotency-key', 'lockstep-request']) {
    const answer = await fetch(`${server.url}${PATH}/execute`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', [header]: 'a' },
      body: JSON.stringify({ sql: 'INSERT INTO t VALUES (1)' }),
    })
    const { error } = (await answer.json()) as { error: { code: string; message: string } }
    assert.equal(error.code, 'INVALID_REQUEST')
    assert.match(error.message, /takes no request id, only the commit does/)
  }
  assert.deepEqual(server.service.transacted, [])
})

test('a commit answers as a write does, with its token; an end may come without a body', async () => {
  await using server = await startTestServer()
  server.service.transactionAnswer = {
    type: 'ok',
    value: { transaction: TRANSACTION, index: 42, results: [] },
  }
  const commit = await server.post(`${PATH}/commit`, '')
  const rollback = await server.post(`${PATH}/rollback`, { timeoutMs: 5 })

  assert.equal(commit.status, 200)
  assert.equal(commit.json['index'], 42)
  assert.equal(typeof commit.json['token'], 'string')
  assert.deepEqual(commit.json['results'], [])
  assert.equal(rollback.status, 200)
  assert.deepEqual(
    server.service.transacted.map(({ operation }) => operation),
    [
      { type: 'commit', transaction: TRANSACTION, id: undefined },
      { type: 'rollback', transaction: TRANSACTION },
    ],
  )
})

test('a conflict says by code and retry that the whole transaction is to run again', async () => {
  await using server = await startTestServer()
  server.service.transactionAnswer = failed('TRANSACTION_CONFLICT')
  const { status, json } = await server.post(`${PATH}/execute`, { sql: 'SELECT 1' })

  assert.equal(status, 409)
  assert.equal(json.error?.retry, 'transaction')
  assert.equal(json.error?.fate, 'not-applied')
})
