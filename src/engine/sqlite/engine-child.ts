/** One child process of the engine as the main process sees it: frames out, frames in, its end. */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { FRAMES_FD, LIFELINE_FD } from './child-loop.ts'
import { FRAME_HEADER_BYTES, FrameReader, writeFrameHeader } from './frames.ts'
import type { ChildRegister } from './orphans.ts'

export type ChildKind = 'writer' | 'reader' | 'snapshot'

export interface EngineChildOptions {
  readonly kind: ChildKind
  /** Directory of the SQLite files, given to the child as it is. */
  readonly directory: string
  readonly register: ChildRegister
  /**
   * A thread in the child watches the parent and ends the child as soon as the parent is gone, in
   * the middle of a statement too. Costs the child some 6 MB. Without it a busy child is ended by
   * the next start of the node.
   */
  readonly watchParent: boolean
  /** The program to run; tests have others. */
  readonly program?: URL
}

/**
 * Without it a child that runs from sources spends most of its start on stripping their types. It
 * lies with the sources, not in a directory that all users of the machine may write to.
 */
const COMPILE_CACHE = new URL('../../../node_modules/.cache/compile', import.meta.url)

const PROGRAM = new URL(import.meta.url.endsWith('.ts') ? 'child.ts' : 'child.js', import.meta.url)

export interface EngineChildHandler {
  /** The bytes stay as they are: a chunk that was read is in no buffer that is used again. */
  onFrame(body: Uint8Array): void
  /** Called once, never inside a call of `EngineChild`. Nothing else is called after it. */
  onExit(reason: string): void
}

/** Frames of one write are put together up to this size; more are handed over one by one. */
const JOINED_BYTES_MAX = 65_536
const STDERR_TAIL_CHARS = 2_000

/** Starts at once. What is sent before the child is ready waits in the pipe. */
export class EngineChild {
  readonly #process: ChildProcess | undefined
  readonly #frames: Duplex | undefined
  readonly #handler: EngineChildHandler
  readonly #register: ChildRegister
  readonly #isReader: boolean
  #unsent: Buffer[] = []
  #unsentBytes = 0
  #isKilled = false
  #hasExited = false
  #stderrTail = ''
  #refusal: string | undefined

  constructor(options: EngineChildOptions, handler: EngineChildHandler) {
    this.#handler = handler
    this.#register = options.register
    this.#isReader = options.kind === 'reader'
    try {
      this.#process = start(options)
    } catch (error) {
      // Most failures to spawn come as an event, a few (no memory) as an exception.
      process.nextTick(() => this.#exited(String(error)))
      return
    }
    const child = this.#process
    this.#noteDown(child)
    child.on('error', error => this.#exited(error.message))
    // Not `exit`: `close` comes when the last bytes of the pipes were read too.
    child.on('close', (code, signal) => this.#exited(this.#reasonOf(code, signal)))
    child.stderr?.setEncoding('utf8')
    child.stderr?.on('data', (text: string) => {
      this.#stderrTail = (this.#stderrTail + text).slice(-STDERR_TAIL_CHARS)
    })
    this.#frames = child.stdio[FRAMES_FD] as Duplex | undefined
    const lifeline = child.stdio[LIFELINE_FD] as Duplex | undefined
    const reader = new FrameReader(body => {
      if (!this.#isKilled) this.#handler.onFrame(body)
    })
    this.#frames?.on('data', (chunk: Buffer) => reader.push(chunk))
    // A broken pipe says no more than the end of the process, which follows.
    for (const stream of [this.#frames, lifeline, child.stderr]) stream?.on('error', () => {})
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  /**
   * Copies `body`. All that is sent within one tick goes out as one write; to a reader within one
   * turn of the event loop, in which many clients may have asked, each in a tick of its own.
   */
  send(body: Uint8Array): void {
    if (this.#isKilled || this.#hasExited) return
    // Small ones come from a common pool, which spares an allocation for each.
    const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + body.length)
    writeFrameHeader(frame, 0, body.length)
    frame.set(body, FRAME_HEADER_BYTES)
    this.#unsent.push(frame)
    this.#unsentBytes += frame.length
    if (this.#unsent.length > 1) return
    if (this.#isReader) setImmediate(this.#flush)
    else process.nextTick(this.#flush)
  }

  /** Ends the process at once, whatever it does. No frame comes any more; `onExit` follows. */
  kill(): void {
    if (this.#isKilled || this.#hasExited) return
    this.#isKilled = true
    this.#process?.kill('SIGKILL')
    this.#frames?.destroy()
  }

  readonly #flush = (): void => {
    const unsent = this.#unsent
    const sizeBytes = this.#unsentBytes
    this.#unsent = []
    this.#unsentBytes = 0
    const frames = this.#frames
    if (frames === undefined || this.#isKilled || this.#hasExited) return
    const [first] = unsent
    if (first !== undefined && unsent.length === 1) frames.write(first)
    else if (sizeBytes <= JOINED_BYTES_MAX) frames.write(Buffer.concat(unsent, sizeBytes))
    else {
      frames.cork()
      for (const frame of unsent) frames.write(frame)
      frames.uncork()
    }
  }

  /** One that could not be found again, should this process be killed, must not run. */
  #noteDown(child: ChildProcess): void {
    if (child.pid === undefined) return
    try {
      this.#register.add(child.pid)
    } catch (error) {
      this.#refusal = `it could not be noted down: ${String(error)}`
      this.kill()
    }
  }

  #exited(reason: string): void {
    if (this.#hasExited) return
    this.#hasExited = true
    if (this.pid !== undefined) this.#register.remove(this.pid)
    this.#handler.onExit(reason)
  }

  #reasonOf(code: number | null, signal: string | null): string {
    if (this.#refusal !== undefined) return this.#refusal
    if (this.#isKilled) return 'killed'
    const how = signal === null ? `ended with exit code ${code}` : `ended by ${signal}`
    const words = this.#stderrTail.trim()
    return words === '' ? how : `${how}: ${words}`
  }
}

function start(options: EngineChildOptions): ChildProcess {
  const { kind, directory, register } = options
  const program = fileURLToPath(options.program ?? PROGRAM)
  const guard = options.watchParent ? 'watch-parent' : 'no-guard'
  const environment: NodeJS.ProcessEnv = { ...process.env, TZ: 'UTC' }
  // Meant for the main process: a debugger's port, for one, can't be opened twice.
  delete environment['NODE_OPTIONS']
  if (program.endsWith('.ts')) environment['NODE_COMPILE_CACHE'] ??= fileURLToPath(COMPILE_CACHE)
  return spawn(process.execPath, [program, kind, directory, guard, register.token], {
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
  })
}
