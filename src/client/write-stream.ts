/**
 * A stream of writes to one node: each is a line, and the lines that come back answer them in their
 * order. When it breaks, those without an answer fail as single requests would.
 */
import { DbError } from '../base/errors.ts'
import { connectionError, type LineStream, readAnswer } from './transport.ts'

/** A write that goes down a stream. */
export interface StreamedWrite {
  /** JSON without a newline. */
  readonly line: string
  /** It has an id, so that it need not wait for a node that is not there any more. */
  readonly isNamed: boolean
  /** When nobody waits for the answer any more. */
  readonly deadlineMs: number
  readonly signal: AbortSignal | undefined
}

export interface WriteStreamParts {
  readonly url: string
  readonly stream: LineStream
  /** Breaks the connection. */
  readonly abort: () => void
  /** Resolves to false if the node doesn't even say that it lives. */
  readonly isAlive: () => Promise<boolean>
  /** It takes no more writes; because its answers are held back, if so. */
  readonly onClosed: (isHeldBack: boolean) => void
}

interface Waiting extends StreamedWrite {
  readonly resolve: (json: unknown) => void
  readonly reject: (error: unknown) => void
  readonly onAbort: () => void
  isSettled: boolean
}

/** An open connection keeps a program from ending, so an unused one is given up soon. */
const IDLE_MS = 100
/** How long the node may take then to end its answer. */
const END_MS = 1000
const TICK_MS = 50
/** A node that is silent for so long is asked whether it is there at all. */
const SILENCE_MS = 1500

export class WriteStream {
  readonly #parts: WriteStreamParts
  readonly #timer: ReturnType<typeof setInterval>
  /** Those without an answer, in the order of their lines. */
  readonly #waiting: Waiting[] = []
  /** Lines of this turn, which leave in one piece. */
  #unsent = ''
  #isClosed = false
  #isAsking = false
  #usedMs = performance.now()
  #heardMs = performance.now()

  constructor(parts: WriteStreamParts) {
    this.#parts = parts
    this.#timer = setInterval(() => this.#onTick(), TICK_MS)
    void this.#listen()
  }

  /** Resolves to the JSON of the answer. Rejects as a single request would. */
  send(write: StreamedWrite): Promise<unknown> {
    if (this.#unsent === '') soon(() => this.#flush())
    this.#unsent += `${write.line}\n`
    this.#usedMs = performance.now()
    if (this.#waiting.length === 0) this.#heardMs = this.#usedMs
    return new Promise((resolve, reject) => {
      const onAbort = (): void => this.#fail(waiting, connectionError(this.#parts.url, 'aborted'))
      const waiting: Waiting = { ...write, resolve, reject, onAbort, isSettled: false }
      this.#waiting.push(waiting)
      write.signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  #flush(): void {
    const text = this.#unsent
    this.#unsent = ''
    this.#parts.stream.write(text)
  }

  async #listen(): Promise<void> {
    const { url, stream } = this.#parts
    let rest = ''
    let failure: DbError | undefined
    try {
      for await (const piece of stream.answer) {
        this.#heardMs = performance.now()
        const lines = (rest + piece).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) this.#onLine(line)
      }
    } catch (error) {
      failure = error instanceof DbError ? error : connectionError(url, error)
    }
    this.#close()
    clearInterval(this.#timer)
    for (const waiting of this.#waiting) this.#fail(waiting, failure ?? notTaken(url))
    this.#parts.abort()
  }

  #onLine(line: string): void {
    const { url } = this.#parts
    const waiting = line.startsWith('{') ? this.#waiting.shift() : undefined
    // Whose the other answers are can't be known any more.
    if (waiting === undefined) throw connectionError(url, `a strange line: ${line.slice(0, 100)}`)
    let json: unknown
    try {
      json = readAnswer(url, line)
    } catch (error) {
      return this.#fail(waiting, error)
    }
    settle(waiting)
    waiting.resolve(json)
  }

  #fail(waiting: Waiting, error: unknown): void {
    settle(waiting)
    waiting.reject(error)
  }

  #close(isHeldBack = false): void {
    if (!this.#isClosed) this.#parts.onClosed(isHeldBack)
    this.#isClosed = true
  }

  #onTick(): void {
    const now = performance.now()
    for (const waiting of this.#waiting) {
      if (waiting.isSettled || waiting.deadlineMs > now) continue
      // It would have been answered by now: something between the node and here holds lines back.
      this.#close(true)
      this.#fail(waiting, connectionError(this.#parts.url, 'it took too long'))
    }
    if (this.#waiting.every(({ isSettled }) => isSettled)) this.#endUnused(now)
    else if (now - this.#heardMs > SILENCE_MS && !this.#isAsking) void this.#askIfAlive()
  }

  #endUnused(now: number): void {
    const unusedMs = now - this.#usedMs
    if (!this.#isClosed && unusedMs < IDLE_MS) return
    this.#close()
    // Nobody waits for the answers of those that were given up, nor long for the end of the others.
    if (this.#waiting.length > 0 || unusedMs > IDLE_MS + END_MS) this.#parts.abort()
    else this.#parts.stream.end()
  }

  async #askIfAlive(): Promise<void> {
    this.#isAsking = true
    const askedMs = performance.now()
    const isAlive = await this.#parts.isAlive()
    this.#isAsking = false
    if (isAlive || this.#heardMs > askedMs) {
      this.#heardMs = performance.now()
      return
    }
    // What can't be sent again can only wait.
    this.#close()
    for (const waiting of this.#waiting) {
      if (waiting.isNamed) this.#fail(waiting, silent(this.#parts.url))
    }
  }
}

function settle(waiting: Waiting): void {
  waiting.isSettled = true
  waiting.signal?.removeEventListener('abort', waiting.onAbort)
}

/** Once this turn is over; browsers know only timers. */
function soon(action: () => void): void {
  if (typeof setImmediate === 'function') setImmediate(action)
  else setTimeout(action, 0)
}

/** The node ended its answer properly: it has answered all that it took. */
function notTaken(url: string): DbError {
  const message = `${new URL(url).host} ended the stream and has not taken the write`
  return new DbError('SHUTTING_DOWN', message)
}

function silent(url: string): DbError {
  const message = `${new URL(url).host} does not answer, nor does it say that it lives`
  return new DbError('CONNECTION_LOST', message, { details: { isSilent: true } })
}
