/** Rounds of heartbeats and the reads they confirm. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReadQueue } from '../../src/raft/read-queue.ts'
import { EMPTY_BYTES, type Message, createMessage } from '../../src/raft/types.ts'
import { bytes, text } from './kit.ts'

const THREE = { voters: new Set([1, 2, 3]), outgoing: new Set<number>() }

function read(context: string): Message {
  return createMessage({ type: 'read-index', to: 1, context: bytes(context) })
}

function confirmed(queue: ReadQueue): [string, number][] {
  return queue
    .takeConfirmed(THREE)
    .map(({ request, index }): [string, number] => [text(request.context), index])
}

test('one round confirms every read before it and none after it', () => {
  const queue = new ReadQueue()
  queue.add(read('a'), 5)
  queue.add(read('b'), 6)
  const round = queue.heartbeatContext()
  queue.add(read('c'), 7)

  queue.acknowledge(1, round)
  assert.deepEqual(confirmed(queue), [])
  queue.acknowledge(2, round)

  assert.deepEqual(confirmed(queue), [
    ['a', 5],
    ['b', 6],
  ])
  assert.deepEqual(confirmed(queue), [])
  assert.equal(queue.waitingCount, 1)
})

test('two reads with the same context are two reads, each with its own index', () => {
  const queue = new ReadQueue()
  queue.add(read('same'), 5)
  const first = queue.heartbeatContext()
  queue.add(read('same'), 9)
  const second = queue.heartbeatContext()

  queue.acknowledge(1, second)
  queue.acknowledge(2, first)
  assert.deepEqual(confirmed(queue), [['same', 5]])
  queue.acknowledge(2, second)
  assert.deepEqual(confirmed(queue), [['same', 9]])
})

test('an answer that comes late takes nothing back', () => {
  const queue = new ReadQueue()
  queue.add(read('a'), 5)
  const first = queue.heartbeatContext()
  queue.add(read('b'), 6)
  const second = queue.heartbeatContext()
  queue.acknowledge(1, second)
  queue.acknowledge(2, second)
  queue.acknowledge(2, first)
  assert.equal(confirmed(queue).length, 2)

  queue.add(read('c'), 8)
  queue.acknowledge(1, queue.heartbeatContext())
  queue.acknowledge(3, second)
  assert.deepEqual(confirmed(queue), [])
})

test('a joint membership confirms with both halves', () => {
  const queue = new ReadQueue()
  const joint = { voters: new Set([1, 2, 3]), outgoing: new Set([4, 5, 6]) }
  queue.add(read('a'), 5)
  for (const id of [1, 2, 3, 4]) queue.acknowledge(id, queue.heartbeatContext())
  assert.equal(queue.takeConfirmed(joint).length, 0)
  queue.acknowledge(5, queue.heartbeatContext())
  assert.equal(queue.takeConfirmed(joint).length, 1)
})

test('heartbeats carry nothing when no read waits, and nothing confirms nothing', () => {
  const queue = new ReadQueue()
  assert.equal(queue.heartbeatContext().length, 0)
  queue.acknowledge(2, EMPTY_BYTES)
  queue.acknowledge(2, bytes('odd'))
  assert.deepEqual(confirmed(queue), [])
})
