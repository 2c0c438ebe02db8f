/**
 * Snapshots of this engine: files of SQL in the node's directory. One that comes from elsewhere is
 * looked at, loaded beside the live data, and takes their place at last.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../../base/assert.ts'
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
import { SNAPSHOT_FORMAT } from '../snapshot.ts'
import { adoptStaged } from './adoption.ts'
import { Connection } from './connection.ts'
import { startDigest } from './data-digest.ts'
import { type Owner, refuseStrangers } from './node-tables.ts'
import { ReadView, type ReadViewOptions } from './read-view.ts'
import { planSnapshot, writeSnapshot } from './snapshot-dump.ts'
import { toFault } from './snapshot-files.ts'
import { loadStaged, removeStaged } from './staged-data.ts'
import { StagedFiles } from './staged-files.ts'
import { takeWriterLock } from './writer-lock.ts'

export interface MysqlSnapshotsOptions extends ReadViewOptions {
  readonly owner: Owner
  /** Where files are. It is made if it is not there. */
  readonly directory: string
  /** What nodes must have in common. */
  readonly build: string
  /** Whoever reads: nobody may while the data are replaced. */
  readonly readers: { hold(): void; release(): void }
}

/** One that is being made. */
interface Taking {
  view: ReadView | undefined
  isOver: boolean
}

export class MysqlSnapshots implements SnapshotStore {
  readonly #options: MysqlSnapshotsOptions
  readonly #files: StagedFiles
  readonly #taking = new Set<Taking>()
  #isClean = false

  constructor(options: MysqlSnapshotsOptions) {
    this.#options = options
    this.#files = new StagedFiles(options.directory, options.build)
  }

  take(id: string, handler: SnapshotHandler): SnapshotTask {
    const taking: Taking = { view: undefined, isOver: false }
    const begun = Promise.withResolvers<{ readonly index: number; readonly context: string }>()
    this.#taking.add(taking)
    void this.#take(id, taking, begun.promise, handler)
    return {
      begin: (index, context) => begun.resolve({ index, context }),
      cancel: () => {
        if (taking.isOver) return
        this.#end(taking)
        this.drop(id)
      },
    }
  }

  digest(handler: DigestHandler): DigestTask {
    return startDigest(this.#options, handler)
  }

  drop(id: string): void {
    void rm(this.#directoryOf(id), { recursive: true, force: true }).catch(() => {})
  }

  stage(
    manifest: SnapshotManifest,
    done: (outcome: Done<{ readonly location: string }>) => void,
  ): void {
    void answer(async () => ({ location: await this.#files.begin(manifest) }), done)
  }

  finish(done: (outcome: Done<object>) => void): void {
    const finish = async (): Promise<object> => {
      const manifest = await this.#files.finish()
      await this.#onServer(connection => this.#load(connection, manifest))
      return {}
    }
    void answer(finish, done)
  }

  staged(done: (manifest: SnapshotManifest | undefined) => void): void {
    const look = async (): Promise<{ readonly manifest: SnapshotManifest | undefined }> => {
      return { manifest: await this.#files.sound() }
    }
    void answer(look, outcome => done(outcome.type === 'ok' ? outcome.manifest : undefined))
  }

  adopt(id: string, done: (outcome: Done<object>) => void): void {
    const { address, readers } = this.#options
    const adopt = async (): Promise<object> => {
      const manifest = await this.#files.sound()
      await this.#onServer(async connection => {
        await takeWriterLock(connection, address.prefix)
        // A file sets how its statements are read, and views keep how theirs were.
        if (manifest?.id === id) await this.#onServer(loader => this.#load(loader, manifest))
        await adoptStaged(connection, address.prefix, id)
      })
      await this.#files.remove()
      return {}
    }
    readers.hold()
    for (const taking of this.#taking) taking.view?.close()
    void answer(adopt, outcome => {
      readers.release()
      done(outcome)
    })
  }

  discard(done: () => void): void {
    const { address } = this.#options
    const discard = async (): Promise<object> => {
      await this.#files.discard()
      await this.#onServer(connection => removeStaged(connection, address.prefix))
      return {}
    }
    void answer(discard, () => done())
  }

  /** Ends all that is being made. */
  stop(): void {
    for (const taking of this.#taking) this.#end(taking)
  }

  async #take(
    id: string,
    taking: Taking,
    begun: Promise<{ readonly index: number; readonly context: string }>,
    handler: SnapshotHandler,
  ): Promise<void> {
    const { address, build } = this.#options
    const location = this.#directoryOf(id)
    const isOver = (): boolean => taking.isOver
    try {
      await this.#clean()
      const view = await ReadView.open(this.#options)
      taking.view = view
      if (isOver()) return view.close()
      handler.onReady()
      const { index, context } = await begun
      const plan = await planSnapshot(view, address.prefix, index, await view.begin(index))
      if (isOver()) return
      handler.onBegun()
      await mkdir(location, { recursive: true })
      const files = await writeSnapshot(view, plan, location)
      if (isOver()) return
      this.#end(taking)
      const { nowMs } = plan
      const manifest = { format: SNAPSHOT_FORMAT, id, index, nowMs, build, context, files }
      handler.onDone({ type: 'ok', manifest, location })
    } catch (thrown) {
      if (isOver()) {
        this.drop(id)
        return
      }
      this.#end(taking)
      this.drop(id)
      handler.onDone({ type: 'failed', error: toFault(thrown) })
    }
  }

  #end(taking: Taking): void {
    taking.isOver = true
    taking.view?.close()
    this.#taking.delete(taking)
  }

  async #load(connection: Connection, manifest: SnapshotManifest): Promise<void> {
    const { prefix } = this.#options.address
    await loadStaged(connection, prefix, this.#files.location, manifest)
  }

  /** With a connection of its own to the server, whose data must be this node's. */
  async #onServer(act: (connection: Connection) => Promise<void>): Promise<void> {
    const { address, owner } = this.#options
    const connection = await Connection.open(address)
    try {
      if (!(await refuseStrangers(connection, address.prefix, owner))) {
        const message = 'the server holds nothing of this node yet; it is to begin first'
        throw new DbError('SNAPSHOT_FAILED', message)
      }
      await act(connection)
    } finally {
      connection.close()
    }
  }

  /** Removes what snapshots of an earlier life left. */
  async #clean(): Promise<void> {
    assert(this.#taking.size > 0, 'a snapshot is being made')
    if (this.#isClean) return
    this.#isClean = true
    await rm(join(this.#options.directory, 'made'), { recursive: true, force: true })
  }

  #directoryOf(id: string): string {
    return join(this.#options.directory, 'made', id)
  }
}

/** Does it, and tells what came of it. */
async function answer<Result extends object>(
  act: () => Promise<Result>,
  done: (outcome: Done<Result>) => void,
): Promise<void> {
  let outcome: Done<Result>
  try {
    outcome = { type: 'ok', ...(await act()) }
  } catch (thrown) {
    outcome = { type: 'failed', error: toFault(thrown) }
  }
  done(outcome)
}
