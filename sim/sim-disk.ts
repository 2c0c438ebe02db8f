/**
 * A simulated disk: everything takes time, names and bytes are durable only when they were flushed,
 * and any operation may fail or be the last one before a crash. Synchronous calls see the page
 * cache.
 *
 * A process works on `mount()`; after `processCrash` or `powerCut` its mount is dead (no call has
 * an effect, no callback comes) and the next process mounts again.
 */
import { must } from '../src/base/assert.ts'
import type { Disk, DiskCallback, DiskError, DiskFile } from '../src/base/ports.ts'
import { SURVIVALS, SimFile, type Survival } from './sim-file.ts'
import type { SimRandom } from './sim-random.ts'
import { SimNames } from './sim-names.ts'

/** What is about to happen on the disk. */
export interface DiskOperation {
  /** From 1, over the whole life of the disk. */
  readonly number: number
  readonly type: 'write' | 'sync' | 'rename' | 'remove' | 'sync-directory'
  readonly path: string
  readonly sizeBytes: number
}

/** What goes wrong with an operation. After `crash` the mount is dead, and `onCrash` is called. */
export type DiskFault =
  | { readonly type: 'error'; readonly code: string }
  | { readonly type: 'crash' }

export interface SimDiskSettings {
  readonly random: SimRandom
  /** Runs `callback` in that many milliseconds of simulated time. */
  readonly later: (delayMs: number, callback: () => void) => void
  /** How long an operation takes; by default up to 0.2 ms, and up to 2 ms for a flush. */
  readonly latencyMs?: (operation: Omit<DiskOperation, 'number'>) => number
  /** Sizes of all files together; more fails with ENOSPC. */
  readonly capacityBytes?: number
}

type Action = (fault: DiskFault | undefined) => DiskError | undefined

/** The disk of one machine. It outlives the processes that mount it. */
export class SimDisk {
  readonly #settings: SimDiskSettings
  readonly #names: SimNames
  /** The mount that is alive; others are of processes that ended. */
  #life = 0
  #operationCount = 0
  /** Writes that were begun and not done, by file: a crash may find them half done. */
  readonly #underWay = new Map<SimFile, () => void>()

  /** Asked before every operation. */
  onOperation: (operation: DiskOperation) => DiskFault | undefined = () => undefined
  /** Called when an operation was answered with `crash`. */
  onCrash: () => void = () => undefined

  constructor(settings: SimDiskSettings) {
    this.#settings = settings
    this.#names = new SimNames()
  }

  get operationCount(): number {
    return this.#operationCount
  }

