import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { ERRORS, type ErrorCode } from '../../src/base/errors.ts'
import { createClient, type Client, type ClientOptions } from '../../src/client/index.ts'
import type { WriteReference } from '../../src/client/writes.ts'
import { deadAddress, failure } from './failure.ts'
import { errorAnswer, okAnswer, ScriptedNode, type Script } from './scripted-node.ts'

/** Errors after which a write may have been executed, and can be sent again under its id. */
const UNKNOWN = (Object.keys(ERRORS) as ErrorCode[]).filter(
  code => ERRORS[code].retry === 'same-id' && code !== 'INTERNAL',
)

function clientOf(
  nodes: readonly ScriptedNode[],
  options: Omit<ClientOptions, 'nodes'> = {},
): Client {
  const addresses = nodes.map(({ address }) => address)
  return createClient({ nodes: addresses, database: 'main', ...options })
}

const ids = (node: ScriptedNode): (string | undefined)[] => node.seen.map(({ id }) => id)

const applied = (index: number): Script => ({
  json: { ...(okAnswer(index) as { json: object }).json, fate: 'applied', repeated: true },
})

test('every write has an id of its own, of one session that all first writes share', async () => {
  await using node = await ScriptedNode.start()
  const db = clientOf([node])
  const user = db.session()
  await Promise.all([db.execute('A'), user.execute('B'), db.batch(['C'])])
  await db.command({ action: 'create_db', database: 'other' })
  await db.query('D')

  assert.deepEqual(
    new Set(ids(node)),
    new Set(['h-1-1/1', 'h-1-1/2', 'h-1-1/3', 'h-1-1/4', undefined]),
  )
  assert.equal(node.sessionsOpened, 1)
  assert.equal(node.seen.at(-1)?.id, undefined, 'a read needs none')
})

test('two clients never share a session', async () => {
  await using node = await ScriptedNode.start()
  await clientOf([node]).execute('A')
  await clientOf([node]).execute('A')
  assert.deepEqual(ids(node), ['h-1-1/1', 'h-1-2/1'])
})

test('a write of unknown fate is sent again under its id, to another node, and answered', async () => {
  for (const first of [...UNKNOWN.map(code => errorAnswer(code)), 'destroy' as const]) {
    await using broken = await ScriptedNode.start()
    await using other = await ScriptedNode.start()
    broken.leader = { nodeId: 'n1', address: broken.address }
    broken.script = [first, errorAnswer('SQL_ERROR')]
    other.script = [okAnswer(9)]
    const db = clientOf([broken, other])

    assert.equal((await db.execute('A')).index, 9, JSON.stringify(first))
    assert.deepEqual([ids(broken), ids(other)], [['h-1-1/1'], ['h-1-1/1']])
  }
})

test('an answer that no node gives is asked for again', async () => {
  for (const json of [{ hello: 1 }, [], 'text', { results: [] }, null]) {
    await using node = await ScriptedNode.start()
    node.script = [{ json }, okAnswer(4)]
    assert.equal((await clientOf([node]).execute('A')).index, 4, JSON.stringify(json))
    assert.deepEqual(ids(node), ['h-1-1/1', 'h-1-1/1'])
  }
})

test('a repeated answer says so', async () => {
  await using node = await ScriptedNode.start()
  const json = { ...(okAnswer(4) as { json: object }).json, repeated: true, rowsDropped: true }
  node.script = ['destroy', { json }]
  const { repeated, rowsDropped } = await clientOf([node]).execute('A')
  assert.deepEqual([repeated, rowsDropped], [true, true])
})

test('at its deadline a write is cancelled, and then it is surely not applied', async () => {
  await using node = await ScriptedNode.start()
  node.script = [okAnswer(), errorAnswer('COMMIT_TIMEOUT')]
  const db = clientOf([node])
  await db.execute('Z')
  const error = await failure(db.execute('A', [], { timeoutMs: 100 }))

  assert.deepEqual([error.code, error.fate], ['REQUEST_CANCELLED', 'not-applied'])
  assert.match(error.message, /it is COMMIT_TIMEOUT; the write was cancelled/)
  assert.deepEqual(new Set(ids(node).slice(1)), new Set(['h-1-1/2']))
  const [asked, ...more] = node.cancelled
  assert.deepEqual([asked?.id, asked?.json['database'], more], ['h-1-1/2', 'main', []])
})

test('a write that turns out to be applied at its deadline is answered as if nothing was', async () => {
  await using node = await ScriptedNode.start()
  node.script = [okAnswer(), errorAnswer('COMMIT_TIMEOUT')]
  node.fates = [applied(7)]
  const db = clientOf([node])
  // The session is open by then, so that the next one is sent at least once.
  await db.execute('Z')
  const slow = await db.execute('A', [], { timeoutMs: 60 })
  assert.deepEqual([slow.index, slow.rowsAffected, db.token !== undefined], [7, 1, true])

  // Its results are as the request asked for them, if it can be asked once more.
  const several = { rowsAffected: 70 }
  node.script = ['destroy', errorAnswer('SQL_ERROR'), okAnswer(8, several)]
  const command = { action: 'insert', database: 'main', table: 't', values: [[1]] } as const
  assert.equal((await db.command(command)).rowsAffected, 70)
})

