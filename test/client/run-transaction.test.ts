import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient, type Client } from '../../src/client/index.ts'
import { failure } from './failure.ts'
import { errorAnswer, okAnswer, ScriptedNode, type Script } from './scripted-node.ts'

const BEGUN: Script = { json: { transaction: 't', node: 'n', durationMs: 1 } }
const STEP: Script = { json: { results: [{ rowsAffected: 1 }], node: 'n', durationMs: 1 } }

function clientOf(node: ScriptedNode, timeoutMs = 10_000): Client {
  return createClient({ nodes: [node.address], database: 'main', timeoutMs })
}

/** What was asked, in short: the last word of the path. */
const asked = (node: ScriptedNode): string[] =>
  node.seen.map(({ path }) => path.split('/').at(-1) ?? '')

test('a function runs in a transaction, which is committed with an id at its end', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, STEP, STEP, okAnswer(7)]
  const db = clientOf(node)
  const sum = await db.transaction(async tx => {
    const { rowsAffected } = await tx.execute('A', [1])
    const rest = await tx.query('B')
    return rowsAffected + rest.rowsAffected
  })

  assert.equal(sum, 2)
  assert.deepEqual(asked(node), ['transactions', 'execute', 'query', 'commit'])
  assert.deepEqual(
    node.seen.map(({ id }) => id),
    [undefined, undefined, undefined, 'h-1-1/1'],
  )
  assert.equal(node.seen[0]?.json['database'], 'main')
  const { timeoutMs, ...step } = node.seen[1]?.json ?? {}
  assert.ok(Number(timeoutMs) > 9000)
  assert.deepEqual(step, { sql: 'A', params: [1] })
  assert.ok(db.token !== undefined, 'a later session read sees it')
})

test('what the function throws comes out as it is, after a rollback', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, STEP]
  const mine = new TypeError('mine')
  const run = clientOf(node).transaction(async tx => {
    await tx.execute('A')
    throw mine
  })
  await assert.rejects(run, error => error === mine)
  assert.deepEqual(asked(node), ['transactions', 'execute', 'rollback'])
})

test('a statement that fails alone can be caught, and the transaction goes on', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, errorAnswer('SQL_CONSTRAINT'), STEP, okAnswer()]
  await clientOf(node).transaction(async tx => {
    assert.equal((await failure(tx.execute('A'))).code, 'SQL_CONSTRAINT')
    await tx.execute('B')
  })
  assert.deepEqual(asked(node), ['transactions', 'execute', 'execute', 'commit'])
})

test('a conflict runs the whole function again, wherever it is met and whatever is thrown', async () => {
  for (const code of ['TRANSACTION_CONFLICT', 'TRANSACTION_LOST', 'TRANSACTION_EXPIRED'] as const) {
    const conflict = errorAnswer(code)
    const scripts: readonly Script[][] = [
      [conflict, BEGUN, STEP, okAnswer()],
      [BEGUN, conflict, BEGUN, STEP, okAnswer()],
      [BEGUN, STEP, conflict, BEGUN, STEP, okAnswer()],
    ]
    for (const [conflictAt, script] of scripts.entries()) {
      await using node = await ScriptedNode.start()
      node.script = script
      let runs = 0
      const result = await clientOf(node).transaction(async tx => {
        runs += 1
        await tx.execute('A').catch((cause: unknown) => {
          throw new Error('not our word', { cause })
        })
        return runs
      })
      assert.equal(result, conflictAt === 0 ? 1 : 2, 'before its beginning it was not run')
      assert.deepEqual(asked(node).slice(-3), ['transactions', 'execute', 'commit'])
      assert(!asked(node).includes('rollback'), 'it is rolled back already')
    }
  }
})

test('a function that swallows the conflict is run again all the same', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, errorAnswer('TRANSACTION_CONFLICT'), BEGUN, STEP, STEP, okAnswer()]
  await clientOf(node).transaction(async tx => {
    await tx.execute('A').catch(() => {})
    await tx.execute('B').catch(() => {})
  })
  const words = ['transactions', 'execute', 'transactions', 'execute', 'execute', 'commit']
  assert.deepEqual(asked(node), words, 'nothing is asked of a transaction that is over')
})

test('an error that ended the transaction is thrown, even if the function swallows it', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, errorAnswer('STATEMENT_TIMEOUT', { transaction: 'over' })]
  const run = clientOf(node).transaction(tx => tx.execute('A').catch(() => {}))
  assert.equal((await failure(run)).code, 'STATEMENT_TIMEOUT')
  assert.deepEqual(asked(node), ['transactions', 'execute'])
})

