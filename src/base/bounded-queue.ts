/** A queue with a limit in items and in bytes, because a queue without one only hides overload. */
import { must } from './assert.ts'

interface Item<T> {
  readonly value: T
  readonly sizeBytes: number
}

export class BoundedQueue<T> {
  readonly #countMax: number
  readonly #sizeBytesMax: number
  #items: Item<T>[] = []
  /** Index of the first item: taking from the front must not move all others. */
  #head = 0
  #sizeBytes = 0

  constructor(limits: { readonly countMax: number; readonly sizeBytesMax: number }) {
    this.#countMax = limits.countMax
    this.#sizeBytesMax = limits.sizeBytesMax
  }

  get count(): number {
    return this.#items.length - this.#head
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** False if the queue is full; a single item of any size fits into an empty one. */
  push(value: T, sizeBytes: number): boolean {
    const isFull = this.count >= this.#countMax || this.#sizeBytes + sizeBytes > this.#sizeBytesMax
    if (isFull && this.count > 0) return false
    this.#items.push({ value, sizeBytes })
    this.#sizeBytes += sizeBytes
    return true
  }

  /** Puts back what was taken, in its old order, whatever the limits say. */
  unshift(values: readonly { readonly value: T; readonly sizeBytes: number }[]): void {
    this.#items = [...values, ...this.#items.slice(this.#head)]
    this.#head = 0
    for (const { sizeBytes } of values) this.#sizeBytes += sizeBytes
  }

  peek(): T | undefined {
    return this.#items[this.#head]?.value
  }

  /** All that waits, in order. */
  *values(): Iterable<T> {
    for (let at = this.#head; at < this.#items.length; at += 1) yield must(this.#items[at]).value
  }

  /** Size of the first item, 0 if there is none. */
  peekSizeBytes(): number {
    return this.#items[this.#head]?.sizeBytes ?? 0
  }

  shift(): T | undefined {
    const item = this.#items[this.#head]
    if (item === undefined) return undefined
    this.#head += 1
    this.#sizeBytes -= item.sizeBytes
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item.value
  }
}
