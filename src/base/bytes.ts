/**
 * Writing and reading bytes: what every binary format of this house is made of. Fixed-width numbers
 * are little-endian; lengths and counts are LEB128 varints.
 */
import { assert, AssertionError } from './assert.ts'
import { DbError } from './errors.ts'

const encoder = new TextEncoder()
// A byte order mark is text like any other: a decoder that swallowed it would change values.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** Texts up to these lengths are tried as ASCII first; a loop beats a call into the platform. */
const SHORT_TEXT = 48
const SHORT_TEXT_READ = 24
const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n
const UINT32_MAX = 0xffff_ffff

// Scratch to take a 64-bit integer or float apart without allocating.
const scratch64 = new BigInt64Array(1)
const scratchF64 = new Float64Array(scratch64.buffer)
const scratch32 = new Uint32Array(scratch64.buffer)
const scratch8 = new Uint8Array(scratch64.buffer)
scratch32[0] = 1
const LOW = scratch8[0] === 1 ? 0 : 1
const HIGH = 1 - LOW

/** Whether `value` fits SQL's 64-bit signed INTEGER. */
export function isInt64(value: bigint): boolean {
  return value >= INT64_MIN && value <= INT64_MAX
}

/** Grows as it is written to. Not for keeping: take `finish()` and drop or `reset()` it. */
export class ByteWriter {
  #bytes: Uint8Array
  #length = 0

  constructor(capacityBytes = 256) {
    this.#bytes = new Uint8Array(capacityBytes)
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length
  }

  /** Forgets what was written; the memory stays. */
  reset(): void {
    this.#length = 0
  }

