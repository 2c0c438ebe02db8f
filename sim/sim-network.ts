/**
 * The PeerTransport port over a simulated network. Every node dials two connections (lanes) to every
 * other and only sends on them, as the real transport does. Within a connection frames stay in
 * order; a connection that breaks loses everything still under way.
 */
import type { Lane, PeerHandler, PeerTransport } from '../src/base/ports.ts'
import { assert } from '../src/base/assert.ts'
import type { SimProcess } from './sim-process.ts'
import type { SimRandom } from './sim-random.ts'
import type { World } from './world.ts'

export interface NetworkOptions {
  readonly delayMsMin: number
  /** Mean of the exponentially distributed part of the delay. */
  readonly delayMsMean: number
  readonly bytesPerMs: number
  /** A single frame vanishes, as when a queue inside the transport was full. */
  readonly dropProbability: number
  /** A frame arrives twice, if `mayRepeat` allows it. */
  readonly repeatProbability: number
  /** The connection breaks when a frame is sent. */
  readonly resetProbability: number
  readonly connectMsMean: number
  /** Silence after which a connection across a cut is given up. */
  readonly breakMsMin: number
  readonly breakMsMax: number
  /** Bytes under way on one lane before `send` refuses. */
  readonly queueBytesMax: number
}

/** What the network is told of the frames it carries. */
export interface FrameKnowledge {
  /** Whether it may arrive twice. */
  mayRepeat(frame: Uint8Array): boolean
  /** For the trace. */
  describe(frame: Uint8Array): string
}

/** A network without faults, for the phase in which everything must heal. */
export const CALM: NetworkOptions = {
  delayMsMin: 0.5,
  delayMsMean: 0.5,
  bytesPerMs: 1_000_000,
  dropProbability: 0,
  repeatProbability: 0,
  resetProbability: 0,
  connectMsMean: 5,
  breakMsMin: 500,
  breakMsMax: 1000,
  queueBytesMax: 64 * 1024 * 1024,
}

/** One direction of one lane between two lives. */
interface Connection {
  readonly from: Endpoint
  readonly to: Endpoint
  readonly lane: Lane
  isOpen: boolean
  /** Later frames never arrive before this. */
  lastArrivalMs: number
  /** When the sender's line is free again. */
  busyUntilMs: number
  queuedBytes: number
  /** What arrived at a cut and waits there, in order. */
  readonly held: Uint8Array[]
  isBreaking: boolean
}

const LANES: readonly Lane[] = ['control', 'data']

export class SimNetwork {
  readonly #world: World
  readonly #random: SimRandom
  readonly #frames: FrameKnowledge
  readonly #endpoints = new Map<number, Endpoint>()
  /** Directions that are cut, as `from>to`. */
  readonly #cuts = new Set<string>()
  readonly #slowdowns = new Map<string, number>()
  readonly #unpowered = new Set<number>()
  options: NetworkOptions

  constructor(world: World, options: NetworkOptions, frames: FrameKnowledge) {
    this.#world = world
    this.#random = world.random('network')
    this.#frames = frames
    this.options = options
  }

