/**
 * One node: the composition root. Every part is made here, in an order that matters, and joined to
 * the others by their interfaces only.
 */
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Duplex } from 'node:stream'
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Logger, Random } from '../base/ports.ts'
import { ProcessEngine } from '../engine/sqlite/process-engine.ts'
import { Peers } from '../log/peers.ts'
import { RaftLog } from '../log/raft-log.ts'
import type { RaftLogOptions } from '../log/raft-log.ts'
import { formatAddress } from '../platform/address.ts'
import { SystemClock } from '../platform/clock.ts'
import { fastCrc32, RealDisk } from '../platform/disk.ts'
import { PEER_LIMITS } from '../platform/peer-limits.ts'
import { TcpPeerTransport } from '../platform/peer-transport.ts'
import { SystemRandom } from '../platform/random.ts'
import { Replica } from '../replica/replica.ts'
import type { ReplicaOptions, ReplicaStatus } from '../replica/types.ts'
import { HttpServer } from '../server/http/server.ts'
import type { HttpServerOptions } from '../server/http/server.ts'
import type { JoinAnswer, JoinRequest, NodeIdentity, Service } from '../server/service.ts'
import { Wal } from '../wal/wal.ts'
import type { WalOptions } from '../wal/wal.ts'
import { DataLock } from './data-lock.ts'
import { Founding } from './founding.ts'
import { makeDataDirectory, noteLog } from './identity.ts'
import { prepareNode } from './init.ts'

export interface NodeSettings {
  readonly directory: string
  readonly nodeId: string
  /** Where this node listens and where the others reach it, host:port. */
  readonly address: string
  readonly join: readonly string[]
  readonly secret: string | undefined
  /** Options of which all nodes should have the same values; nodes tell each other when not. */
  readonly clusterOptions: Readonly<Record<string, number | string>>
  readonly version: string
  readonly http: HttpServerOptions
  readonly log: RaftLogOptions
  readonly wal: WalOptions
  readonly replica: ReplicaOptions
  readonly maxReaders: number
}

/** How long a stopping node waits for its own writes, and then for a successor. */
const DRAIN_MS_MAX = 5000
const TRANSFER_MS_MAX = 3000
const HTTP_GRACE_MS = 2000
const WAIT_STEP_MS = 10

/** What exists only once the cluster is founded. */
interface Parts {
  readonly facts: NodeIdentity
  readonly transport: TcpPeerTransport
  readonly replica: Replica
  readonly engine: ProcessEngine
}

export class Node implements Service {
  readonly version: string
  readonly startedAtMs: number
  readonly nodeId: string
  readonly #settings: NodeSettings
  readonly #logger: Logger
  readonly #clock: Clock = new SystemClock()
  readonly #random: Random = new SystemRandom()
  readonly #onFatal: (reason: string) => void
  readonly #lock: DataLock
  readonly #founding: Founding
  readonly #http: HttpServer
  readonly #build: string
  readonly #secret: string
  #parts: Parts | undefined
  #isStopping = false

  /**
   * Takes the data directory and listens; throws `DbError` if this process must not be this node.
   * `onFatal` is called when the node can't go on: the caller ends the process at once.
   */
  static async start(
    settings: NodeSettings,
    logger: Logger,
    onFatal: (reason: string) => void,
  ): Promise<Node> {
    makeDataDirectory(settings.directory)
    // Before anything is read: two processes with one directory would be two nodes with one id.
    const lock = DataLock.acquire(settings.directory)
    try {
      const node = new Node(settings, logger, onFatal, lock)
      // Health answers, and the founding needs the route, long before the replica is there.
      await node.#http.listen()
      node.#founding.start()
      return node
    } catch (error) {
      lock.release()
      throw error
    }
  }