test('a refusal after an unknown fate counts only once the id is settled', async () => {
  await using node = await ScriptedNode.start()
  node.script = ['destroy', errorAnswer('SQL_CONSTRAINT')]
  const db = clientOf([node])
  const refused = await failure(db.execute('A'))
  assert.deepEqual([refused.code, node.cancelled.length], ['SQL_CONSTRAINT', 1])

  node.script = ['destroy', errorAnswer('SQL_CONSTRAINT')]
  node.fates = [applied(7)]
  assert.equal((await db.execute('A')).index, 7, 'the first attempt had been applied')

  node.script = [errorAnswer('SQL_CONSTRAINT')]
  assert.equal((await failure(db.execute('A'))).code, 'SQL_CONSTRAINT')
  assert.equal(node.cancelled.length, 2, 'without an unknown fate there is nothing to ask')
})

test('a word about the id itself is believed at once', async () => {
  for (const code of ['REQUEST_CANCELLED', 'REQUEST_ID_REUSED'] as const) {
    await using node = await ScriptedNode.start()
    node.script = ['destroy', errorAnswer(code)]
    assert.equal((await failure(clientOf([node]).execute('A'))).code, code)
    assert.deepEqual(node.cancelled, [])
  }
})

test('a bug is met once, and the fate of its write is asked for', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('INTERNAL')]
  const error = await failure(clientOf([node]).execute('A'))
  assert.deepEqual([error.code, error.fate], ['REQUEST_CANCELLED', 'not-applied'])
  assert.deepEqual([node.seen.length, node.cancelled.length], [1, 1])
})

test('a fate that nobody can tell is unknown, and can be asked for later by its reference', async () => {
  await using node = await ScriptedNode.start()
  node.script = [okAnswer(), 'destroy']
  node.fates = ['destroy']
  const db = clientOf([node], { fateTimeoutMs: 100 })
  // The session is open by then, so that the write is sent at least once, however late it is.
  await db.execute('A')
  const error = await failure(db.execute('A', [], { timeoutMs: 100 }))
  assert.deepEqual([error.code, error.fate], ['CONNECTION_LOST', 'unknown'])
  const reference = error.details['request'] as WriteReference
  assert.deepEqual(reference, { database: 'main', request: 'h-1-1/2' })

  const later = clientOf([node])
  node.fates = [applied(7)]
  const fate = await later.fate(reference)
  assert(fate.fate === 'applied')
  assert.deepEqual([fate.index, fate.results[0]?.rowsAffected], [7, 1])
  node.fates = [errorAnswer('NO_LEADER'), { json: { fate: 'not-applied' } }]
  assert.deepEqual(await later.fate(reference), { fate: 'not-applied' })
  assert.equal(node.cancelled.at(-1)?.id, 'h-1-1/2')
  node.fates = [errorAnswer('REQUEST_EXPIRED')]
  assert.equal((await failure(later.fate(reference))).code, 'REQUEST_EXPIRED')
})

test('after an unknown fate the session takes no more, so that its window does not move on', async () => {
  await using node = await ScriptedNode.start()
  // Neither sent again nor asked for: no time decides what happens.
  node.script = [errorAnswer('INTERNAL'), okAnswer()]
  const db = clientOf([node], { fateTimeoutMs: 0 })
  const error = await failure(db.execute('A'))
  assert.deepEqual([error.fate, ids(node)], ['unknown', ['h-1-1/1']])
  await db.execute('B')
  await db.execute('C')
  assert.deepEqual(ids(node), ['h-1-1/1', 'h-1-2/1', 'h-1-2/2'])
})

test('without time for the question a write of unknown fate is unknown at once', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('INTERNAL')]
  const error = await failure(clientOf([node], { fateTimeoutMs: 0 }).execute('A'))
  assert.deepEqual([error.code, error.fate, node.cancelled], ['INTERNAL', 'unknown', []])
})

test('a session that the cluster has forgotten is replaced, and the write goes out again', async () => {
  for (const code of ['REQUEST_EXPIRED', 'WRONG_HISTORY'] as const) {
    await using node = await ScriptedNode.start()
    const db = clientOf([node])
    await db.execute('A')
    node.script = [errorAnswer(code), okAnswer(5)]
    assert.equal((await db.execute('B')).index, 5, code)
    assert.deepEqual(ids(node), ['h-1-1/1', 'h-1-1/2', 'h-1-2/1'])

    // Forgotten after an attempt that may have been executed: nobody can tell any more.
    node.script = ['destroy', errorAnswer(code)]
    node.fates = [errorAnswer(code)]
    const error = await failure(db.execute('C'))
    assert.deepEqual([error.fate, error.code], ['unknown', 'CONNECTION_LOST'])
  }
})

