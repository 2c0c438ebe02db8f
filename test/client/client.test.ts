import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ERRORS, type ErrorCode } from '../../src/base/errors.ts'
import { createClient, sql } from '../../src/client/index.ts'
import type { Command } from '../../src/protocol/commands.ts'
import { encodeToken, tokenPrefix } from '../../src/protocol/token.ts'
import { deadAddress, failure } from './failure.ts'
import { errorAnswer, okAnswer, ScriptedNode } from './scripted-node.ts'

const tokenAt = (index: number, history = 'h'): string =>
  encodeToken(tokenPrefix(history, 1), index)

test('a statement goes out with its values and comes back as objects', async () => {
  await using node = await ScriptedNode.start()
  const rows = [[1, { $integer: '9007199254740993' }, { $blob: 'AQI=' }]]
  node.script = [okAnswer(5, { rowsAffected: 0, columns: ['a', 'b', 'a'], rows })]
  const db = createClient({ nodes: [node.address], database: 'main' })
  const result = await db.query<{ a: number }>('SELECT ?, ?', [2n ** 60n, new Uint8Array([1])])

  assert.deepEqual(result.rows, [{ a: 1, b: 9007199254740993n, a_2: new Uint8Array([1, 2]) }])
  assert.deepEqual([result.index, result.node, result.columns], [5, 'n', ['a', 'b', 'a_2']])
  const { timeoutMs, ...json } = node.seen[0]?.json ?? {}
  assert.ok(Number(timeoutMs) > 1000)
  assert.deepEqual(json, {
    sql: 'SELECT ?, ?',
    params: [{ $integer: String(2n ** 60n) }, { $blob: 'AQ==' }],
    database: 'main',
    consistency: 'linearizable',
  })
})

test('a batch, a Command and sql text are sent as what they are', async () => {
  await using node = await ScriptedNode.start()
  const db = createClient({ nodes: [node.address], database: 'main' })
  const where = { column: 'id', operator: '=', value: 7n } as const
  await db.batch(['A', sql`B ${1}`, { sql: 'C', params: { x: true } }], { database: 'other' })
  await db.command({ action: 'delete', database: 'main', table: 't', where })
  await db.command({ action: 'select', database: 'main', table: 't' })

  const sent = node.seen.map(({ path, json: { timeoutMs, ...json } }) => {
    assert.ok(Number(timeoutMs) > 1000)
    return [path, json]
  })
  assert.deepEqual(sent, [
    [
      '/execute',
      {
        statements: [{ sql: 'A' }, { sql: 'B ?', params: [1] }, { sql: 'C', params: { x: true } }],
        database: 'other',
      },
    ],
    [
      '/execute',
      {
        action: 'delete',
        database: 'main',
        table: 't',
        where: { column: 'id', operator: '=', value: 7 },
      },
    ],
    ['/query', { action: 'select', database: 'main', table: 't', consistency: 'linearizable' }],
  ])
})

test('a Command with a field that got lost is not sent at all', async () => {
  await using node = await ScriptedNode.start()
  const db = createClient({ nodes: [node.address] })
  const command = { action: 'delete', database: 'main', table: 't', where: undefined }

  const error = await failure(db.command(command as unknown as Command))
  assert.equal(error.message, 'delete.where is undefined; leave the field out')
  assert.deepEqual(node.seen, [])
})

test('the leader is asked first, whichever nodes are named', async () => {
  await using follower = await ScriptedNode.start()
  await using leader = await ScriptedNode.start()
  follower.leader = { nodeId: 'n2', address: leader.address }
  const db = createClient({ nodes: [follower.address], database: 'main' })
  await Promise.all([db.execute('A'), db.execute('B'), db.query('C')])

  assert.deepEqual([leader.seen.length, follower.seen.length], [3, 0])
  assert.equal(follower.nodesAsked, 1)
})

test('a refusal that names the leader is followed at once', async () => {
  await using old = await ScriptedNode.start()
  await using leader = await ScriptedNode.start()
  old.leader = { nodeId: 'n1', address: old.address }
  old.script = [errorAnswer('NOT_LEADER', { leaderAddress: leader.address })]
  const db = createClient({ nodes: [old.address], database: 'main' })
  await db.execute('A')
  await db.execute('B')

  assert.deepEqual([old.seen.length, leader.seen.length], [1, 2])
})

test('without discovery only the named nodes are spoken to', async () => {
  await using old = await ScriptedNode.start()
  await using leader = await ScriptedNode.start()
  old.script = [errorAnswer('NOT_LEADER', { leaderAddress: leader.address }), okAnswer()]
  const db = createClient({ nodes: [old.address], database: 'main', discover: false })
  await db.execute('A')

  assert.deepEqual([old.seen.length, old.nodesAsked, leader.seen.length], [2, 0, 0])
})