  private constructor(
    settings: NodeSettings,
    logger: Logger,
    onFatal: (reason: string) => void,
    lock: DataLock,
  ) {
    const { directory, nodeId, address, join: addresses, secret } = settings
    this.version = settings.version
    this.startedAtMs = this.#clock.wallMs()
    this.nodeId = nodeId
    this.#settings = settings
    this.#logger = logger
    this.#onFatal = onFatal
    this.#lock = lock
    this.#build = engineBuild()
    const prepared = prepareNode({
      directory,
      nodeId,
      address,
      listen: formatAddress(settings.http),
      join: addresses,
      ...(secret !== undefined && { secret }),
      random: this.#random,
    })
    this.#secret = prepared.secret
    this.#founding = new Founding({
      directory,
      identity: prepared.identity,
      secret: prepared.secret,
      address,
      build: this.#build,
      join: addresses,
      clock: this.#clock,
      random: this.#random,
      logger,
    })
    this.#http = new HttpServer(settings.http, this, logger)
  }

  /** Resolves when the cluster is founded and the replica runs; rejects if it never will. */
  async run(): Promise<void> {
    const identity = await this.#founding.founded
    if (this.#isStopping) return
    const { directory, log, wal: walOptions, replica: options, maxReaders } = this.#settings
    const clock = this.#clock
    const random = this.#random
    const logger = this.#logger
    const group = `group-${identity.groupId}`
    // Ends what an earlier life of this node left running before any file is opened.
    const engine = await ProcessEngine.open({
      directory: join(directory, group, 'engine'),
      childrenPath: join(directory, 'engine.pids'),
      clock,
      logger,
      pool: { readersMax: maxReaders },
    })
    const transport = new TcpPeerTransport({
      facts: {
        clusterId: identity.clusterId,
        historyId: identity.historyId,
        groupIds: [identity.groupId],
        nodeId: identity.nodeId,
        raftId: identity.raftId,
        incarnation: identity.incarnation,
        address: this.#settings.address,
        build: this.#build,
        options: this.#settings.clusterOptions,
        secret: this.#secret,
      },
      members: {
        index: 0,
        members: identity.members,
        nextRaftId: 1 + Math.max(...identity.members.map(member => member.raftId)),
      },
      limits: PEER_LIMITS,
      clock,
      random,
      logger,
    })
    const peers = new Peers(transport, clock, identity.groupId)
    const wal = Wal.open({
      disk: new RealDisk(directory),
      directory: `${group}/log`,
      identity: {
        clusterId: identity.clusterId,
        groupId: identity.groupId,
        raftId: identity.raftId,
      },
      options: walOptions,
      initialConfState: {
        voters: identity.members.map(({ raftId }) => raftId).sort((a, b) => a - b),
        learners: [],
        votersOutgoing: [],
        learnersNext: [],
        autoLeave: false,
      },
      checksum: fastCrc32,
      // An emptied log directory is a loss, not a beginning.
      mustExist: identity.hasLog,
      onFatal: error => this.#onFatal(error.message),
    })
    await new Promise<void>(resolve => wal.flush(resolve))
    noteLog(directory, identity)
    const { raftId, members } = identity
    const raftLog = new RaftLog({
      raftId,
      members,
      wal,
      peers,
      clock,
      random,
      options: log,
      logger,
    })
    const replica = new Replica({
      raftId,
      log: raftLog,
      engine,
      peers,
      clock,
      random,
      logger,
      options,
      onFatal: this.#onFatal,
    })
    const facts = { ...identity, address: this.#settings.address }
    this.#parts = { facts, transport, replica, engine }
    replica.start()
    logger.info({ raftId, address: this.#settings.address }, 'the node runs')
  }

  /** Hands leadership over, ends what is in flight, and closes everything in order. */
  async stop(): Promise<void> {
    if (this.#isStopping) return
    this.#isStopping = true
    this.#founding.stop()
    const parts = this.#parts
    if (parts !== undefined) await this.#handOver(parts.replica)
    await this.#http.stop(HTTP_GRACE_MS)
    if (parts !== undefined) {
      await new Promise<void>(resolve => parts.replica.stop(resolve))
      parts.transport.stop()
    }
    this.#lock.release()
  }

  async #handOver(replica: Replica): Promise<void> {
    replica.stopAdmission()
    await this.#until(() => replica.isIdle, DRAIN_MS_MAX)
    const isAlone = replica.status().log.peers.length === 0
    if (replica.status().log.role === 'leader' && !isAlone) {
      replica.transferLeadership()
      await this.#until(() => replica.status().log.role !== 'leader', TRANSFER_MS_MAX)
    }
    // What waited here goes to the next leader; without one there is nobody left to wait for.
    if (!isAlone) await this.#until(() => replica.isPassedOn, DRAIN_MS_MAX)
    replica.refuseHeld()
  }

  async #until(condition: () => boolean, timeoutMs: number): Promise<void> {
    const deadline = this.#clock.monotonicMs() + timeoutMs
    while (!condition() && this.#clock.monotonicMs() < deadline) {
      await new Promise<void>(resolve => {
        this.#clock.setTimer(WAIT_STEP_MS, resolve)
      })
    }
  }

  // What the server asks of a node.

  identity(): NodeIdentity | undefined {
    return this.#parts?.facts
  }

  status(): ReplicaStatus | undefined {
    return this.#parts?.replica.status()
  }

  isStopping(): boolean {
    return this.#isStopping
  }

  execute: Service['execute'] = (request, { timeoutMs }, done) =>
    must(this.#parts).replica.execute(request, timeoutMs, done)

  query: Service['query'] = (request, options, done) =>
    must(this.#parts).replica.query(request, options, done)

  digest: Service['digest'] = (request, options, done) =>
    must(this.#parts).replica.digest(request, options, done)

  transact: Service['transact'] = (operation, { timeoutMs }, done) =>
    must(this.#parts).replica.transact(operation, timeoutMs, done)

  databases: Service['databases'] = done => must(this.#parts).engine.databases(done)

  peerError(raftId: number): string {
    return this.#parts?.transport.health(raftId)?.lastError?.message ?? ''
  }

  transferLeadership(): void {
    this.#parts?.replica.transferLeadership()
  }

  join(request: JoinRequest, done: (answer: JoinAnswer) => void): void {
    done(this.#founding.handleJoin(request.body))
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Uint8Array): void {
    const transport = this.#parts?.transport
    if (transport !== undefined) transport.accept(request, socket, head)
    else {
      const answer = 'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n'
      socket.end(answer, () => socket.destroy())
    }
  }
}

/** Names the exact build of the SQL engine: replicas must compute the same. */
function engineBuild(): string {
  const database = new DatabaseSync(':memory:')
  try {
    const row = database.prepare('SELECT sqlite_source_id() AS id').get()
    const id = row?.['id']
    if (typeof id !== 'string') throw new DbError('INTERNAL', 'SQLite does not tell its build')
    return `sqlite ${id}`
  } finally {
    database.close()
  }
}
