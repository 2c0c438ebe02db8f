/** Whether figures that were taken one after the other stay where they are. */

export interface Drift {
  /** From the first to the last figure, along the line of least squares. */
  readonly drift: number
  readonly mean: number
  /** What it may be. */
  readonly tolerance: number
  readonly isFlat: boolean
}

export interface Tolerance {
  /** Of the mean. */
  readonly share: number
  /** What is allowed in any case, in the unit of the figures. */
  readonly floor: number
}

/** Only growth counts: what falls is nothing to worry about. */
export function driftOf(figures: readonly number[], { share, floor }: Tolerance): Drift {
  const mean = figures.reduce((sum, figure) => sum + figure, 0) / Math.max(1, figures.length)
  const middle = (figures.length - 1) / 2
  let [above, below] = [0, 0]
  for (const [at, figure] of figures.entries()) {
    above += (at - middle) * (figure - mean)
    below += (at - middle) ** 2
  }
  const drift = below === 0 ? 0 : (above / below) * (figures.length - 1)
  const tolerance = Math.max(mean * share, floor)
  return { drift, mean, tolerance, isFlat: drift <= tolerance }
}
