/**
 * One file of a simulated disk: what the system's page cache holds, what the platter holds, and the
 * writes between the two. A power cut keeps of these whatever a real disk might.
 */
import type { SimRandom } from './sim-random.ts'

/** What a disk writes as a whole, as a rule. */
export const SECTOR_SIZE_BYTES = 512

/** How often a sector at the edge of what was kept is itself half written. */
const TORN_SECTOR_PROBABILITY = 0.1

/**
 * What a power cut keeps of the writes that were not flushed: nothing, everything, the first ones
 * up to some byte, or for each sector its content at some moment of its own.
 */
export type Survival = 'nothing' | 'everything' | 'prefix' | 'sectors'

export const SURVIVALS: readonly Survival[] = ['nothing', 'everything', 'prefix', 'sectors']

interface PendingWrite {
  readonly offset: number
  readonly bytes: Uint8Array
}

/** Bytes that grow; what was never written reads as zero. */
class Content {
  sizeBytes = 0
  #bytes: Uint8Array = new Uint8Array(0)

  write(offset: number, bytes: Uint8Array): void {
    // As POSIX has it, a write of nothing doesn't even change the size.
    if (bytes.length === 0) return
    this.resize(Math.max(this.sizeBytes, offset + bytes.length))
    this.#bytes.set(bytes, offset)
  }

  /** Grows the size; the bytes between are zeros. */
  resize(sizeBytes: number): void {
    if (sizeBytes > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(1024, sizeBytes * 2))
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    this.sizeBytes = sizeBytes
  }

  read(offset: number, length: number): Uint8Array {
    return this.#bytes.slice(offset, Math.min(this.sizeBytes, offset + length))
  }

  copyOf(other: Content): void {
    this.#bytes = other.read(0, other.sizeBytes)
    this.sizeBytes = other.sizeBytes
  }

  flip(offset: number, mask: number): void {
    this.#bytes[offset] = (this.#bytes[offset] ?? 0) ^ mask
  }
}

/** A file, whatever its names are. */
export class SimFile {
  readonly #cached = new Content()
  readonly #durable = new Content()
  /** In the cache and not known to be durable, in order. */
  #pending: PendingWrite[] = []

  get sizeBytes(): number {
    return this.#cached.sizeBytes
  }

  read(offset: number, length: number): Uint8Array {
    return this.#cached.read(offset, length)
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#cached.write(offset, bytes)
    this.#pending.push({ offset, bytes })
  }

  /** All that was written is durable. */
  sync(): void {
    for (const { offset, bytes } of this.#pending) this.#durable.write(offset, bytes)
    this.#durable.resize(Math.max(this.#durable.sizeBytes, this.#cached.sizeBytes))
    this.#pending = []
  }

  /** What is cached of these bytes is durable, whatever became of others. */
  syncRange(offset: number, length: number): void {
    const end = offset + length
    this.#durable.write(offset, this.#cached.read(offset, length))
    this.#pending = this.#pending.flatMap(write => {
      const before = write.bytes.subarray(0, Math.max(0, offset - write.offset))
      const after = write.bytes.subarray(Math.max(0, end - write.offset))
      return [
        { offset: write.offset, bytes: before },
        { offset: write.offset + write.bytes.length - after.length, bytes: after },
      ].filter(({ bytes }) => bytes.length > 0)
    })
  }

  /**
   * A flush that failed, as Linux does it: some of the writes came through, the others are lost and
   * yet the cache shows them and holds them for clean, so that the next flush succeeds.
   */
  failSync(random: SimRandom): void {
    this.#keep('sectors', random)
    this.#pending = []
  }

  /** The cache is gone; of what was not flushed survives what `survival` says. */
  losePower(survival: Survival, random: SimRandom): void {
    this.#keep(survival, random)
    this.#pending = []
    this.#cached.copyOf(this.#durable)
  }

  /** Damages the platter, as radiation, a bad cable or a bug below might. */
  flip(offset: number, mask: number): void {
    this.#cached.flip(offset, mask)
    this.#durable.flip(offset, mask)
  }

  #keep(survival: Survival, random: SimRandom): void {
    const { length } = this.#pending
    if (length === 0 || survival === 'nothing') return
    if (survival === 'everything') {
      for (const { offset, bytes } of this.#pending) this.#durable.write(offset, bytes)
    } else if (survival === 'prefix') {
      this.#keepPrefix(random)
    } else {
      this.#keepSectors(random)
    }
    // A file system may store the new size before the bytes that it is for.
    if (random.chance(0.5)) {
      this.#durable.resize(Math.max(this.#durable.sizeBytes, this.#cached.sizeBytes))
    }
  }

  #keepPrefix(random: SimRandom): void {
    const whole = random.below(this.#pending.length + 1)
    for (const { offset, bytes } of this.#pending.slice(0, whole))
      this.#durable.write(offset, bytes)
    const torn = this.#pending[whole]
    if (torn === undefined) return
    this.#durable.write(torn.offset, torn.bytes.subarray(0, random.below(torn.bytes.length + 1)))
  }

  /**
   * Each sector as it was after some number of the writes; some are torn between two such states.
   */
  #keepSectors(random: SimRandom): void {
    const moments = new Map<number, readonly [before: number, after: number, split: number]>()
    const count = this.#pending.length
    for (const [order, { offset, bytes }] of this.#pending.entries()) {
      const end = offset + bytes.length
      let start = offset
      while (start < end) {
        const sector = Math.floor(start / SECTOR_SIZE_BYTES)
        const next = Math.min(end, (sector + 1) * SECTOR_SIZE_BYTES)
        let moment = moments.get(sector)
        if (moment === undefined) {
          const before = random.below(count + 1)
          const isTorn = random.chance(TORN_SECTOR_PROBABILITY)
          const split = sector * SECTOR_SIZE_BYTES + random.below(SECTOR_SIZE_BYTES)
          moment = [before, isTorn ? random.below(count + 1) : before, split]
          moments.set(sector, moment)
        }
        const [before, after, split] = moment
        const from = order < before ? start : Math.max(start, split)
        const to = order < after ? next : Math.min(next, split)
        if (from < to) this.#durable.write(from, bytes.subarray(from - offset, to - offset))
        start = next
      }
    }
  }
}
