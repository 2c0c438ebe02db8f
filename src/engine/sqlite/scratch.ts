/** One buffer in which all messages of a process are built, one after another. */
import { ByteWriter } from '../../base/bytes.ts'

const CAPACITY_BYTES = 16_384
/** A buffer that one large message has made large is not kept. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024

let scratch = new ByteWriter(CAPACITY_BYTES)

/** The bytes that `write` writes. They stay only until the next message is built: copy or send. */
export function buildMessage(write: (writer: ByteWriter) => void): Uint8Array {
  scratch.reset()
  write(scratch)
  const bytes = scratch.view()
  if (bytes.length > KEPT_BYTES_MAX) scratch = new ByteWriter(CAPACITY_BYTES)
  return bytes
}
