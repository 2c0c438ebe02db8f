/** The one table of metrics, and the registry that answers `GET /metrics` from it. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import type { MemberStatus } from '../../protocol/http-api.ts'
import type { RouteName } from '../../protocol/routes.ts'
import type { ReplicaStatus } from '../../replica/types.ts'
import type { Service } from '../service.ts'
import { HISTOGRAM_METRICS, PlainHistogram } from './histograms.ts'
import { RequestCounts } from './request-counts.ts'
import { nodesJson, nodeState } from './status-json.ts'

interface StatusMetric {
  readonly type: 'gauge' | 'counter'
  readonly about: string
  /** Undefined where the node doesn't know it: the metric is then absent. */
  readonly read: (status: ReplicaStatus) => number | undefined
}

/** Metrics read from the replica's status at each scrape. */
export const STATUS_METRICS = {
  lockstep_is_leader: {
    type: 'gauge',
    about: '1 on the leader, 0 elsewhere.',
    read: status => Number(status.log.role === 'leader'),
  },
  lockstep_has_leader: {
    type: 'gauge',
    about: '1 if the node knows a leader.',
    read: status => Number(status.log.leader !== undefined),
  },
  lockstep_is_diverged: {
    type: 'gauge',
    about: '1 if the replica computed something else than the others. Raise an alarm.',
    read: status => Number(status.divergence !== undefined),
  },
  lockstep_is_disputed: {
    type: 'gauge',
    about:
      '1 while nodes computed different things, or have different data, no majority agrees, and ' +
      'writes are stopped.',
    read: status => Number(status.dispute?.isTie === true),
  },
  lockstep_term: {
    type: 'gauge',
    about: 'Current term.',
    read: status => status.log.term,
  },
  lockstep_last_index: {
    type: 'gauge',
    about: "Last entry in this node's log.",
    read: status => status.log.lastIndex,
  },
  lockstep_flushed_index: {
    type: 'gauge',
    about: "Last entry that this node's disk has surely kept.",
    read: status => status.log.flushedIndex,
  },
  lockstep_commit_index: {
    type: 'gauge',
    about: "Last entry known to be on a quorum's disks.",
    read: status => status.log.commitIndex,
  },
  lockstep_applied_index: {
    type: 'gauge',
    about: 'Last entry whose effect is in the engine.',
    read: status => status.appliedIndex,
  },
  lockstep_durable_index: {
    type: 'gauge',
    about: "Last entry whose effect survives a power cut in the engine's own files.",
    read: status => status.durableIndex,
  },
  lockstep_lag_ms: {
    type: 'gauge',
    about: "Milliseconds ago at which this node's data was surely the newest.",
    read: status => status.lagMs,
  },
  lockstep_quorum_apply_lag_ms: {
    type: 'gauge',
    about: "On the leader: milliseconds by which a quorum's engines are behind.",
    read: status => status.quorumApplyLagMs,
  },
  lockstep_is_admission_paused: {
    type: 'gauge',
    about: '1 while the leader takes no more writes because replicas lag.',
    read: status => Number(status.isAdmissionPaused),
  },
  lockstep_free_bytes: {
    type: 'gauge',
    about: 'What is free on the disk of the data directory.',
    read: status => status.freeBytes,
  },
  lockstep_is_short_of_room: {
    type: 'gauge',
    about: '1 while less is free than `--min-free-bytes`. Raise an alarm.',
    read: status => Number(status.isShortOfRoom),
  },
  lockstep_queued_requests: {
    type: 'gauge',
    about: 'Writes that wait for the writer.',
    read: status => status.queuedRequests,
  },
  lockstep_queued_bytes: {
    type: 'gauge',
    about: 'Bytes of the writes that wait for the writer.',
    read: status => status.queuedBytes,
  },
  lockstep_waiting_reads: {
    type: 'gauge',
    about: 'Reads that wait for their index.',
    read: status => status.waitingReads,
  },
  lockstep_forwarded_requests: {
    type: 'gauge',
    about: 'Writes passed on to the leader and not answered yet.',
    read: status => status.forwardedRequests,
  },
  lockstep_held_requests: {
    type: 'gauge',
    about: 'Writes that wait on this node for a leader.',
    read: status => status.heldRequests,
  },
  lockstep_batches_total: {
    type: 'counter',
    about: 'Batches that the writer executed as leader.',
    read: status => status.counters.batches,
  },
  lockstep_batch_requests_total: {
    type: 'counter',
    about: 'Requests in those batches; divided by the batches it is the size of a group commit.',
    read: status => status.counters.requests,
  },
  lockstep_failed_requests_total: {
    type: 'counter',
    about: 'Requests in those batches that failed and were rolled back.',
    read: status => status.counters.failedRequests,
  },
  lockstep_applied_entries_total: {
    type: 'counter',
    about: 'Entries applied as a follower.',
    read: status => status.counters.appliedEntries,
  },
  lockstep_forwarded_total: {
    type: 'counter',
    about: 'Writes passed on to the leader.',
    read: status => status.counters.forwarded,
  },
  lockstep_engine_restarts_total: {
    type: 'counter',
    about: 'Times that the process that runs SQL was started again.',
    read: status => status.counters.engineRestarts,
  },
  lockstep_divergences_total: {
    type: 'counter',
    about: 'Times that this node computed something else, or was found to have done so.',
    read: status => status.counters.divergences,
  },
  lockstep_heals_total: {
    type: 'counter',
    about: 'Times that this node took the data of another because its own was wrong.',
    read: status => status.counters.heals,
  },
  lockstep_digests_total: {
    type: 'counter',
    about: 'Digests of all data that this node took to compare them with the others.',
    read: status => status.counters.digests,
  },
  lockstep_digest_failures_total: {
    type: 'counter',
    about:
      'Digests of all data that came to nothing: busy, interrupted, or longer than half an hour.',
    read: status => status.counters.digestFailures,
  },
  lockstep_digest_duration_seconds: {
    type: 'gauge',
    about: 'How long the last digest of all data took.',
    read: status => status.dataDigest.durationMs / 1000,
  },
  lockstep_digest_verified_index: {
    type: 'gauge',
    about: 'The last entry after which this node had the same data as a majority.',
    read: status => status.dataDigest.verifiedIndex,
  },
  lockstep_snapshots_made_total: {
    type: 'counter',
    about: 'Snapshots of its data that this node made, for other nodes and for backups.',
    read: status => status.snapshotSource.made,
  },
  lockstep_snapshot_making_failures_total: {
    type: 'counter',
    about: 'Snapshots that this node could not make.',
    read: status => status.snapshotSource.failures,
  },
  lockstep_snapshot_making_duration_seconds: {
    type: 'gauge',
    about: 'How long it took to make the last snapshot.',
    read: status => status.snapshotSource.lastDurationMs / 1000,
  },
  lockstep_snapshot_made_age_seconds: {
    type: 'gauge',
    about: 'How long ago the last snapshot was made; absent if none was.',
    read: ({ snapshotSource: { madeAgoMs } }) =>
      madeAgoMs === undefined ? undefined : madeAgoMs / 1000,
  },
  lockstep_snapshots_installed_total: {
    type: 'counter',
    about: 'Snapshots of other nodes that this node took over.',
    read: status => status.snapshot.installed,
  },
  lockstep_snapshot_fetch_failures_total: {
    type: 'counter',
    about: 'Attempts to get a snapshot from another node that failed; it is tried again.',
    read: status => status.snapshot.failures,
  },
  lockstep_snapshot_install_duration_seconds: {
    type: 'gauge',
    about: 'From the need to the end, of the last snapshot that this node took over.',
    read: status => status.snapshot.lastDurationMs / 1000,
  },
  lockstep_snapshot_received_bytes: {
    type: 'gauge',
    about: 'Of the snapshot that this node is fetching: the bytes that are here.',
    read: status => status.snapshot.receivedBytes,
  },
  lockstep_snapshot_total_bytes: {
    type: 'gauge',
    about: 'Of the snapshot that this node is fetching: all its bytes. 0 if it fetches none.',
    read: status => status.snapshot.totalBytes,
  },
  lockstep_role_changes_total: {
    type: 'counter',
    about: 'Changes of role, term or leader that this node saw.',
    read: status => status.counters.roleChanges,
  },
  lockstep_open_transactions: {
    type: 'gauge',
    about: 'Interactive transactions open on the leader.',
    read: status => status.openTransactions,
  },
  lockstep_transactions_total: {
    type: 'counter',
    about: 'Interactive transactions begun on this node as the leader.',
    read: status => status.counters.transactions,
  },
  lockstep_transaction_conflicts_total: {
    type: 'counter',
    about: "Interactive transactions that others' changes have ended: TRANSACTION_CONFLICT.",
    read: status => status.counters.transactionConflicts,
  },
  lockstep_transactions_expired_total: {
    type: 'counter',
    about: 'Interactive transactions that were left alone or lasted too long: TRANSACTION_EXPIRED.',
    read: status => status.counters.transactionsExpired,
  },
  lockstep_transaction_replays_total: {
    type: 'counter',
    about: 'How often an interactive transaction had given way to others and was repeated.',
    read: status => status.counters.transactionReplays,
  },
} as const satisfies Record<string, StatusMetric>

