/**
 * A network of TCP proxies, one before each node: it needs no rights. Who dials a node's peer
 * connection is read from its handshake; everybody else is a client. A way that is cut swallows
 * nothing: as under TCP the bytes wait, and pass when it is healed unless the connection has ended.
 */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { must } from '../../src/base/assert.ts'
import { freePorts } from '../../src/cli/local-cluster.ts'
import type { SimRandom } from '../../sim/sim-random.ts'
import { CLIENTS } from './network.ts'
import type { ChaosNetwork, Place, Weather } from './network.ts'

/** How long TCP waits before it sends a lost packet again, about. */
const RETRANSMISSION_MS = 220
/** Bytes that may wait on a slow way before its sender is held back. */
const WAITING_BYTES_MAX = 1 << 20
/** The dialer's name stands in the first message after the upgrade. */
const DIALER = /"from":\{[^{}]*"nodeId":"([^"]+)"/
const SNIFFED_BYTES_MAX = 8192

export class ProxyNetwork implements ChaosNetwork {
  readonly name = 'proxies'
  readonly whyNoWeather = undefined
  readonly #random: SimRandom
  readonly #servers = new Map<string, Server>()
  readonly #links = new Set<Link>()
  readonly #cuts = new Set<string>()
  readonly #weather = new Map<string, Weather>()

  constructor(random: SimRandom) {
    this.#random = random
  }

  async place(nodeId: string): Promise<Place> {
    const listen = must((await freePorts(1))[0])
    const server = createServer(client => this.#accept(client, nodeId, listen))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    this.#servers.set(nodeId, server)
    const { port } = server.address() as AddressInfo
    return { listen: `127.0.0.1:${listen}`, address: `127.0.0.1:${port}`, wrapper: [] }
  }

  async cut(from: string, to: string): Promise<void> {
    this.#cuts.add(wayOf(from, to))
  }

  async open(from: string, to: string): Promise<void> {
    this.#cuts.delete(wayOf(from, to))
    for (const link of this.#links) link.flow()
  }

  async slow(from: string, to: string, weather: Weather | undefined): Promise<void> {
    if (weather === undefined) this.#weather.delete(wayOf(from, to))
    else this.#weather.set(wayOf(from, to), weather)
  }

  async heal(): Promise<void> {
    this.#cuts.clear()
    this.#weather.clear()
    for (const link of this.#links) link.flow()
  }

  reset(nodeId: string): boolean {
    for (const link of this.#links) if (link.target === nodeId) link.end()
    return true
  }

  async close(): Promise<void> {
    for (const server of this.#servers.values()) server.close()
    for (const link of this.#links) link.close()
  }

  #accept(client: Socket, target: string, port: number): void {
    const server = connect(port, '127.0.0.1')
    const link = new Link(client, server, target, {
      isCut: (from, to) => this.#cuts.has(wayOf(from, to)),
      delayMs: (from, to) => this.#delayMs(from, to),
      ended: () => this.#links.delete(link),
    })
    this.#links.add(link)
  }

  #delayMs(from: string, to: string): number {
    const weather = this.#weather.get(wayOf(from, to))
    if (weather === undefined) return 0
    let delayMs = weather.delayMs + this.#random.float(0, weather.jitterMs)
    for (let wait = RETRANSMISSION_MS; this.#random.chance(weather.loss); wait *= 2) {
      delayMs += wait
    }
    return delayMs
  }
}

interface Ways {
  isCut(from: string, to: string): boolean
  delayMs(from: string, to: string): number
  ended(): void
}

/** One connection through a proxy. */
class Link {
  readonly target: string
  readonly #ways: Ways
  readonly #sockets: readonly [Socket, Socket]
  readonly #lanes: readonly [LinkLane, LinkLane]
  #dialer: string = CLIENTS
  /** What the dialer has sent so far; undefined once it is known who it is. */
  #sniffed: string | undefined = ''

  constructor(client: Socket, server: Socket, target: string, ways: Ways) {
    this.target = target
    this.#ways = ways
    this.#sockets = [client, server]
    client.on('data', (chunk: Buffer) => this.#sniff(chunk))
    const ask = {
      isCut: () => ways.isCut(this.#dialer, target),
      delayMs: () => ways.delayMs(this.#dialer, target),
    }
    const answer = {
      isCut: () => ways.isCut(target, this.#dialer),
      delayMs: () => ways.delayMs(target, this.#dialer),
    }
    this.#lanes = [new LinkLane(client, server, ask), new LinkLane(server, client, answer)]
    for (const socket of this.#sockets) {
      socket.setNoDelay(true)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => this.#closed())
    }
  }

  /** Lets through what waited for a cut to be healed. */
  flow(): void {
    for (const lane of this.#lanes) lane.flow()
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Breaks the connection. */
  end(): void {
    for (const socket of this.#sockets) {
      // Node waits for ever at its exit for what was on its way in a socket that was reset.
      const isIdle = !socket.connecting && socket.writableLength === 0 && !socket.writableEnded
      if (isIdle) socket.resetAndDestroy()
      else socket.destroy()
    }
  }

  #closed(): void {
    if (this.#sockets.every(({ destroyed }) => destroyed)) this.#ways.ended()
    else this.flow()
  }

  #sniff(chunk: Buffer): void {
    if (this.#sniffed === undefined) return
    this.#sniffed += chunk.toString('latin1')
    const isPeer = this.#sniffed.startsWith('GET /replicate')
    const [, dialer] = DIALER.exec(this.#sniffed) ?? []
    if (dialer !== undefined) this.#dialer = dialer
    if (dialer !== undefined || !isPeer || this.#sniffed.length > SNIFFED_BYTES_MAX) {
      this.#sniffed = undefined
    }
  }
}

interface Way {
  isCut(): boolean
  delayMs(): number
}

/** One direction of a connection: bytes, and the end behind them, arrive in their order. */
class LinkLane {
  readonly #from: Socket
  readonly #to: Socket
  readonly #way: Way
  readonly #waiting: { readonly chunk: Buffer; readonly dueMs: number }[] = []
  #waitingBytes = 0
  #lastDueMs = 0
  #timer: NodeJS.Timeout | undefined

  constructor(from: Socket, to: Socket, way: Way) {
    this.#from = from
    this.#to = to
    this.#way = way
    from.on('data', (chunk: Buffer) => {
      // Later bytes never overtake earlier ones, as on one TCP connection.
      this.#lastDueMs = Math.max(this.#lastDueMs, performance.now() + way.delayMs())
      this.#waiting.push({ chunk, dueMs: this.#lastDueMs })
      this.#waitingBytes += chunk.length
      if (this.#waitingBytes > WAITING_BYTES_MAX) from.pause()
      this.flow()
    })
  }

  /** Passes on what is due. */
  flow(): void {
    clearTimeout(this.#timer)
    if (this.#way.isCut()) return
    const nowMs = performance.now()
    for (;;) {
      const [first] = this.#waiting
      if (first === undefined) break
      if (first.dueMs > nowMs) {
        this.#timer = setTimeout(() => this.flow(), first.dueMs - nowMs)
        return
      }
      this.#to.write(first.chunk)
      this.#waiting.shift()
      this.#waitingBytes -= first.chunk.length
    }
    if (this.#from.destroyed) this.#to.destroySoon()
    else if (this.#from.isPaused()) this.#from.resume()
  }
}

function wayOf(from: string, to: string): string {
  return `${from} ${to}`
}
