/**
 * The chance of an entry: a stream of random bytes for each statement, the same on every node. It
 * is the ChaCha20 key stream with the entry's seed as its key and the statement's place as nonce,
 * so that nobody can compute another client's bytes from his own.
 */
import { assert } from '../base/assert.ts'

const ROUNDS = 20
const BLOCK_WORDS = 16
const BLOCK_BYTES = BLOCK_WORDS * 4

/** "expand 16-byte k" as four words: ChaCha with a key of 128 bits. */
const SIGMA = [0x61707865, 0x3120646e, 0x79622d36, 0x6b206574]

/** A stream of bytes, rewound by `begin` and computed only when it is asked for. */
export class Chance {
  readonly #input = new Uint32Array(BLOCK_WORDS)
  readonly #block = new Uint32Array(BLOCK_WORDS)
  /** A key that is not in the input yet. */
  #seed: Uint8Array | (() => Uint8Array) | undefined
  /** Bytes of the current block that were handed out; all of them before the first. */
  #used = BLOCK_BYTES

  /** Sets the key, 16 bytes; a function is asked for them once they are needed. */
  setSeed(seed: Uint8Array | (() => Uint8Array)): void {
    this.#seed = seed
  }

  /** Begins the stream of a statement: number of its request in the entry, and its own number. */
  begin(position: number, statement: number): void {
    const input = this.#input
    input[12] = 0
    input[13] = 0
    input[14] = position
    input[15] = statement
    this.#used = BLOCK_BYTES
  }

  /** The next 64 bits as a signed integer. */
  int64(): bigint {
    const low = this.#word()
    const high = this.#word()
    return BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low))
  }

  /** The next `count` bytes. */
  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count)
    for (let at = 0; at < count; at += 4) {
      const word = this.#word()
      for (let part = 0; part < 4 && at + part < count; part++) {
        bytes[at + part] = word >>> (part * 8)
      }
    }
    return bytes
  }

  #word(): number {
    if (this.#used === BLOCK_BYTES) this.#nextBlock()
    const word = this.#block[this.#used >>> 2] ?? 0
    this.#used += 4
    return word
  }

  #takeSeed(given: Uint8Array | (() => Uint8Array)): void {
    const seed = typeof given === 'function' ? given() : given
    assert(seed.length === 16, `a seed has 16 bytes, not ${seed.length}`)
    this.#seed = undefined
    const input = this.#input
    for (let word = 0; word < 4; word++) {
      const at = word * 4
      const low = (seed[at] ?? 0) | ((seed[at + 1] ?? 0) << 8)
      const key = low | ((seed[at + 2] ?? 0) << 16) | ((seed[at + 3] ?? 0) << 24)
      input[word] = SIGMA[word] ?? 0
      input[4 + word] = key
      input[8 + word] = key
    }
  }

  #nextBlock(): void {
    if (this.#seed !== undefined) this.#takeSeed(this.#seed)
    const input = this.#input
    const block = this.#block
    block.set(input)
    for (let round = 0; round < ROUNDS; round += 2) {
      quarter(block, 0, 4, 8, 12)
      quarter(block, 1, 5, 9, 13)
      quarter(block, 2, 6, 10, 14)
      quarter(block, 3, 7, 11, 15)
      quarter(block, 0, 5, 10, 15)
      quarter(block, 1, 6, 11, 12)
      quarter(block, 2, 7, 8, 13)
      quarter(block, 3, 4, 9, 14)
    }
    for (let i = 0; i < BLOCK_WORDS; i++) block[i] = (block[i] ?? 0) + (input[i] ?? 0)
    input[12] = (input[12] ?? 0) + 1
    if (input[12] === 0) input[13] = (input[13] ?? 0) + 1
    this.#used = 0
  }
}

function quarter(block: Uint32Array, a: number, b: number, c: number, d: number): void {
  let wa = block[a] ?? 0
  let wb = block[b] ?? 0
  let wc = block[c] ?? 0
  let wd = block[d] ?? 0
  wa = (wa + wb) | 0
  wd = rotate(wd ^ wa, 16)
  wc = (wc + wd) | 0
  wb = rotate(wb ^ wc, 12)
  wa = (wa + wb) | 0
  wd = rotate(wd ^ wa, 8)
  wc = (wc + wd) | 0
  wb = rotate(wb ^ wc, 7)
  block[a] = wa
  block[b] = wb
  block[c] = wc
  block[d] = wd
}

function rotate(word: number, count: number): number {
  return (word << count) | (word >>> (32 - count))
}
