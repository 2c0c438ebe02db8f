import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BoundedQueue } from '../../src/base/bounded-queue.ts'
import { DbError } from '../../src/base/errors.ts'
import {
  answerOverdue,
  type Batch,
  diverged,
  end,
  endOverdue,
  ENTRY_BYTES_MAX,
  failBatch,
  gather,
  notLeader,
  type Pending,
  tooLarge,
} from '../../src/replica/batch.ts'
import type { WriteOutcome } from '../../src/replica/types.ts'

interface Asked {
  readonly pending: Pending
  readonly heard: string[]
}

function ask(deadlineMs: number): Asked {
  const heard: string[] = []
  const done = (outcome: WriteOutcome): void => {
    heard.push(outcome.type === 'ok' ? 'ok' : outcome.error.code)
  }
  const pending = { body: new Uint8Array(1), arrivedMs: 0, deadlineMs, isAlone: false, done }
  return { pending, heard }
}

function batchOf(asked: readonly Asked[]): Batch {
  return {
    number: 1,
    term: 1,
    startedMs: 0,
    requests: asked.map(({ pending }) => pending),
    results: [],
    isProvisional: false,
    state: 'replicating',
    proposal: 1,
    index: 0,
    sizeBytes: 0,
    executedMs: 0,
    appendedMs: 0,
    flushedMs: 0,
    committedMs: 0,
  }
}

test('a request is answered once, with the first thing that is known of it', () => {
  const { pending, heard } = ask(100)
  end(pending, notLeader())
  end(pending, new DbError('INTERNAL', 'later'))
  assert.deepEqual(heard, ['NOT_LEADER'])
})

test('an answer that asks for more at once finds its request answered', () => {
  const { pending } = ask(100)
  let answers = 0
  pending.done = () => {
    answers += 1
    end(pending, notLeader())
  }
  end(pending, notLeader())
  assert.equal(answers, 1)
})

test('only those whose deadline has passed are told so, and their fate is unknown', () => {
  const asked = [ask(100), ask(101), ask(50)]
  const batch = batchOf(asked)
  endOverdue(batch, 100)
  assert.deepEqual(
    asked.map(({ heard }) => heard),
    [['COMMIT_TIMEOUT'], [], ['COMMIT_TIMEOUT']],
  )
  assert.equal(new DbError('COMMIT_TIMEOUT', '').fate, 'unknown')

  failBatch(batch, new DbError('LEADERSHIP_LOST', 'gone'))
  assert.deepEqual(
    asked.map(({ heard }) => heard),
    [['COMMIT_TIMEOUT'], ['LEADERSHIP_LOST'], ['COMMIT_TIMEOUT']],
  )
})

test('what waited too long in the queue was surely not applied', () => {
  const { pending, heard } = ask(100)
  answerOverdue(pending)
  answerOverdue(pending)
  assert.deepEqual(heard, ['OVERLOADED'])
  assert.equal(new DbError('OVERLOADED', '').fate, 'not-applied')
})

/** Gathers from what waits at time 100; gives what is gathered and what is left, by number. */
function gathered(
  waiting: readonly { deadlineMs?: number; sizeBytes?: number; isAlone?: boolean }[],
): { taken: number[]; left: number[]; heard: string[] } {
  const queue = new BoundedQueue<Pending>({ countMax: 100, sizeBytesMax: 1000 })
  const all = waiting.map(({ deadlineMs = 200, sizeBytes = 1, isAlone = false }) => {
    const asked = ask(deadlineMs)
    asked.pending.isAlone = isAlone
    queue.push(asked.pending, sizeBytes)
    return asked
  })
  const numbers = (some: Iterable<Pending>): number[] =>
    [...some].map(pending => all.findIndex(asked => asked.pending === pending))
  const taken = numbers(gather(queue, { maxBatchRequests: 3, maxBatchBytes: 10 }, 100))
  return { taken, left: numbers(queue.values()), heard: all.flatMap(({ heard }) => heard) }
}

test('what waits is gathered in order, up to a count and a size', () => {
  assert.deepEqual(gathered([]), { taken: [], left: [], heard: [] })
  assert.deepEqual(gathered([{}, {}, {}, {}]).taken, [0, 1, 2])
  const sized = gathered([{ sizeBytes: 6 }, { sizeBytes: 4 }, { sizeBytes: 1 }])
  assert.deepEqual([sized.taken, sized.left], [[0, 1], [2]])
})

test('a request over the size, or that must be alone, goes alone', () => {
  assert.deepEqual(gathered([{ sizeBytes: 50 }, {}]).taken, [0])
  assert.deepEqual(gathered([{}, { sizeBytes: 50 }, {}]).taken, [0])
  assert.deepEqual(gathered([{ isAlone: true }, {}]).taken, [0])
  assert.deepEqual(gathered([{}, { isAlone: true }, {}]).taken, [0])
})

test('who waited past the deadline is told, and holds up nobody', () => {
  const late = { deadlineMs: 100 }
  const { taken, left, heard } = gathered([late, {}, { ...late, isAlone: true }, late, {}])
  assert.deepEqual({ taken, left, heard }, { taken: [1], left: [2, 3, 4], heard: ['OVERLOADED'] })
  assert.deepEqual(gathered([late, { ...late, isAlone: true }, late, {}]).taken, [3])
})

test('an entry that no frame could carry is refused with the limit', () => {
  const error = tooLarge(ENTRY_BYTES_MAX + 1)
  assert.equal(error.code, 'TOO_LARGE')
  assert.deepEqual(error.details, { limitBytes: ENTRY_BYTES_MAX })
  assert.match(error.message, new RegExp(`${ENTRY_BYTES_MAX + 1} .*${ENTRY_BYTES_MAX}`))
})

test('a replica that diverged tells where, and what it got', () => {
  const divergence = { index: 7, database: 'd', sql: 's', expected: 'a', actual: 'b', digest: 'd' }
  const error = diverged(divergence)
  assert.equal(error.code, 'DIVERGED')
  assert.deepEqual(error.details, divergence)
  assert.match(error.message, /entry 7/)
})