test('a write that was surely not applied is sent again until it is taken', async () => {
  for (const code of ['OVERLOADED', 'NO_LEADER', 'NOT_READY', 'ENGINE_RESTARTED'] as const) {
    await using node = await ScriptedNode.start()
    node.script = [errorAnswer(code), errorAnswer(code), okAnswer(9)]
    const db = createClient({ nodes: [node.address], database: 'main' })

    assert.equal((await db.execute('A')).index, 9, code)
    assert.equal(node.seen.length, 3, code)
  }
})

test('a write without an id whose fate is unknown is never sent twice', async () => {
  const codes = Object.keys(ERRORS) as ErrorCode[]
  for (const code of codes.filter(code => ERRORS[code].fate === 'unknown')) {
    await using node = await ScriptedNode.start()
    node.script = [errorAnswer(code), okAnswer()]
    const db = createClient({ nodes: [node.address], database: 'main', requestIds: false })
    const error = await failure(db.execute('A'))

    assert.deepEqual([error.code, error.fate, node.seen.length], [code, 'unknown', 1])
    assert.deepEqual([node.sessionsOpened, node.cancelled], [0, []])
  }
})

test('a connection that breaks leaves a bare write unknown and lets a read try again', async () => {
  await using node = await ScriptedNode.start()
  const db = createClient({ nodes: [node.address], database: 'main', requestIds: false })
  node.script = ['destroy', okAnswer()]
  const error = await failure(db.execute('A'))
  assert.deepEqual([error.code, error.fate, node.seen.length], ['CONNECTION_LOST', 'unknown', 1])

  node.script = ['destroy', okAnswer(3)]
  assert.equal((await db.query('B')).index, 3)
  assert.equal(node.seen.length, 3)
})

test('an answer that no node gives leaves a bare write unknown', async () => {
  for (const json of [{ hello: 1 }, [], 'text', { results: [] }, null]) {
    await using node = await ScriptedNode.start()
    node.script = [{ json }]
    const db = createClient({ nodes: [node.address], database: 'main', requestIds: false })
    const error = await failure(db.execute('A'))

    assert.deepEqual([error.fate, node.seen.length], ['unknown', 1], JSON.stringify(json))
  }
})

test('a node that is not there is passed over, and no write is lost or doubled by it', async () => {
  await using node = await ScriptedNode.start()
  const db = createClient({ nodes: [await deadAddress(), node.address], database: 'main' })
  await db.execute('A')

  assert.equal(node.seen.length, 1)
})

test('if nobody is there a write is refused as not applied, in time', async () => {
  const db = createClient({ nodes: [await deadAddress()], database: 'main', timeoutMs: 200 })
  const error = await failure(db.execute('A'))

  assert.deepEqual([error.code, error.fate], ['NOT_READY', 'not-applied'])
  assert.match(error.message, /^can not connect to 127\.0\.0\.1:\d+: ECONNREFUSED$/)
})

test('after the leader died the others are asked, although they still name it', async () => {
  await using survivor = await ScriptedNode.start()
  const dead = await deadAddress()
  survivor.leader = { nodeId: 'n1', address: dead }
  const db = createClient({ nodes: [survivor.address], database: 'main' })

  await db.execute('A')
  assert.equal(survivor.seen.length, 1)
})

test('a request ends at its deadline with the last error', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('OVERLOADED')]
  const db = createClient({ nodes: [node.address], database: 'main' })
  const started = performance.now()
  const error = await failure(db.execute('A', [], { timeoutMs: 1000 }))

  assert.equal(error.code, 'OVERLOADED')
  assert.ok(performance.now() - started < 5000)
  assert.ok(node.seen.length > 1)
})

test('what no repetition can mend is told at once', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('SQL_CONSTRAINT', { constraint: 'UNIQUE' }), okAnswer()]
  const db = createClient({ nodes: [node.address], database: 'main' })
  const error = await failure(db.execute('A'))

  assert.deepEqual(
    [error.code, error.details, node.seen.length],
    ['SQL_CONSTRAINT', { constraint: 'UNIQUE' }, 1],
  )
})

test('an error of a newer server is told with its name, and its fate is taken for unknown', async () => {
  await using node = await ScriptedNode.start()
  const error = { code: 'QUOTA', message: 'too much', fate: 'not-applied', retry: 'never' }
  node.script = [{ status: 429, json: { error } }]
  const db = createClient({ nodes: [node.address], database: 'main', requestIds: false })
  const { code, fate, message } = await failure(db.execute('A'))

  assert.deepEqual([code, fate, message], ['INTERNAL', 'unknown', 'QUOTA: too much'])
})

test('a bare write is not repeated where the server says another fate than the table', async () => {
  await using node = await ScriptedNode.start()
  const error = { code: 'OVERLOADED', message: 'too much', fate: 'unknown', retry: 'same-id' }
  node.script = [{ status: 503, json: { error } }]
  const db = createClient({ nodes: [node.address], database: 'main', requestIds: false })
  const { fate, message } = await failure(db.execute('A'))

  assert.deepEqual([fate, message, node.seen.length], ['unknown', 'OVERLOADED: too much', 1])
})

