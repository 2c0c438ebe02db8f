/**
 * A stream: many requests in the body of one `POST /execute`, a line of JSON each, answered in
 * their order while more of them come in. So a busy client does not pay for HTTP each time.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { DbError, ERRORS } from '../../base/errors.ts'
import { LINES_TYPE } from '../../protocol/api-version.ts'
import { type LineId, parseLine } from '../../protocol/parse-line.ts'
import type { ExecuteRequest } from '../../protocol/parse-request.ts'
import { KEY_HEADER, REQUEST_HEADER } from '../../protocol/request-id.ts'
import { entryNow, type HandlerContext, type OpenStream, refuseEncoding } from './answers.ts'
import { type Asker, errorText, type Exchange } from './exchange.ts'
import type { Comer } from './crowd.ts'
import { execute } from './execute.ts'
import { type Line, LineReader } from './line-reader.ts'
import { refuseOverload } from './overload.ts'
import { parseBody } from './read-body.ts'
import { decodeId } from './request-header.ts'

/**
 * Lines that are taken and whose answers the client has not been sent, and what they and their
 * answers may take together: beyond, nothing is read until the client has taken some.
 */
const OPEN_LINES_MAX = 1024
const OPEN_BYTES_MAX = 4 * 1024 * 1024
/**
 * What the answer to a line is reckoned with while it is unknown: so much at first, then what the
 * last ones had, and all of it as soon as one has more.
 */
const EXPECTED_BYTES = 64 * 1024
const EXPECTED_WEIGHT = 1 / 8
/**
 * Answers that turn out larger than was reckoned can't be taken back. A stream that holds so much
 * is cut: its client asks for what became of its lines, or sends them again.
 */
const HELD_BYTES_MAX = 64 * 1024 * 1024
/** How long a client is listened to that was told that its stream is over. */
const LINGER_MS = 1000

/** True for a request whose body is lines. */
export function isStream({ headers }: IncomingMessage): boolean {
  const type = headers['content-type'] ?? ''
  return type === LINES_TYPE || /^application\/x-ndjson\s*(;|$)/i.test(type)
}

/** Answers the lines of a body one by one. Throws if it can't begin. */
export function executeStream(exchange: Exchange, context: HandlerContext): void {
  const { headers, httpVersion } = exchange.request
  refuseEncoding(exchange)
  if (httpVersion !== '1.1') {
    // There a node that died looks like the end of an answer: lines would be held for not taken.
    const message = `a stream needs HTTP/1.1, not ${httpVersion}; a proxy between, too`
    throw new DbError('INVALID_REQUEST', message)
  }
  if (headers[REQUEST_HEADER] !== undefined || headers[KEY_HEADER] !== undefined) {
    const message = 'each line of a stream has its own id, in the field request or idempotencyKey'
    throw new DbError('INVALID_REQUEST', message)
  }
  if (context.isDraining()) throw stopping()
  context.streams.add(new ExecuteStream(exchange, context))
}

/** One line from its reading to its answer, in a chain with those behind it. */
class LineAsker implements Asker {
  readonly route = 'execute'
  next: LineAsker | undefined
  /** What it holds of memory: its own length, then its answer's. */
  sizeBytes: number
  text: string | undefined
  readonly #startedMs = performance.now()
  readonly #onAnswer: (line: LineAsker, status: number) => void

  constructor(sizeBytes: number, onAnswer: (line: LineAsker, status: number) => void) {
    this.sizeBytes = sizeBytes
    this.#onAnswer = onAnswer
  }

  get durationMs(): number {
    return performance.now() - this.#startedMs
  }

  sendJson(json: string | readonly Buffer[]): void {
    this.#answer(typeof json === 'string' ? json : json.join(''), 200)
  }

  sendError(error: DbError): void {
    this.#answer(errorText(error), ERRORS[error.code].http)
  }

  #answer(text: string, status: number): void {
    this.text = text
    this.#onAnswer(this, status)
  }
}

/** A read, which waits for the lines before it, and for which those behind it wait. */
interface Read {
  readonly line: LineAsker
  readonly id: LineId
  readonly request: ExecuteRequest
  isBegun: boolean
}

class ExecuteStream implements OpenStream, Comer {
  readonly #exchange: Exchange
  readonly #context: HandlerContext
  readonly #response: ServerResponse
  readonly #reader: LineReader
  readonly #watch: NodeJS.Timeout
  /** Lines that are not sent their answers, in order. */
  #first: LineAsker | undefined
  #last: LineAsker | undefined
  #openCount = 0
  #openBytes = 0
  /** Of these, lines without an answer. */
  #unanswered = 0
  #expectedBytes = EXPECTED_BYTES
  #read: Read | undefined
  /** Why no more lines are taken. */
  #refusal: DbError | undefined
  #isBodyEnded = false
  /** Nothing is left to be answered, and no more lines are taken. */
  #isClosing = false
  #isOver = false
  #isFlushDue = false
  #isBlocked = false
  /** This turn of the event loop has no time left for more lines. */
  #isOutOfTurn = false
  /** It waits because too many writes do. */
  #isInCrowd = false
  /** The answer to the lines that had come when it was let in. */
  #crowdRefusal: DbError | undefined
  /** It takes its lines while it is let in. */
  readonly expectedCount = 0
  /** When it was last seen to move on, and at which line that was. */
  #movedMs = performance.now()
  #movedCount = 0

