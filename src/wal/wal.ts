/**
 * What a node keeps on disk for Raft: entries, hard state and the base of the log. Appends are
 * visible to reads at once and acknowledged once flushed; while one flush is under way, the next
 * batch gathers. It never acknowledges anything again after a failed write or flush.
 */
import { assert } from '../base/assert.ts'
import { type Checksum, crc32 } from '../base/crc32.ts'
import { DbError } from '../base/errors.ts'
import type { Disk, DiskError } from '../base/ports.ts'
import { entriesSizeBytes, entrySizeBytes } from '../raft/entries.ts'
import type { Storage, StorageGap } from '../raft/storage.ts'
import {
  type ConfState,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  EMPTY_HARD_STATE,
  type Entry,
  type HardState,
} from '../raft/types.ts'
import { EntryCache } from './entry-cache.ts'
import { EntryLocator } from './entry-locator.ts'
import { LogWriter } from './log-writer.ts'
import type { Operation } from './operation.ts'
import type { LogBase, StoredMembers } from './payload.ts'
import { type Recovery, recover } from './recovery.ts'
import type { WalIdentity } from './segment-header.ts'
import { SegmentReader } from './segment-reader.ts'
import { TermRuns } from './term-runs.ts'

/** How a log is kept. */
export interface WalOptions {
  /** A segment that would grow beyond this is followed by a new one. */
  readonly segmentSizeBytes: number
  /** How many bytes of entries stay in memory for reading. */
  readonly cacheSizeBytes: number
  /** About how much is written with one flush at most. */
  readonly batchSizeBytesMax: number
  /** How much is filled with zeros ahead of the writing; 0 to grow the file with each write. */
  readonly fillSizeBytes: number
}

/** Options for production. */
export const DEFAULT_WAL_OPTIONS: WalOptions = {
  segmentSizeBytes: 16 << 20,
  cacheSizeBytes: 32 << 20,
  batchSizeBytesMax: 4 << 20,
  fillSizeBytes: 1 << 20,
}

/** All that a log needs. */
export interface WalSettings {
  readonly disk: Disk
  /** Made if it isn't there. Nothing else may be in it. */
  readonly directory: string
  readonly identity: WalIdentity
  readonly options?: Partial<WalOptions>
  /** Refuse to begin a new log, because this node is known to have had one. */
  readonly mustExist?: boolean
  /** The members with which a new log begins. */
  readonly initialMembers?: StoredMembers
  /** CRC-32, if there is a faster one than that of `base/`. */
  readonly checksum?: Checksum
  /**
   * The log can't be written any more and will acknowledge nothing: the process must end. Called
   * once. What was appended and not acknowledged may or may not be found when it starts again.
   */
  readonly onFatal: (error: DbError) => void
}

/** What is to be stored together. */
export interface WalAppend {
  /** Entries from the first one's index on are replaced. */
  readonly entries: readonly Entry[]
  readonly hardState?: HardState
  /** A snapshot that the engine has installed durably; it voids all entries before. */
  readonly snapshot?: LogBase
}

const NO_MEMBERS: StoredMembers = { confState: EMPTY_CONF_STATE, book: EMPTY_BYTES }

/** A log on disk. The Storage of the Raft core. */
export class Wal implements Storage {
  readonly #settings: WalSettings
  readonly #options: WalOptions
  readonly #writer: LogWriter
  readonly #reader: SegmentReader
  readonly #cache: EntryCache
  #terms: TermRuns
  #base: LogBase
  #hardState: HardState
  /** Last entries of which the bytes are in the file, and on disk. At most `lastIndex()`. */
  #writtenIndex: number
  #flushedIndex: number
  /** Waiting, in the order of the calls. */
  #waiting: Operation[] = []
  /** Being written. */
  #underWay: readonly Operation[] = []
  /** With a commit index that nobody waits for: it goes with the next batch, or with `tidy`. */
  #unwritten: HardState | undefined
  #isBusy = true
  #isTelling = false
  #isClosing = false
  #hasFailed = false

  /**
   * Opens the log, or begins one if there is none, and reads it. Appends are taken at once. What
   * was read counts as flushed only when `flush` says so: nothing may be told to other nodes
   * before. Throws CORRUPT, WRONG_DATA, or DISK_FAILED if it can't be read.
   */
  static open(settings: WalSettings): Wal {
    const { disk, directory, identity, checksum = crc32 } = settings
    const recovery = whole(directory, () => recover({ disk, directory, identity, checksum }))
    if (recovery.type === 'none' && settings.mustExist === true) {
      const text =
        `the log of this node is missing: there is nothing in ${directory}. A node that forgot ` +
        'its votes and entries must not take part: put the directory back, or remove the node ' +
        'from the cluster and let it join again, empty, under a new node id'
      throw new DbError('WRONG_DATA', text, { details: { directory } })
    }
    return new Wal(settings, recovery)
  }

