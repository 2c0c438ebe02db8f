/**
 * Real files that remember what a power cut would leave: contents as of their last sync, names as
 * of the last sync of their directory. Any system call can be made the last one.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type FileSystem, systemFiles } from '../../src/platform/durable-file.ts'

/** Thrown in place of the system call at which the power goes. */
export class PowerCut extends Error {}

export class PowerCutFiles implements FileSystem {
  /** System calls so far. */
  callCount = 0
  readonly #failAt: number
  readonly #paths = new Map<number, string>()
  /** Files with content that was not synced, by the name they have now. */
  readonly #unsynced = new Set<string>()
  /** Names that a sync of their directory has not made durable, with what was there before. */
  readonly #unsyncedNames = new Map<string, string | undefined>()

  /** The power goes instead of the call of this number, from 0. */
  constructor(failAt = Infinity) {
    this.#failAt = failAt
  }

  open(path: string, flags: 'r' | 'w', mode?: number): number {
    this.#step()
    if (flags === 'w') this.#nameChanges(path)
    const file = systemFiles.open(path, flags, mode)
    this.#paths.set(file, path)
    return file
  }

  write(file: number, text: string): void {
    this.#step()
    systemFiles.write(file, text)
    this.#unsynced.add(this.#paths.get(file) ?? '')
  }

  sync(file: number): void {
    this.#step()
    systemFiles.sync(file)
    const path = this.#paths.get(file) ?? ''
    this.#unsynced.delete(path)
    for (const name of this.#unsyncedNames.keys()) {
      if (dirname(name) === path) this.#unsyncedNames.delete(name)
    }
  }

  close(file: number): void {
    // Closing is no step: it changes nothing that survives, and a cut leaves nothing to close.
    systemFiles.close(file)
  }

  rename(from: string, to: string): void {
    this.#step()
    this.#nameChanges(from)
    this.#nameChanges(to)
    systemFiles.rename(from, to)
    if (this.#unsynced.delete(from)) this.#unsynced.add(to)
    else this.#unsynced.delete(to)
  }

  makeDirectory(path: string): void {
    this.#step()
    mkdirSync(path)
  }

  /**
   * What is there after the power came back. A name that was not synced may be as before or as
   * after the change: `losesNames` says which. Contents that were not synced are gone.
   */
  cutPower(losesNames: boolean): void {
    for (const path of this.#unsynced) {
      if (existsSync(path)) writeFileSync(path, '')
    }
    if (!losesNames) return
    for (const [path, before] of this.#unsyncedNames) {
      if (before === undefined) rmSync(path, { force: true })
      else writeFileSync(path, before)
    }
  }

  #nameChanges(path: string): void {
    if (this.#unsyncedNames.has(path)) return
    const isFile = existsSync(path)
    this.#unsyncedNames.set(path, isFile ? readFileSync(path, 'utf8') : undefined)
  }

  #step(): void {
    if (this.callCount === this.#failAt) throw new PowerCut('the power went')
    this.callCount += 1
  }
}