interface PeerMetric {
  readonly about: string
  readonly read: (peer: MemberStatus) => number | null
}

/** Gauges with the label `peer`, one for each other member. */
export const PEER_METRICS = {
  lockstep_peer_is_connected: {
    about: '1 while there is a connection to the peer.',
    read: peer => Number(peer.isConnected),
  },
  lockstep_peer_lag_entries: {
    about: "On the leader: entries by which the peer's log is behind.",
    read: peer => peer.lagEntries,
  },
  lockstep_peer_applied_index: {
    about: 'Last entry that the peer said it has applied.',
    read: peer => peer.appliedIndex,
  },
  lockstep_peer_last_contact_ms: {
    about: 'Milliseconds since the peer was last heard.',
    read: peer => peer.lastContactMs,
  },
} as const satisfies Record<string, PeerMetric>

/** Metrics of the listener itself, kept by {@link Metrics}. */
export const SERVER_METRICS = {
  lockstep_is_ready: { type: 'gauge', labels: [], about: '1 if /health/ready says so.' },
  lockstep_http_connections: { type: 'gauge', labels: [], about: 'Open connections of clients.' },
  lockstep_http_streams: {
    type: 'gauge',
    labels: [],
    about: 'Open streams: requests of many lines to `POST /execute`.',
  },
  lockstep_http_refused_connections_total: {
    type: 'counter',
    labels: [],
    about: 'Connections over the limit; their requests are refused as OVERLOADED.',
  },
  lockstep_http_cut_connections_total: {
    type: 'counter',
    labels: [],
    about: 'Connections closed because all answers that clients did not read were over the limit.',
  },
  lockstep_http_requests_total: {
    type: 'counter',
    labels: ['route', 'status'],
    about: 'Answered requests, each line of a stream as one. Status 0: the client had gone.',
  },
  lockstep_http_request_duration_seconds: {
    type: 'histogram',
    labels: ['route'],
    about: "From the request's head to its answer.",
  },
  lockstep_repeated_answers_total: {
    type: 'counter',
    labels: [],
    about: 'Writes that came again under their request id and got their first answer.',
  },
  lockstep_snapshot_sent_bytes_total: {
    type: 'counter',
    labels: ['for'],
    about: 'Bytes of snapshots that this node sent: for a `node` or a `backup`.',
  },
  lockstep_backups_total: {
    type: 'counter',
    labels: [],
    about: 'Snapshots that this node offered to a backup.',
  },
  lockstep_cancelled_total: {
    type: 'counter',
    labels: [],
    about: 'Request ids whose fate was asked for and is now, for good, not applied.',
  },
} as const