  /** The disk as the next process sees it. Mounts of earlier processes are dead from now on. */
  mount(): Disk {
    this.processCrash()
    return new Mount(this, this.#life)
  }

  /** The process is gone, the system lives on: what it wrote is in the page cache. */
  processCrash(): void {
    this.#life++
    for (const halfDo of this.#underWay.values()) halfDo()
    this.#underWay.clear()
  }

  /** The machine is off. By default chance decides what survives of what was not flushed. */
  powerCut(survival: Survival = this.#settings.random.pick(SURVIVALS)): void {
    this.processCrash()
    const { random } = this.#settings
    this.#names.losePower(random)
    for (const file of this.#names.files()) file.losePower(survival, random)
  }

  /** Damages bytes of a file without anybody noticing. */
  flip(path: string, offset: number, mask: number): void {
    this.file(path).flip(offset, mask)
  }

  isAlive(life: number): boolean {
    return life === this.#life
  }

  get names(): SimNames {
    return this.#names
  }

  /** The file of this name; an ENOENT error if there is none. */
  file(path: string): SimFile {
    const file = this.#names.find(path)
    if (file === undefined) throw diskError('ENOENT', `no such file: ${path}`)
    return file
  }

  /** Runs `action` after its time, unless the mount died meanwhile, and then calls `done`. */
  schedule(
    life: number,
    operation: Omit<DiskOperation, 'number'>,
    action: Action,
    done: DiskCallback,
  ): void {
    this.#settings.later(this.#latencyMs(operation), () => {
      if (!this.isAlive(life)) return
      this.#operationCount++
      const fault = this.onOperation({ ...operation, number: this.#operationCount })
      if (!this.isAlive(life)) return
      const error = action(fault)
      if (fault?.type === 'crash') {
        this.processCrash()
        this.onCrash()
      } else {
        done(error)
      }
    })
  }

  /** Writes to the cache, or a part of it if there is a fault or no room for all. */
  write(file: SimFile, offset: number, bytes: Uint8Array, fault: DiskFault | undefined) {
    const { random, capacityBytes = Number.POSITIVE_INFINITY } = this.#settings
    if (fault !== undefined) {
      file.write(offset, bytes.subarray(0, random.below(bytes.length + 1)))
      return fault.type === 'error' ? diskError(fault.code, 'write failed') : undefined
    }
    const roomBytes = capacityBytes - this.#names.sizeBytes() + file.sizeBytes - offset
    if (bytes.length > roomBytes) {
      file.write(offset, bytes.subarray(0, Math.max(0, roomBytes)))
      return diskError('ENOSPC', 'no space left on device')
    }
    file.write(offset, bytes)
    return undefined
  }

  /** A flush, of the whole file or of what a durable write has just written. */
  sync(
    file: SimFile,
    fault: DiskFault | undefined,
    range?: { readonly offset: number; readonly length: number },
  ): DiskError | undefined {
    if (fault === undefined && range !== undefined) file.syncRange(range.offset, range.length)
    else if (fault === undefined) file.sync()
    else if (fault.type === 'error') file.failSync(this.#settings.random)
    return errorOf(fault, 'flush failed')
  }

  /** A change of names: with a fault it happens or not, as chance will have it. */
  changeNames(fault: DiskFault | undefined, change: () => void): DiskError | undefined {
    const happens =
      fault === undefined || (fault.type === 'crash' && this.#settings.random.chance(0.5))
    if (happens) change()
    return errorOf(fault, 'directory operation failed')
  }

  /** A write to `file` begins; if the process ends before it is done, a part may be. */
  begin(file: SimFile, offset: number, bytes: Uint8Array): void {
    const { random } = this.#settings
    this.#underWay.set(file, () => {
      file.write(offset, bytes.subarray(0, random.below(bytes.length + 1)))
    })
  }

  end(file: SimFile): void {
    this.#underWay.delete(file)
  }

  #latencyMs(operation: Omit<DiskOperation, 'number'>): number {
    const { latencyMs, random } = this.#settings
    if (latencyMs !== undefined) return latencyMs(operation)
    return random.float(0.01, operation.type.startsWith('sync') ? 2 : 0.2)
  }
}

/** The disk as one process sees it. */
class Mount implements Disk {
  readonly #disk: SimDisk
  readonly #life: number

  constructor(disk: SimDisk, life: number) {
    this.#disk = disk
    this.#life = life
  }

  list(directory: string): readonly string[] {
    return this.#disk.names.list(directory)
  }

  sizeBytes(path: string): number {
    return this.#disk.file(path).sizeBytes
  }

  read(path: string, offset: number, length: number): Uint8Array {
    return this.#disk.file(path).read(offset, length)
  }

  makeDirectory(path: string): void {
    if (this.#disk.isAlive(this.#life)) this.#disk.names.makeDirectory(path)
  }

  open(path: string, options: { readonly create: boolean }): DiskFile {
    const isMissing = this.#disk.names.find(path) === undefined
    if (isMissing && options.create && this.#disk.isAlive(this.#life)) {
      if (!this.#disk.names.hasParent(path)) throw diskError('ENOENT', `no directory for ${path}`)
      this.#disk.names.create(path, new SimFile())
    }
    return new MountedFile(this.#disk, this.#life, path, this.#disk.file(path))
  }

  rename(from: string, to: string, done: DiskCallback): void {
    const rename: Action = fault => {
      if (this.#disk.names.find(from) === undefined) return diskError('ENOENT', `no file ${from}`)
      return this.#disk.changeNames(fault, () => this.#disk.names.rename(from, to))
    }
    this.#disk.schedule(this.#life, { type: 'rename', path: to, sizeBytes: 0 }, rename, done)
  }

  remove(path: string, done: DiskCallback): void {
    const remove: Action = fault => {
      if (this.#disk.names.find(path) === undefined) return diskError('ENOENT', `no file ${path}`)
      return this.#disk.changeNames(fault, () => this.#disk.names.remove(path))
    }
    this.#disk.schedule(this.#life, { type: 'remove', path, sizeBytes: 0 }, remove, done)
  }

  syncDirectory(directory: string, done: DiskCallback): void {
    const upTo = this.#disk.names.changeCount
    const sync: Action = fault =>
      this.#disk.changeNames(fault, () => this.#disk.names.syncDirectory(directory, upTo))
    const operation = { type: 'sync-directory', path: directory, sizeBytes: 0 } as const
    this.#disk.schedule(this.#life, operation, sync, done)
  }
}

/** An open file; its operations wait for each other. */
class MountedFile implements DiskFile {
  readonly #disk: SimDisk
  readonly #life: number
  readonly #path: string
  readonly #file: SimFile
  #waiting: (() => void)[] = []
  #isBusy = false

  constructor(disk: SimDisk, life: number, path: string, file: SimFile) {
    this.#disk = disk
    this.#life = life
    this.#path = path
    this.#file = file
  }

  write(offset: number, chunks: readonly Uint8Array[], done: DiskCallback): void {
    this.#run(() => this.#write(offset, concatenate(chunks), this.#proceedAnd(done)))
  }

  /** A write and the flush of what it wrote: between the two, power may fail as anywhere else. */
  writeDurably(offset: number, chunks: readonly Uint8Array[], done: DiskCallback): void {
    this.#run(() => {
      const bytes = concatenate(chunks)
      const finish = this.#proceedAnd(done)
      this.#write(offset, bytes, error => {
        if (error !== undefined) return finish(error)
        const operation = { type: 'sync', path: this.#path, sizeBytes: 0 } as const
        const range = { offset, length: bytes.length }
        const sync: Action = fault => this.#disk.sync(this.#file, fault, range)
        this.#disk.schedule(this.#life, operation, sync, finish)
      })
    })
  }

  sync(done: DiskCallback): void {
    this.#run(() => {
      const operation = { type: 'sync', path: this.#path, sizeBytes: 0 } as const
      const sync: Action = fault => this.#disk.sync(this.#file, fault)
      this.#disk.schedule(this.#life, operation, sync, this.#proceedAnd(done))
    })
  }

  #write(offset: number, bytes: Uint8Array, done: DiskCallback): void {
    const operation = { type: 'write', path: this.#path, sizeBytes: bytes.length } as const
    this.#disk.begin(this.#file, offset, bytes)
    const write: Action = fault => {
      this.#disk.end(this.#file)
      return this.#disk.write(this.#file, offset, bytes, fault)
    }
    this.#disk.schedule(this.#life, operation, write, done)
  }

  close(): void {
    // A simulated file has nothing that must be given back.
  }

  #run(action: () => void): void {
    if (!this.#disk.isAlive(this.#life)) return
    if (this.#isBusy) {
      this.#waiting.push(action)
      return
    }
    this.#isBusy = true
    action()
  }

  #proceedAnd(done: DiskCallback): DiskCallback {
    return error => {
      this.#isBusy = false
      if (this.#waiting.length > 0) this.#run(must(this.#waiting.shift()))
      done(error)
    }
  }
}

function errorOf(fault: DiskFault | undefined, message: string): DiskError | undefined {
  return fault?.type === 'error' ? diskError(fault.code, message) : undefined
}

function diskError(code: string, message: string): DiskError {
  return Object.assign(new Error(`${code}: ${message}`), { code })
}

function concatenate(chunks: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0))
  let position = 0
  for (const chunk of chunks) {
    bytes.set(chunk, position)
    position += chunk.length
  }
  return bytes
}
