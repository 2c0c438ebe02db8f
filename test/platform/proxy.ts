/** A TCP proxy between two nodes that can hold back, cut and swallow what passes. */
import assert from 'node:assert/strict'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

interface Link {
  readonly client: Socket
  readonly target: Socket
  lane: string
}

/** After how many bytes each direction of a connection is cut. */
interface Cut {
  readonly askedBytes?: number
  readonly answeredBytes?: number
}

export class Proxy {
  /** Where to cut the connection of this number, counted from 0. */
  cut: (connection: number) => Cut = () => ({})
  /** Nothing passes in either direction, and nobody is told: the machine is gone. */
  isBlackHole = false
  /** Connections that were ever made through it. */
  connectionCount = 0
  /** Connections that were paused and are not closed yet. */
  pausedCount = 0
  readonly #server: Server
  readonly #links = new Set<Link>()

  private constructor(targetPort: number) {
    this.#server = createServer({ allowHalfOpen: false }, client => {
      const cut = this.cut(this.connectionCount)
      this.connectionCount += 1
      const target = connect(targetPort, '127.0.0.1')
      const link: Link = { client, target, lane: '' }
      this.#links.add(link)
      const end = (): void => {
        if (this.isBlackHole) return
        this.#links.delete(link)
        client.destroy()
        target.destroy()
      }
      client.on('error', end).on('close', end)
      target.on('error', end).on('close', end)
      client.on('data', (chunk: Buffer) => {
        // The lane stands in the hello, which is one small write of the dialer.
        link.lane ||= /"lane":"(\w+)"/.exec(chunk.toString('latin1'))?.[1] ?? ''
      })
      this.#forward(client, target, cut.askedBytes ?? Infinity, end)
      this.#forward(target, client, cut.answeredBytes ?? Infinity, end)
    })
  }

  static async open(targetPort: number): Promise<Proxy> {
    const proxy = new Proxy(targetPort)
    await new Promise<void>(resolve => proxy.#server.listen(0, '127.0.0.1', resolve))
    return proxy
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Stops reading from the dialer of the lane until the result is called. */
  pause(lane: string): () => void {
    const link = [...this.#links].find(link => link.lane === lane)
    assert(link !== undefined, `no connection of lane ${lane}`)
    link.client.pause()
    this.pausedCount += 1
    return () => {
      if (link.client.closed) this.pausedCount -= 1
      else link.client.once('close', () => (this.pausedCount -= 1))
      link.client.resume()
    }
  }

  /** Breaks all connections. */
  reset(): void {
    for (const { client, target } of this.#links) {
      client.resetAndDestroy()
      target.resetAndDestroy()
    }
  }

  close(): void {
    this.#server.close()
    this.reset()
  }

  #forward(from: Socket, to: Socket, limitBytes: number, end: () => void): void {
    let leftBytes = limitBytes
    from.on('data', (chunk: Buffer) => {
      if (this.isBlackHole) return
      if (chunk.length < leftBytes) to.write(chunk)
      else to.write(chunk.subarray(0, leftBytes), end)
      leftBytes -= chunk.length
    })
    if (limitBytes === 0) end()
  }
}
