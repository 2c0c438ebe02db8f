/** Real chance behind the Random port, good enough for secrets. */
import { randomBytes, randomInt } from 'node:crypto'
import type { Random } from '../base/ports.ts'

/** Chance from the operating system. */
export class SystemRandom implements Random {
  below(bound: number): number {
    return randomInt(bound)
  }

  bytes(count: number): Uint8Array {
    return randomBytes(count)
  }
}
