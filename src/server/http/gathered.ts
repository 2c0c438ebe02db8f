/**
 * Bytes that come in pieces of any size. However small the pieces are, what is kept takes no more
 * than about twice their length: a buffer of its own costs hundreds of bytes.
 */

/** From here on a piece is worth a buffer of its own. */
const LARGE_BYTES = 4096
const BLOCK_BYTES_MIN = 256
const BLOCK_BYTES_MAX = 64 * 1024

export class Gathered {
  #pieces: Buffer[] = []
  /** What small pieces are copied into, until it is full. */
  #block: Buffer | undefined
  #usedBytes = 0
  #sizeBytes = 0

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Keeps the first piece and large ones as they are: none may be a bit of a larger buffer. */
  push(piece: Buffer): void {
    this.#sizeBytes += piece.length
    const rest = this.#fillBlock(piece)
    if (rest.length === 0) return
    if (this.#pieces.length === 0 || rest.length >= LARGE_BYTES) {
      this.#pieces.push(rest)
      return
    }
    // As much again as there is, so that blocks stay few.
    const blockBytes = Math.max(BLOCK_BYTES_MIN, Math.min(BLOCK_BYTES_MAX, this.#sizeBytes))
    this.#block = Buffer.allocUnsafeSlow(blockBytes)
    this.#usedBytes = rest.copy(this.#block)
  }

  /** All of it; nothing is kept here from then on. */
  take(): Buffer {
    if (this.#block !== undefined) this.#pieces.push(this.#block.subarray(0, this.#usedBytes))
    const [first] = this.#pieces
    const isOne = this.#pieces.length === 1 && first !== undefined
    const whole = isOne ? first : Buffer.concat(this.#pieces, this.#sizeBytes)
    this.clear()
    return whole
  }

  clear(): void {
    this.#pieces = []
    this.#block = undefined
    this.#usedBytes = 0
    this.#sizeBytes = 0
  }

  /** What did not fit into the block. */
  #fillBlock(piece: Buffer): Buffer {
    if (this.#block === undefined) return piece
    const copiedBytes = piece.copy(this.#block, this.#usedBytes)
    this.#usedBytes += copiedBytes
    if (this.#usedBytes < this.#block.length) return piece.subarray(copiedBytes)
    this.#pieces.push(this.#block)
    this.#block = undefined
    return piece.subarray(copiedBytes)
  }
}
