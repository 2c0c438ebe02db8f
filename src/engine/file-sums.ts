/** The checksums of a snapshot's file, made of its bytes as they come. */
import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { SNAPSHOT_CHUNK_BYTES, type SnapshotFile } from './snapshot.ts'

export class FileSums {
  readonly #hash = createHash('sha256')
  readonly #chunks: number[] = []
  /** Checksum of the last chunk as far as it has come, and how long it is. */
  #crc = 0
  #chunkBytes = 0
  #sizeBytes = 0

  /** The next bytes of the file. */
  add(bytes: Uint8Array): void {
    this.#hash.update(bytes)
    this.#sizeBytes += bytes.length
    for (let from = 0; from < bytes.length;) {
      const end = Math.min(bytes.length, from + SNAPSHOT_CHUNK_BYTES - this.#chunkBytes)
      this.#crc = crc32(bytes.subarray(from, end), this.#crc)
      this.#chunkBytes += end - from
      if (this.#chunkBytes === SNAPSHOT_CHUNK_BYTES) this.#endChunk()
      from = end
    }
  }

  /** Describes the file of this name, all of whose bytes have come. */
  describe(name: string): SnapshotFile {
    if (this.#chunkBytes > 0) this.#endChunk()
    const sha256 = this.#hash.digest('hex')
    return { name, sizeBytes: this.#sizeBytes, sha256, chunks: this.#chunks }
  }

  #endChunk(): void {
    this.#chunks.push(this.#crc)
    this.#crc = 0
    this.#chunkBytes = 0
  }
}
