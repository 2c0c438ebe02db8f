/**
 * Writes down Lockstep's streams, a line each, as its typed client sends them under load: up to 64
 * share a stream and a session. It reads just enough of the answers to see which are good.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { failure } from '../operations.ts'
import type { Failure } from '../../load.ts'
import type { Connection, Operation, Target } from '../operations.ts'
import { HttpConnection } from './http.ts'
import { ask, writeBody } from './lockstep.ts'

const SHARED_BY_MAX = 64
const GOOD = '{"results"'

type Done = (failure: Failure | undefined) => void

/** One POST under way in both directions. */
class LineSocket {
  readonly #socket: Socket
  readonly #session: string
  #sequence = 0
  #unsent = ''
  readonly #waiting: Done[] = []
  #received = ''

  private constructor(socket: Socket, session: string) {
    this.#socket = socket
    this.#session = session
    socket.on('data', (data: Buffer) => this.#receive(data))
    socket.on('error', error => this.#fail(error.message))
    socket.on('close', () => this.#fail('the connection was closed'))
  }

  static async open(address: string): Promise<LineSocket> {
    const http = await HttpConnection.open(address)
    const { session } = await ask<{ session: string }>(http, '/sessions', '{}')
    http.close()
    const [host = '', port = ''] = address.split(':')
    const socket = connect({ host, port: Number(port), noDelay: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    socket.write(
      'POST /execute HTTP/1.1\r\nhost: bench\r\ncontent-type: application/x-ndjson\r\n' +
        'transfer-encoding: chunked\r\n\r\n',
    )
    return new LineSocket(socket, session)
  }

  /** `body` is a JSON object. What is written within one turn leaves in one piece. */
  write(body: string, done: Done): void {
    if (this.#unsent === '') setImmediate(() => this.#flush())
    this.#sequence += 1
    this.#unsent += `${body.slice(0, -1)},"request":"${this.#session}/${this.#sequence}"}\n`
    this.#waiting.push(done)
  }

  close(): void {
    this.#socket.destroy()
  }

  #flush(): void {
    const text = this.#unsent
    this.#unsent = ''
    this.#socket.write(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`)
  }

  /** Nodes send whole lines in a chunk: what is none begins otherwise and frames them. */
  #receive(data: Buffer): void {
    const text = this.#received + data.toString('latin1')
    let at = 0
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', at)) {
      if (text[at] === '{') {
        const isGood = text.startsWith(GOOD, at)
        this.#answer(isGood ? undefined : failure(text.slice(at, end)))
      }
      at = end + 1
    }
    this.#received = text.slice(at)
  }

  #answer(failed: Failure | undefined): void {
    this.#waiting.shift()?.(failed)
  }

  #fail(text: string): void {
    for (const done of this.#waiting.splice(0)) done(failure(text))
  }
}

class StreamConnection implements Connection {
  readonly #lines: LineSocket

  constructor(lines: LineSocket) {
    this.#lines = lines
  }

  perform(operation: Operation, done: Done): void {
    const body = writeBody(operation)
    if (body === undefined) throw new Error(`${operation.type} does not go down a stream`)
    this.#lines.write(body, done)
  }

  close(): void {
    this.#lines.close()
  }
}

/** As many streams as are needed, each with up to 64 writes on their way. */
export async function connectLockstepStream(
  { address }: Target,
  count: number,
): Promise<Connection[]> {
  const needed = Math.ceil(count / SHARED_BY_MAX)
  const streams = await Promise.all(Array.from({ length: needed }, () => LineSocket.open(address)))
  return Array.from({ length: count }, (_, at) => {
    const lines = streams[at % needed]
    if (lines === undefined) throw new Error('there is no stream')
    return new StreamConnection(lines)
  })
}
