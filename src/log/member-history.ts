/**
 * The memberships since the log begins, each as of the entry that made it. They are few; a copy of
 * the data, and the base of the log, need the one as of their own index, not the newest.
 */
import { must } from '../base/assert.ts'
import type { Membership } from './log.ts'

export class MemberHistory {
  /** Ascending by index; the first one holds where the log begins. */
  #memberships: Membership[]

  constructor(base: Membership) {
    this.#memberships = [base]
  }

  get current(): Membership {
    return must(this.#memberships.at(-1))
  }

  /** The one in force after the entry at `index`, which the log still reaches back to. */
  at(index: number): Membership {
    return must(this.#memberships.findLast(membership => membership.index <= index))
  }

  add(membership: Membership): void {
    this.#memberships.push(membership)
  }

  /** A snapshot took the place of the log. */
  replace(membership: Membership): void {
    this.#memberships = [membership]
  }

  /** Nobody will ask for an index before `index` any more. */
  forgetBefore(index: number): void {
    const kept = this.#memberships.findLastIndex(membership => membership.index <= index)
    this.#memberships.splice(0, Math.max(0, kept))
  }
}
