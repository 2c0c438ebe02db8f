/** A client of a stream on node:http: writes what it is told, and collects the answers. */
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'

/** An answer, as far as tests look into it. */
export interface LineAnswer {
  readonly results?: readonly { readonly rows?: readonly (readonly unknown[])[] }[]
  readonly index?: number
  readonly repeated?: true
  readonly error?: {
    readonly code: string
    readonly message: string
    readonly fate: string
    readonly details: Readonly<Record<string, unknown>>
  }
  readonly [field: string]: unknown
}

export class StreamClient {
  readonly answers: LineAnswer[] = []
  readonly request: ClientRequest
  readonly response: IncomingMessage
  /** Pieces in which the answers came. */
  pieces = 0
  /** The answer came to its proper end. */
  isWhole = false
  /** It came to any end. */
  isOver = false
  #rest = ''

  private constructor(sent: ClientRequest, response: IncomingMessage) {
    this.request = sent
    this.response = response
    response.setEncoding('utf8')
    response.on('data', (text: string) => this.#receive(text))
    response.on('end', () => (this.isWhole = response.complete))
    response.on('error', () => {})
    response.on('close', () => (this.isOver = true))
  }

  /** Resolves when the head of the answer is there. */
  static async open(url: string, agent = new Agent()): Promise<StreamClient> {
    const headers = { 'content-type': 'application/x-ndjson' }
    const sent = request(`${url}/execute`, { method: 'POST', headers, agent })
    sent.on('error', () => {})
    sent.flushHeaders()
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve)
      sent.once('error', reject)
    })
    return new StreamClient(sent, response)
  }

  get status(): number | undefined {
    return this.response.statusCode
  }

  /** One line for each, as JSON unless it is a text. */
  send(...lines: readonly unknown[]): void {
    const texts = lines.map(line => (typeof line === 'string' ? line : JSON.stringify(line)))
    this.request.write(texts.map(text => `${text}\n`).join(''))
  }

  #receive(text: string): void {
    this.pieces += 1
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) this.answers.push(JSON.parse(line) as LineAnswer)
  }
}
