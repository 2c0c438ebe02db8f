/**
 * What happened in a run: a hash over every event, by which two runs are shown to be the same, and
 * the last events as text for the one who has to understand a failure.
 */
import { hashText, mix } from './sim-random.ts'

/** Text of an event, made only if somebody reads it. */
export type Detail = string | (() => string)

interface TraceEvent {
  readonly timeMs: number
  readonly kind: string
  readonly node: number
  readonly a: number
  readonly b: number
  readonly detail: Detail | undefined
}

export interface TraceOptions {
  /** How many of the last events are kept as text. */
  readonly keptCount: number
  /** Called with the line of every event; for `--trace`. */
  readonly print?: (line: string) => void
}

export class Trace {
  readonly #options: TraceOptions
  readonly #kept: TraceEvent[] = []
  readonly #kinds = new Map<string, number>()
  readonly #counts = new Map<string, number>()
  #low = 0x9e3779b9
  #high = 0x7f4a7c15
  #count = 0

  constructor(options: TraceOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#count
  }

  /** 16 hex digits over everything added so far. */
  get hash(): string {
    return hex(this.#high) + hex(mix(this.#low))
  }

  /** How often each kind of event was added, by name: shows that a fault really happened. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts
  }

  /**
   * Adds an event of `node` (0: the world). `a` and `b` go into the hash, the detail's text doesn't,
   * since it is made only for a reader.
   */
  add(timeMs: number, kind: string, node: number, a = 0, b = 0, detail?: Detail): void {
    this.#count++
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
    this.#absorb(this.#hashOf(kind) ^ Math.imul(node, 0x9e3779b1))
    // Microseconds: both halves, because a run may be longer than 2^32 of them.
    const timeUs = Math.round(timeMs * 1000)
    this.#absorb(timeUs >>> 0)
    this.#absorb(Math.floor(timeUs / 2 ** 32) ^ Math.imul(a, 0x85ebca77))
    this.#absorb(b)
    const event: TraceEvent = { timeMs, kind, node, a, b, detail }
    this.#options.print?.(format(event))
    if (this.#options.keptCount > 0) this.#kept[this.#count % this.#options.keptCount] = event
  }

  /** The last events, oldest first. */
  lastLines(): string[] {
    const start = this.#kept.length < this.#options.keptCount ? 0 : this.#count + 1
    const lines: string[] = []
    for (let step = 0; step < this.#options.keptCount; step++) {
      const event = this.#kept[(start + step) % this.#options.keptCount]
      if (event !== undefined) lines.push(format(event))
    }
    return lines
  }

  #absorb(word: number): void {
    this.#low = mix(this.#low ^ word)
    this.#high = (Math.imul(this.#high, 31) + this.#low) >>> 0
  }

  #hashOf(kind: string): number {
    const known = this.#kinds.get(kind)
    if (known !== undefined) return known
    const hash = hashText(kind)
    this.#kinds.set(kind, hash)
    return hash
  }
}

function format(event: TraceEvent): string {
  const { detail } = event
  const text = typeof detail === 'function' ? detail() : (detail ?? `${event.a} ${event.b}`)
  const who = event.node === 0 ? '  ' : `n${event.node}`
  return `${event.timeMs.toFixed(3).padStart(12)} ${who} ${event.kind.padEnd(16)} ${text}`
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0')
}
