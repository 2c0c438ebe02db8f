/**
 * Texts of SQL that came lately. Nearly all requests of a busy database repeat a few texts: to find
 * that bytes are those of one costs less than to make it anew; and as it is the same string, it is
 * found faster wherever it is looked up.
 */
import { ByteReader } from '../base/bytes.ts'

/** A power of two. */
const BUCKETS = 64
const BUCKET_TEXTS = 4
/** Longer ones are used once, as a rule. */
const LENGTH_MAX = 8 * 1024

interface Known {
  readonly bytes: Uint8Array
  readonly text: string
}

export class KnownTexts {
  /** By the length in bytes; in each bucket the newest first. */
  readonly #buckets: Known[][] = Array.from({ length: BUCKETS }, () => [])

  /** Reads a text as `ByteWriter.utf8` wrote it. */
  read(reader: ByteReader): string {
    const length = reader.varint()
    if (length > LENGTH_MAX) return reader.text(length)
    const bucket = this.#buckets[length % BUCKETS] ?? []
    for (const { bytes, text } of bucket) {
      if (bytes.length === length && reader.skipIf(bytes)) return text
    }
    const bytes = reader.raw(length).slice()
    const text = new ByteReader(bytes).text(length)
    bucket.unshift({ bytes, text })
    if (bucket.length > BUCKET_TEXTS) bucket.pop()
    return text
  }
}