  private constructor(settings: WalSettings, recovery: Recovery) {
    const options = { ...DEFAULT_WAL_OPTIONS, ...settings.options }
    const { disk, directory, identity, checksum = crc32 } = settings
    const image = recovery.type === 'log' ? recovery.image : undefined
    const members = settings.initialMembers ?? NO_MEMBERS
    this.#settings = settings
    this.#options = options
    this.#base = image?.base ?? { index: 0, term: 0, ...members }
    this.#hardState = image?.hardState ?? EMPTY_HARD_STATE
    this.#terms = image?.terms ?? new TermRuns(0, 0)
    const lastIndex = this.#terms.lastIndex
    const locator = image?.locator ?? new EntryLocator()
    this.#cache = new EntryCache(lastIndex, options.cacheSizeBytes)
    this.#reader = new SegmentReader(disk, directory, locator, checksum)
    this.#writer = new LogWriter(
      { disk, directory, identity, checksum, locator, ...options },
      {
        base: this.#base,
        hardState: this.#hardState,
        lastIndex,
        lastTerm: image?.lastTerm ?? 0,
      },
    )
    this.#writtenIndex = lastIndex
    this.#flushedIndex = this.#base.index
    const started = (error: DiskError | undefined): void => {
      if (error !== undefined) return this.#fail(error)
      this.#flushedIndex = Math.max(this.#flushedIndex, Math.min(lastIndex, this.#writtenIndex))
      this.#isBusy = false
      this.#proceed()
    }
    if (recovery.type === 'log') this.#writer.resume(recovery, started)
    else this.#writer.create(recovery.leftovers, started)
  }

  initialState(): { readonly hardState: HardState; readonly confState: ConfState } {
    return { hardState: this.#hardState, confState: this.#base.confState }
  }

  firstIndex(): number {
    return this.#base.index + 1
  }

  lastIndex(): number {
    return this.#terms.lastIndex
  }

  /** What the log takes on disk. */
  sizeBytes(): number {
    return this.#writer.sizeBytes
  }

  /** Last entry that survives a power cut. */
  flushedIndex(): number {
    return this.#flushedIndex
  }

  term(index: number): number | StorageGap {
    if (index < this.#base.index) return 'compacted'
    if (index === this.#base.index) return this.#base.term
    return this.#terms.termAt(index) ?? 'unavailable'
  }

  /** Throws CORRUPT if an entry on disk isn't what was written; then the log has failed. */
  entries(low: number, high: number, maxSizeBytes: number): readonly Entry[] | StorageGap {
    if (low <= this.#base.index) return 'compacted'
    if (high > this.lastIndex() + 1) return 'unavailable'
    const cachedFrom = Math.min(high, Math.max(low, this.#cache.firstIndex))
    const entries = low < cachedFrom ? this.#readFromDisk(low, cachedFrom, maxSizeBytes) : []
    if (entries.length < cachedFrom - low) return entries
    let sizeBytes = entriesSizeBytes(entries)
    for (let index = cachedFrom; index < high; index++) {
      const entry = this.#cache.get(index)
      sizeBytes += entrySizeBytes(entry)
      if (entries.length > 0 && sizeBytes > maxSizeBytes) return entries
      entries.push(entry)
    }
    return entries
  }

  /**
   * None to send: the log begins where every member has it, so nobody needs one. A member whose
   * disk lost what it had acknowledged waits for an operator instead of ending the leader.
   */
  snapshot(): 'unavailable' {
    return 'unavailable'
  }

  /** What the log begins after. */
  base(): LogBase {
    return this.#base
  }

  /**
   * Appends; reads see it at once. `done` is called later, in the order of the calls, when it is
   * flushed. Nothing is waited for if only the commit index changed: it is written with what comes
   * next, or by `tidy`. After a failure or `close` nothing is taken or acknowledged any more.
   */
  append(append: WalAppend, done: () => void): void {
    const { entries, hardState, snapshot } = append
    const isPromise =
      entries.length > 0 ||
      snapshot !== undefined ||
      (hardState !== undefined &&
        (hardState.term !== this.#hardState.term || hardState.vote !== this.#hardState.vote))
    if (snapshot !== undefined) this.#installSnapshot(snapshot)
    const truncateFrom = this.#appendEntries(entries)
    if (hardState !== undefined) this.#setHardState(hardState)
    const { commit } = this.#hardState
    assert(commit >= this.#base.index, `commit ${commit}, the log begins after ${this.#base.index}`)
    this.#enqueue({
      ...(snapshot === undefined ? {} : { reset: snapshot }),
      ...(truncateFrom === undefined ? {} : { truncateFrom }),
      entries,
      ...(hardState === undefined ? {} : { hardState }),
      mustSync: isPromise,
      validIndex: this.lastIndex(),
      done: () => {
        done()
        if (snapshot !== undefined) this.#removeUnused(() => undefined)
      },
    })
  }

  /**
   * Drops the entries up to `upTo`, which the engine holds durably, from reads at once. Segments
   * that hold nothing else are removed once the new base is flushed; `done` is called after that.
   * `members` are those as of `upTo`.
   */
  compact(upTo: number, members: StoredMembers, done: () => void): void {
    if (upTo <= this.#base.index) return this.flush(done)
    const term = this.term(upTo)
    assert(
      typeof term === 'number',
      `compaction up to ${upTo}, the log ends at ${this.lastIndex()}`,
    )
    assert(upTo <= this.#hardState.commit, `base ${upTo}, commit ${this.#hardState.commit}`)
    const { confState, book } = members
    const base = { index: upTo, term, confState, book }
    this.#base = base
    this.#terms.compact(upTo)
    this.#cache.compact(upTo)
    this.#enqueue({
      entries: [],
      base,
      mustSync: true,
      validIndex: this.lastIndex(),
      done: () => this.#removeUnused(done),
    })
  }

  /** `done` is called when all that was read or appended so far survives a power cut. */
  flush(done: () => void): void {
    this.#enqueue({ entries: [], mustSync: true, validIndex: this.lastIndex(), done })
  }

  /**
   * Writes down what nobody waits for, if there is nothing else to do: the commit index, and where
   * the log ends, so that damage of the newest batch isn't taken for a batch that was on its way
   * when the process ended. To be called now and then, since it costs as much as a small batch.
   */
  tidy(): void {
    if (this.#isBusy || this.#isTelling || this.#isClosing || this.#hasFailed) return
    const unwritten = this.#takeUnwritten()
    if (unwritten.length === 0) return this.#mark()
    this.#isBusy = true
    this.#writer.write(unwritten, false, error => {
      this.#isBusy = false
      if (error !== undefined) return this.#fail(error)
      this.#mark()
      this.#proceed()
    })
  }

  /**
   * Finishes what was asked, notes on disk where the log ends, and closes the file. Nothing is
   * taken any more from the call on.
   */
  close(done: () => void): void {
    this.flush(() => {
      this.#isBusy = true
      this.#writer.mark(true, error => {
        if (error !== undefined) return this.#fail(error)
        this.#writer.close()
        done()
      })
    })
    this.#isClosing = true
  }

  #readFromDisk(low: number, high: number, maxSizeBytes: number): Entry[] {
    const { directory } = this.#settings
    try {
      return whole(directory, () => this.#reader.read(low, high, maxSizeBytes))
    } catch (error) {
      if (error instanceof DbError) this.#failWith(error)
      throw error
    }
  }

  #installSnapshot(snapshot: LogBase): void {
    const { index, term } = snapshot
    assert(index > this.#base.index, `snapshot at ${index}, base at ${this.#base.index}`)
    this.#invalidate(index)
    this.#base = snapshot
    this.#terms = new TermRuns(index, term)
    this.#cache.clear(index + 1)
  }

  /** Appends what reads see. Gives the index from which on entries are replaced, if there are. */
  #appendEntries(entries: readonly Entry[]): number | undefined {
    const first = entries[0]
    if (first === undefined) return undefined
    const nextIndex = this.lastIndex() + 1
    const { commit } = this.#hardState
    assert(first.index <= nextIndex, `entry ${first.index} after ${nextIndex - 1}: a gap`)
    assert(first.index > commit, `entry ${first.index} replaces a committed one; commit ${commit}`)
    assert(first.index > this.#base.index, `entry ${first.index}, base ${this.#base.index}`)
    const isTruncation = first.index < nextIndex
    if (isTruncation) {
      this.#invalidate(first.index)
      this.#terms.truncate(first.index)
      this.#cache.truncate(first.index)
    }
    for (const entry of entries) {
      this.#terms.append(entry.index, entry.term)
      this.#cache.push(entry)
    }
    return isTruncation ? first.index : undefined
  }

  /**
   * Entries from `index` on are others now: earlier writes of that index say nothing about them.
   */
  #invalidate(index: number): void {
    for (const operation of [...this.#underWay, ...this.#waiting]) {
      operation.validIndex = Math.min(operation.validIndex, index - 1)
    }
    this.#writtenIndex = Math.min(this.#writtenIndex, index - 1)
    this.#flushedIndex = Math.min(this.#flushedIndex, index - 1)
  }

  #setHardState(hardState: HardState): void {
    const { term, vote, commit } = hardState
    const old = this.#hardState
    assert(term >= old.term, `term ${term} after term ${old.term}`)
    const isSameVote = term > old.term || old.vote === 0 || vote === old.vote
    assert(isSameVote, `vote for ${vote} in term ${term} after one for ${old.vote}`)
    assert(commit >= old.commit, `commit ${commit} after ${old.commit}`)
    assert(commit <= this.lastIndex(), `commit ${commit}, the log ends at ${this.lastIndex()}`)
    this.#hardState = hardState
  }

  #enqueue(operation: Operation): void {
    if (this.#isClosing || this.#hasFailed) return
    this.#waiting.push(operation)
    this.#proceed()
  }

  /** Begins the next batch if none is under way. */
  #proceed(): void {
    if (this.#isBusy || this.#isTelling || this.#hasFailed) return
    if (this.#waiting.length === 0) return
    const batch = this.#takeBatch()
    const mustSync = batch.some(operation => operation.mustSync)
    this.#isBusy = true
    this.#underWay = batch
    const written = mustSync ? [...this.#takeUnwritten(), ...batch] : []
    if (!mustSync) this.#unwritten = batch.findLast(hasHardState)?.hardState ?? this.#unwritten
    this.#writer.write(written, mustSync, error => {
      if (error === undefined) this.#finish(batch, mustSync)
      else this.#fail(error)
    })
  }

  #takeUnwritten(): Operation[] {
    const hardState = this.#unwritten
    this.#unwritten = undefined
    if (hardState === undefined) return []
    const done = (): void => undefined
    return [{ entries: [], hardState, mustSync: false, validIndex: this.lastIndex(), done }]
  }

  #takeBatch(): readonly Operation[] {
    let sizeBytes = 0
    let count = 0
    for (const operation of this.#waiting) {
      sizeBytes += entriesSizeBytes(operation.entries)
      if (count > 0 && sizeBytes > this.#options.batchSizeBytesMax) break
      count++
    }
    return this.#waiting.splice(0, count)
  }

  #finish(batch: readonly Operation[], isFlushed: boolean): void {
    this.#isBusy = false
    this.#underWay = []
    const validIndex = batch.at(-1)?.validIndex ?? 0
    this.#writtenIndex = Math.max(this.#writtenIndex, validIndex)
    if (isFlushed) this.#flushedIndex = Math.max(this.#flushedIndex, this.#writtenIndex)
    this.#cache.evict(this.#writtenIndex)
    // What the callbacks append goes together into the next batch, so that one waits for none.
    this.#isTelling = true
    for (const operation of batch) {
      // A read inside a callback may find damage; after that nothing is acknowledged.
      if (!this.#hasFailed) operation.done()
    }
    this.#isTelling = false
    this.#proceed()
  }

  #mark(): void {
    if (this.#isBusy || !this.#writer.needsMark) return
    this.#isBusy = true
    this.#writer.mark(false, error => {
      this.#isBusy = false
      if (error === undefined) this.#proceed()
      else this.#fail(error)
    })
  }

  #removeUnused(done: () => void): void {
    this.#writer.removeUnused(error => {
      if (error !== undefined) this.#fail(error)
      else if (!this.#hasFailed) done()
    })
  }

  #fail(error: DiskError): void {
    const isFull = error.code === 'ENOSPC' || error.code === 'EDQUOT'
    const { directory } = this.#settings
    const text = isFull
      ? `the disk is full and the log in ${directory} can't be written: free some space and ` +
        'start the node again'
      : `the disk failed to write the log in ${directory} (${error.message}): what it holds ` +
        'is not known any more, so the node ends; check the disk and start the node again'
    const details = { directory, code: error.code }
    this.#failWith(
      new DbError(isFull ? 'DISK_FULL' : 'DISK_FAILED', text, { cause: error, details }),
    )
  }

  #failWith(error: DbError): void {
    if (this.#hasFailed) return
    this.#hasFailed = true
    this.#settings.onFatal(error)
  }
}

function hasHardState({ hardState }: Operation): boolean {
  return hardState !== undefined
}

/** What is read, or DISK_FAILED: what a disk can't read must not look as if it were not there. */
function whole<Value>(directory: string, read: () => Value): Value {
  try {
    return read()
  } catch (error) {
    const isOfDisk = error instanceof Error && !(error instanceof DbError) && 'code' in error
    if (!isOfDisk) throw error
    const text =
      `the disk failed to read the log in ${directory} (${error.message}): check the disk and ` +
      'start the node again, or remove the node from the cluster'
    const details = { directory, code: error.code }
    throw new DbError('DISK_FAILED', text, { cause: error, details })
  }
}