  /** Plugs in a new life of node `id`; the transport is its port. */
  attach(id: number, process: SimProcess): PeerTransport {
    assert(!this.#endpoints.has(id), `node ${id} is plugged in already`)
    const endpoint = new Endpoint(this, id, process)
    const others = this.#sorted()
    this.#unpowered.delete(id)
    this.#endpoints.set(id, endpoint)
    for (const other of others) {
      for (const lane of LANES) {
        this.#dial(endpoint, other.id, lane, 0)
        // Whoever is dialling in vain already finds it there at the next attempt.
        this.#dial(other, id, lane, 0)
      }
    }
    return endpoint
  }

  /** The process is gone, or all of the machine: its peers see their connections break. */
  detach(id: number, isPowerCut = false): void {
    const gone = this.#endpoints.get(id)
    if (gone === undefined) return
    if (isPowerCut) this.#unpowered.add(id)
    this.#endpoints.delete(id)
    gone.isGone = true
    for (const connection of gone.outgoing()) connection.isOpen = false
    for (const other of this.#sorted()) {
      for (const lane of LANES) {
        const connection = other.connectionTo(id, lane)
        if (connection !== undefined) this.#break(connection, 'connection reset', true)
      }
    }
  }

  /** Frames from `from` to `to` get through no more; the other direction is not touched. */
  cut(from: number, to: number): void {
    if (this.#cuts.has(key(from, to))) return
    this.#cuts.add(key(from, to))
    this.#world.note('net cut', from, to)
    for (const [sender, receiver] of [[from, to] as const, [to, from] as const]) {
      for (const lane of LANES) {
        const connection = this.#endpoints.get(sender)?.connectionTo(receiver, lane)
        if (connection !== undefined) this.#giveUpLater(connection)
      }
    }
  }

  heal(from: number, to: number): void {
    if (!this.#cuts.delete(key(from, to))) return
    this.#world.note('net heal', from, to)
    for (const lane of LANES) {
      const connection = this.#endpoints.get(from)?.connectionTo(to, lane)
      if (connection === undefined) continue
      const { held } = connection
      for (const frame of held.splice(0)) this.#launch(connection, frame)
    }
  }

  isCut(from: number, to: number): boolean {
    return this.#cuts.has(key(from, to))
  }

  /** Heals every cut and slow link. */
  healAll(): void {
    for (const cut of [...this.#cuts].sort()) {
      const [from, to] = cut.split('>')
      this.heal(Number(from), Number(to))
    }
    this.#slowdowns.clear()
  }

  /** When the last frame that is under way arrives. What was sent on a slow link stays slow. */
  get quietAtMs(): number {
    const connections = this.#sorted().flatMap(endpoint => endpoint.outgoing())
    return Math.max(this.#world.nowMs, ...connections.map(({ lastArrivalMs }) => lastArrivalMs))
  }

  /** Every frame from `from` to `to` takes this many times as long; 1 is normal. */
  slowDown(from: number, to: number, factor: number): void {
    this.#world.note('net slow', from, to, Math.round(factor))
    this.#slowdowns.set(key(from, to), factor)
  }

  /** Breaks what `from` has open to `to`; frames under way are lost. */
  reset(from: number, to: number): void {
    for (const lane of LANES) {
      const connection = this.#endpoints.get(from)?.connectionTo(to, lane)
      if (connection !== undefined) this.#break(connection, 'connection reset', false)
    }
  }

  /** @internal For `Endpoint`. */
  transmit(connection: Connection, frame: Uint8Array): boolean {
    const { from, to } = connection
    if (connection.queuedBytes + frame.length > this.options.queueBytesMax) {
      this.#world.note('net full', from.id, to.id, frame.length)
      return false
    }
    if (this.#random.chance(this.options.resetProbability)) {
      this.#break(connection, 'connection reset', false)
      return false
    }
    if (this.#random.chance(this.options.dropProbability)) {
      this.#world.note('net drop', from.id, to.id, frame.length)
      return true
    }
    // What was sent must not change when the sender uses its buffer again.
    const sent = frame.slice()
    this.#launch(connection, sent)
    if (this.#random.chance(this.options.repeatProbability) && this.#frames.mayRepeat(frame)) {
      this.#world.note('net repeat', from.id, to.id, frame.length)
      this.#launch(connection, sent)
    }
    return true
  }

  #launch(connection: Connection, frame: Uint8Array): void {
    const { from, to } = connection
    const { nowMs } = this.#world
    const { delayMsMin, delayMsMean, bytesPerMs } = this.options
    const factor = this.#slowdowns.get(key(from.id, to.id)) ?? 1
    const sentMs = Math.max(nowMs, connection.busyUntilMs) + (frame.length * factor) / bytesPerMs
    const delayMs = (delayMsMin + this.#random.exponential(delayMsMean)) * factor
    const arrivalMs = Math.max(connection.lastArrivalMs, sentMs + delayMs)
    connection.busyUntilMs = sentMs
    connection.lastArrivalMs = arrivalMs
    connection.queuedBytes += frame.length
    this.#world.after(arrivalMs - nowMs, () => this.#arrive(connection, frame), to.process)
  }

  #arrive(connection: Connection, frame: Uint8Array): void {
    const { from, to, lane } = connection
    connection.queuedBytes -= frame.length
    if (!connection.isOpen) return
    if (this.isCut(from.id, to.id) || connection.held.length > 0) {
      connection.held.push(frame)
      this.#giveUpLater(connection)
      return
    }
    this.#world.note('net frame', to.id, from.id, frame.length, () => {
      return `from ${from.id} ${lane} ${this.#frames.describe(frame)}`
    })
    to.handler?.onFrame(from.id, lane, frame)
  }

  /** A connection across a cut breaks after a while, unless the cut has healed by then. */
  #giveUpLater(connection: Connection): void {
    if (connection.isBreaking) return
    connection.isBreaking = true
    const { breakMsMin, breakMsMax } = this.options
    this.#world.after(this.#random.float(breakMsMin, breakMsMax), () => {
      connection.isBreaking = false
      const { from, to } = connection
      if (!this.isCut(from.id, to.id) && !this.isCut(to.id, from.id)) return
      this.#break(connection, 'no answer', false)
    })
  }

  #break(connection: Connection, reason: string, isRefused: boolean): void {
    if (!connection.isOpen) return
    connection.isOpen = false
    const { from, to, lane } = connection
    this.#world.note('net break', from.id, to.id)
    from.close(connection)
    // The owner hears of it as of anything else: later, when it looks. Until then it dials nobody
    // for this lane: the new connection would be told before the end of the old one.
    from.setDialling(to.id, lane, true)
    from.process.after(isRefused ? this.#random.exponential(1) : 0, () => {
      from.setDialling(to.id, lane, false)
      from.handler?.onDisconnected(to.id, lane, reason)
      this.#dial(from, to.id, lane, 0)
    })
  }

  #dial(from: Endpoint, to: number, lane: Lane, retries: number): void {
    const isNeeded = !from.isGone && from.connectionTo(to, lane) === undefined
    if (!isNeeded || from.isDialling(to, lane)) return
    from.setDialling(to, lane, true)
    const backoffMs = retries === 0 ? 0 : Math.min(200, 10 * 2 ** Math.min(retries, 5))
    const delayMs = this.#random.exponential(this.options.connectMsMean) + backoffMs
    from.process.after(delayMs, () => {
      from.setDialling(to, lane, false)
      const target = this.#endpoints.get(to)
      // The handshake needs both directions, though only one carries frames afterwards.
      const isReachable =
        target !== undefined && !this.isCut(from.id, to) && !this.isCut(to, from.id)
      if (!isReachable) {
        const isRefused = target === undefined && !this.#isSilenced(from.id, to)
        if (isRefused) from.handler?.onAbsent(to)
        this.#dial(from, to, lane, retries + 1)
        return
      }
      this.#world.note('net connect', from.id, to, retries)
      from.open({
        from,
        to: target,
        lane,
        isOpen: true,
        lastArrivalMs: this.#world.nowMs,
        busyUntilMs: 0,
        queuedBytes: 0,
        held: [],
        isBreaking: false,
      })
      from.handler?.onConnected(to, lane, retries)
    })
  }

  /** A machine without power, or behind a cut, does not even say that nobody is there. */
  #isSilenced(from: number, to: number): boolean {
    return this.#unpowered.has(to) || this.isCut(from, to) || this.isCut(to, from)
  }

  #sorted(): Endpoint[] {
    return [...this.#endpoints.values()].sort((left, right) => left.id - right.id)
  }
}

