import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import type { ReadOutcome, WriterMessage, WriterReply } from '../../../src/engine/engine.ts'
import { encodeRequest } from '../../../src/engine/request.ts'
import { LocalEngine } from '../../../src/engine/sqlite/local-engine.ts'
import { createDatabase, newDirectory, request } from './replica.ts'

/** An engine whose every step is taken by hand. */
class Stepped implements Disposable {
  readonly directory = newDirectory()
  readonly steps: (() => void)[] = []
  readonly engine = new LocalEngine({
    directory: this.directory,
    later: callback => this.steps.push(callback),
  })
  replies: WriterReply[] = []
  exits: string[] = []
  writer = this.start()

  start() {
    return this.engine.startWriter({
      onReply: reply => this.replies.push(reply),
      onExit: reason => this.exits.push(reason),
    })
  }

  step(): void {
    this.steps.shift()?.()
  }

  settle(): void {
    while (this.steps.length > 0) this.step()
  }

  send(...messages: readonly WriterMessage[]): void {
    for (const message of messages) this.writer.send(message)
  }

  read(sql: string): ReadOutcome {
    const answers: ReadOutcome[] = []
    const statements = [{ sql, params: [] }]
    this.engine.query({ database: 'd', statements, maxRows: 10, maxBytes: 1e6 }, 1000, outcome =>
      answers.push(outcome),
    )
    assert.deepEqual(answers, [], 'nothing is answered inside the call')
    this.settle()
    const [answer] = answers
    assert(answer !== undefined)
    return answer
  }

  [Symbol.dispose](): void {
    this.engine.stop(() => {})
    this.settle()
    rmSync(this.directory, { recursive: true })
  }
}

function execute(batch: number, ...statements: readonly string[]): WriterMessage {
  const requests = [encodeRequest(request(...statements))]
  return {
    type: 'execute',
    batch,
    nowMs: batch,
    seed: new Uint8Array(16),
    commitIndex: 0,
    requests,
  }
}

function withTable(): Stepped {
  const stepped = new Stepped()
  const creation = encodeRequest(createDatabase('d'))
  const seed = new Uint8Array(16)
  stepped.send(
    { type: 'open' },
    { type: 'execute', batch: 1, nowMs: 1, seed, commitIndex: 0, requests: [creation] },
  )
  stepped.send({ type: 'commit', batch: 1, index: 1 }, execute(2, 'CREATE TABLE t (a)'))
  stepped.send({ type: 'commit', batch: 2, index: 2 })
  stepped.settle()
  assert.deepEqual(
    stepped.replies.map(reply => reply.type),
    ['opened', 'executed', 'committed', 'executed', 'committed'],
  )
  stepped.replies = []
  return stepped
}

test('messages are answered in order, and never inside the call', () => {
  using stepped = withTable()
  stepped.send(execute(3, 'INSERT INTO t VALUES (1)'), { type: 'commit', batch: 3, index: 3 })
  assert.equal(stepped.replies.length, 0)
  // A scheduler that turns the order of its callbacks around turns nothing around.
  stepped.steps.reverse()
  stepped.settle()
  assert.deepEqual(
    stepped.replies.map(reply => reply.type),
    ['executed', 'committed'],
  )
})

test('a writer that is killed before a message was taken did nothing of it', () => {
  using stepped = withTable()
  stepped.send(execute(3, 'INSERT INTO t VALUES (1)'), { type: 'commit', batch: 3, index: 3 })
  stepped.step()
  stepped.writer.kill()
  stepped.settle()

  assert.equal(stepped.replies.length, 0)
  assert.deepEqual(stepped.exits, ['it was killed'])
  const outcome = stepped.read('SELECT count(*) FROM t')
  assert(outcome.type === 'ok')
  assert.deepEqual(outcome.results[0]?.rows, [[0n]])
})

test('a writer that is killed after it did a thing and before it said so, did it', () => {
  using stepped = withTable()
  stepped.send(execute(3, 'INSERT INTO t VALUES (1)'), { type: 'commit', batch: 3, index: 3 })
  stepped.step()
  stepped.step()
  assert.equal(stepped.replies.length, 0)
  stepped.writer.kill()
  stepped.settle()

  assert.equal(stepped.replies.length, 0)
  const outcome = stepped.read('SELECT count(*) FROM t')
  assert(outcome.type === 'ok')
  assert.deepEqual(outcome.results[0]?.rows, [[1n]])
  assert.equal(outcome.appliedIndex, 3)
})

test('a new writer begins where the files are; two at once are a broken invariant', () => {
  using stepped = withTable()
  assert.throws(() => stepped.start(), { name: 'AssertionError' })
  stepped.writer.kill()
  assert.throws(() => stepped.start(), { name: 'AssertionError' })
  stepped.settle()
  stepped.writer = stepped.start()
  stepped.send({ type: 'open' })
  stepped.settle()
  assert.equal(stepped.replies[0]?.type, 'opened')
})

test('a fault is told, and then the writer is gone', () => {
  using stepped = withTable()
  const entries = [{ index: 3, data: new Uint8Array([9]) }]
  stepped.send({ type: 'apply', entries }, { type: 'checkpoint' })
  stepped.settle()
  assert.equal(stepped.replies[0]?.type, 'fault')
  assert.equal(stepped.exits.length, 1)
  stepped.send({ type: 'checkpoint' })
  stepped.settle()
  assert.equal(stepped.replies.length, 1)
})

test('queries, digests and names are answered once, also when the engine stops before', () => {
  using stepped = withTable()
  const answers: string[] = []
  const read = { database: 'd', statements: [], maxRows: 1, maxBytes: 1 }
  const ask = (): void => {
    stepped.engine.query(read, 10, outcome => answers.push(outcome.type))
    stepped.engine.digest({ database: 'd' }, 10, outcome => answers.push(outcome.type))
    stepped.engine.databases(names => answers.push(`${names.length} databases`))
  }
  ask()
  stepped.settle()
  assert.deepEqual(answers.splice(0), ['ok', 'ok', '1 databases'])
  ask()
  let isStopped = false
  stepped.engine.stop(() => {
    isStopped = true
  })
  stepped.settle()
  assert.deepEqual(answers, ['failed', 'failed', '0 databases'])
  assert(isStopped)
})
