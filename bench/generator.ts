/**
 * The load generator, a process of its own: so many connections, each with one request on its way
 * (no pipelining, no batching), over bare sockets, so that it costs little beside the server. It
 * reads a plan from its first argument and writes what it measured as JSON to stdout.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { latencies } from './latencies.ts'

/** What to send. `{id}` in the body becomes a number that no other request of the run has. */
export interface Plan {
  readonly addresses: readonly string[]
  readonly connections: number
  readonly durationMs: number
  readonly warmUpMs: number
  readonly path: string
  readonly body: string
  readonly firstId: number
  /** How many ids one request takes: `{id}`, `{id+1}`, … in its body. */
  readonly idsPerRequest: number
  /** Ids wrap around after so many, for reads of rows that are there; 0 for writes. */
  readonly idsTotal: number
}

export interface Measured {
  readonly requests: number
  readonly errors: number
  /** Texts of some different errors. */
  readonly samples: readonly string[]
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
  readonly cpuMicros: number
  /** Ids from `firstId` on that were used up. */
  readonly idsUsed: number
}

const HEAD_END = Buffer.from('\r\n\r\n')
const LENGTH = /content-length: *(\d+)/i

class Connection {
  readonly #socket: Socket
  readonly #plan: Plan
  readonly #nextBody: () => string
  readonly #onAnswer: (status: number, startedMs: number, body: string) => void
  #startedMs = 0
  #received: Buffer = Buffer.alloc(0)
  isStopped = false
  onStopped: () => void = () => {}

  constructor(
    plan: Plan,
    address: string,
    nextBody: () => string,
    onAnswer: (status: number, startedMs: number, body: string) => void,
  ) {
    this.#plan = plan
    this.#nextBody = nextBody
    this.#onAnswer = onAnswer
    const [host, port] = address.split(':')
    this.#socket = connect({ host: host ?? '', port: Number(port), noDelay: true })
    this.#socket.on('connect', () => this.#send())
    this.#socket.on('data', data => this.#receive(Buffer.from(data)))
    this.#socket.on('error', error => {
      throw error
    })
  }

  #send(): void {
    if (this.isStopped) {
      this.#socket.destroy()
      this.onStopped()
      return
    }
    const body = this.#nextBody()
    this.#startedMs = performance.now()
    const length = Buffer.byteLength(body)
    this.#socket.write(
      `POST ${this.#plan.path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n` +
        `content-length: ${length}\r\n\r\n${body}`,
    )
  }

  #receive(data: Buffer): void {
    this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data])
    const headEnd = this.#received.indexOf(HEAD_END)
    if (headEnd < 0) return
    const head = this.#received.toString('latin1', 0, headEnd)
    const length = Number(LENGTH.exec(head)?.[1] ?? 0)
    const end = headEnd + HEAD_END.length + length
    if (this.#received.length < end) return
    const status = Number(head.slice(9, 12))
    const body = status === 200 ? '' : this.#received.toString('utf8', headEnd + 4, end)
    this.#received = this.#received.subarray(end)
    this.#onAnswer(status, this.#startedMs, body)
    this.#send()
  }
}

async function run(plan: Plan): Promise<Measured> {
  let nextId = plan.firstId
  const nextBody = (): string => {
    const first = nextId
    nextId += plan.idsPerRequest
    return plan.body.replaceAll(/\{id(?:\+(\d+))?\}/g, (_match, plus: string | undefined) => {
      const id = first + Number(plus ?? 0)
      return String(plan.idsTotal === 0 ? id : (id % plan.idsTotal) + 1)
    })
  }
  const recorded = latencies()
  const samples = new Set<string>()
  let errors = 0
  let isMeasuring = false
  const onAnswer = (status: number, startedMs: number, body: string): void => {
    if (!isMeasuring) return
    if (status === 200) {
      recorded.add(performance.now() - startedMs)
      return
    }
    errors += 1
    if (samples.size < 3) samples.add(body.slice(0, 300))
  }
  const connections = Array.from({ length: plan.connections }, (_, at) => {
    const address = plan.addresses[at % plan.addresses.length] ?? ''
    return new Connection(plan, address, nextBody, onAnswer)
  })
  await new Promise(resolve => setTimeout(resolve, plan.warmUpMs))
  isMeasuring = true
  const startedMs = performance.now()
  const cpuBefore = process.cpuUsage()
  await new Promise(resolve => setTimeout(resolve, plan.durationMs))
  isMeasuring = false
  const seconds = (performance.now() - startedMs) / 1000
  const cpu = process.cpuUsage(cpuBefore)
  await Promise.all(
    connections.map(
      connection =>
        new Promise<void>(resolve => {
          connection.onStopped = resolve
          connection.isStopped = true
        }),
    ),
  )
  return {
    requests: recorded.count,
    errors,
    samples: [...samples],
    seconds,
    p50Ms: recorded.percentile(50),
    p99Ms: recorded.percentile(99),
    p999Ms: recorded.percentile(99.9),
    maxMs: recorded.percentile(100),
    cpuMicros: cpu.user + cpu.system,
    idsUsed: nextId - plan.firstId,
  }
}

const measured = await run(JSON.parse(process.argv[2] ?? '') as Plan)
process.stdout.write(JSON.stringify(measured))