/** One life of a node on the network. */
class Endpoint implements PeerTransport {
  readonly #network: SimNetwork
  readonly #connections = new Map<string, Connection>()
  readonly #dialling = new Set<string>()
  readonly id: number
  readonly process: SimProcess
  handler: PeerHandler | undefined
  isGone = false

  constructor(network: SimNetwork, id: number, process: SimProcess) {
    this.#network = network
    this.id = id
    this.process = process
  }

  send(to: number, lane: Lane, frame: Uint8Array): boolean {
    const connection = this.connectionTo(to, lane)
    return connection !== undefined && this.#network.transmit(connection, frame)
  }

  /** Every machine of this network can reach every other one; the handshake is not simulated. */
  setMembers(): void {}

  listen(handler: PeerHandler): void {
    this.handler = handler
  }

  connectionTo(to: number, lane: Lane): Connection | undefined {
    return this.#connections.get(`${to}/${lane}`)
  }

  outgoing(): Connection[] {
    return [...this.#connections.values()]
  }

  open(connection: Connection): void {
    this.#connections.set(`${connection.to.id}/${connection.lane}`, connection)
  }

  close(connection: Connection): void {
    this.#connections.delete(`${connection.to.id}/${connection.lane}`)
  }

  isDialling(to: number, lane: Lane): boolean {
    return this.#dialling.has(`${to}/${lane}`)
  }

  setDialling(to: number, lane: Lane, isDialling: boolean): void {
    if (isDialling) this.#dialling.add(`${to}/${lane}`)
    else this.#dialling.delete(`${to}/${lane}`)
  }
}

function key(from: number, to: number): string {
  return `${from}>${to}`
}
