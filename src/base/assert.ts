/**
 * Checks of what must be true whatever the outside does. A failed one is a bug of ours, is caught
 * nowhere but at the top of the program, and ends it: a wrong node is worse than a dead one.
 */

/** Thrown when an invariant is broken. The message carries the numbers. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Throws `AssertionError` unless `condition` holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** Marks a place that the types rule out; fails to compile when a case was forgotten. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable value ${JSON.stringify(value)}`)
}

/** The value, which must not be undefined. */
export function must<T>(value: T | undefined, message = 'a value must be present'): T {
  if (value === undefined) throw new AssertionError(message)
  return value
}
