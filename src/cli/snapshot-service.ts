/** Gives the snapshots of this node to other nodes of its cluster, and to nobody else. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'
import { isLoopbackHost } from '../platform/address.ts'
import { type ProofFacts, ProofGate, sealAnswer } from '../platform/peer-proof.ts'
import type { Outcome } from '../replica/types.ts'
import type { SnapshotAnswer, SnapshotRequest, SnapshotWish } from '../server/service.ts'

/** What is asked of the replica. */
interface Source {
  offerSnapshot(minIndex: number): Outcome<string>
  snapshotLocation(id: string): string | undefined
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

  #file(id: string, file: string, offset: number): SnapshotAnswer {
    const location = this.#source.snapshotLocation(id)
    const isName = /^(?:system|db-\d+)\.sqlite$/.test(file)
    const path = join(location ?? '', file)
    const stats = isName ? statSync(path, { throwIfNoEntry: false }) : undefined
    if (location === undefined || stats === undefined) {
      throw new DbError(
        'SNAPSHOT_FAILED',
        'there is no such snapshot any more; ask for another one',
      )
    }
    return { type: 'file', path, sizeBytes: stats.size, offset: Math.min(offset, stats.size) }
  }
}
