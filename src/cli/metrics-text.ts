/** Reads back what `GET /metrics` gives: numbers by name and labels, and histograms as a whole. */

export type Labels = Readonly<Record<string, string>>

interface Sample {
  readonly labels: Labels
  readonly value: number
}

const SAMPLE = /^([a-zA-Z_]\w*)(?:\{(.*)\})? (\S+)$/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g

export class MetricsText {
  readonly #samples = new Map<string, Sample[]>()

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [, name, labelText = '', valueText] = SAMPLE.exec(line) ?? []
      if (name === undefined) continue
      const pairs = [...labelText.matchAll(LABEL)].map(([, key = '', value = '']) => [key, value])
      const sample = { labels: Object.fromEntries(pairs) as Labels, value: Number(valueText) }
      const others = this.#samples.get(name)
      if (others === undefined) this.#samples.set(name, [sample])
      else others.push(sample)
    }
  }

  /** Undefined if the node does not give it. */
  value(name: string): number | undefined {
    return this.#samples.get(name)?.[0]?.value
  }

  /** The sum over all whose labels fit. */
  sum(name: string, fits: (labels: Labels) => boolean): number {
    const samples = this.#samples.get(name) ?? []
    return samples.reduce((sum, { labels, value }) => (fits(labels) ? sum + value : sum), 0)
  }

  /** Nothing was measured if the node does not give it. */
  distribution(name: string, labels: Labels = {}): Distribution {
    const fits = (other: Labels): boolean =>
      Object.entries(labels).every(([key, value]) => other[key] === value)
    const buckets = (this.#samples.get(`${name}_bucket`) ?? []).filter(bucket =>
      fits(bucket.labels),
    )
    return new Distribution(
      buckets.map(bucket => ({ upTo: toBound(bucket.labels['le']), count: bucket.value })),
      this.sum(`${name}_sum`, fits),
    )
  }
}

function toBound(text = ''): number {
  return text === '+Inf' ? Infinity : Number(text)
}

interface Bucket {
  readonly upTo: number
  /** Of all that are not above. */
  readonly count: number
}

/** How long things took, in seconds. */
export class Distribution {
  readonly #buckets: readonly Bucket[]
  readonly #sum: number

  constructor(buckets: readonly Bucket[], sum: number) {
    this.#buckets = buckets
    this.#sum = sum
  }

  get count(): number {
    return this.#buckets.at(-1)?.count ?? 0
  }

  /** Undefined if nothing was measured. */
  get mean(): number | undefined {
    return this.count === 0 ? undefined : this.#sum / this.count
  }

  /** What was measured since an earlier reading. */
  since(earlier: Distribution): Distribution {
    const buckets = this.#buckets.map(({ upTo, count }, at) => {
      return { upTo, count: count - (earlier.#buckets[at]?.count ?? 0) }
    })
    return new Distribution(buckets, this.#sum - earlier.#sum)
  }

  /**
   * What so large a share did not exceed, as if those in a bucket lay evenly in it; the largest
   * bound for what is beyond. Undefined if nothing was measured.
   */
  quantile(share: number): number | undefined {
    if (this.count === 0) return undefined
    const rank = share * this.count
    let above = 0
    let before = 0
    for (const { upTo, count } of this.#buckets) {
      if (count >= rank && count > before) {
        if (upTo === Infinity) return above
        return above + ((upTo - above) * (rank - before)) / (count - before)
      }
      above = upTo
      before = count
    }
    return above
  }
}
