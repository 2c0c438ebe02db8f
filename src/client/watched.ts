/**
 * A promise that knows whether anybody will hear what became of it: whether it was awaited or given
 * a handler in another way.
 */

export class Watched<T> extends Promise<T> {
  #isHeard = false

  /** What is made of it is an ordinary promise, and somebody else's to hear. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  /** Of the outcome of `work`. */
  static of<T>(work: Promise<T>): Watched<T> {
    return new Watched<T>((resolve, reject) => void work.then(resolve, reject))
  }

  /** Somebody waits for it, or has heard. */
  get isHeard(): boolean {
    return this.#isHeard
  }

  /** Looks on without being somebody who hears. */
  watch(onFulfilled: () => void, onRejected: (error: unknown) => void): void {
    super.then(onFulfilled, onRejected)
  }

  // oxlint-disable-next-line unicorn/no-thenable -- `await` calls this, and that is to be known.
  override then<Fulfilled = T, Rejected = never>(
    onFulfilled?: ((value: T) => Fulfilled | PromiseLike<Fulfilled>) | null,
    onRejected?: ((reason: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<Fulfilled | Rejected> {
    this.#isHeard = true
    return super.then(onFulfilled, onRejected)
  }
}
