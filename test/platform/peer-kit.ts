/** Nodes for the tests of the transport: an HTTP server on a free port, and a transport. */
import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { inspect } from 'node:util'
import type { Lane, Logger, MemberList, PeerHandler, PeerMember } from '../../src/base/ports.ts'
import { SystemClock } from '../../src/platform/clock.ts'
import type { NodeFacts } from '../../src/platform/handshake.ts'
import { PEER_LIMITS, type PeerLimits } from '../../src/platform/peer-limits.ts'
import { TcpPeerTransport } from '../../src/platform/peer-transport.ts'
import { Roster } from '../../src/platform/roster.ts'
import { SystemRandom } from '../../src/platform/random.ts'

export const SECRET = 'a-secret-that-must-never-be-logged-0123456789'

/** Fast paces, so that a test of a retry takes milliseconds. */
export const FAST_LIMITS: PeerLimits = {
  ...PEER_LIMITS,
  handshakeTimeoutMs: 1000,
  backoffMsMin: 5,
  backoffMsMax: 40,
  refusedMs: 60,
}

export interface LoggedLine {
  readonly level: keyof Logger
  readonly message: string
  readonly text: string
}

/** A logger that keeps what it is told, with errors spelled out. */
export function memoryLogger(): { logger: Logger; lines: LoggedLine[] } {
  const lines: LoggedLine[] = []
  const write =
    (level: keyof Logger) =>
    (facts: Readonly<Record<string, unknown>>, message: string): void => {
      const text = JSON.stringify(facts, (_key, value: unknown) =>
        value instanceof Error ? `${value.message} ${inspect(value)}` : value,
      )
      lines.push({ level, message, text })
    }
  const logger = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  }
  return { logger, lines }
}

/** Resolves when `condition` holds; fails with `what` at the deadline. */
export async function waitFor(
  condition: () => boolean,
  what: string,
  timeoutMs = 10_000,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs
  while (!condition()) {
    assert(performance.now() < deadlineMs, `not in ${timeoutMs} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

/** Keeps what a transport reports. */
export class Recorder implements PeerHandler {
  readonly frames: { from: number; lane: Lane; text: string; sizeBytes: number }[] = []
  readonly events: string[] = []
  /** Peers at whose addresses nobody listened. */
  readonly absent: number[] = []

  onFrame(from: number, lane: Lane, frame: Uint8Array): void {
    const text = Buffer.from(frame.subarray(0, 100)).toString()
    this.frames.push({ from, lane, text, sizeBytes: frame.length })
  }

  onConnected(peer: number, lane: Lane): void {
    this.events.push(`connected ${peer} ${lane}`)
  }

  onDisconnected(peer: number, lane: Lane): void {
    this.events.push(`disconnected ${peer} ${lane}`)
  }

  onAbsent(peer: number): void {
    this.absent.push(peer)
  }

  texts(lane: Lane): string[] {
    return this.frames.filter(frame => frame.lane === lane).map(frame => frame.text)
  }
}

/** An HTTP server that hands upgrades to whatever transport it has at the moment. */
export class Port {
  transport: TcpPeerTransport | undefined
  readonly #server: Server
  #port = 0

  constructor() {
    this.#server = createServer((_request, response) => response.writeHead(404).end())
    this.#server.on('upgrade', (request, socket, head) => {
      if (this.transport === undefined) socket.destroy()
      else this.transport.accept(request, socket, head)
    })
  }

  static async open(): Promise<Port> {
    const port = new Port()
    await port.listen()
    return port
  }

  async listen(): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(this.#port, '127.0.0.1', resolve))
    this.#port = (this.#server.address() as AddressInfo).port
  }

  get number(): number {
    return this.#port
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`
  }

  async close(): Promise<void> {
    this.transport?.stop()
    this.transport = undefined
    this.#server.closeAllConnections()
    if (this.#server.listening) await new Promise(resolve => this.#server.close(resolve))
  }
}

/** The member list of nodes 1, 2, … that listen at the ports. */
export function membersAt(ports: readonly Port[]): PeerMember[] {
  return ports.map((port, index) => ({
    raftId: index + 1,
    nodeId: `n${index + 1}`,
    address: port.address,
    incarnation: `disk-${index + 1}`,
  }))
}

/** What node `raftId` knows in a cluster of these members. */
export function factsOf(members: readonly PeerMember[], raftId: number): Omit<NodeFacts, 'bootId'> {
  const own = members.find(member => member.raftId === raftId)
  assert(own !== undefined)
  const { nodeId, incarnation, address } = own
  const build = 'sqlite 3.50'
  return {
    clusterId: 'c1',
    historyId: 'h1',
    groupIds: [1],
    nodeId,
    raftId,
    incarnation,
    address,
    starts: 1,
    build,
    options: { tickMs: 50 },
    secret: SECRET,
    roster: new Roster(listOf(members)),
  }
}

/** The list of these members, as their founding made it. */
export function listOf(members: readonly PeerMember[], index = 0): MemberList {
  const nextRaftId = 1 + Math.max(...members.map(({ raftId }) => raftId))
  return { index, members, nextRaftId }
}

/** A node that runs: its port, its transport, what that reported and logged. */
export class PeerNode {
  readonly recorder = new Recorder()
  readonly lines: LoggedLine[]
  readonly transport: TcpPeerTransport
  readonly port: Port
  /** Members that proved that this node was removed. */
  readonly removals: string[] = []

  constructor(port: Port, facts: Omit<NodeFacts, 'bootId'>, limits: PeerLimits = FAST_LIMITS) {
    const { logger, lines } = memoryLogger()
    this.lines = lines
    this.port = port
    const clock = new SystemClock()
    const random = new SystemRandom()
    this.transport = new TcpPeerTransport({
      facts,
      members: facts.roster.list,
      limits,
      clock,
      random,
      logger,
      onRemoved: by => this.removals.push(by.nodeId),
    })
    port.transport = this.transport
    this.transport.listen(this.recorder)
  }

  send(to: number, lane: Lane, text: string | Uint8Array): boolean {
    return this.transport.send(to, lane, typeof text === 'string' ? Buffer.from(text) : text)
  }

  isConnectedTo(peer: number): boolean {
    return this.transport.health(peer)?.isConnected === true
  }

  lastError(peer: number): string {
    return this.transport.health(peer)?.lastError?.message ?? ''
  }

  stop(): void {
    this.transport.stop()
  }
}
