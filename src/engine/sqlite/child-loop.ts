/**
 * The inside of an engine process: read a message, answer it, in order, without an event loop. The
 * blocking calls are on purpose: the process has nothing else to do, each answer is out before the
 * next message is begun, and it comes a little sooner than over streams.
 */
import { readSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { FRAME_HEADER_BYTES, FrameReader, writeFrameHeader } from './frames.ts'

/** The file descriptor of the frames, in both directions. */
export const FRAMES_FD = 3
/** Nothing is ever written to it; it ends when the parent does. */
export const LIFELINE_FD = 4

const READ_BYTES = 262_144
/** Replies up to here go out as one write, from one buffer. */
const JOINED_BYTES_MAX = 65_536

/**
 * Calls `onMessage` with each message, whose bytes it may keep, until the parent closes the pipe,
 * and returns then. `send` may be called at any time within `onMessage`; it has written when it
 * returns. Before the first message it calls `onReady`, and `onRest` whenever all messages that are
 * here have been handled, before it waits for more.
 */
export function serveFrames(
  onMessage: (body: Uint8Array, send: (body: Uint8Array) => void) => void,
  onReady?: (send: (body: Uint8Array) => void) => void,
  onRest?: () => void,
): void {
  ignoreSignals()
  onReady?.(sendFrame)
  const frames = new FrameReader(body => onMessage(body.slice(), sendFrame))
  const buffer = new Uint8Array(READ_BYTES)
  for (;;) {
    const length = readSome(buffer)
    if (length === 0) return
    frames.push(buffer.subarray(0, length))
    onRest?.()
  }
}

/**
 * The same for a process that does one thing after another and has an event loop meanwhile: what
 * `receive` gives is the next message, or undefined when the parent has closed the pipe.
 */
export function openFrames(): {
  readonly receive: () => Uint8Array | undefined
  readonly send: (body: Uint8Array) => void
} {
  ignoreSignals()
  const waiting: Uint8Array[] = []
  const frames = new FrameReader(body => waiting.push(body.slice()))
  const buffer = new Uint8Array(READ_BYTES)
  const receive = (): Uint8Array | undefined => {
    while (waiting.length === 0) {
      const length = readSome(buffer)
      if (length === 0) return undefined
      frames.push(buffer.subarray(0, length))
    }
    return waiting.shift()
  }
  return { receive, send: sendFrame }
}

/**
 * Ends this process as soon as the parent is gone, even in the middle of a statement, when nothing
 * else here gets a turn: a second thread waits for the end of the lifeline.
 */
export function endWithParent(): void {
  // Not a blocking read: a thread inside one can't be ended, and then neither could this process,
  // however it tries (`exit`, an uncaught exception and the end of `main` all wait for the thread).
  const source = `
    const { Socket } = require('node:net')
    const end = () => process.kill(process.pid, 'SIGKILL')
    const lifeline = new Socket({ fd: ${LIFELINE_FD}, readable: true, writable: false })
    lifeline.on('error', end).on('close', end).resume()`
  const resourceLimits = { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 }
  new Worker(source, { eval: true, resourceLimits }).unref()
}

/**
 * A terminal's Ctrl-C and a service manager's stop reach the whole group of processes. The parent
 * then needs its engine to hand over in peace, and ends it when it is done.
 */
function ignoreSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
}

function readSome(buffer: Uint8Array): number {
  for (;;) {
    try {
      return readSync(FRAMES_FD, buffer)
    } catch (error) {
      if (isParentGone(error)) return 0
      // SIGUSR1, which opens the inspector, interrupts the wait for a message.
      if ((error as NodeJS.ErrnoException).code !== 'EINTR') throw error
    }
  }
}

const joined = new Uint8Array(JOINED_BYTES_MAX)

function sendFrame(body: Uint8Array): void {
  const sizeBytes = FRAME_HEADER_BYTES + body.length
  writeFrameHeader(joined, 0, body.length)
  if (sizeBytes <= JOINED_BYTES_MAX) {
    joined.set(body, FRAME_HEADER_BYTES)
    writeAll(joined, sizeBytes)
    return
  }
  writeAll(joined, FRAME_HEADER_BYTES)
  writeAll(body, body.length)
}

function writeAll(bytes: Uint8Array, length: number): void {
  let offset = 0
  try {
    while (offset < length) offset += writeSync(FRAMES_FD, bytes, offset, length - offset)
  } catch (error) {
    if (!isParentGone(error)) throw error
    // Nobody is left to answer, and open transactions are to be rolled back anyway.
    process.exit(0)
  }
}

function isParentGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'EPIPE' || code === 'ECONNRESET'
}
