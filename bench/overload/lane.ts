/**
 * One connection that many requests share without waiting for each other: pipelined over HTTP, or as
 * lines of a stream. Answers come in the order of the requests. A connection that is lost is opened
 * again; what was under way on it has an unknown fate.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { parseAnswers } from './answers.ts'
import type { Answered } from './answers.ts'

/** Writes by HTTP or by streams. */
export type WriteDoor = 'http' | 'stream'
/** Or point reads by HTTP. */
export type Door = WriteDoor | 'reads'

/** Told of each request, in order. */
export type OnAnswer = (id: number, intendedMs: number, answered: Answered) => void

export interface LaneParts {
  readonly door: Door
  readonly address: string
  /** Requests on their way at most: 64 for each session. */
  readonly depth: number
  readonly sessions: readonly string[]
  readonly onAnswer: OnAnswer
  /** It can be used, for the first time or again. */
  readonly onOpen: (lane: Lane) => void
}

/** Numbers of one session that may be on their way at once. */
export const SESSION_WINDOW = 64
const REOPEN_MS = 100
const ROW = `"some text that a row may hold",42]`
const INSERT = `{"database":"bench","sql":"INSERT INTO t (id, a, b) VALUES (?, ?, ?)","params":[`
const SELECT =
  `{"database":"bench","consistency":"local",` +
  `"sql":"SELECT id, a, b FROM t WHERE id = ?","params":[`
const QUERY_HEAD = 'POST /query HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n'
/** Rows that are read: those that the first load wrote. */
const READ_ROWS = 10_000
const STREAM_HEAD =
  'POST /execute HTTP/1.1\r\nhost: bench\r\ncontent-type: application/x-ndjson\r\n' +
  'transfer-encoding: chunked\r\n\r\n'

/** Numbers in the order in which they came, at most so many. */
class Ring {
  readonly #values: Float64Array
  #first = 0
  #count = 0

  constructor(countMax: number) {
    this.#values = new Float64Array(countMax)
  }

  push(value: number): void {
    this.#values[(this.#first + this.#count) % this.#values.length] = value
    this.#count += 1
  }

  shift(): number {
    const value = this.#values[this.#first] ?? 0
    this.#first = (this.#first + 1) % this.#values.length
    this.#count -= 1
    return value
  }
}

export class Lane {
  readonly #parts: LaneParts
  readonly #ids: Ring
  readonly #intended: Ring
  #socket: Socket | undefined
  #isOpen = false
  #isEnded = false
  #count = 0
  #number = 0
  #unsent = ''
  #received = ''
  /** Times that the connection was lost. */
  losses = 0

  constructor(parts: LaneParts) {
    this.#parts = parts
    this.#ids = new Ring(parts.depth)
    this.#intended = new Ring(parts.depth)
    this.#open()
  }

  /** Requests on their way. */
  get count(): number {
    return this.#count
  }

  get hasRoom(): boolean {
    return this.#isOpen && this.#count < this.#parts.depth
  }

  /** Adds a request to those that leave with the next {@link flush}. There must be room. */
  add(id: number, intendedMs: number): void {
    const { door, sessions } = this.#parts
    // Answers come in order, so that of a session's numbers never more than its window are open.
    const window = Math.floor(this.#number / SESSION_WINDOW)
    const session = sessions[window % sessions.length] ?? ''
    const earlier = Math.floor(window / sessions.length) * SESSION_WINDOW
    const request = `${session}/${earlier + (this.#number % SESSION_WINDOW) + 1}`
    this.#number += 1
    this.#count += 1
    this.#ids.push(id)
    this.#intended.push(intendedMs)
    if (door === 'stream') {
      this.#unsent += `${INSERT}${id},${ROW},"request":"${request}"}\n`
      return
    }
    if (door === 'reads') {
      const body = `${SELECT}${1 + (id % READ_ROWS)}]}`
      this.#unsent += `${QUERY_HEAD}content-length: ${body.length}\r\n\r\n${body}`
      return
    }
    const body = `${INSERT}${id},${ROW}}`
    this.#unsent +=
      'POST /execute HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n' +
      `lockstep-request: ${request}\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  }

  /** What was added leaves in one piece. */
  flush(): void {
    const text = this.#unsent
    this.#unsent = ''
    if (text === '') return
    const isStream = this.#parts.door === 'stream'
    this.#socket?.write(isStream ? `${text.length.toString(16)}\r\n${text}\r\n` : text, 'latin1')
  }

  /** Gives up the connection; what is under way has no answer. */
  close(): void {
    this.#isEnded = true
    this.#socket?.destroy()
    this.#lost()
  }

  #open(): void {
    const [host = '', port = ''] = this.#parts.address.split(':')
    const socket = connect({ host, port: Number(port), noDelay: true })
    this.#socket = socket
    socket.setEncoding('latin1')
    socket.on('connect', () => {
      if (this.#parts.door === 'stream') socket.write(STREAM_HEAD)
      this.#isOpen = true
      this.#parts.onOpen(this)
    })
    socket.on('data', text => this.#receive(String(text)))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#reopen())
  }

  #reopen(): void {
    if (this.#isEnded) return
    this.losses += 1
    this.#lost()
    setTimeout(() => {
      if (!this.#isEnded) this.#open()
    }, REOPEN_MS)
  }

  #lost(): void {
    this.#isOpen = false
    this.#unsent = ''
    this.#received = ''
    while (this.#count > 0) this.#answer({ code: 'CONNECTION_LOST', fate: 'unknown' })
  }

  #receive(text: string): void {
    this.#received = parseAnswers(this.#parts.door, this.#received + text, answered => {
      if (this.#count > 0) this.#answer(answered)
    })
  }

  #answer(answered: Answered): void {
    this.#count -= 1
    this.#parts.onAnswer(this.#ids.shift(), this.#intended.shift(), answered)
  }
}
