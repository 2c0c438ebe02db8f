/** Which node a request goes to: the leader where it is known, else one that last answered. */
import { DbError } from '../base/errors.ts'
import type { NodesResponse } from '../protocol/http-api.ts'

/** How long a node that failed is left alone while there are others; one that is silent longer. */
const REST_MS = 1000
const SILENT_REST_MS = 10_000

export class Nodes {
  readonly #scheme: string
  #addresses: readonly string[]
  #leader: string | undefined
  #next = 0
  readonly #restsUntil = new Map<string, number>()

  /** Addresses as `host:port` or as URL, all with one scheme. Throws INVALID_REQUEST. */
  constructor(nodes: readonly string[]) {
    const urls = nodes.map(toUrl)
    this.#addresses = urls.map(url => url.host)
    this.#scheme = urls[0]?.protocol ?? 'http:'
  }

  get leader(): string | undefined {
    return this.#leader
  }

  get addresses(): readonly string[] {
    return this.#addresses
  }

  url(address: string, path: string): string {
    return `${this.#scheme}//${address}${path}`
  }

  /** For writes and linearizable reads: the leader, else the node that answered last. */
  pickLeader(nowMs: number): string {
    return this.#leader ?? this.#pick(nowMs)
  }

  /** For reads that any node can answer: all nodes in turn. */
  pickAny(nowMs: number): string {
    this.#next += 1
    return this.#pick(nowMs)
  }

  #pick(nowMs: number): string {
    const count = this.#addresses.length
    for (let step = 0; step < count; step += 1) {
      const address = this.#addresses[(this.#next + step) % count] ?? ''
      if ((this.#restsUntil.get(address) ?? 0) <= nowMs) {
        this.#next = (this.#next + step) % count
        return address
      }
    }
    // All have failed a moment ago: in turn again, the caller waits between tries.
    this.#next = (this.#next + 1) % count
    return this.#addresses[this.#next] ?? ''
  }

  /** `address` failed to serve: others are asked for a while. */
  rest(address: string, nowMs: number, isSilent: boolean): void {
    this.#restsUntil.set(address, nowMs + (isSilent ? SILENT_REST_MS : REST_MS))
    if (this.#leader === address) this.#leader = undefined
  }

  answered(address: string): void {
    this.#restsUntil.delete(address)
  }

  /**
   * A node named the leader. One that failed a moment ago is not believed in: the others may not
   * have noticed yet that it is gone.
   */
  setLeader(address: string, nowMs: number): void {
    if ((this.#restsUntil.get(address) ?? 0) <= nowMs) this.#leader = address
    if (!this.#addresses.includes(address)) this.#addresses = [...this.#addresses, address]
  }

  /** `address` said that it does not lead. */
  isNoLeader(address: string): void {
    if (this.#leader === address) this.#leader = undefined
  }

  /** Takes over what a node says about its cluster. */
  learn(answer: NodesResponse, nowMs: number): void {
    const known = answer.nodes.map(node => node.address).filter(address => address !== '')
    const added = known.filter(address => !this.#addresses.includes(address))
    if (added.length > 0) this.#addresses = [...this.#addresses, ...added]
    if (answer.leader !== null) this.setLeader(answer.leader.address, nowMs)
  }
}

function toUrl(node: string): URL {
  const text = node.includes('://') ? node : `http://${node}`
  const url = URL.canParse(text) ? new URL(text) : undefined
  // A path would be lost without a word.
  if (url !== undefined && /^https?:$/.test(url.protocol) && url.pathname === '/') return url
  const message = `"${node}" is no address of a node; write host:port or http://host:port`
  throw new DbError('INVALID_REQUEST', message)
}