  /** Forgets what was written from `length` on. */
  truncate(length: number): void {
    assert(length <= this.#length, 'there is less than that')
    this.#length = length
  }

  /** A whole number from 0 to 255. */
  u8(value: number): void {
    const at = this.#grow(1)
    this.#bytes[at] = value
  }

  u32(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > UINT32_MAX) refuse(value, 'u32')
    this.setU32(this.#grow(4), value)
  }

  /** Overwrites four bytes at `offset`, for lengths that are known only afterwards. */
  setU32(offset: number, value: number): void {
    assert(offset + 4 <= this.#length, 'the offset is past the end')
    const bytes = this.#bytes
    bytes[offset] = value
    bytes[offset + 1] = value >>> 8
    bytes[offset + 2] = value >>> 16
    bytes[offset + 3] = value >>> 24
  }

  f64(value: number): void {
    scratchF64[0] = value
    const low = scratch32[LOW] ?? 0
    const high = scratch32[HIGH] ?? 0
    this.u32(low)
    this.u32(high)
  }

  /** A whole number from 0 to 2^53 - 1, in one byte up to 127. */
  varint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) refuse(value, 'varint')
    let at = this.#grow(8)
    const bytes = this.#bytes
    let rest = value
    while (rest > 0x7fff_ffff) {
      bytes[at++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    while (rest > 0x7f) {
      bytes[at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    bytes[at++] = rest
    this.#length = at
  }

  /** A 64-bit signed integer, small ones of either sign in one byte. */
  zigzag64(value: bigint): void {
    if (!isInt64(value)) refuse(value, '64-bit integer')
    scratch64[0] = value
    let low = scratch32[LOW] ?? 0
    let high = scratch32[HIGH] ?? 0
    const sign = high >> 31
    high = (((high << 1) | (low >>> 31)) ^ sign) >>> 0
    low = ((low << 1) ^ sign) >>> 0
    let at = this.#grow(10)
    const bytes = this.#bytes
    while (high !== 0) {
      bytes[at++] = (low & 0x7f) | 0x80
      low = ((low >>> 7) | (high << 25)) >>> 0
      high >>>= 7
    }
    while (low > 0x7f) {
      bytes[at++] = (low & 0x7f) | 0x80
      low >>>= 7
    }
    bytes[at++] = low
    this.#length = at
  }

  /** Length in bytes as a varint, then UTF-8. A lone surrogate becomes U+FFFD. */
  utf8(text: string): void {
    if (text.length <= SHORT_TEXT && this.#shortAscii(text)) return
    const start = this.#length
    // Three bytes are the most that one UTF-16 unit can take.
    const most = text.length * 3
    const lengthBytes = varintLength(most)
    this.#grow(lengthBytes + most)
    const body = start + lengthBytes
    const { written } = encoder.encodeInto(text, this.#bytes.subarray(body, body + most))
    // A length in more bytes than needed is still that length, so the text need not be moved.
    let rest = written
    for (let at = start; at < body - 1; at++) {
      this.#bytes[at] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.#bytes[body - 1] = rest
    this.#length = body + written
  }

  /** Length as a varint, then the bytes. */
  bytes(value: Uint8Array): void {
    this.varint(value.length)
    this.raw(value)
  }

  /** The bytes without their length: the reader must know it. */
  raw(value: Uint8Array): void {
    const at = this.#grow(value.length)
    this.#bytes.set(value, at)
  }

  /** A copy of what was written. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length)
  }

  /** What was written, valid only until the next write. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  #shortAscii(text: string): boolean {
    const length = text.length
    let at = this.#grow(length + 1)
    const bytes = this.#bytes
    bytes[at++] = length
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 0x7f) {
        this.#length -= length + 1
        return false
      }
      bytes[at++] = unit
    }
    return true
  }

  /** Makes room for `count` bytes and takes it; returns where it begins. */
  #grow(count: number): number {
    const at = this.#length
    const needed = at + count
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
      larger.set(this.#bytes.subarray(0, at))
      this.#bytes = larger
    }
    this.#length = needed
    return at
  }
}

/** Reads what a {@link ByteWriter} wrote. Throws `DbError` CORRUPT where the bytes don't fit. */
export class ByteReader {
  readonly #bytes: Uint8Array
  #offset: number
  readonly #end: number

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.#bytes = bytes
    this.#offset = offset
    this.#end = end
  }

  get offset(): number {
    return this.#offset
  }

  get remaining(): number {
    return this.#end - this.#offset
  }

  u8(): number {
    const at = this.#take(1)
    return this.#bytes[at] ?? 0
  }

  u32(): number {
    const at = this.#take(4)
    const bytes = this.#bytes
    const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16)
    return (low | ((bytes[at + 3] ?? 0) << 24)) >>> 0
  }

  f64(): number {
    const low = this.u32()
    const high = this.u32()
    scratch32[LOW] = low
    scratch32[HIGH] = high
    return scratchF64[0] ?? 0
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let count = 0; count < 8; count++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 128
    }
    throw new DbError('CORRUPT', `a number at byte ${this.#offset} is longer than 53 bits`)
  }

  zigzag64(): bigint {
    let low = 0
    let high = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.u8()
      const part = byte & 0x7f
      if (shift < 28) low |= part << shift
      else if (shift === 28) {
        low |= part << 28
        high |= part >>> 4
      } else high |= part << (shift - 32)
      if (byte < 0x80) {
        const sign = -(low & 1)
        scratch32[LOW] = (((low >>> 1) | (high << 31)) ^ sign) >>> 0
        scratch32[HIGH] = ((high >>> 1) ^ sign) >>> 0
        return scratch64[0] ?? 0n
      }
    }
    throw new DbError('CORRUPT', `an integer at byte ${this.#offset} is longer than 64 bits`)
  }

  utf8(): string {
    return this.text(this.varint())
  }

  /** The next `length` bytes as text. */
  text(length: number): string {
    const at = this.#take(length)
    const bytes = this.#bytes
    const short = length <= SHORT_TEXT_READ ? shortAscii(bytes, at, at + length) : undefined
    return short ?? decoder.decode(bytes.subarray(at, at + length))
  }

  /** Passes over the next bytes and says so, if they are these. */
  skipIf(expected: Uint8Array): boolean {
    const { length } = expected
    const at = this.#offset
    if (length > this.#end - at) return false
    const bytes = this.#bytes
    for (let i = 0; i < length; i++) if (bytes[at + i] !== expected[i]) return false
    this.#offset = at + length
    return true
  }

  /** A view into the bytes read from, not a copy. */
  bytes(): Uint8Array {
    return this.raw(this.varint())
  }

  /** A view of the next `length` bytes, not a copy. */
  raw(length: number): Uint8Array {
    const at = this.#take(length)
    return this.#bytes.subarray(at, at + length)
  }

  /** Throws unless everything was read. */
  expectEnd(): void {
    if (this.remaining === 0) return
    throw new DbError('CORRUPT', `${this.remaining} bytes are left over at byte ${this.#offset}`)
  }

  #take(count: number): number {
    const at = this.#offset
    if (count > this.#end - at) {
      throw new DbError('CORRUPT', `${count} bytes are wanted at byte ${at} of ${this.#end}`)
    }
    this.#offset = at + count
    return at
  }
}

/** Bytes as a text, undefined if they are not ASCII. Eight at a time: each piece is a text more. */
function shortAscii(bytes: Uint8Array, start: number, end: number): string | undefined {
  let text = ''
  let at = start
  for (; at + 8 <= end; at += 8) {
    const a = bytes[at] as number
    const b = bytes[at + 1] as number
    const c = bytes[at + 2] as number
    const d = bytes[at + 3] as number
    const e = bytes[at + 4] as number
    const f = bytes[at + 5] as number
    const g = bytes[at + 6] as number
    const h = bytes[at + 7] as number
    if ((a | b | c | d | e | f | g | h) > 0x7f) return undefined
    text += String.fromCharCode(a, b, c, d, e, f, g, h)
  }
  for (; at < end; at++) {
    const byte = bytes[at] as number
    if (byte > 0x7f) return undefined
    text += String.fromCharCode(byte)
  }
  return text
}

/** The message is made only here: making one for every number would cost more than writing it. */
function refuse(value: number | bigint, what: string): never {
  throw new AssertionError(`${value} is no ${what}`)
}

function varintLength(value: number): number {
  let length = 1
  for (let rest = value; rest > 0x7f; rest = Math.floor(rest / 128)) length++
  return length
}
