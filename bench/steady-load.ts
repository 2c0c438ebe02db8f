/**
 * Writers that insert one row after the other by bare HTTP, without request ids and without a
 * second attempt, and remember when each was acknowledged and what failed. For what happens while
 * leadership changes hands: the longest time without an acknowledged write, and who was failed.
 */
import { Agent, request } from 'node:http'
import { must } from '../src/base/assert.ts'

export interface SteadyLoadOptions {
  readonly database: string
  readonly addresses: readonly string[]
  readonly writers: number
  /** Between an answer and the next request of a writer. */
  readonly pauseMs?: number
  /** Deadline that each write asks for. */
  readonly timeoutMs?: number
}

type Answer =
  | { readonly type: 'ok' }
  | { readonly type: 'failed'; readonly reason: string }
  /** Nobody listens there: the request was surely not sent. */
  | { readonly type: 'not-sent' }

const TABLE = 'CREATE TABLE IF NOT EXISTS steady (id INTEGER PRIMARY KEY, note TEXT NOT NULL)'

export class SteadyLoad {
  readonly #options: SteadyLoadOptions
  readonly #agent = new Agent({ keepAlive: true })
  /** Monotonic times at which writes were acknowledged. */
  readonly acknowledgedAtMs: number[] = []
  readonly acknowledged: number[] = []
  readonly failures: string[] = []
  /** Where writers send to; may be changed while they run. */
  addresses: readonly string[]
  #nextId = 1
  #isStopped = false
  #writers: Promise<void>[] = []

  constructor(options: SteadyLoadOptions) {
    this.#options = options
    this.addresses = options.addresses
  }

  /** Makes the table and lets the writers begin. */
  async start(): Promise<void> {
    const { database, writers } = this.#options
    const address = must(this.addresses[0])
    await this.#post(address, { action: 'create_db', database })
    const made = await this.#post(address, { database, sql: TABLE })
    if (made.type !== 'ok') throw new Error(`no table: ${JSON.stringify(made)}`)
    this.#writers = Array.from({ length: writers }, (_, at) => this.#write(at))
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#writers)
    this.#agent.destroy()
  }

  /** The longest time between two acknowledged writes from `fromMs` on. */
  longestGapMs(fromMs: number, toMs: number): number {
    const times = this.acknowledgedAtMs.filter(time => time >= fromMs && time <= toMs)
    const before = this.acknowledgedAtMs.findLast(time => time < fromMs) ?? fromMs
    const all = [before, ...times, toMs]
    return Math.max(...all.slice(1).map((time, at) => time - (all[at] ?? time)))
  }

  /** When the first write sent or not yet answered at `fromMs` was acknowledged. */
  nextAcknowledgedMs(fromMs: number): number | undefined {
    return this.acknowledgedAtMs.find(time => time > fromMs)
  }

  async #write(writer: number): Promise<void> {
    const { database, pauseMs = 0, timeoutMs = 10_000 } = this.#options
    for (let turn = writer; !this.#isStopped; turn += 1) {
      const id = this.#nextId
      this.#nextId += 1
      const sql = 'INSERT INTO steady (id, note) VALUES (?, ?)'
      const address = must(this.addresses[turn % this.addresses.length])
      const params = [id, 'some text that a row may hold']
      const answer = await this.#post(address, { database, sql, params, timeoutMs })
      if (answer.type === 'ok') {
        this.acknowledgedAtMs.push(performance.now())
        this.acknowledged.push(id)
      } else if (answer.type === 'failed') {
        this.failures.push(`${address}: ${answer.reason}`)
      }
      const waitMs = answer.type === 'ok' ? pauseMs : 5
      if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs))
    }
  }

  async #post(address: string, json: object): Promise<Answer> {
    const body = JSON.stringify(json)
    const [host = '', port = ''] = address.split(':')
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    }
    return new Promise(resolve => {
      const to = { host, port, path: '/execute', method: 'POST', headers, agent: this.#agent }
      const call = request(to, response => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (text += chunk))
        response.on('error', error => resolve({ type: 'failed', reason: error.message }))
        response.on('end', () => {
          const isOk = response.statusCode === 200
          resolve(isOk ? { type: 'ok' } : { type: 'failed', reason: text.slice(0, 300) })
        })
      })
      call.on('error', (error: NodeJS.ErrnoException) => {
        const isRefused = error.code === 'ECONNREFUSED'
        resolve(isRefused ? { type: 'not-sent' } : { type: 'failed', reason: error.message })
      })
      call.end(body)
    })
  }
}
