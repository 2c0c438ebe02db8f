/**
 * WriterSession keeps one writer of the engine alive: opens it, hands its replies on in order, and
 * starts another when it died. Who uses it hears of each death exactly once, before anything else,
 * and must then forget everything that it sent and that was not answered.
 */
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, Timer } from '../base/ports.ts'
import type { Engine, Writer, WriterMessage, WriterReply } from '../engine/engine.ts'

const RESTART_MS_MIN = 10
const RESTART_MS_MAX = 2000
/** A WAL of gigabytes is recovered in seconds; a writer that takes longer than this hangs. */
const OPEN_MS_MAX = 120_000
/** Deaths in a row without one entry applied in between: the log itself kills the engine. */
const DEATHS_MAX = 8

export type Opened = Extract<WriterReply, { type: 'opened' }>

export interface WriterSessionHandler {
  onOpened(opened: Opened): void
  onReply(reply: Exclude<WriterReply, { type: 'opened' } | { type: 'fault' }>): void
  /** The writer is gone with all that it had not committed. */
  onLost(error: DbError): void
  /** Its files are garbled: it will die of that again. */
  onCorrupt(error: DbError): void
  /** It dies again and again: the replica can't go on with this engine. */
  onHopeless(reason: string, code?: ErrorCode): void
}

/** Who wants the engine's files to stand still for a moment. */
export interface Pause {
  /** All that was sent is answered, and nothing more is sent until `resume`. */
  onStill(): void
  /** The writer died: the files may change again. There is nothing to resume. */
  onBroken(): void
}

export class WriterSession {
  readonly #engine: Engine
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #handler: WriterSessionHandler
  #writer: Writer | undefined
  #state: 'opening' | 'ready' | 'down' = 'down'
  #fault: DbError | undefined
  #restartTimer: Timer | undefined
  #openTimer: Timer | undefined
  #deaths = 0
  /** Messages that the writer has not answered yet. */
  #unanswered = 0
  #pause: Pause | undefined
  /** Who asked for the pause was told that it has come. */
  #isStill = false
  /** What waits for the end of the pause. */
  #heldBack: WriterMessage[] = []
  #onSuspended: (() => void) | undefined
  #isSuspended = false
  #wantsCheckpoint = false
  #isStopped = false
  #lastError = ''
  #outage: DbError | undefined
  build = ''

  constructor(engine: Engine, clock: Clock, logger: Logger, handler: WriterSessionHandler) {
    this.#engine = engine
    this.#clock = clock
    this.#logger = logger
    this.#handler = handler
  }

  get state(): 'opening' | 'ready' | 'down' {
    return this.#state
  }

  get lastError(): string {
    return this.#lastError
  }

  /** What keeps it from running, as it has told; undefined once it runs again. */
  get outage(): DbError | undefined {
    return this.#outage
  }

