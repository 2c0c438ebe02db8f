/** A bug put into the product on purpose: tests that don't notice it prove nothing. */

export interface Mutation {
  /** What is wrong then, as one would say it of the product. */
  readonly name: string
  /** Which simulation should find it, or `scripted`: the scripted runs of test/sim do. */
  readonly mode: 'raft-only' | 'whole' | 'scripted'
  readonly file: string
  /** Stands exactly once in the file. */
  readonly find: string
  readonly replace: string
  /** Tests to ask first, beside the file's own; then those of its folder are asked. */
  readonly tests?: readonly string[]
}
