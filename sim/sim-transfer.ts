/**
 * Carries snapshots between simulated nodes: piece by piece, at any of which the other side may be
 * gone, the connection break, or a byte come wrong.
 */
import { join } from 'node:path'
import { DbError } from '../src/base/errors.ts'
import type { CarriedSnapshot, SnapshotTransfer } from '../src/base/ports.ts'
import type { FileSystem } from '../src/engine/sqlite/file-system.ts'
import type { Outcome } from '../src/replica/types.ts'
import type { SimProcess } from './sim-process.ts'
import type { SimRandom } from './sim-random.ts'
import type { World } from './world.ts'

export interface TransferOptions {
  /** Mean time that a piece takes. */
  readonly pieceMsMean: number
  readonly pieceSizeBytes: number
  readonly breakProbability: number
  /** A byte of a piece is wrong, and no checksum on the way sees it. */
  readonly garbleProbability: number
}

/** What a node asks of another one. */
export interface SnapshotGiver {
  readonly isRunning: boolean
  readonly process: SimProcess
  readonly replica: {
    offerSnapshot(minIndex: number): Outcome<string>
    snapshotLocation(id: string): string | undefined
  }
}

export interface SimTransferParts {
  readonly world: World
  readonly id: number
  readonly process: SimProcess
  readonly random: SimRandom
  readonly fileSystem: FileSystem
  readonly options: () => TransferOptions
  readonly giver: (raftId: number) => SnapshotGiver
  readonly isConnected: (from: number, to: number) => boolean
}

const TIMEOUT_MS = 2000

export class SimTransfer implements SnapshotTransfer {
  readonly #parts: SimTransferParts

  constructor(parts: SimTransferParts) {
    this.#parts = parts
  }

  ask(raftId: number, minIndex: number, done: (outcome: string | DbError) => void): void {
    this.#exchange(
      raftId,
      giver => giver.replica.offerSnapshot(minIndex),
      answer => {
        if (answer instanceof DbError) done(answer)
        else done(answer.type === 'ok' ? answer.value : answer.error)
      },
    )
  }

  fetch(
    raftId: number,
    snapshot: CarriedSnapshot,
    location: string,
    handler: Parameters<SnapshotTransfer['fetch']>[3],
  ): { cancel(): void } {
    const { fileSystem, random, options, world, id } = this.#parts
    let isCancelled = false
    let sizeBytes = 0
    const next = (at: number, offset: number): void => {
      const file = snapshot.files[at]
      if (file === undefined) return handler.onDone(undefined)
      const path = join(location, file.name)
      if (offset === 0 && fileSystem.sizeBytes(path) === file.sizeBytes) {
        sizeBytes += file.sizeBytes
        return next(at + 1, 0)
      }
      const read = (giver: SnapshotGiver): Uint8Array | undefined => {
        const from = giver.replica.snapshotLocation(snapshot.id)
        const bytes = from === undefined ? undefined : fileSystem.read(join(from, file.name))
        return bytes?.slice(offset, offset + options().pieceSizeBytes)
      }
      this.#exchange(raftId, read, piece => {
        if (isCancelled) return
        if (piece instanceof DbError) return handler.onDone(piece)
        const isBroken = random.chance(options().breakProbability)
        if (piece === undefined || isBroken) return handler.onDone(failure('the connection broke'))
        if (piece.length > 0 && random.chance(options().garbleProbability)) {
          world.note('snapshot garbled', id, offset)
          piece[random.below(piece.length)] = random.below(256)
        }
        const before = fileSystem.read(path)?.slice(0, offset) ?? new Uint8Array(0)
        fileSystem.write(path, Buffer.concat([before, piece]))
        sizeBytes += piece.length
        handler.onProgress(sizeBytes)
        const end = offset + piece.length
        if (end >= file.sizeBytes || piece.length === 0) next(at + 1, 0)
        else next(at, end)
      })
    }
    this.#parts.process.after(0, () => next(0, 0))
    return {
      cancel: () => {
        isCancelled = true
      },
    }
  }

  /** Asks in the other's process and brings the answer back, or an error if nothing comes. */
  #exchange<Answer>(
    raftId: number,
    ask: (giver: SnapshotGiver) => Answer,
    done: (answer: Answer | DbError) => void,
  ): void {
    const { id, process, random, options, giver: giverOf, isConnected } = this.#parts
    let isOver = false
    const over = (answer: Answer | DbError): void => {
      if (isOver) return
      isOver = true
      done(answer)
    }
    process.after(TIMEOUT_MS, () => over(failure('no answer came in time')))
    const delayMs = (): number => random.exponential(options().pieceMsMean)
    const giver = giverOf(raftId)
    if (!giver.isRunning || !isConnected(id, raftId)) {
      process.after(delayMs(), () => over(failure('there is no connection')))
      return
    }
    giver.process.after(delayMs(), () => {
      const answer = ask(giver)
      if (isConnected(raftId, id)) process.after(delayMs(), () => over(answer))
    })
  }
}

function failure(message: string): DbError {
  return new DbError('SNAPSHOT_FAILED', message)
}
