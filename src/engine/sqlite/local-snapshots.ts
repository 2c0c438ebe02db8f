/**
 * Snapshots of an engine in this process: the same steps as in a process of their own, each given
 * to a scheduler. For tests and the simulator.
 */
import { must } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type {
  DataDigest,
  DigestHandler,
  DigestTask,
  Done,
  SnapshotHandler,
  SnapshotManifest,
  SnapshotOutcome,
  SnapshotStore,
  SnapshotTask,
} from '../snapshot.ts'
import { digestFiles } from './data-digest.ts'
import type { FileSystem } from './file-system.ts'
import { ReadTransactions } from './read-transactions.ts'
import { type OpenCopy, snapshotDirectory, SnapshotTaker } from './snapshot-taker.ts'
import { localFaultOf } from './sql-errors.ts'
import {
  adoptStaged,
  beginStaging,
  discardStaged,
  finishStaging,
  soundSnapshot,
} from './staging.ts'

export interface LocalSnapshotsOptions {
  readonly directory: string
  readonly fileSystem: FileSystem
  /** Calls back later, never inside the call, or never if the process ends before. */
  readonly later: (step: () => void) => void
  /** Nobody may read the current generation any more. */
  readonly closeReaders: () => void
}

export class LocalSnapshots implements SnapshotStore {
  readonly #options: LocalSnapshotsOptions
  readonly #takers = new Set<{ close(): void }>()

  constructor(options: LocalSnapshotsOptions) {
    this.#options = options
  }

  /** A snapshot is being made, or a digest: files are open. */
  get isTaking(): boolean {
    return this.#takers.size > 0
  }

  take(id: string, handler: SnapshotHandler): SnapshotTask {
    const { directory, fileSystem, later } = this.#options
    let isOver = false
    let taker: SnapshotTaker | undefined
    const end = (): void => {
      isOver = true
      taker?.close()
      if (taker !== undefined) this.#takers.delete(taker)
    }
    const over = (outcome: SnapshotOutcome): void => {
      end()
      if (outcome.type === 'failed') this.drop(id)
      handler.onDone(outcome)
    }
    /** Does `work` as a step of its own; what goes wrong in it ends the task. */
    const step = (work: () => void): void =>
      later(() => {
        if (isOver) return
        try {
          work()
        } catch (thrown) {
          over({ type: 'failed', error: toFault(thrown) })
        }
      })
    const copyNext = (made: SnapshotTaker, left: readonly OpenCopy[]): void => {
      const [copy, ...rest] = left
      if (copy === undefined) return over({ type: 'ok', ...made.finish(() => {}) })
      // What the connection reads, as one piece: databases of tests are small.
      fileSystem.write(copy.target, copy.database.serialize())
      made.copied(copy)
      step(() => copyNext(made, rest))
    }
    step(() => {
      taker = new SnapshotTaker(directory, id, fileSystem)
      this.#takers.add(taker)
      handler.onReady()
    })
    return {
      begin: (index, context) =>
        step(() => {
          const made = taker
          if (made === undefined) throw new DbError('SNAPSHOT_FAILED', 'begin came out of turn')
          made.begin(index, context)
          handler.onBegun()
          step(() => copyNext(made, made.copies()))
        }),
      cancel: () => {
        if (isOver) return
        end()
        this.drop(id)
      },
    }
  }

  digest(handler: DigestHandler): DigestTask {
    const { directory, fileSystem, later } = this.#options
    let isOver = false
    let files: ReadTransactions | undefined
    const end = (): void => {
      isOver = true
      files?.close()
      if (files !== undefined) this.#takers.delete(files)
    }
    const step = (work: () => void): void =>
      later(() => {
        if (isOver) return
        try {
          work()
        } catch (thrown) {
          end()
          handler.onDone({ type: 'failed', error: toFault(thrown) })
        }
      })
    const goOn = (steps: Generator<number, DataDigest>): void => {
      const next = steps.next()
      if (next.done !== true) return step(() => goOn(steps))
      end()
      handler.onDone({ type: 'ok', digest: next.value })
    }
    step(() => {
      files = new ReadTransactions(directory, fileSystem)
      this.#takers.add(files)
      handler.onReady()
    })
    return {
      begin: index =>
        step(() => {
          const open = must(files, 'the files of a digest')
          open.begin(index)
          handler.onBegun()
          step(() => goOn(digestFiles(open)))
        }),
      cancel: () => {
        if (!isOver) end()
      },
    }
  }

  drop(id: string): void {
    this.#options.fileSystem.remove(snapshotDirectory(this.#options.directory, id))
  }

  stage(
    manifest: SnapshotManifest,
    done: (outcome: Done<{ readonly location: string }>) => void,
  ): void {
    const { directory, fileSystem } = this.#options
    this.#do(() => ({ location: beginStaging(directory, manifest, fileSystem) }), done)
  }

  finish(done: (outcome: Done<object>) => void): void {
    const { directory, fileSystem } = this.#options
    this.#do(() => finishStaging(directory, fileSystem), done)
  }

  staged(done: (manifest: SnapshotManifest | undefined) => void): void {
    const { directory, fileSystem } = this.#options
    this.#options.later(() => done(soundSnapshot(directory, fileSystem)))
  }

  adopt(id: string, done: (outcome: Done<object>) => void): void {
    const { directory, fileSystem, closeReaders } = this.#options
    const adopt = (): object => {
      closeReaders()
      adoptStaged(directory, id, fileSystem)
      return {}
    }
    this.#do(adopt, done)
  }

  discard(done: () => void): void {
    const { directory, fileSystem } = this.#options
    const discard = (): object => {
      discardStaged(directory, fileSystem)
      return {}
    }
    this.#do(discard, () => done())
  }

  /** Lets go of all files. */
  close(): void {
    for (const taker of this.#takers) taker.close()
    this.#takers.clear()
  }

  #do<Result extends object>(work: () => Result, done: (outcome: Done<Result>) => void): void {
    const { later } = this.#options
    later(() => {
      let outcome: Done<Result>
      try {
        outcome = { type: 'ok', ...work() }
      } catch (thrown) {
        outcome = { type: 'failed', error: toFault(thrown) }
      }
      later(() => done(outcome))
    })
  }
}

/** What an expected failure is to be told as; anything else is thrown on. */
function toFault(thrown: unknown): DbError {
  const fault = localFaultOf(thrown)
  if (fault === undefined) throw thrown
  const { code, message, details = {} } = fault
  return new DbError(code, message, { details })
}
