/**
 * Where many writes of this client are on their way to one node, they go down a stream, which costs
 * both sides less than a request for each. A node, or a proxy before it, that answers no streams is
 * sent single requests.
 */
import { API_HEADER, API_VERSION, LINES_TYPE } from '../protocol/api-version.ts'
import type { LineStream, Transport } from './transport.ts'
import { type StreamedWrite, WriteStream } from './write-stream.ts'

/** So many writes on their way to one node are worth a stream. */
const BUSY_COUNT = 8
/** How long a node may take to begin its answer to a stream. */
const OPEN_MS = 1000
/** After a failure single requests are sent for so long, and twice as long after each other one. */
const REST_MS_MIN = 1000
const REST_MS_MAX = 60_000

export interface StreamsParts {
  readonly transport: Transport
  readonly url: (address: string) => string
  readonly isAlive: (address: string) => Promise<boolean>
}

export class Streams {
  readonly #parts: StreamsParts
  readonly #lanes = new Map<string, Lane>()

  constructor(parts: StreamsParts) {
    this.#parts = parts
  }

  /** The way of writes to a node. */
  lane(address: string): Lane {
    let lane = this.#lanes.get(address)
    if (lane === undefined) {
      lane = new Lane(this.#parts, address)
      this.#lanes.set(address, lane)
    }
    return lane
  }
}

class Lane {
  readonly #parts: StreamsParts
  readonly #address: string
  /** Writes on their way, in whichever manner. */
  #count = 0
  #stream: WriteStream | undefined
  #isOpening = false
  #restsUntilMs = 0
  #restMs = REST_MS_MIN

  constructor(parts: StreamsParts, address: string) {
    this.#parts = parts
    this.#address = address
  }

  /** A write is on its way from here on, until {@link end}. */
  begin(): void {
    this.#count += 1
    if (this.#count < BUSY_COUNT || this.#stream !== undefined || this.#isOpening) return
    if (performance.now() >= this.#restsUntilMs) void this.#open()
  }

  end(): void {
    this.#count -= 1
  }

  /** Sends a write down the stream; undefined if there is none, so that it must go by itself. */
  send(write: () => StreamedWrite): Promise<unknown> | undefined {
    return this.#stream?.send(write())
  }

  async #open(): Promise<void> {
    const { transport, url, isAlive } = this.#parts
    if (transport.openStream === undefined) return
    this.#isOpening = true
    const ended = new AbortController()
    const timer = setTimeout(() => ended.abort(), OPEN_MS)
    const headers = { [API_HEADER]: String(API_VERSION), 'content-type': LINES_TYPE }
    let opened: LineStream | undefined
    try {
      opened = await transport.openStream({ url: url(this.#address), headers }, ended.signal)
    } catch {
      // The single requests will say what is the matter.
    }
    clearTimeout(timer)
    this.#isOpening = false
    if (opened === undefined) {
      ended.abort()
      this.#restsUntilMs = performance.now() + this.#restMs
      this.#restMs = Math.min(REST_MS_MAX, 2 * this.#restMs)
      return
    }
    this.#restMs = REST_MS_MIN
    const stream = new WriteStream({
      url: url(this.#address),
      stream: opened,
      abort: () => ended.abort(),
      isAlive: () => isAlive(this.#address),
      onClosed: isHeldBack => {
        if (this.#stream === stream) this.#stream = undefined
        // Another one would be opened as well, and hold back as many writes to their deadlines.
        if (isHeldBack) this.#restsUntilMs = performance.now() + REST_MS_MAX
      },
    })
    this.#stream = stream
  }
}
