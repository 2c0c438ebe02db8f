/**
 * The sessions of a client: names under which it numbers its writes, so that the cluster knows one
 * that comes again. A cluster remembers a window of numbers for each session; what is still
 * unanswered must fit into it, so that more writes at once take more sessions.
 */
import { DbError } from '../base/errors.ts'

/** What the cluster gave. */
export interface OpenedSession {
  readonly session: string
  readonly window: number
}

/** The id of one write, until its fate is known. */
export interface RequestSlot {
  /** Of the header `Lockstep-Request`. */
  readonly request: string
  /** The fate is known: the number is used up. */
  readonly settle: () => void
  /** Nobody may know the fate: the session takes no more, so that it can still be asked for. */
  readonly leave: () => void
  /** The cluster does not know the session any more, or never did. */
  readonly forget: () => void
}

export interface SessionsParts {
  readonly open: () => Promise<OpenedSession>
  readonly maxSessions: number
}

/** How much longer than its deadline a write waits for the error of a session that fails. */
const OPEN_GRACE_MS = 50

interface Session {
  readonly opened: OpenedSession
  /** Numbers without an answer, in their order. */
  readonly unanswered: Set<number>
  next: number
}

export class Sessions {
  readonly #parts: SessionsParts
  readonly #sessions = new Set<Session>()
  readonly #waiting = new Set<() => void>()
  #opening: Promise<void> | undefined

  constructor(parts: SessionsParts) {
    this.#parts = parts
  }

  /** A number for one write. Opens sessions as they are needed, all who wait together one. */
  async take(deadlineMs: number, signal: AbortSignal | undefined): Promise<RequestSlot> {
    for (;;) {
      signal?.throwIfAborted()
      const session = this.#withRoom()
      if (session !== undefined) return this.#slot(session)
      // Why none could be opened says more than that time is over.
      if (this.#sessions.size < this.#parts.maxSessions)
        await within(this.#open(), deadlineMs + OPEN_GRACE_MS, signal)
      else await within(this.#room(), deadlineMs, signal)
    }
  }

  /** One that is open already, or a new one: for what only has to tell since when it is sent. */
  async any(
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly session: string; readonly forget: () => void }> {
    for (;;) {
      signal?.throwIfAborted()
      const [session] = this.#sessions
      if (session !== undefined) {
        const { opened } = session
        return { session: opened.session, forget: () => this.#forget(session) }
      }
      await within(this.#open(), deadlineMs + OPEN_GRACE_MS, signal)
    }
  }

  #withRoom(): Session | undefined {
    for (const session of this.#sessions) {
      const [lowest = session.next] = session.unanswered
      if (session.next < lowest + session.opened.window) return session
    }
    return undefined
  }

  #slot(session: Session): RequestSlot {
    const sequence = session.next
    session.next += 1
    session.unanswered.add(sequence)
    const settle = (): void => {
      session.unanswered.delete(sequence)
      this.#wake()
    }
    const forget = (): void => this.#forget(session)
    return { request: `${session.opened.session}/${sequence}`, settle, leave: forget, forget }
  }

  #forget(session: Session): void {
    this.#sessions.delete(session)
    this.#wake()
  }

  #open(): Promise<void> {
    this.#opening ??= this.#openOne().finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  async #openOne(): Promise<void> {
    const opened = await this.#parts.open()
    this.#sessions.add({ opened, unanswered: new Set(), next: 1 })
  }

  #room(): Promise<void> {
    return new Promise(resolve => this.#waiting.add(resolve))
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}

/** Waits no longer than the deadline or the signal allow; nothing was sent yet. */
async function within(
  work: Promise<void>,
  deadlineMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let stop = (): void => {}
  const ended = new Promise<never>((_, reject) => {
    const late = new DbError('NOT_READY', 'no session for request ids was free in time')
    const timer = setTimeout(() => reject(late), Math.max(0, deadlineMs - performance.now()))
    const onAbort = (): void => reject(signal?.reason as Error)
    signal?.addEventListener('abort', onAbort, { once: true })
    stop = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
  })
  try {
    await Promise.race([work, ended])
  } finally {
    stop()
  }
}
