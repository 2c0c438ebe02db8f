/**
 * Chance for a simulated run: every stream is derived from the run's seed and the stream's name, so
 * that drawing one more number for the network never changes what the disk will do.
 */
import type { Random } from '../src/base/ports.ts'
import { assert, must } from '../src/base/assert.ts'

/** A sfc32 generator (public domain, PractRand) with the draws that a simulation needs. */
export class SimRandom implements Random {
  readonly #seed: number
  readonly #name: string
  #a: number
  #b: number
  #c: number
  #counter = 1

  constructor(seed: number, name: string) {
    assert(Number.isSafeInteger(seed) && seed >= 0, `seed ${seed} is not a whole number`)
    this.#seed = seed
    this.#name = name
    this.#a = hashText(name)
    this.#b = seed >>> 0
    this.#c = Math.floor(seed / 2 ** 32) >>> 0
    // The first draws of neighbouring seeds are alike; the generator's author advises to skip them.
    for (let round = 0; round < 15; round++) this.next()
  }

  /** Another stream of the same seed, independent of how much was drawn from this one. */
  stream(name: string): SimRandom {
    return new SimRandom(this.#seed, `${this.#name}/${name}`)
  }

  /** 32 random bits. */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) >>> 0
    this.#counter = (this.#counter + 1) >>> 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) >>> 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) >>> 0
    return sum
  }

  below(bound: number): number {
    assert(bound > 0 && bound <= 2 ** 32, `bound ${bound} is not in 1..2^32`)
    return Math.floor((this.next() / 2 ** 32) * bound)
  }

  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count)
    for (let position = 0; position < count; position++) bytes[position] = this.next() >>> 24
    return bytes
  }

  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1)
  }

  /** A fraction from `low` to before `high`. */
  float(low: number, high: number): number {
    return low + (this.next() / 2 ** 32) * (high - low)
  }

  /** True about `probability` of the time; never draws for 0, so that switched-off faults cost nothing. */
  chance(probability: number): boolean {
    return probability > 0 && this.next() < probability * 2 ** 32
  }

  pick<T>(items: readonly T[]): T {
    assert(items.length > 0, 'nothing to pick from')
    return must(items[this.below(items.length)])
  }

  /** An exponentially distributed delay: mostly short, sometimes long, as in real networks. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.next() / 2 ** 32)
  }

  /** A copy in random order. */
  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items]
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = this.below(last + 1)
      const kept = must(shuffled[last])
      shuffled[last] = must(shuffled[other])
      shuffled[other] = kept
    }
    return shuffled
  }
}

/** 32 bits of FNV-1a over the text's UTF-16 units, mixed at the end. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let position = 0; position < text.length; position++) {
    hash = Math.imul(hash ^ text.charCodeAt(position), 0x01000193)
  }
  return mix(hash)
}

/** 32 bits over bytes. */
export function hashBytes(bytes: Uint8Array): number {
  let hash = 0x811c9dc5 ^ bytes.length
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return mix(hash)
}

/** Spreads every bit of a word over all others (finaliser of MurmurHash3). */
export function mix(word: number): number {
  let hash = word
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