test('a session reads its own writes: it carries the newest token by itself', async () => {
  await using node = await ScriptedNode.start()
  const db = createClient({ nodes: [node.address], database: 'main', consistency: 'session' })
  node.script = [okAnswer(10), okAnswer(50), okAnswer(40), okAnswer(60)]
  await db.query('first')
  await db.execute('write')
  await db.query('older answer')
  await db.query('last')

  const asked = node.seen
    .filter(({ path }) => path === '/query')
    .map(({ json }) => [json['sql'], json['consistency'], json['atLeast']])
  assert.deepEqual(asked, [
    ['first', 'linearizable', undefined],
    ['older answer', 'session', tokenAt(50)],
    ['last', 'session', tokenAt(50)],
  ])
  assert.equal(db.token, tokenAt(60))
})

test('sessions of one client keep their tokens apart', async () => {
  await using node = await ScriptedNode.start()
  const db = createClient({ nodes: [node.address], database: 'main', consistency: 'session' })
  const anna = db.session()
  const otto = db.session(tokenAt(3))
  node.script = [okAnswer(10), okAnswer(20)]
  await anna.execute('A')
  await otto.query('B')

  assert.deepEqual([db.token, anna.token, otto.token], [undefined, tokenAt(10), tokenAt(20)])
  assert.equal(node.seen[1]?.json['atLeast'], tokenAt(3))
})

test('a stale node sends a session read on to the leader', async () => {
  await using stale = await ScriptedNode.start()
  await using leader = await ScriptedNode.start()
  stale.leader = { nodeId: 'n2', address: leader.address }
  stale.script = [errorAnswer('STALE_READ')]
  const db = createClient({ nodes: [stale.address], database: 'main' }).session(tokenAt(8))
  await db.query('A', [], { consistency: 'session' })

  assert.deepEqual([stale.seen.length, leader.seen.length], [1, 1])
  assert.equal(leader.seen[0]?.json['atLeast'], tokenAt(8))
})

test('reads that any node can answer go to all in turn', async () => {
  await using a = await ScriptedNode.start()
  await using b = await ScriptedNode.start()
  const db = createClient({ nodes: [a.address, b.address], database: 'main' })
  for (let count = 0; count < 6; count += 1) {
    await db.query('A', [], { consistency: 'local', maxLagMs: 100 })
  }

  assert.deepEqual([a.seen.length, b.seen.length], [3, 3])
  assert.equal(a.seen[0]?.json['maxLagMs'], 100)
})

test('an aborted read ends with the reason, an aborted write with its fate', async () => {
  await using node = await ScriptedNode.start()
  node.script = ['hang']
  const db = createClient({ nodes: [node.address], database: 'main' })
  const sent = async (count: number): Promise<void> => {
    while (node.seen.length < count) await new Promise(setImmediate)
  }
  const reading = new AbortController()
  const read = db.query('A', [], { signal: reading.signal })
  await sent(1)
  reading.abort(new Error('enough'))
  await assert.rejects(read, /^Error: enough$/)

  const writing = new AbortController()
  const write = failure(db.execute('B', [], { signal: writing.signal }))
  await sent(2)
  writing.abort()
  const { code, fate, details } = await write
  assert.deepEqual([code, fate], ['CONNECTION_LOST', 'unknown'])
  assert.deepEqual(details['request'], { database: 'main', request: 'h-1-1/1' })
  assert.deepEqual(node.cancelled, [], 'who aborts does not wait for the answer')
  await assert.rejects(db.execute('C', [], { signal: writing.signal }), { name: 'AbortError' })
  assert.equal(node.seen.length, 2)
})

test('a node that answers nothing holds a write up no longer than its deadline and a second', async () => {
  await using node = await ScriptedNode.start()
  node.leader = { nodeId: 'n1', address: node.address }
  node.script = ['hang']
  const options = { timeoutMs: 50, requestIds: false }
  const db = createClient({ nodes: [node.address], database: 'main', ...options })
  const started = performance.now()
  const error = await failure(db.execute('A'))

  assert.deepEqual([error.code, error.fate], ['CONNECTION_LOST', 'unknown'])
  assert.ok(performance.now() - started < 3000)
})

test('what is no address is refused when the client is made', () => {
  for (const nodes of [[], [''], ['a b'], ['ftp://x'], ['http://x/path'], ['127.0.0.1:99999']]) {
    assert.throws(() => createClient({ nodes }), { code: 'INVALID_REQUEST' }, String(nodes))
  }
})

test('status and nodes are asked of the node that is named', async () => {
  await using a = await ScriptedNode.start()
  await using b = await ScriptedNode.start()
  b.script = [{ json: { role: 'follower' } }]
  const db = createClient({ nodes: [a.address] })

  assert.equal((await db.status(b.address)).role, 'follower')
  assert.equal((await db.nodes(b.address)).term, 1)
  assert.deepEqual([a.seen.length, a.nodesAsked], [0, 0])
})
