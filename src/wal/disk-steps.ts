/** Disk operations one after another: each step begins when the one before is done. */
import type { DiskCallback, DiskError } from '../base/ports.ts'

/** Something to do on the disk; it calls `next` once, with the error if there was one. */
export type DiskStep = (next: DiskCallback) => void

/** Runs `steps` in order; `done` comes after the last one or after the first error. */
export function runSteps(steps: readonly DiskStep[], done: DiskCallback): void {
  let position = 0
  const next: DiskCallback = error => {
    const step = steps[position]
    position++
    if (error !== undefined || step === undefined) done(error)
    else step(next)
  }
  next(undefined)
}

/** Makes an error of a synchronous call of the disk an error of a step; a bug goes through. */
export function attempt(action: () => void): DiskError | undefined {
  try {
    action()
    return undefined
  } catch (error) {
    if (error instanceof Error && 'code' in error) return error as DiskError
    throw error
  }
}
