/**
 * The names of a simulated disk. A name that was created, renamed or removed is so for everybody at
 * once, but survives a power cut for certain only after its directory was flushed.
 */
import { assert } from '../src/base/assert.ts'
import type { SimFile } from './sim-file.ts'
import type { SimRandom } from './sim-random.ts'

/** A path leads to a file, or, with `directory`, to a directory. */
type Target = SimFile | 'directory'

interface Change {
  /** From 1, in the order in which the changes happened. */
  readonly number: number
  /** The directory of which a flush makes it durable. */
  readonly directory: string
  readonly apply: (names: Map<string, Target>) => void
}

/** Names as they are and as they are stored. The root, `''`, is always there. */
export class SimNames {
  #current = new Map<string, Target>()
  #durable = new Map<string, Target>()
  #pending: Change[] = []
  #changeCount = 0

  /** How many changes there were; what a flush covers that is asked for now. */
  get changeCount(): number {
    return this.#changeCount
  }

  find(path: string): SimFile | undefined {
    const target = this.#current.get(path)
    return target === 'directory' ? undefined : target
  }

  files(): readonly SimFile[] {
    return [...new Set(this.#current.values())].filter(target => target !== 'directory')
  }

  sizeBytes(): number {
    return this.files().reduce((sum, file) => sum + file.sizeBytes, 0)
  }

  list(directory: string): readonly string[] {
    const prefix = directory === '' ? '' : `${directory}/`
    const names = [...this.#current.keys()].filter(path => path.startsWith(prefix))
    return names
      .map(path => path.slice(prefix.length))
      .filter(name => name !== '' && !name.includes('/'))
      .sort()
  }

  hasParent(path: string): boolean {
    const parent = parentOf(path)
    return parent === '' || this.#current.get(parent) === 'directory'
  }

  makeDirectory(path: string): void {
    if (path === '' || this.#current.has(path)) return
    this.makeDirectory(parentOf(path))
    this.#change(path, names => names.set(path, 'directory'))
  }

  create(path: string, file: SimFile): void {
    assert(!this.#current.has(path), `${path} is there`)
    this.#change(path, names => names.set(path, file))
  }

  rename(from: string, to: string): void {
    const target = this.#current.get(from)
    assert(target !== undefined, `${from} is not there`)
    this.#change(to, names => {
      names.delete(from)
      names.set(to, target)
    })
  }

  remove(path: string): void {
    this.#change(path, names => names.delete(path))
  }

  /** Changes in `directory` up to number `upTo` are durable. */
  syncDirectory(directory: string, upTo: number): void {
    const isCovered = (change: Change): boolean =>
      change.directory === directory && change.number <= upTo
    for (const change of this.#pending) if (isCovered(change)) change.apply(this.#durable)
    this.#pending = this.#pending.filter(change => !isCovered(change))
  }

  /**
   * What was not flushed survives in part: as a file system with a journal keeps it, the first
   * ones, or, as others do, any of them.
   */
  losePower(random: SimRandom): void {
    const hasJournal = random.chance(0.5)
    const kept = random.below(this.#pending.length + 1)
    for (const [order, change] of this.#pending.entries()) {
      const isKept = hasJournal ? order < kept : random.chance(0.5)
      if (isKept) change.apply(this.#durable)
    }
    this.#pending = []
    this.#dropOrphans()
    this.#current = new Map(this.#durable)
  }

  #change(path: string, apply: (names: Map<string, Target>) => void): void {
    this.#changeCount++
    this.#pending.push({ number: this.#changeCount, directory: parentOf(path), apply })
    apply(this.#current)
  }

  /** A name in a directory that did not survive is gone with it. */
  #dropOrphans(): void {
    for (const path of [...this.#durable.keys()].sort()) {
      const parent = parentOf(path)
      if (parent !== '' && this.#durable.get(parent) !== 'directory') this.#durable.delete(path)
    }
  }
}

function parentOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : ''
}