test('a cluster that knows no session is not asked for ever', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('REQUEST_EXPIRED')]
  const error = await failure(clientOf([node]).execute('A'))
  assert.deepEqual([error.code, error.fate, node.sessionsOpened], ['NOT_READY', 'not-applied', 3])
})

test('if no session can be opened the write is surely not applied', async () => {
  await using node = await ScriptedNode.start()
  node.sessions = ['destroy']
  const error = await failure(clientOf([node], { timeoutMs: 150 }).execute('A'))
  assert.deepEqual([error.code, error.fate, node.seen], ['NOT_READY', 'not-applied', []])

  const late = clientOf([node])
  node.sessions = ['hang']
  const waited = await failure(late.execute('A', [], { timeoutMs: 50 }))
  assert.deepEqual([waited.code, waited.fate, node.seen], ['NOT_READY', 'not-applied', []])
  const nobody = createClient({ nodes: [await deadAddress()], database: 'main', timeoutMs: 50 })
  assert.equal((await failure(nobody.execute('A'))).fate, 'not-applied')
})

test('a key of the caller stands in place of the number, and says since when it is sent', async () => {
  await using node = await ScriptedNode.start()
  node.script = ['destroy', okAnswer(3)]
  const db = clientOf([node])
  assert.equal((await db.execute('A', [], { idempotencyKey: 'order 7' })).index, 3)
  const sinces = (): (string | undefined)[] => node.seen.map(({ since }) => since)
  assert.deepEqual(ids(node), ['order 7', 'order 7'])
  assert.deepEqual([sinces(), node.sessionsOpened], [['h-1-1', 'h-1-1'], 1])

  await db.fate({ database: 'main', idempotencyKey: 'order 5' })
  assert.deepEqual(
    [node.cancelled.at(-1)?.id, node.cancelled.at(-1)?.since],
    ['order 5', undefined],
  )
})

test('a key sent for the first time is not too old, only the session beside it', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('REQUEST_EXPIRED'), okAnswer(4)]
  const db = clientOf([node])
  assert.equal((await db.execute('A', [], { idempotencyKey: 'order 6' })).index, 4)
  assert.deepEqual(
    node.seen.map(({ since }) => since),
    ['h-1-1', 'h-1-2'],
  )

  // Without ids of its own a client has no session, and only the caller knows of earlier attempts.
  const bare = clientOf([node], { requestIds: false })
  node.script = [errorAnswer('REQUEST_EXPIRED')]
  const error = await failure(bare.batch(['A'], { idempotencyKey: 'order 6' }))
  assert.deepEqual([error.code, error.fate], ['REQUEST_EXPIRED', 'unknown'])
  assert.equal(node.seen.at(-1)?.since, undefined)
})

test('a key whose fate is unknown is never sent again as one that is new', async () => {
  await using node = await ScriptedNode.start()
  node.script = ['destroy', errorAnswer('REQUEST_EXPIRED')]
  node.fates = [errorAnswer('REQUEST_EXPIRED')]
  const error = await failure(clientOf([node]).execute('A', [], { idempotencyKey: 'order 8' }))
  assert.equal(error.fate, 'unknown')
  const reference = { database: 'main', idempotencyKey: 'order 8', since: 'h-1-1' }
  assert.deepEqual(error.details['request'], reference)
  assert.deepEqual(ids(node), ['order 8', 'order 8'])
  assert.equal(node.sessionsOpened, 1)
  assert(node.cancelled.every(({ id, since }) => id === 'order 8' && since === 'h-1-1'))
})

test('the database of a write is known wherever the request names it', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('INTERNAL')]
  const db = createClient({ nodes: [node.address] })
  const command = { action: 'delete', database: 'c', table: 't' } as const
  await failure(db.execute('A', [], { database: 'a' }))
  await failure(db.batch([command]))
  await failure(db.command({ action: 'drop_db', database: 'd' }))
  assert.deepEqual(
    node.cancelled.map(({ json }) => json['database']),
    ['a', 'c', 'd'],
  )
})

test('a node that fell silent is left after a while, by reads and by writes that have an id', async () => {
  await using silent = await ScriptedNode.start()
  await using other = await ScriptedNode.start()
  silent.leader = { nodeId: 'n1', address: silent.address }
  const db = clientOf([silent, other])
  await db.execute('A')
  silent.script = ['hang']
  silent.leader = 'hang'
  silent.isLive = false
  const startedMs = performance.now()
  await Promise.all([db.execute('B'), db.query('C')])

  assert.ok(performance.now() - startedMs < 5000)
  assert.equal(must(other.seen.find(({ json }) => json['sql'] === 'B')).id, 'h-1-1/2')
})

test('a node that is busy is waited for', async () => {
  await using busy = await ScriptedNode.start()
  busy.script = ['hang']
  const error = await failure(clientOf([busy]).execute('A', [], { timeoutMs: 2000 }))
  assert.equal(busy.seen.length, 1)
  assert.equal(error.fate, 'not-applied')
})
