/**
 * As much of HTTP/2 and gRPC as unary calls of a load generator need, on a bare socket: node:http2
 * costs several times as much, which on a small machine the server would miss. Many calls share a
 * connection, as in the peer's own client; what a turn of the loop sends leaves in one write.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'

/** Undefined: done. */
type OnDone = (error: string | undefined) => void

const FRAME_HEAD_BYTES = 9
const DATA = 0
const HEADERS = 1
const RST_STREAM = 3
const SETTINGS = 4
const PING = 6
const GOAWAY = 7
const WINDOW_UPDATE = 8
const END_STREAM = 0x1
const ACK = 0x1
const END_HEADERS = 0x4
const INITIAL_WINDOW_SIZE = 4
const WINDOW_BYTES = 0x7fffffff
const WINDOW_BYTES_DEFAULT = 0xffff

interface Call {
  readonly onDone: OnDone
  hasMessage: boolean
}

export class GrpcConnection {
  readonly #socket: Socket
  readonly #headers: Buffer
  readonly #calls = new Map<number, Call>()
  #received: Buffer = Buffer.alloc(0)
  #nextStream = 1
  #isCorked = false

  private constructor(socket: Socket, headers: Buffer) {
    this.#socket = socket
    this.#headers = headers
    socket.on('data', (data: Buffer) => this.#receive(data))
    socket.on('error', error => this.#failAll(error.message))
    socket.on('close', () => this.#failAll('the connection was closed'))
  }

  /** For calls of one method, such as /etcdserverpb.KV/Put. */
  static async open(address: string, method: string): Promise<GrpcConnection> {
    const [host = '', port = ''] = address.split(':')
    const socket = connect({ host, port: Number(port), noDelay: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    const settings = Buffer.alloc(6)
    settings.writeUInt16BE(INITIAL_WINDOW_SIZE, 0)
    settings.writeUInt32BE(WINDOW_BYTES, 2)
    const window = Buffer.alloc(4)
    window.writeUInt32BE(WINDOW_BYTES - WINDOW_BYTES_DEFAULT, 0)
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    socket.write(frame(SETTINGS, 0, 0, settings))
    socket.write(frame(WINDOW_UPDATE, 0, 0, window))
    return new GrpcConnection(socket, headerBlock(address, method))
  }

  /** At most so many calls at once that their bytes fit into the server's window of 64 KB. */
  call(message: Buffer, onDone: OnDone): void {
    const stream = this.#nextStream
    this.#nextStream += 2
    this.#calls.set(stream, { onDone, hasMessage: false })
    const prefix = Buffer.alloc(5)
    prefix.writeUInt32BE(message.length, 1)
    this.#cork()
    this.#socket.write(
      Buffer.concat([
        frame(HEADERS, END_HEADERS, stream, this.#headers),
        frame(DATA, END_STREAM, stream, Buffer.concat([prefix, message])),
      ]),
    )
  }

  close(): void {
    this.#calls.clear()
    this.#socket.destroy()
  }

  #cork(): void {
    if (this.#isCorked) return
    this.#isCorked = true
    this.#socket.cork()
    process.nextTick(() => {
      this.#isCorked = false
      this.#socket.uncork()
    })
  }

  #receive(data: Buffer): void {
    let bytes = this.#received.length === 0 ? data : Buffer.concat([this.#received, data])
    while (bytes.length >= FRAME_HEAD_BYTES) {
      const end = FRAME_HEAD_BYTES + bytes.readUIntBE(0, 3)
      if (bytes.length < end) break
      const [type = 0, flags = 0] = [bytes[3], bytes[4]]
      this.#take(type, flags, bytes.readUInt32BE(5), bytes.subarray(FRAME_HEAD_BYTES, end))
      bytes = bytes.subarray(end)
    }
    this.#received = bytes
  }

  #take(type: number, flags: number, stream: number, body: Buffer): void {
    if (type === SETTINGS && (flags & ACK) === 0) {
      this.#socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)))
    } else if (type === PING && (flags & ACK) === 0) {
      this.#socket.write(frame(PING, ACK, 0, body))
    } else if (type === GOAWAY) {
      this.#failAll(`the server goes away: ${body.toString('latin1', 8)}`)
    } else if (type === RST_STREAM) {
      this.#finish(stream, 'the server reset the call')
    } else if (type === DATA) {
      const call = this.#calls.get(stream)
      if (call !== undefined) call.hasMessage = true
    } else if (type === HEADERS && (flags & END_STREAM) !== 0) {
      // The status is compressed with a state of its own; a call that fails has no message.
      const isOk = this.#calls.get(stream)?.hasMessage === true
      this.#finish(stream, isOk ? undefined : `failed: ${body.toString('latin1')}`)
    }
  }

  #finish(stream: number, error: string | undefined): void {
    const call = this.#calls.get(stream)
    this.#calls.delete(stream)
    call?.onDone(error)
  }

  #failAll(error: string): void {
    // Who is told may begin another call.
    const streams = [...this.#calls.keys()]
    for (const stream of streams) this.#finish(stream, error)
  }
}

function frame(type: number, flags: number, stream: number, body: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUIntBE(body.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, body])
}

/** Header fields as HPACK literals that no table remembers, so that they are the same each time. */
export function headerBlock(authority: string, path: string): Buffer {
  const text = (value: string): Buffer =>
    Buffer.concat([Buffer.from([value.length]), Buffer.from(value)])
  return Buffer.concat([
    // `:method: POST` and `:scheme: http` stand in the static table.
    Buffer.from([0x83, 0x86]),
    Buffer.from([0x04]),
    text(path),
    Buffer.from([0x01]),
    text(authority),
    Buffer.from([0x0f, 0x10]),
    text('application/grpc'),
    Buffer.from([0x00]),
    text('te'),
    text('trailers'),
  ])
}
