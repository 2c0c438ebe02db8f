/** Checks for programmer errors: a broken invariant ends the process, it is never handled. */

/** A broken invariant. Caught nowhere but at the top of a program, which prints it and exits. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Throws {@link AssertionError} unless `condition` holds; `message` carries the numbers. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** For the `default` of a switch over a union: a value that the types say can't be. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`)
}

/** The value, which by the caller's reasoning is there. */
export function must<T>(value: T | undefined | null, what = 'value'): T {
  assert(value !== undefined && value !== null, `${what} is missing`)
  return value
}