test('conflicts without an end are told at the deadline', async () => {
  await using node = await ScriptedNode.start()
  node.script = [errorAnswer('TRANSACTION_CONFLICT')]
  const startedMs = performance.now()
  const error = await failure(clientOf(node, 1000).transaction(tx => tx.execute('A')))
  assert.deepEqual([error.code, error.fate], ['TRANSACTION_CONFLICT', 'not-applied'])
  assert.ok(performance.now() - startedMs < 5000)
  assert.ok(node.seen.length > 2)
})

test('a statement whose answer is lost is never sent again: the transaction begins anew', async () => {
  for (const lost of [
    'destroy',
    errorAnswer('LEADERSHIP_LOST'),
    errorAnswer('INTERNAL'),
  ] as const) {
    await using node = await ScriptedNode.start()
    node.script = [BEGUN, lost, BEGUN, STEP, okAnswer()]
    await clientOf(node).transaction(tx => tx.execute('A'))
    const words = ['transactions', 'execute', 'transactions', 'execute', 'commit']
    assert.deepEqual(asked(node), words)
  }
})

test('a statement that was surely not run is sent again within its transaction', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, errorAnswer('OVERLOADED'), STEP, okAnswer()]
  await clientOf(node).transaction(tx => tx.execute('A'))
  assert.deepEqual(asked(node), ['transactions', 'execute', 'execute', 'commit'])
})

test('a commit of unknown fate is settled by its id, and run again only if it was not applied', async () => {
  await using node = await ScriptedNode.start()
  const db = clientOf(node)
  node.script = [BEGUN, STEP, 'destroy', okAnswer(5)]
  await db.transaction(tx => tx.execute('A'))
  assert.deepEqual(asked(node), ['transactions', 'execute', 'commit', 'commit'])
  assert.deepEqual([node.seen[2]?.id, node.seen[3]?.id], ['h-1-1/1', 'h-1-1/1'])

  // The next leader doesn't know the transaction; the log does.
  const answer = (okAnswer(6) as { json: object }).json
  node.script = [BEGUN, STEP, 'destroy', errorAnswer('TRANSACTION_LOST')]
  node.fates = [{ json: { ...answer, fate: 'applied' } }]
  let runs = 0
  const work = async (tx: { execute(sql: string): Promise<unknown> }): Promise<void> => {
    runs += 1
    await tx.execute('A')
  }
  await db.transaction(work)
  assert.equal(runs, 1)

  node.script = [BEGUN, STEP, 'destroy', errorAnswer('TRANSACTION_LOST'), BEGUN, STEP, okAnswer()]
  node.fates = [{ json: { fate: 'not-applied' } }]
  await db.transaction(work)
  assert.equal(runs, 3)
  assert.equal(node.seen.at(-1)?.id, 'h-1-1/4', 'another commit has another id')
})

test('a commit whose fate nobody can tell is unknown, and its reference is in the error', async () => {
  await using node = await ScriptedNode.start()
  node.script = [BEGUN, STEP, 'destroy']
  node.fates = ['destroy']
  const db = createClient({
    nodes: [node.address],
    database: 'main',
    timeoutMs: 300,
    fateTimeoutMs: 50,
  })
  const error = await failure(db.transaction(tx => tx.execute('A')))
  assert.equal(error.fate, 'unknown')
  assert.deepEqual(error.details['request'], { database: 'main', request: 'h-1-1/1' })
  assert.equal(asked(node).filter(word => word === 'transactions').length, 1)
})

test('there is no transaction inside of another, of the same cluster', async () => {
  await using node = await ScriptedNode.start()
  await using other = await ScriptedNode.start()
  node.script = [BEGUN, STEP, BEGUN, STEP]
  other.script = [BEGUN, STEP, okAnswer()]
  const db = clientOf(node)
  const error = await failure(db.transaction(tx => Promise.resolve(tx.transaction())))
  assert.match(error.message, /use savepoint\(\)/)
  const inner = await failure(db.transaction(() => db.session().transaction(tx => tx.execute('A'))))
  assert.match(inner.message, /use savepoint\(\)/)
  assert.deepEqual(asked(node), ['transactions', 'rollback', 'transactions', 'rollback'])

  node.script = [BEGUN, okAnswer(), BEGUN, STEP, okAnswer()]
  const elsewhere = clientOf(other)
  await db.transaction(() => elsewhere.transaction(tx => tx.execute('A')))
  await db.transaction(tx => tx.execute('A'))
})
