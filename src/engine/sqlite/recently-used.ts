/** What is open, in the order of its last use: so that the one that waits longest goes first. */
export class RecentlyUsed<K, V> {
  /** A map remembers the order of its insertions; what is used is inserted again. */
  readonly #values = new Map<K, V>()
  #latestKey: K | undefined
  #latest: V | undefined

  get size(): number {
    return this.#values.size
  }

  /** The value, which is thereby the one used last. */
  use(key: K): V | undefined {
    if (this.#latest !== undefined && key === this.#latestKey) return this.#latest
    const value = this.#values.get(key)
    if (value !== undefined) {
      this.#values.delete(key)
      this.add(key, value)
    }
    return value
  }

  /** The value, without a use of it. */
  peek(key: K): V | undefined {
    return this.#values.get(key)
  }

  /** Adds a value under a key that has none. */
  add(key: K, value: V): void {
    this.#values.set(key, value)
    this.#latestKey = key
    this.#latest = value
  }

  delete(key: K): void {
    this.#values.delete(key)
    if (key === this.#latestKey) this.#latest = undefined
  }

  clear(): void {
    this.#values.clear()
    this.#latest = undefined
  }

  /** All of them, the longest unused first. One may be deleted when it was given. */
  entries(): Iterable<readonly [K, V]> {
    return this.#values
  }
}
