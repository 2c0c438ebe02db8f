/**
 * Snapshots of this engine: there are none yet, only digests. A node that would need one says so,
 * and changes nothing.
 */
import { DbError } from '../../base/errors.ts'
import type {
  DigestHandler,
  DigestTask,
  Done,
  SnapshotHandler,
  SnapshotManifest,
  SnapshotStore,
  SnapshotTask,
} from '../snapshot.ts'
import { startDigest } from './data-digest.ts'
import type { ReadViewOptions } from './read-view.ts'

const MESSAGE =
  'snapshots are not there yet with --engine mysql: a node that is further behind than the log ' +
  'reaches, or whose data are wrong, has to be removed; and dump the server for a backup'

export class NoSnapshots implements SnapshotStore {
  readonly #options: ReadViewOptions

  constructor(options: ReadViewOptions) {
    this.#options = options
  }

  take(_id: string, handler: SnapshotHandler): SnapshotTask {
    return { begin: () => {}, cancel: refuseLater(error => handler.onDone(error)) }
  }

  digest(handler: DigestHandler): DigestTask {
    return startDigest(this.#options, handler)
  }

  drop(): void {}

  stage(
    _manifest: SnapshotManifest,
    done: (outcome: Done<{ readonly location: string }>) => void,
  ): void {
    refuseLater(done)
  }

  finish(done: (outcome: Done<object>) => void): void {
    refuseLater(done)
  }

  staged(done: (manifest: SnapshotManifest | undefined) => void): void {
    setImmediate(() => done(undefined))
  }

  adopt(_id: string, done: (outcome: Done<object>) => void): void {
    refuseLater(done)
  }

  discard(done: () => void): void {
    setImmediate(done)
  }
}

/** Refuses soon; the function returned takes that back. */
function refuseLater(
  done: (refusal: { readonly type: 'failed'; readonly error: DbError }) => void,
): () => void {
  const error = new DbError('SNAPSHOT_FAILED', MESSAGE)
  const timer = setImmediate(() => done({ type: 'failed', error }))
  return () => clearImmediate(timer)
}
