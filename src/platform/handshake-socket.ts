/** Runs one side of a handshake on a socket, within a deadline. Nothing outlives the verdict. */
import type { Duplex } from 'node:stream'
import { DbError } from '../base/errors.ts'
import type { Clock } from '../base/ports.ts'
import type { Handshake, HandshakeStep } from './handshake.ts'
import { frameMessage, MessageReader } from './handshake-messages.ts'

export interface HandshakeRun {
  readonly socket: Duplex
  /** Bytes that came with the HTTP head and belong to the stream. */
  readonly head: Uint8Array
  readonly handshake: Handshake
  /** The first message, if this side speaks first. */
  readonly hello?: Uint8Array
  readonly timeoutMs: number
  readonly clock: Clock
  /** `rest` came behind the last message. The socket has no listeners of the handshake any more. */
  readonly onDone: (step: Extract<HandshakeStep, { type: 'done' }>, rest: Uint8Array) => void
  /** The handshake ended in a refusal, here or there, or by an end of the connection. */
  readonly onFailed: (error: DbError, message: Uint8Array | undefined) => void
}

/** Starts. Returns a function that gives up silently, for a caller that ends the socket itself. */
export function runHandshake(run: HandshakeRun): () => void {
  const { socket, handshake } = run
  const reader = new MessageReader()

  const timer = run.clock.setTimer(run.timeoutMs, () => {
    fail(new DbError('NOT_READY', `the handshake took longer than ${run.timeoutMs} ms`), undefined)
  })
  const onEnd = (): void => {
    fail(new DbError('NOT_READY', 'the connection ended during the handshake'), undefined)
  }
  const onError = (error: Error): void => {
    const message = `the connection broke during the handshake: ${error.message}`
    fail(new DbError('NOT_READY', message, { cause: error }), undefined)
  }
  const detach = (): void => {
    timer.cancel()
    socket.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onError)
  }
  const fail = (error: DbError, message: Uint8Array | undefined): void => {
    detach()
    run.onFailed(error, message)
  }

  function onData(chunk: Uint8Array): void {
    reader.push(chunk)
    try {
      for (let text = reader.next(); text !== undefined; text = reader.next()) {
        const step = handshake.receive(text)
        if (step.type === 'send') {
          socket.write(frameMessage(step.message))
          continue
        }
        if (step.type === 'refused') return fail(step.error, step.message)
        detach()
        if (step.message !== undefined) socket.write(frameMessage(step.message))
        return run.onDone(step, reader.rest())
      }
    } catch (error) {
      if (!(error instanceof DbError)) throw error
      fail(error, undefined)
    }
  }

  socket.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onError)
  if (run.hello !== undefined) socket.write(frameMessage(run.hello))
  if (run.head.length > 0) onData(run.head)
  return detach
}