  start(): void {
    if (this.#isStopped) return
    this.#isSuspended = false
    this.#state = 'opening'
    this.#unanswered = 1
    this.#fault = undefined
    this.#writer = this.#engine.startWriter({
      onReply: reply => this.#onReply(reply),
      onExit: reason => this.#onExit(reason),
    })
    this.#writer.send({ type: 'open' })
    this.#openTimer = this.#clock.setTimer(OPEN_MS_MAX, () => {
      const message = `the SQL process did not open its files within ${OPEN_MS_MAX} ms`
      this.kill(new DbError('ENGINE_RESTARTED', message))
    })
  }

  /** Only while `state` is ready. */
  send(message: WriterMessage): void {
    if (this.#pause !== undefined) {
      this.#heldBack.push(message)
      return
    }
    if (message.type === 'execute' && this.#wantsCheckpoint) {
      this.#wantsCheckpoint = false
      this.send({ type: 'checkpoint' })
    }
    this.#unanswered += 1
    this.#writer?.send(message)
  }

  /** Has everything applied made durable, now or before the next batch if one is open. */
  checkpoint(): void {
    if (this.#state !== 'ready') return
    this.#wantsCheckpoint = true
    this.send({ type: 'checkpoint' })
  }

  /** Lets the writer finish what it was told, and then stand still. One pause at a time. */
  pause(pause: Pause): void {
    if (this.#pause !== undefined || this.#state !== 'ready') return pause.onBroken()
    this.#pause = pause
    this.#isStill = false
    this.#stillIfAnswered()
  }

  resume(): void {
    this.#pause = undefined
    for (const message of this.#heldBack.splice(0)) this.send(message)
  }

  /** Ends the writer for as long as it takes, until `start`; `done` when nobody has files open. */
  suspend(done: () => void): void {
    this.#isSuspended = true
    this.#restartTimer?.cancel()
    if (this.#writer === undefined) return done()
    this.#onSuspended = done
    this.#writer.kill()
  }

  get isSuspended(): boolean {
    return this.#isSuspended
  }

  /** Ends the writer; a new one follows. */
  kill(error: DbError): void {
    this.#fault = error
    this.#writer?.kill()
  }

  stop(): void {
    this.#isStopped = true
    this.#restartTimer?.cancel()
    this.#openTimer?.cancel()
  }

  /** Something was applied: the writer is alive and the log is not what kills it. */
  progressed(): void {
    this.#deaths = 0
  }

  #onReply(reply: WriterReply): void {
    if (this.#isStopped || this.#isSuspended) return
    this.#unanswered -= 1
    if (reply.type === 'fault') {
      this.#fault = new DbError(reply.error.code, reply.error.message, {
        details: reply.error.details ?? {},
      })
      this.#outage = this.#fault
      return
    }
    if (reply.type === 'opened') {
      this.#openTimer?.cancel()
      this.#state = 'ready'
      this.#outage = undefined
      this.build = reply.build
      this.#handler.onOpened(reply)
      return
    }
    this.#handler.onReply(reply)
    this.#stillIfAnswered()
  }

  /** Told once of each pause. */
  #stillIfAnswered(): void {
    if (this.#unanswered > 0 || this.#isStill || this.#pause === undefined) return
    this.#isStill = true
    this.#pause.onStill()
  }

  #onExit(reason: string): void {
    const wasReady = this.#state === 'ready'
    this.#openTimer?.cancel()
    this.#writer = undefined
    this.#state = 'down'
    const pause = this.#pause
    this.#pause = undefined
    this.#heldBack = []
    this.#wantsCheckpoint = false
    pause?.onBroken()
    if (this.#isStopped) return
    if (this.#isSuspended) return this.#suspended(wasReady)
    const error =
      this.#fault ??
      new DbError('ENGINE_RESTARTED', `the SQL process ended (${reason}) and is started again`)
    this.#lastError = error.message
    this.#deaths += 1
    const { code, message } = error
    this.#logger.warn({ reason, deaths: this.#deaths, code, error: message }, 'writer ended')
    // No other writer of this release can read files of another one.
    if (code === 'WRONG_DATA') return this.#handler.onHopeless(message, code)
    if (wasReady) this.#handler.onLost(error)
    if (error.code === 'CORRUPT') this.#handler.onCorrupt(error)
    const isLocalFault = this.#fault !== undefined
    if (this.#deaths >= DEATHS_MAX && !isLocalFault) {
      this.#handler.onHopeless(`the SQL process ended ${this.#deaths} times in a row: ${reason}`)
      return
    }
    const delayMs = Math.min(RESTART_MS_MIN * 2 ** (this.#deaths - 1), RESTART_MS_MAX)
    this.#restartTimer = this.#clock.setTimer(delayMs, () => this.start())
  }

  #suspended(wasReady: boolean): void {
    const message = 'the files of this node are replaced by a snapshot of another'
    if (wasReady) this.#handler.onLost(new DbError('ENGINE_RESTARTED', message))
    const onSuspended = this.#onSuspended
    this.#onSuspended = undefined
    onSuspended?.()
  }
}
