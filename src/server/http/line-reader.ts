/**
 * Cuts a body into lines, however the packets tear it. A line that is over the limit is refused as
 * soon as that shows, and passed over to its end, so that the lines behind it can be read.
 */
import type { DbError } from '../../base/errors.ts'
import { Gathered } from './gathered.ts'
import { type ReceiveBudget, tooLarge, tooMuch } from './read-body.ts'

export type Line =
  | { readonly type: 'line'; readonly bytes: Buffer }
  /** It was too long, or came when too much was being received. */
  | { readonly type: 'refused'; readonly error: DbError }

const NEWLINE = 0x0a
const SPACE = 0x20
const NOTHING: Buffer = Buffer.alloc(0)

export class LineReader {
  readonly #maxBytes: number
  /** Of the bytes of unfinished lines. */
  readonly #budget: ReceiveBudget
  #chunk = NOTHING
  #at = 0
  /** The beginning of a line whose end has not come. */
  readonly #partial = new Gathered()
  #isPassingOver = false
  #isEnd = false
  #count = 0

  constructor(maxBytes: number, budget: ReceiveBudget) {
    this.#maxBytes = maxBytes
    this.#budget = budget
  }

  /** Lines that were given, or passed over; for whoever watches whether it moves on. */
  get count(): number {
    return this.#count
  }

  /** Some of a line is here, but not its end. */
  get hasPartial(): boolean {
    return this.#partial.sizeBytes > 0 || this.#isPassingOver
  }

  /** Something is here that was not looked at. */
  get hasInput(): boolean {
    return this.#at < this.#chunk.length
  }

  push(chunk: Buffer): void {
    const isDone = this.#at >= this.#chunk.length
    this.#chunk = isDone ? chunk : Buffer.concat([this.#chunk.subarray(this.#at), chunk])
    this.#at = 0
  }

  /** No more will come: what is there without a newline is the last line. */
  end(): void {
    this.#isEnd = true
  }

  /** Lets go of what is there. */
  close(): void {
    this.#chunk = NOTHING
    this.#at = 0
    this.#isPassingOver = false
    this.#letGo()
  }

  /** The next line that isn't blank; undefined if none is whole. */
  next(): Line | undefined {
    for (;;) {
      const line = this.#cut()
      if (line === undefined || line.type === 'refused' || !isBlank(line.bytes)) return line
    }
  }

  #cut(): Line | undefined {
    for (;;) {
      const newline = this.#chunk.indexOf(NEWLINE, this.#at)
      if (newline < 0) return this.#keepRest()
      const piece = this.#chunk.subarray(this.#at, newline)
      this.#at = newline + 1
      this.#count += 1
      const wasPassedOver = this.#isPassingOver
      this.#isPassingOver = false
      if (wasPassedOver) continue
      if (this.#partial.sizeBytes + piece.length > this.#maxBytes) {
        this.#letGo()
        return { type: 'refused', error: tooLarge(this.#maxBytes, 'line') }
      }
      return { type: 'line', bytes: this.#join(piece) }
    }
  }

  #keepRest(): Line | undefined {
    const rest = this.#chunk.subarray(this.#at)
    this.#chunk = NOTHING
    this.#at = 0
    const sizeBytes = this.#partial.sizeBytes + rest.length
    if (this.#isPassingOver || sizeBytes === 0) return undefined
    if (sizeBytes > this.#maxBytes) {
      return this.#passOver(tooLarge(this.#maxBytes, 'line'))
    }
    if (this.#isEnd) return { type: 'line', bytes: this.#join(rest) }
    if (rest.length === 0) return undefined
    if (!this.#budget.take(rest.length)) return this.#passOver(tooMuch())
    // Copied: the piece would keep alive the whole buffer that it was read into.
    this.#partial.push(Buffer.from(rest))
    return undefined
  }

  #passOver(error: DbError): Line {
    this.#letGo()
    this.#isPassingOver = !this.#isEnd
    return { type: 'refused', error }
  }

  #join(piece: Buffer): Buffer {
    const keptBytes = this.#partial.sizeBytes
    if (keptBytes === 0) return piece
    this.#budget.give(keptBytes)
    this.#partial.push(piece)
    return this.#partial.take()
  }

  #letGo(): void {
    this.#budget.give(this.#partial.sizeBytes)
    this.#partial.clear()
  }
}

function isBlank(bytes: Buffer): boolean {
  return bytes.every(byte => byte <= SPACE)
}
