import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BoundedQueue } from '../../src/base/bounded-queue.ts'

interface Item {
  readonly value: number
  readonly sizeBytes: number
}

/** The same promise without any cleverness. */
class NaiveQueue {
  items: Item[] = []
  readonly #countMax: number
  readonly #sizeBytesMax: number

  constructor(countMax: number, sizeBytesMax: number) {
    this.#countMax = countMax
    this.#sizeBytesMax = sizeBytesMax
  }

  get sizeBytes(): number {
    return this.items.reduce((sum, item) => sum + item.sizeBytes, 0)
  }

  push(value: number, sizeBytes: number): boolean {
    const isTooMany = this.items.length + 1 > this.#countMax
    const isTooMuch = this.sizeBytes + sizeBytes > this.#sizeBytesMax
    if (this.items.length > 0 && (isTooMany || isTooMuch)) return false
    this.items.push({ value, sizeBytes })
    return true
  }
}

const step = fc.oneof(
  fc.record({ type: fc.constant('push' as const), sizeBytes: fc.nat({ max: 12 }) }),
  fc.record({ type: fc.constant('shift' as const), count: fc.nat({ max: 6 }) }),
  fc.record({ type: fc.constant('put-back' as const), count: fc.nat({ max: 4 }) }),
)

function assertSame(queue: BoundedQueue<number>, naive: NaiveQueue): void {
  assert.equal(queue.count, naive.items.length)
  assert.equal(queue.sizeBytes, naive.sizeBytes)
  assert.equal(queue.peek(), naive.items[0]?.value)
  assert.equal(queue.peekSizeBytes(), naive.items[0]?.sizeBytes ?? 0)
  assert.deepEqual(
    [...queue.values()],
    naive.items.map(({ value }) => value),
  )
}

test('whatever is pushed, taken and put back, the queue is as a plain list with limits', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 40 }),
      fc.array(step, { maxLength: 60 }),
      (countMax, sizeBytesMax, steps) => {
        const queue = new BoundedQueue<number>({ countMax, sizeBytesMax })
        const naive = new NaiveQueue(countMax, sizeBytesMax)
        let next = 0
        for (const move of steps) {
          if (move.type === 'push') {
            next += 1
            assert.equal(queue.push(next, move.sizeBytes), naive.push(next, move.sizeBytes))
          } else {
            const taken = naive.items.splice(0, move.count)
            for (const { value } of taken) assert.equal(queue.shift(), value)
            if (naive.items.length === 0) assert.equal(queue.shift(), undefined)
            if (move.type === 'put-back') {
              queue.unshift(taken)
              naive.items.unshift(...taken)
            }
          }
          assertSame(queue, naive)
        }
      },
    ),
  )
})

test('a long queue keeps its order and its size while its front is taken and moved', () => {
  const queue = new BoundedQueue<number>({ countMax: 10_000, sizeBytesMax: 1_000_000 })
  const naive = new NaiveQueue(10_000, 1_000_000)
  for (let value = 0; value < 4000; value += 1) {
    queue.push(value, value % 7)
    naive.push(value, value % 7)
  }
  for (let taken = 1; taken <= 3500; taken += 1) {
    assert.equal(queue.shift(), naive.items.shift()?.value)
    if (taken % 500 === 0) assertSame(queue, naive)
  }
  const back = [{ value: -1, sizeBytes: 3 }]
  queue.unshift(back)
  naive.items.unshift(...back)
  assertSame(queue, naive)
})

test('one item of any size fits into an empty queue, and then nothing more', () => {
  const queue = new BoundedQueue<string>({ countMax: 5, sizeBytesMax: 10 })
  assert.equal(queue.push('large', 1000), true)
  assert.equal(queue.push('small', 0), false)
  assert.equal(queue.shift(), 'large')
  assert.equal(queue.push('small', 0), true)
})

test('what is put back may be more than the limits, and closes the queue until it is taken', () => {
  const queue = new BoundedQueue<number>({ countMax: 2, sizeBytesMax: 10 })
  queue.unshift([1, 2, 3].map(value => ({ value, sizeBytes: 5 })))
  assert.deepEqual([queue.count, queue.sizeBytes], [3, 15])
  assert.equal(queue.push(4, 0), false)
  for (const value of [1, 2]) assert.equal(queue.shift(), value)
  assert.equal(queue.push(4, 5), true)
})
