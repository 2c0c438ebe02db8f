/** Histograms that are kept as plain numbers, and what a scrape makes of them. */
import { Histogram as PrometheusHistogram, type Registry } from 'prom-client'
import { BUCKET_BOUNDS_MS, type Histogram } from '../../base/histogram.ts'
import type { ReplicaStatus } from '../../replica/types.ts'

interface HistogramMetric {
  readonly about: string
  /** The label whose values `read` gives histograms for. */
  readonly label?: string
  readonly read: (status: ReplicaStatus) => Readonly<Record<string, Histogram>>
}

/** Metrics read from the replica's histograms at each scrape. */
export const HISTOGRAM_METRICS = {
  lockstep_write_stage_seconds: {
    label: 'stage',
    about:
      'How long writes were in each stage, listed below. What a batch does once counts for each ' +
      'of its writes, when they are answered: so the means of all stages add up to the whole.',
    read: status => status.stages,
  },
  lockstep_log_flush_seconds: {
    about: 'How long the disk of this node took to keep new entries of the log, in any role.',
    read: status => ({ all: status.log.flushes }),
  },
} as const satisfies Record<string, HistogramMetric>

/** A number with its labels, as the registry writes it down. */
interface Sample {
  readonly metricName: string
  readonly labels: Readonly<Record<string, string | number>>
  readonly value: number
}

/** A histogram in a registry, or one for each value of a label, read at each scrape. */
export class PlainHistogram extends PrometheusHistogram {
  readonly #name: string
  readonly #row: Pick<HistogramMetric, 'about' | 'label'>
  readonly #read: () => Readonly<Record<string, Histogram>>

  constructor(
    name: string,
    row: Pick<HistogramMetric, 'about' | 'label'>,
    registry: Registry,
    read: () => Readonly<Record<string, Histogram>>,
  ) {
    super({ name, help: row.about, registers: [registry] })
    this.#name = name
    this.#row = row
    this.#read = read
  }

  /** What the registry asks a metric at each scrape. */
  getForPromString(): Promise<object> {
    const { about, label } = this.#row
    const values = Object.entries(this.#read()).flatMap(([value, histogram]) =>
      samples(this.#name, label === undefined ? {} : { [label]: value }, histogram),
    )
    return Promise.resolve({ name: this.#name, help: about, type: 'histogram', values })
  }
}

function samples(name: string, labels: Sample['labels'], histogram: Histogram): Sample[] {
  let below = 0
  const buckets = BUCKET_BOUNDS_MS.map((boundMs, at): Sample => {
    below += histogram.buckets[at] ?? 0
    return { metricName: `${name}_bucket`, labels: { le: boundMs / 1000, ...labels }, value: below }
  })
  const { count, sumMs } = histogram
  return [
    ...buckets,
    { metricName: `${name}_bucket`, labels: { le: '+Inf', ...labels }, value: count },
    { metricName: `${name}_sum`, labels, value: sumMs / 1000 },
    { metricName: `${name}_count`, labels, value: count },
  ]
}
