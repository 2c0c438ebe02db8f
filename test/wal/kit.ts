/** A machine with a simulated disk on which logs are opened, crash, and are opened again. */
import assert from 'node:assert/strict'
import type { DbError } from '../../src/base/errors.ts'
import { Wal, type WalOptions, type WalSettings } from '../../src/wal/wal.ts'
import { Scheduler } from '../../sim/scheduler.ts'
import { type DiskOperation, SimDisk } from '../../sim/sim-disk.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { FOUNDING } from './model.ts'

/** Whose logs these are. */
export const IDENTITY = { clusterId: 'c-7f3a', groupId: 1, raftId: 2 }

/** Where they are. */
export const DIRECTORY = 'group-1/log'

/** Sizes so small that every edge is met often. */
export const TINY: WalOptions = {
  segmentSizeBytes: 2560,
  cacheSizeBytes: 400,
  batchSizeBytesMax: 1500,
  fillSizeBytes: 512,
}

/** One machine of a simulated world. */
export class Machine {
  readonly random: SimRandom
  readonly scheduler = new Scheduler()
  readonly disk: SimDisk
  /** What `onFatal` was called with. */
  readonly failures: DbError[] = []

  constructor(seed: number, capacityBytes?: number) {
    this.random = new SimRandom(seed, 'wal')
    this.disk = new SimDisk({
      random: this.random.stream('disk'),
      later: (delayMs, callback) => void this.scheduler.after(delayMs, callback),
      ...(capacityBytes === undefined ? {} : { capacityBytes }),
    })
  }

  open(settings: Partial<WalSettings> = {}): Wal {
    return Wal.open({
      // Mounting it again would end the life of one that was given.
      disk: settings.disk ?? this.disk.mount(),
      directory: DIRECTORY,
      identity: IDENTITY,
      options: TINY,
      initialMembers: FOUNDING,
      onFatal: error => this.failures.push(error),
      ...settings,
    })
  }

  /** Runs until nothing is left to do. */
  settle(): void {
    while (this.scheduler.runNext()) {
      // Each event plans the next ones.
    }
  }

  /** Starts `action` and runs until it calls back. */
  complete(action: (done: () => void) => void): void {
    const progress = { isDone: false }
    action(() => {
      progress.isDone = true
    })
    assert(
      this.scheduler.runUntil(Number.POSITIVE_INFINITY, () => progress.isDone),
      'it never called back',
    )
  }

  /** Opens a log and waits until it is flushed. */
  openFlushed(settings: Partial<WalSettings> = {}): Wal {
    const wal = this.open(settings)
    this.complete(done => wal.flush(done))
    return wal
  }

  /** Every operation of the disk is put into `operations` from now on. */
  record(operations: DiskOperation[]): void {
    this.disk.onOperation = operation => {
      operations.push(operation)
      return undefined
    }
  }
}
