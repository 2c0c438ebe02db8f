/**
 * The inspector of another process of this machine, opened by a signal and closed again. An engine
 * process that waits for a message answers when it has got one.
 */
import { setTimeout as pause } from 'node:timers/promises'

/** Where a process that is sent SIGUSR1 listens. */
const LIST = 'http://127.0.0.1:9229/json/list'
const OPEN_MS_MAX = 10_000
const ANSWER_MS_MAX = 30_000
const POLL_MS = 50

interface Answer {
  readonly id?: number
  readonly result?: unknown
  readonly error?: { readonly message: string }
}

export class Inspector {
  readonly #socket: WebSocket
  readonly #pid: number
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #next = 1

  private constructor(socket: WebSocket, pid: number) {
    this.#socket = socket
    this.#pid = pid
    socket.addEventListener('message', ({ data }) => {
      const answer = JSON.parse(String(data)) as Answer
      if (answer.id === undefined) return
      this.#waiting.get(answer.id)?.(answer)
      this.#waiting.delete(answer.id)
    })
  }

  /** Only one process can have it open at a time: they all listen at the same port. */
  static async open(pid: number): Promise<Inspector> {
    if ((await targets()) !== undefined) {
      throw new Error('a process already has its inspector open at 127.0.0.1:9229')
    }
    const deadlineMs = performance.now() + OPEN_MS_MAX
    process.kill(pid, 'SIGUSR1')
    for (;;) {
      const url = (await targets())?.[0]?.webSocketDebuggerUrl
      if (url !== undefined) return Inspector.#connect(url, pid)
      if (performance.now() > deadlineMs) {
        throw new Error(`process ${pid} did not open its inspector within ${OPEN_MS_MAX} ms`)
      }
      await pause(POLL_MS)
    }
  }

  static async #connect(url: string, pid: number): Promise<Inspector> {
    const socket = new WebSocket(url)
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve)
      socket.addEventListener('error', () => reject(new Error(`can not connect to ${url}`)))
    })
    const inspector = new Inspector(socket, pid)
    const { result } = (await inspector.ask('Runtime.evaluate', { expression: 'process.pid' })) as {
      result: { value: number }
    }
    if (result.value === pid) return inspector
    socket.close()
    throw new Error(`process ${result.value} has the port of the inspector, not ${pid}`)
  }

  /** Gives the result. */
  ask(method: string, params: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const id = this.#next
    this.#next += 1
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new Error(`${method}: process ${this.#pid} does not answer; is it idle?`))
      }, ANSWER_MS_MAX)
      this.#waiting.set(id, ({ result, error }) => {
        clearTimeout(timer)
        if (error === undefined) resolve(result)
        else reject(new Error(`${method}: ${error.message}`))
      })
      this.#socket.send(JSON.stringify({ id, method, params }))
    })
  }

  /** Nothing listens at the port any more when this resolves. */
  async close(): Promise<void> {
    const closed = new Promise(resolve => this.#socket.addEventListener('close', resolve))
    const expression = "process.getBuiltinModule('node:inspector').close()"
    // The connection ends before it could answer.
    this.ask('Runtime.evaluate', { expression }).catch(() => {})
    await Promise.race([closed, pause(ANSWER_MS_MAX, undefined, { ref: false })])
    this.#rest()
    if ((await targets()) !== undefined) {
      throw new Error(`process ${this.#pid} still has its inspector open at 127.0.0.1:9229`)
    }
  }

  /** Waits for nothing any more. */
  #rest(): void {
    for (const done of this.#waiting.values()) done({ error: { message: 'it was closed' } })
    this.#waiting.clear()
  }
}

async function targets(): Promise<{ webSocketDebuggerUrl: string }[] | undefined> {
  try {
    const answer = await fetch(LIST, { signal: AbortSignal.timeout(1000) })
    return (await answer.json()) as { webSocketDebuggerUrl: string }[]
  } catch {
    return undefined
  }
}
