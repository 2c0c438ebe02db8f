/** Snapshots of an engine, each task in a process of its own that can be ended at any moment. */
import { rm } from 'node:fs'
import { DbError } from '../../base/errors.ts'
import type { Clock, Logger, Timer } from '../../base/ports.ts'
import type {
  DigestHandler,
  DigestTask,
  Done,
  SnapshotHandler,
  SnapshotManifest,
  SnapshotOutcome,
  SnapshotStore,
  SnapshotTask,
} from '../snapshot.ts'
import { EngineChild, type EngineChildOptions } from './engine-child.ts'
import {
  decodeSnapshotReply,
  encodeSnapshotMessage,
  type SnapshotMessage,
  type SnapshotReply,
} from './snapshot-codec.ts'
import { snapshotDirectory } from './snapshot-taker.ts'

/** A process without a sign of life for so long is stuck. Checking a large file takes minutes. */
const STUCK_MS = 10 * 60_000

type AnswerType = Exclude<SnapshotReply['type'], 'failed'>
type ReplyOf<Type extends AnswerType> = Extract<SnapshotReply, { type: Type }>

interface Failed {
  readonly type: 'failed'
  readonly error: DbError
}

export interface SnapshotProcessesOptions {
  readonly child: Omit<EngineChildOptions, 'kind'>
  readonly clock: Clock
  readonly logger: Logger
  /** Whoever reads the current generation: nobody may have it open while another is adopted. */
  readonly readers: { hold(done: () => void): void; release(): void }
}

export class SnapshotProcesses implements SnapshotStore {
  readonly #options: SnapshotProcessesOptions
  readonly #running = new Set<EngineChild>()
  #onIdle: (() => void) | undefined

  constructor(options: SnapshotProcessesOptions) {
    this.#options = options
  }

  /** Makes a snapshot in a directory of its own. */
  take(id: string, handler: SnapshotHandler): SnapshotTask {
    let isOver = false
    const over = (outcome: SnapshotOutcome): void => {
      isOver = true
      if (outcome.type === 'failed') this.drop(id)
      handler.onDone(outcome)
    }
    const child = this.#start({ type: 'open', id }, reply => {
      if (isOver) return
      if (reply.type === 'ready') handler.onReady()
      else if (reply.type === 'begun') handler.onBegun()
      else if (reply.type === 'failed') over(failed(reply))
      else if (reply.type === 'made') {
        over({ type: 'ok', manifest: reply.manifest, location: reply.location })
      }
    })
    return {
      begin: (index, context) =>
        child.send(encodeSnapshotMessage({ type: 'begin', index, context })),
      cancel: () => {
        if (isOver) return
        isOver = true
        child.kill()
        this.drop(id)
      },
    }
  }

  /** Takes a digest of all data. */
  digest(handler: DigestHandler): DigestTask {
    let isOver = false
    const child = this.#start({ type: 'digest' }, reply => {
      if (isOver) return
      if (reply.type === 'ready') return handler.onReady()
      if (reply.type === 'begun') return handler.onBegun()
      if (reply.type !== 'digested' && reply.type !== 'failed') return
      isOver = true
      handler.onDone(reply.type === 'failed' ? failed(reply) : { type: 'ok', digest: reply.digest })
    })
    return {
      begin: index => child.send(encodeSnapshotMessage({ type: 'begin', index, context: '' })),
      cancel: () => {
        if (isOver) return
        isOver = true
        child.kill()
      },
    }
  }

  /** Removes the files of a snapshot that was made. */
  drop(id: string): void {
    const { child, logger } = this.#options
    const path = snapshotDirectory(child.directory, id)
    rm(path, { recursive: true, force: true }, error => {
      if (error !== null) logger.warn({ error, path }, 'a snapshot could not be removed')
    })
  }

  stage(
    manifest: SnapshotManifest,
    done: (outcome: Done<{ readonly location: string }>) => void,
  ): void {
    this.#ask({ type: 'stage', manifest }, 'staged', outcome => {
      done(outcome.type === 'failed' ? outcome : { type: 'ok', location: outcome.location })
    })
  }

  finish(done: (outcome: Done<object>) => void): void {
    this.#ask({ type: 'finish' }, 'finished', outcome => {
      done(outcome.type === 'failed' ? outcome : { type: 'ok' })
    })
  }

  staged(done: (manifest: SnapshotManifest | undefined) => void): void {
    this.#ask({ type: 'look' }, 'looked', outcome => {
      done(outcome.type === 'failed' ? undefined : outcome.manifest)
    })
  }

  adopt(id: string, done: (outcome: Done<object>) => void): void {
    const { readers } = this.#options
    readers.hold(() => {
      this.#ask({ type: 'adopt', id }, 'adopted', outcome => {
        readers.release()
        done(outcome.type === 'failed' ? outcome : { type: 'ok' })
      })
    })
  }

  discard(done: () => void): void {
    this.#ask({ type: 'discard' }, 'discarded', () => done())
  }

  /** Ends all of them; `done` when they are gone. */
  stop(done: () => void): void {
    this.#onIdle = done
    for (const child of this.#running) child.kill()
    if (this.#running.size === 0) queueMicrotask(done)
  }

  /** One question, one answer. */
  #ask<Type extends AnswerType>(
    message: SnapshotMessage,
    type: Type,
    done: (outcome: ReplyOf<Type> | Failed) => void,
  ): void {
    let isAnswered = false
    this.#start(message, reply => {
      if (isAnswered || (reply.type !== type && reply.type !== 'failed')) return
      isAnswered = true
      done(reply.type === 'failed' ? failed(reply) : (reply as ReplyOf<Type>))
    })
  }

  /** Starts a process with its task. Its end without an answer is a `failed`, after all else. */
  #start(message: SnapshotMessage, onReply: (reply: SnapshotReply) => void): EngineChild {
    const { child: options, clock } = this.#options
    let timer: Timer | undefined
    const isAlive = (): void => {
      timer?.cancel()
      timer = clock.setTimer(STUCK_MS, () => child.kill())
    }
    const child = new EngineChild(
      { ...options, kind: 'snapshot' },
      {
        onFrame: body => {
          isAlive()
          onReply(decodeSnapshotReply(body))
        },
        onExit: reason => {
          timer?.cancel()
          this.#running.delete(child)
          const message = `the process for it ended (${reason})`
          onReply({ type: 'failed', error: { code: 'SNAPSHOT_FAILED', message } })
          if (this.#running.size === 0) this.#onIdle?.()
        },
      },
    )
    this.#running.add(child)
    isAlive()
    child.send(encodeSnapshotMessage(message))
    return child
  }
}

function failed({ error }: Extract<SnapshotReply, { type: 'failed' }>): Failed {
  const { code, message, details = {} } = error
  return { type: 'failed', error: new DbError(code, message, { details }) }
}
