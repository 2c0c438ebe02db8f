/**
 * What two nodes say to each other before the first frame, as bytes. Each message is a JSON object
 * behind its length, so that a later version may add fields and an earlier one passes over them:
 *
 *     u16 length of the text, big-endian, at most HANDSHAKE_BYTES_MAX
 *     the JSON text in UTF-8
 *
 *     dialer                      acceptor
 *       hello      ------------>
 *                  <------------  challenge, or refuse
 *       proof      ------------>
 *                  <------------  accept, or refuse
 */
import * as z from 'zod'
import { DbError } from '../base/errors.ts'

/**
 * Version of the handshake and of the frames behind it that this build speaks. 2: members come and
 * go, so that cards tell address and history, and entries carry request ids.
 */
export const PROTOCOL_VERSION = 2

/** Oldest version that this build still speaks. */
export const PROTOCOL_VERSION_OLDEST = 2

/** Largest text of one message. An identity takes less than a quarter of it. */
const HANDSHAKE_BYTES_MAX = 4096

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`))
const name = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/)
const raftId = z.int().min(1)
const nonce = hex(32)
const mac = hex(32)

const card = z.object({
  clusterId: name,
  groupIds: z.array(z.int().min(0)).min(1).max(64),
  nodeId: name,
  raftId,
  incarnation: name,
  bootId: hex(16),
  /** How often the data directory was started. */
  starts: z.int().min(0),
  build: z.string().max(300),
  /** Of the data: another one after the cluster was recovered or restored. */
  historyId: name,
  /** Where the others reach this node. */
  address: z.string().max(300),
  /** Options that should be the same on every node. */
  options: z.record(z.string().max(60), z.union([z.number(), z.string().max(100)])),
})

const message = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    version: z.int().min(1),
    oldestVersion: z.int().min(1),
    lane: z.enum(['control', 'data']),
    nonce,
    /** Whom the dialer believes to reach. */
    to: z.object({ nodeId: name, raftId, incarnation: name }),
    from: card,
  }),
  z.object({ type: z.literal('challenge'), version: z.int().min(1), nonce }),
  z.object({ type: z.literal('proof'), mac }),
  /** `card` is the acceptor's card as text, because the MAC is made over these very bytes. */
  z.object({ type: z.literal('accept'), card: z.string(), mac }),
  /** With a MAC if the acceptor is sure who the dialer is: what lasts is believed only then. */
  z.object({
    type: z.literal('refuse'),
    code: z.string().max(40),
    message: z.string().max(1000),
    mac: mac.optional(),
  }),
])

/** How a node introduces itself; nothing in it is secret. */
export type Card = z.infer<typeof card>

export type HandshakeMessage = z.infer<typeof message>
export type HandshakeMessageOf<T extends HandshakeMessage['type']> = Extract<
  HandshakeMessage,
  { type: T }
>

/** The text of a message, without its length. */
export function encodeMessage(value: HandshakeMessage): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

/** Throws INVALID_REQUEST if the text is not a message of the type that must come now. */
export function decodeMessage<T extends HandshakeMessage['type']>(
  text: Uint8Array,
  ...types: readonly T[]
): HandshakeMessageOf<T> {
  const parsed = message.safeParse(parseJson(text))
  if (parsed.success && types.some(type => type === parsed.data.type)) {
    return parsed.data as HandshakeMessageOf<T>
  }
  throw new DbError('INVALID_REQUEST', `the peer sent something else than ${types.join(' or ')}`)
}

/** Throws INVALID_REQUEST if the text is no card. */
export function decodeCard(text: string): Card {
  const parsed = card.safeParse(parseJson(Buffer.from(text)))
  if (parsed.success) return parsed.data
  throw new DbError('INVALID_REQUEST', 'the peer did not introduce itself in a known form')
}

function parseJson(text: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(text).toString('utf8'))
  } catch {
    // Not JSON is one more way of not being a message; the caller says so.
    return undefined
  }
}

/** The text of a message behind its length, as it goes over the wire. */
export function frameMessage(text: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(2 + text.length)
  bytes.writeUInt16BE(text.length)
  bytes.set(text, 2)
  return bytes
}

/** Cuts the beginning of a stream into messages and keeps what follows them. */
export class MessageReader {
  #bytes: Buffer = Buffer.alloc(0)

  push(chunk: Uint8Array): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
  }

  /** The next complete message, or undefined. Throws INVALID_REQUEST if it is too long. */
  next(): Uint8Array | undefined {
    if (this.#bytes.length < 2) return undefined
    const length = this.#bytes.readUInt16BE()
    if (length > HANDSHAKE_BYTES_MAX) {
      throw new DbError(
        'INVALID_REQUEST',
        `the peer announced ${length} bytes in the handshake, allowed are ${HANDSHAKE_BYTES_MAX}`,
      )
    }
    if (this.#bytes.length < 2 + length) return undefined
    const text = this.#bytes.subarray(2, 2 + length)
    this.#bytes = this.#bytes.subarray(2 + length)
    return text
  }

  /** What came after the last message. */
  rest(): Uint8Array {
    return this.#bytes
  }
}