const HISTOGRAMS = Object.keys(HISTOGRAM_METRICS) as (keyof typeof HISTOGRAM_METRICS)[]

/** Counts what the server does, and gives all metrics as text. */
export class Metrics {
  readonly contentType: string
  readonly #registry = new Registry()
  readonly #requests = new RequestCounts()
  readonly #refused: Counter
  readonly #cut: Counter
  readonly #repeated: Counter
  readonly #cancelled: Counter
  readonly #sentBytes: Counter
  readonly #backups: Counter

  /** How many connections and streams there are is asked at each scrape. */
  constructor(
    service: Service,
    count: { readonly connections: () => number; readonly streams: () => number },
  ) {
    const registers = [this.#registry]
    this.contentType = this.#registry.contentType
    collectDefaultMetrics({ register: this.#registry })
    for (const [name, row] of Object.entries<StatusMetric>(STATUS_METRICS)) {
      this.#addStatusMetric(name, row, service)
    }
    for (const [name, row] of Object.entries<PeerMetric>(PEER_METRICS)) {
      this.#addPeerMetric(name, row, service)
    }
    for (const name of HISTOGRAMS) {
      const row = HISTOGRAM_METRICS[name]
      void new PlainHistogram(name, row, this.#registry, () => {
        const status = service.status()
        return status === undefined ? {} : row.read(status)
      })
    }
    this.#addGauge('lockstep_is_ready', () => Number(nodeState(service) === 'ready'))
    this.#addGauge('lockstep_http_connections', count.connections)
    this.#addGauge('lockstep_http_streams', count.streams)
    const options = <Name extends keyof typeof SERVER_METRICS>(name: Name) => ({
      name,
      help: SERVER_METRICS[name].about,
      labelNames: SERVER_METRICS[name].labels,
      registers,
    })
    this.#refused = new Counter(options('lockstep_http_refused_connections_total'))
    this.#cut = new Counter(options('lockstep_http_cut_connections_total'))
    this.#repeated = new Counter(options('lockstep_repeated_answers_total'))
    this.#cancelled = new Counter(options('lockstep_cancelled_total'))
    this.#sentBytes = new Counter(options('lockstep_snapshot_sent_bytes_total'))
    this.#backups = new Counter(options('lockstep_backups_total'))
    const requests: Counter = new Counter({
      ...options('lockstep_http_requests_total'),
      collect: () => {
        requests.reset()
        for (const [route, status, count] of this.#requests.entries()) {
          requests.inc({ route, status }, count)
        }
      },
    })
    const { name, help: about } = options('lockstep_http_request_duration_seconds')
    void new PlainHistogram(
      name,
      { about, label: 'route' },
      this.#registry,
      () => this.#requests.durations,
    )
  }

  countRequest(route: RouteName | undefined, status: number, durationMs: number): void {
    this.#requests.add(route ?? 'none', status, durationMs)
  }

  countRefusedConnection(): void {
    this.#refused.inc()
  }

  countCutConnection(): void {
    this.#cut.inc()
  }

  countRepeatedAnswer(): void {
    this.#repeated.inc()
  }

  countCancelled(): void {
    this.#cancelled.inc()
  }

  countSentBytes(isBackup: boolean, sizeBytes: number): void {
    this.#sentBytes.inc({ for: isBackup ? 'backup' : 'node' }, sizeBytes)
  }

  countBackup(): void {
    this.#backups.inc()
  }

  /** All metrics in the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics()
  }

  #addGauge(name: keyof typeof SERVER_METRICS, read: () => number): void {
    const gauge: Gauge = new Gauge({
      name,
      help: SERVER_METRICS[name].about,
      registers: [this.#registry],
      collect: () => gauge.set(read()),
    })
  }

  #addStatusMetric(name: string, row: StatusMetric, service: Service): void {
    const base = { name, help: row.about, registers: [this.#registry] }
    const read = (): number | undefined => {
      const status = service.status()
      return status === undefined ? undefined : row.read(status)
    }
    if (row.type === 'gauge') {
      const gauge: Gauge = new Gauge({
        ...base,
        collect: () => {
          const value = read()
          if (value === undefined) gauge.remove()
          else gauge.set(value)
        },
      })
      return
    }
    const counter: Counter = new Counter({
      ...base,
      collect: () => {
        counter.reset()
        counter.inc(read() ?? 0)
      },
    })
  }

  #addPeerMetric(name: string, row: PeerMetric, service: Service): void {
    const gauge: Gauge = new Gauge({
      name,
      help: row.about,
      labelNames: ['peer'],
      registers: [this.#registry],
      collect: () => {
        gauge.reset()
        for (const peer of nodesJson(service).nodes) {
          const value = peer.isSelf ? null : row.read(peer)
          if (value !== null) gauge.set({ peer: peer.nodeId }, value)
        }
      },
    })
  }
}
