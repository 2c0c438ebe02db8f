/**
 * A cheap 64-bit hash over rows of SQL values: two lanes of MurmurHash3 with different constants.
 * It finds accidents, not attacks.
 */
import type { SqlValue } from '../base/sql.ts'

const NULL = 0x51
const INTEGER = 0x52
const REAL = 0x53
const TEXT = 0x54
const BLOB = 0x55

const scratch64 = new BigInt64Array(1)
const scratchF64 = new Float64Array(scratch64.buffer)
const scratch32 = new Uint32Array(scratch64.buffer)

/** Hashes values one after another; `reset` begins anew. */
export class RowHash {
  #a = 0
  #b = 0
  #words = 0

  reset(): void {
    this.#a = 0x2f0b4a27
    this.#b = 0x6d2b79f5
    this.#words = 0
  }

  row(values: readonly SqlValue[]): void {
    this.word(values.length)
    for (const value of values) this.value(value)
  }

  value(value: SqlValue): void {
    switch (typeof value) {
      case 'string':
        return this.text(value)
      case 'bigint':
        scratch64[0] = value
        this.word(INTEGER)
        return this.#both()
      case 'number':
        scratchF64[0] = value
        this.word(REAL)
        return this.#both()
      default:
        if (value === null) return this.word(NULL)
        return this.bytes(value)
    }
  }

  text(text: string): void {
    const length = text.length
    this.word(TEXT)
    this.word(length)
    let at = 0
    for (; at + 1 < length; at += 2)
      this.word(text.charCodeAt(at) | (text.charCodeAt(at + 1) << 16))
    if (at < length) this.word(text.charCodeAt(at))
  }

  word(word: number): void {
    let a = Math.imul(word, 0xcc9e2d51)
    a = Math.imul((a << 15) | (a >>> 17), 0x1b873593)
    a ^= this.#a
    this.#a = (Math.imul((a << 13) | (a >>> 19), 5) + 0xe6546b64) | 0
    let b = Math.imul(word, 0x239b961b)
    b = Math.imul((b << 16) | (b >>> 16), 0xab0e9789)
    b ^= this.#b
    this.#b = (Math.imul((b << 17) | (b >>> 15), 5) + 0x561ccd1b) | 0
    this.#words++
  }

  /** The hash so far, as two unsigned halves. */
  digest(): { readonly low: number; readonly high: number } {
    let a = this.#a ^ this.#words
    let b = this.#b ^ this.#words
    a = (a + b) | 0
    b = (b + a) | 0
    a = finish(a)
    b = finish(b)
    a = (a + b) | 0
    b = (b + a) | 0
    return { low: a >>> 0, high: b >>> 0 }
  }

  /** The bytes from `start` on. */
  bytes(bytes: Uint8Array, start = 0): void {
    const length = bytes.length
    this.word(BLOB)
    this.word(length - start)
    let at = start
    for (const stop = length - 3; at < stop; at += 4) {
      const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
      this.word(low | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24))
    }
    if (at === length) return
    const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
    this.word(low | ((bytes[at + 2] ?? 0) << 16))
  }

  #both(): void {
    this.word(scratch32[0] ?? 0)
    this.word(scratch32[1] ?? 0)
  }
}

function finish(word: number): number {
  let h = word ^ (word >>> 16)
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/** Sixteen hexadecimal digits. */
export function formatDigest(digest: { readonly low: number; readonly high: number }): string {
  return digest.high.toString(16).padStart(8, '0') + digest.low.toString(16).padStart(8, '0')
}
