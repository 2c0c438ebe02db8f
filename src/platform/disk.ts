/**
 * The real Disk: files under one root directory. Writes and flushes run one after another per file,
 * on the thread pool or, as far as the disk is fast enough for that, in place (write-place.ts);
 * what is used only while starting is synchronous.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fsync,
  mkdirSync,
  open,
  openSync,
  readSync,
  readdirSync,
  rename,
  statSync,
  unlink,
  writev,
  writevSync,
} from 'node:fs'
import { join } from 'node:path'
import { crc32 as nativeCrc32 } from 'node:zlib'
import { assert } from '../base/assert.ts'
import { type Checksum, crc32 } from '../base/crc32.ts'
import type { Disk, DiskCallback, DiskError, DiskFile } from '../base/ports.ts'
import { WritePlace } from './write-place.ts'

/** Below this, crossing into native code costs more than it saves (measured). */
const NATIVE_CHECKSUM_SIZE_BYTES_MIN = 200

/** CRC-32 by the fastest way for the length: some four times as fast as `base/` from 4 KB on. */
export const fastCrc32: Checksum = (bytes, start, end, seed) =>
  end - start < NATIVE_CHECKSUM_SIZE_BYTES_MIN
    ? crc32(bytes, start, end, seed)
    : nativeCrc32(bytes.subarray(start, end), seed)

/**
 * A write through a file opened so returns when its bytes are on the disk, as after a flush, but
 * with one call of the system instead of two. Only where it is known to be as good as a flush.
 */
const DURABLE_FLAG = process.platform === 'linux' ? constants.O_DSYNC : undefined

/** How many files are kept open for reading. */
const READ_FILES_MAX = 8

/** Files below `root`, which must exist. */
export class RealDisk implements Disk {
  readonly #root: string
  /** Open for reading, the least recently used first. */
  readonly #readFiles = new Map<string, number>()
  readonly #writePlace = new WritePlace()

  constructor(root: string) {
    this.#root = root
  }

