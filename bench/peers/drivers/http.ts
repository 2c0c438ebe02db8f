/**
 * An HTTP/1.1 client on a bare socket for one request at a time: no pipelining, no headers parsed
 * but the length. It costs a third of what node:http does, so that more of a small machine is left
 * for the server that is measured.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'

const HEAD_END = Buffer.from('\r\n\r\n')
const LINE_END = Buffer.from('\r\n')
const LENGTH = /\r\ncontent-length: *(\d+)/i
const CHUNKED = /\r\ntransfer-encoding: *chunked/i
const NOTHING: Buffer = Buffer.alloc(0)

/** `body` holds the chunks of a chunked answer with their sizes: enough to look into it. */
export type OnAnswer = (status: number, body: Buffer) => void

export class HttpConnection {
  readonly #socket: Socket
  #received = NOTHING
  #onAnswer: OnAnswer | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data: Buffer) => this.#receive(data))
    socket.on('error', error => this.#answer(0, Buffer.from(error.message)))
    socket.on('close', () => this.#answer(0, Buffer.from('the connection was closed')))
  }

  static async open(address: string): Promise<HttpConnection> {
    const [host = '', port = ''] = address.split(':')
    const socket = connect({ host, port: Number(port), noDelay: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return new HttpConnection(socket)
  }

  /** `headers` are whole lines, each with its end. Status 0: the connection is lost. */
  post(path: string, headers: string, body: string, onAnswer: OnAnswer): void {
    this.#onAnswer = onAnswer
    this.#socket.write(
      `POST ${path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n${headers}` +
        `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  }

  close(): void {
    this.#onAnswer = undefined
    this.#socket.destroy()
  }

  #receive(data: Buffer): void {
    this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data])
    const answer = parseAnswer(this.#received)
    if (answer === undefined) return
    this.#received = this.#received.subarray(answer.end)
    this.#answer(answer.status, answer.body)
  }

  #answer(status: number, body: Buffer): void {
    const onAnswer = this.#onAnswer
    this.#onAnswer = undefined
    onAnswer?.(status, body)
  }
}

interface Answer {
  readonly status: number
  readonly body: Buffer
  /** Bytes of the whole answer. */
  readonly end: number
}

/** Undefined while the answer isn't whole. */
export function parseAnswer(bytes: Buffer): Answer | undefined {
  const headEnd = bytes.indexOf(HEAD_END)
  if (headEnd < 0) return undefined
  const head = bytes.toString('latin1', 0, headEnd)
  const start = headEnd + HEAD_END.length
  const length = LENGTH.exec(head)?.[1]
  const isChunked = length === undefined && CHUNKED.test(head)
  const end = isChunked ? endOfChunks(bytes, start) : start + Number(length ?? 0)
  if (end === undefined || bytes.length < end) return undefined
  return { status: Number(head.slice(9, 12)), body: bytes.subarray(start, end), end }
}

function endOfChunks(bytes: Buffer, start: number): number | undefined {
  for (let at = start; ;) {
    const lineEnd = bytes.indexOf(LINE_END, at)
    if (lineEnd < 0) return undefined
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    at = lineEnd + LINE_END.length + size + LINE_END.length
    if (at > bytes.length) return undefined
    if (size === 0) return at
  }
}