  constructor(exchange: Exchange, context: HandlerContext) {
    this.#exchange = exchange
    this.#context = context
    this.#reader = new LineReader(context.options.maxBodyBytes, context.budget)
    const { request } = exchange
    const response = exchange.beginPieces(LINES_TYPE)
    this.#response = response
    const { receiveTimeoutMs } = context.options
    this.#watch = setInterval(
      () => this.#onTick(),
      Math.max(50, Math.min(1000, receiveTimeoutMs / 4)),
    )
    request.on('data', (chunk: Buffer) => {
      if (this.#isOver) return
      this.#reader.push(chunk)
      this.#takeLines()
    })
    request.on('end', () => {
      this.#isBodyEnded = true
      this.#reader.end()
      this.#takeLines()
    })
    response.on('drain', () => {
      this.#isBlocked = false
      request.socket.setTimeout(0)
      this.#takeLines()
    })
    response.on('close', () => this.#onClose())
    // The connection broke: `close` follows.
    response.on('error', () => {})
  }

  stop(): void {
    this.#refusal ??= stopping()
    this.#takeLines()
  }

  #takeLines(): void {
    if (this.#isOver) return
    let takenCount = 0
    while (!this.#mustWait) {
      if (this.#context.turns.isSpent) {
        this.#waitForTurn()
        break
      }
      if (this.#mustJoinCrowd(takenCount)) break
      const line = this.#reader.next()
      if (line === undefined) {
        this.#crowdRefusal = undefined
        break
      }
      this.#take(line)
      takenCount += 1
    }
    // One who goes on sending must not keep a stream open that is to end.
    if (this.#refusal !== undefined && this.#unanswered === 0) this.#isClosing = true
    if (this.#mustWait) this.#exchange.request.pause()
    else this.#exchange.request.resume()
    this.#endIfDone()
  }

  #waitForTurn(): void {
    this.#isOutOfTurn = true
    this.#context.turns.later(() => {
      this.#isOutOfTurn = false
      this.#takeLines()
    })
  }

  /** Who waits for its answers is not in it. */
  #mustJoinCrowd(takenCount: number): boolean {
    const { crowd } = this.#context
    const waits = this.#unanswered === 0 && takenCount === 0
    const isLetBy = waits || this.#crowdRefusal !== undefined
    if (isLetBy || !this.#reader.hasInput || !crowd.isFull) return false
    this.#isInCrowd = true
    crowd.join(this)
    return true
  }

  letIn(refusal: DbError | undefined): void {
    this.#isInCrowd = false
    this.#crowdRefusal = refusal
    this.#takeLines()
  }

  get #mustWait(): boolean {
    return (
      this.#isBlocked ||
      this.#isInCrowd ||
      this.#isOutOfTurn ||
      this.#isClosing ||
      this.#read !== undefined ||
      this.#openCount >= OPEN_LINES_MAX ||
      this.#openBytes + this.#unanswered * this.#expectedBytes >= OPEN_BYTES_MAX
    )
  }