  list(directory: string): readonly string[] {
    try {
      return readdirSync(this.#resolve(directory)).sort()
    } catch (error) {
      if ((error as DiskError).code === 'ENOENT') return []
      throw error
    }
  }

  sizeBytes(path: string): number {
    return statSync(this.#resolve(path)).size
  }

  read(path: string, offset: number, length: number): Uint8Array {
    const descriptor = this.#openForReading(path)
    const bytes = new Uint8Array(length)
    let position = 0
    while (position < length) {
      const count = readSync(descriptor, bytes, position, length - position, offset + position)
      if (count === 0) return bytes.subarray(0, position)
      position += count
    }
    return bytes
  }

  makeDirectory(path: string): void {
    mkdirSync(this.#resolve(path), { recursive: true, mode: 0o700 })
  }

  open(path: string, options: { readonly create: boolean }): DiskFile {
    // Not truncated if it is there: what is in it is for the caller to judge.
    const flags = constants.O_RDWR | (options.create ? constants.O_CREAT : 0)
    const descriptor = openSync(this.#resolve(path), flags, 0o600)
    if (DURABLE_FLAG === undefined) return new RealFile(descriptor, undefined, this.#writePlace)
    const durable = openSync(this.#resolve(path), constants.O_RDWR | DURABLE_FLAG)
    return new RealFile(descriptor, durable, this.#writePlace)
  }

  rename(from: string, to: string, done: DiskCallback): void {
    this.#forget(from)
    this.#forget(to)
    rename(this.#resolve(from), this.#resolve(to), error => done(error ?? undefined))
  }

  remove(path: string, done: DiskCallback): void {
    this.#forget(path)
    unlink(this.#resolve(path), error => done(error ?? undefined))
  }

  syncDirectory(directory: string, done: DiskCallback): void {
    open(this.#resolve(directory), 'r', (openError, descriptor) => {
      if (openError !== null) return done(openError)
      fsync(descriptor, error => {
        closeSync(descriptor)
        done(error ?? undefined)
      })
    })
  }

  #resolve(path: string): string {
    return join(this.#root, path)
  }

  #openForReading(path: string): number {
    const descriptor = this.#readFiles.get(path) ?? openSync(this.#resolve(path), 'r')
    this.#readFiles.delete(path)
    this.#readFiles.set(path, descriptor)
    for (const [oldest, oldestDescriptor] of this.#readFiles) {
      if (this.#readFiles.size <= READ_FILES_MAX) break
      this.#readFiles.delete(oldest)
      closeSync(oldestDescriptor)
    }
    return descriptor
  }

  /** A name that changes its file must not lead to the old one. */
  #forget(path: string): void {
    const descriptor = this.#readFiles.get(path)
    if (descriptor === undefined) return
    this.#readFiles.delete(path)
    closeSync(descriptor)
  }
}

/** One open file; its operations wait for each other. */
class RealFile implements DiskFile {
  readonly #descriptor: number
  /** The same file, of which writes are durable. */
  readonly #durable: number | undefined
  readonly #writePlace: WritePlace
  /** Not yet begun, in the order of the calls. */
  #waiting: (() => void)[] = []
  #isBusy = false
  #isClosed = false

  constructor(descriptor: number, durable: number | undefined, writePlace: WritePlace) {
    this.#descriptor = descriptor
    this.#durable = durable
    this.#writePlace = writePlace
  }

  write(offset: number, chunks: readonly Uint8Array[], done: DiskCallback): void {
    this.#run(done, next => {
      if (chunks.some(chunk => chunk.length > 0)) {
        writeAll(this.#descriptor, offset, chunks, next)
      } else {
        setImmediate(() => next(undefined))
      }
    })
  }

  writeDurably(offset: number, chunks: readonly Uint8Array[], done: DiskCallback): void {
    const durable = this.#durable
    if (durable !== undefined) {
      this.#run(done, next => {
        const sizeBytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
        if (this.#writePlace.isHere(sizeBytes)) this.#writeHere(durable, offset, chunks, next)
        else writeAll(durable, offset, chunks, next)
      })
      return
    }
    this.#run(done, next => {
      writeAll(this.#descriptor, offset, chunks, error => {
        if (error !== undefined) return next(error)
        fdatasync(this.#descriptor, flushError => next(flushError ?? undefined))
      })
    })
  }

  /** At the end of this turn of the event loop: what goes to others in it is on its way by then. */
  #writeHere(
    durable: number,
    offset: number,
    chunks: readonly Uint8Array[],
    next: DiskCallback,
  ): void {
    setImmediate(() => {
      const startedMs = performance.now()
      let failure: DiskError | undefined
      try {
        writeAllHere(durable, offset, chunks)
      } catch (error) {
        failure = error as DiskError
      }
      this.#writePlace.took(performance.now() - startedMs)
      next(failure)
    })
  }

  sync(done: DiskCallback): void {
    this.#run(done, next => fdatasync(this.#descriptor, error => next(error ?? undefined)))
  }

  /** Takes effect after what was asked before it. */
  close(): void {
    this.#run(
      () => undefined,
      next => {
        closeSync(this.#descriptor)
        if (this.#durable !== undefined) closeSync(this.#durable)
        next(undefined)
      },
    )
    this.#isClosed = true
  }

  #run(done: DiskCallback, action: (next: DiskCallback) => void): void {
    assert(!this.#isClosed, 'the file is closed')
    this.#waiting.push(() =>
      action(error => {
        this.#isBusy = false
        // The next operation is begun first: the disk works while the caller thinks.
        this.#proceed()
        done(error)
      }),
    )
    this.#proceed()
  }

  #proceed(): void {
    if (this.#isBusy) return
    const action = this.#waiting.shift()
    if (action === undefined) return
    this.#isBusy = true
    action()
  }
}

/** The system may write less than it is given, so it is asked until all is written or it fails. */
function writeAll(
  descriptor: number,
  offset: number,
  chunks: readonly Uint8Array[],
  done: DiskCallback,
): void {
  writev(descriptor, chunks, offset, (error, writtenBytes) => {
    if (error !== null) return done(error)
    const rest = chunksAfter(chunks, writtenBytes)
    if (rest.length === 0) done(undefined)
    else writeAll(descriptor, offset + writtenBytes, rest, done)
  })
}

function writeAllHere(descriptor: number, offset: number, chunks: readonly Uint8Array[]): void {
  let at = offset
  for (let rest = chunks; rest.length > 0;) {
    const writtenBytes = writevSync(descriptor, rest, at)
    at += writtenBytes
    rest = chunksAfter(rest, writtenBytes)
  }
}

/** What is left of `chunks` when their first `sizeBytes` are gone. */
function chunksAfter(chunks: readonly Uint8Array[], sizeBytes: number): readonly Uint8Array[] {
  let left = sizeBytes
  let position = 0
  for (const chunk of chunks) {
    if (left < chunk.length) break
    left -= chunk.length
    position++
  }
  const [first, ...others] = chunks.slice(position)
  if (first === undefined) return []
  return left === 0 ? [first, ...others] : [first.subarray(left), ...others]
}
