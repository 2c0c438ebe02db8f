/** Gives the snapshots of this node to other nodes of its cluster, and to nobody else. */
import { join } from 'node:path'
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import { SNAPSHOT_CHUNK_BYTES, type SnapshotFile } from '../engine/snapshot.ts'
import { isLoopbackHost } from '../platform/address.ts'
import { type ProofFacts, ProofGate, sealAnswer } from '../platform/peer-proof.ts'
import type { Outcome } from '../replica/types.ts'
import type { SnapshotAnswer, SnapshotRequest, SnapshotWish } from '../server/service.ts'

/** What is asked of the replica. */
interface Source {
  offerSnapshot(minIndex: number): Outcome<string>
  snapshotLocation(id: string): string | undefined
  snapshotFile(id: string, name: string): SnapshotFile | undefined
  snapshotDamaged(id: string, reason: string): void
}

export class SnapshotService {
  readonly #facts: ProofFacts
  readonly #gate: ProofGate
  readonly #source: Source

  constructor(facts: ProofFacts, source: Source, clock: Clock, random: Random) {
    this.#facts = facts
    this.#source = source
    this.#gate = new ProofGate(facts, clock, random)
  }

  /** Throws `DbError` if the request is not proven, or there is nothing to give. */
  answer(request: SnapshotRequest): SnapshotAnswer {
    const { isBackup, wish, url, proof, remoteAddress } = request
    if (isBackup) return this.#give(wish, url)
    if (this.#facts.secret === '' && !isLoopbackHost(remoteAddress)) {
      const message = 'without a cluster secret only this machine may read snapshots'
      throw new DbError('FORBIDDEN', message)
    }
    this.#gate.check(proof, url)
    return this.#give(wish, url)
  }

  #give(wish: SnapshotWish, url: string): SnapshotAnswer {
    if (wish.type === 'file') return this.#file(wish.id, wish.file, wish.offset)
    const offer = this.#source.offerSnapshot(wish.minIndex)
    if (offer.type === 'failed') throw offer.error
    return { type: 'manifest', text: offer.value, proof: sealAnswer(this.#facts, url, offer.value) }
  }

  #file(id: string, name: string, offset: number): SnapshotAnswer {
    const location = this.#source.snapshotLocation(id)
    const file = this.#source.snapshotFile(id, name)
    if (location === undefined || file === undefined) {
      throw new DbError(
        'SNAPSHOT_FAILED',
        'there is no such snapshot any more; ask for another one',
      )
    }
    const { sizeBytes, chunks } = file
    return {
      type: 'file',
      path: join(location, name),
      sizeBytes,
      offset: Math.min(offset, sizeBytes),
      chunks,
      chunkSizeBytes: SNAPSHOT_CHUNK_BYTES,
      onDamaged: reason => this.#source.snapshotDamaged(id, reason),
    }
  }
}
