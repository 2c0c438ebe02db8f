/**
 * How one node proves to another that it knows the cluster secret, for single HTTP requests. The
 * asked one gives out a challenge that lasts for some minutes; the asker answers it with an HMAC
 * over the challenge and what it asks for. Clocks are not compared. The answer carries an HMAC of
 * its own, so that nobody else can give it. Like the frames between nodes, none of it is encrypted.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { DbError } from '../base/errors.ts'
import type { Clock, Random } from '../base/ports.ts'

/** Which data both sides must speak of. */
export interface ProofFacts {
  readonly clusterId: string
  readonly historyId: string
  /** Empty only if all addresses are loopback. */
  readonly secret: string
}

/** A challenge is taken for one to two of these. */
const WINDOW_MS = 5 * 60_000

/** What the asker sends: `clusterId historyId challenge mac`. */
export function makeProof(facts: ProofFacts, challenge: string, url: string): string {
  const { clusterId, historyId } = facts
  return [clusterId, historyId, challenge, macOf(facts, 'ask', challenge, url)].join(' ')
}

/** The MAC over an answer to what was asked at `url`, which must hold a nonce of the asker. */
export function sealAnswer(facts: ProofFacts, url: string, body: string): string {
  return macOf(facts, 'answer', url, body)
}

/** Throws UNAUTHENTICATED unless the answer was made by who knows the secret. */
export function checkAnswer(facts: ProofFacts, url: string, body: string, mac: string): void {
  if (isEqual(mac, sealAnswer(facts, url, body))) return
  throw new DbError('UNAUTHENTICATED', 'the answer is not proven by the cluster secret')
}

/** The side that is asked. */
export class ProofGate {
  readonly #facts: ProofFacts
  readonly #clock: Clock
  /** Of this process only: challenges of an earlier one are void. */
  readonly #key: Uint8Array

  constructor(facts: ProofFacts, clock: Clock, random: Random) {
    this.#facts = facts
    this.#clock = clock
    this.#key = random.bytes(32)
  }

  /** Throws UNAUTHENTICATED with a challenge in its details, or WRONG_HISTORY. */
  check(proof: string, url: string): void {
    const [clusterId, historyId, challenge = '', mac = ''] = proof.split(' ')
    const window = this.#window()
    const isOurs = [window, window - 1].some(each => isEqual(challenge, this.#challenge(each)))
    if (proof === '' || !isOurs) throw this.#refusal('prove that you know the cluster secret')
    if (clusterId !== this.#facts.clusterId) {
      throw new DbError('FORBIDDEN', 'this is a node of another cluster; check the addresses')
    }
    if (historyId !== this.#facts.historyId) {
      const message = 'this node has another history of the data, from before or after a recovery'
      throw new DbError('WRONG_HISTORY', message)
    }
    if (isEqual(mac, macOf(this.#facts, 'ask', challenge, url))) return
    throw this.#refusal('the cluster secrets differ; give every node the same one')
  }

  #refusal(message: string): DbError {
    const challenge = this.#challenge(this.#window())
    return new DbError('UNAUTHENTICATED', message, { details: { challenge } })
  }

  #window(): number {
    return Math.floor(this.#clock.monotonicMs() / WINDOW_MS)
  }

  #challenge(window: number): string {
    return createHmac('sha256', this.#key).update(`challenge ${window}`).digest('hex')
  }
}

function macOf(facts: ProofFacts, label: string, first: string, second: string): string {
  const { clusterId, historyId, secret } = facts
  return createHmac('sha256', secret)
    .update([`lockstep ${label}`, clusterId, historyId, first, second].join('\0'))
    .digest('hex')
}

function isEqual(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}