  #take(line: Line): void {
    const sizeBytes = line.type === 'line' ? line.bytes.length : 0
    const asker = new LineAsker(sizeBytes, (answered, status) => this.#onAnswered(answered, status))
    if (this.#last === undefined) this.#first = asker
    else this.#last.next = asker
    this.#last = asker
    this.#openCount += 1
    this.#openBytes += sizeBytes
    this.#unanswered += 1
    this.#context.guard(asker, () => {
      if (this.#refusal !== undefined) throw this.#refusal
      if (line.type === 'refused') throw line.error
      if (this.#crowdRefusal !== undefined) return asker.sendError(this.#crowdRefusal)
      if (refuseOverload(asker, this.#context)) return undefined
      const { id, request } = parseLine(
        parseBody(line.bytes, 'line'),
        this.#context.service.dialect,
      )
      if (!request.isRead) return this.#execute(asker, id, request)
      this.#read = { line: asker, id, request, isBegun: false }
      this.#beginRead()
    })
  }

  /** It must see what the lines before it wrote, and not what those behind it will. */
  #beginRead(): void {
    const read = this.#read
    if (read === undefined || read.isBegun || this.#unanswered > 1) return
    read.isBegun = true
    const { line, id, request } = read
    this.#context.guard(line, () => this.#execute(line, id, request))
  }

  #execute(asker: LineAsker, id: LineId, request: ExecuteRequest): void {
    const { service } = this.#context
    // A node that was removed in the meantime serves nothing any more.
    const refusal = service.refusal()
    if (refusal !== undefined) throw refusal
    execute(asker, this.#context, request, historyId =>
      decodeId(id, historyId, () => entryNow(service)),
    )
  }

  #onAnswered(line: LineAsker, status: number): void {
    this.#context.metrics.countRequest('execute', status, line.durationMs)
    this.#unanswered -= 1
    if (this.#isOver) return
    this.#hold(line, line.text?.length ?? 0)
    if (this.#isOver) return
    if (this.#read?.line === line) this.#read = undefined
    this.#beginRead()
    if (line !== this.#first || this.#isFlushDue) return
    // All that is answered within this turn leaves in one piece.
    this.#isFlushDue = true
    setImmediate(() => this.#flush())
  }

  /** From now on the line's answer is what is kept of it. */
  #hold(line: LineAsker, sizeBytes: number): void {
    this.#openBytes += sizeBytes - line.sizeBytes
    line.sizeBytes = sizeBytes
    this.#exchange.heldBytes = this.#openBytes
    this.#context.unread.answered(sizeBytes)
    if (this.#isOver) return
    const surplus = sizeBytes - this.#expectedBytes
    this.#expectedBytes += surplus > 0 ? surplus : surplus * EXPECTED_WEIGHT
    if (this.#openBytes > HELD_BYTES_MAX && this.#openCount > 1) this.#cut()
  }

  #cut(): void {
    this.#exchange.request.socket.destroy()
    this.#onClose()
  }

  #flush(): void {
    this.#isFlushDue = false
    if (this.#isOver) return
    let text = ''
    let line = this.#first
    for (; line?.text !== undefined; line = line.next) {
      text += `${line.text}\n`
      this.#openCount -= 1
      this.#openBytes -= line.sizeBytes
    }
    this.#first = line
    if (line === undefined) this.#last = undefined
    this.#exchange.heldBytes = this.#openBytes
    if (text !== '' && !this.#response.write(text) && !this.#isBlocked) {
      this.#isBlocked = true
      // It counts whether the system gets rid of anything, however little.
      this.#exchange.request.socket.setTimeout(this.#context.options.receiveTimeoutMs)
    }
    this.#movedMs = performance.now()
    this.#takeLines()
  }

  #endIfDone(): void {
    if (this.#openCount > 0 || this.#isBlocked) return
    if (this.#refusal !== undefined || this.#isBodyEnded) this.#end()
  }

  /** The answer is whole: a line that has none by now was not taken. */
  #end(): void {
    this.#close()
    const { request } = this.#exchange
    const { socket } = request
    const destroy = (): void => void socket.destroy()
    // Not a timeout of the socket: for that what the client sends would be a sign of life, too.
    let timer = setTimeout(destroy, this.#context.options.receiveTimeoutMs)
    socket.once('close', () => clearTimeout(timer))
    this.#response.once('finish', () => {
      clearTimeout(timer)
      if (!isLast) return
      socket.end()
      timer = setTimeout(destroy, LINGER_MS)
    })
    this.#response.end()
    this.#exchange.finish()
    const isGoing = /close/i.test(request.headers.connection ?? '') || this.#refusal !== undefined
    const isLast = isGoing || !this.#isBodyEnded
    // What still comes is read and thrown away: to close at once would reset the connection before
    // the client has its answers.
    if (isLast) request.resume()
  }

  #onClose(): void {
    if (this.#isOver) return
    this.#close()
    this.#exchange.abandon()
  }

  #close(): void {
    this.#isOver = true
    clearInterval(this.#watch)
    this.#context.crowd.leave(this)
    this.#reader.close()
    this.#context.streams.delete(this)
    this.#first = undefined
    this.#last = undefined
    this.#read = undefined
  }

  /** Bounds how long a line may take to arrive, and how long nothing may be asked. */
  #onTick(): void {
    const now = performance.now()
    const { receiveTimeoutMs, keepAliveMs } = this.#context.options
    const isWaiting = this.#openCount > 0 || this.#isBlocked
    if (isWaiting || this.#reader.count !== this.#movedCount) {
      this.#movedCount = this.#reader.count
      this.#movedMs = now
      return
    }
    const stillMs = now - this.#movedMs
    if (this.#reader.hasPartial && stillMs > receiveTimeoutMs) {
      const message = `the line did not arrive within ${receiveTimeoutMs} ms`
      const error = new DbError('SLOW_REQUEST', message)
      this.#take({ type: 'refused', error })
      this.#refusal = error
      this.#takeLines()
    } else if (!this.#reader.hasPartial && stillMs > keepAliveMs) {
      this.stop()
    }
  }
}

function stopping(): DbError {
  return new DbError('SHUTTING_DOWN', 'this node takes no more lines; send them to another one')
}
