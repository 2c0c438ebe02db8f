/**
 * One node: the composition root, and what the server asks of it. It waits until it belongs to a
 * cluster, has its parts made (node-parts.ts), and closes them in order.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Clock, Logger, Random } from '../base/ports.ts'
import { formatAddress } from '../platform/address.ts'
import { SystemClock } from '../platform/clock.ts'
import { SystemRandom } from '../platform/random.ts'
import type { Dialect } from '../protocol/dialect.ts'
import type { MembersResponse } from '../protocol/http-api.ts'
import type { Replica } from '../replica/replica.ts'
import type { ReplicaStatus } from '../replica/types.ts'
import { HttpServer } from '../server/http/server.ts'
import type { JoinAnswer, JoinRequest, NodeIdentity, Service } from '../server/service.ts'
import { DataLock } from './data-lock.ts'
import { engineBuild } from './engine-choice.ts'
import { Founding, removedError } from './founding.ts'
import { type IdentityOf, makeDataDirectory } from './identity.ts'
import { prepareNode } from './init.ts'
import type { NodeSettings } from './node-settings.ts'
import { type NodeParts, openNodeParts } from './node-parts.ts'

/** How long a stopping node waits for its own writes and a successor, and then for the others'. */
const HAND_OVER_MS_MAX = 8000
const PASS_ON_MS_MAX = 5000
/** How long idle connections of clients are kept, so that their next request gets an answer. */
const LAME_MS_MAX = 500
const HTTP_GRACE_MS = 2000
const WAIT_STEP_MS = 10
/** Until a join that was asked of this node is answered. */
const JOIN_MS_MAX = 4000

export class Node implements Service {
  readonly version: string
  readonly startedAtMs: number
  readonly nodeId: string
  readonly dialect: Dialect
  readonly #settings: NodeSettings
  readonly #logger: Logger
  readonly #clock: Clock = new SystemClock()
  readonly #random: Random = new SystemRandom()
  readonly #onFatal: (reason: string, code?: ErrorCode) => void
  readonly #lock: DataLock
  readonly #founding: Founding
  readonly #http: HttpServer
  readonly #build: string
  readonly #secret: string
  #identity: NodeIdentity | undefined
  #parts: NodeParts | undefined
  /** Set for good once this node is no member of its cluster any more. */
  #removal: DbError | undefined
  #isStopping = false

  /**
   * Takes the data directory and listens; throws `DbError` if this process must not be this node.
   * `onFatal` is called when the node can't go on: the caller ends the process at once.
   */
  static async start(
    settings: NodeSettings,
    logger: Logger,
    onFatal: (reason: string, code?: ErrorCode) => void,
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
    onFatal: (reason: string, code?: ErrorCode) => void,
    lock: DataLock,
  ) {
    const { directory, nodeId, address, join: addresses, joinAs, secret } = settings
    this.version = settings.version
    this.startedAtMs = this.#clock.wallMs()
    this.nodeId = nodeId
    this.#settings = settings
    this.#logger = logger
    this.#onFatal = onFatal
    this.#lock = lock
    this.#build = engineBuild(settings)
    this.dialect = settings.mysql === undefined ? 'sqlite' : 'mysql'
    const prepared = prepareNode({
      directory,
      nodeId,
      address,
      listen: formatAddress(settings.http),
      join: addresses,
      ...(joinAs !== undefined && { as: joinAs }),
      ...(secret !== undefined && { secret }),
      random: this.#random,
    })
    this.#secret = prepared.secret
    if (prepared.identity.type === 'removed') this.#removal = removedError(prepared.identity)
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

  /** Resolves when the replica runs, or never will; rejects if no cluster lets this node in. */
  async run(): Promise<void> {
    if (this.#removal !== undefined) {
      // It keeps the port, so that whoever looks is told why, instead of starting it again.
      this.#logger.warn({ error: this.#removal }, 'this node serves nothing')
      return
    }
    const identity = await this.#founding.founded
    if (this.#isStopping) return
    const { address } = this.#settings
    this.#parts = await openNodeParts({
      settings: this.#settings,
      identity,
      secret: this.#secret,
      build: this.#build,
      clock: this.#clock,
      random: this.#random,
      logger: this.#logger,
      onRemoved: removed => this.#onRemoved(removed),
      onFatal: this.#onFatal,
    })
    this.#identity = { ...identity, address }
    this.#logger.info({ raftId: identity.raftId, address }, 'the node runs')
  }

  /**
   * Hands leadership over, lets the clients go with their answers, and closes everything in order.
   * Until the last client has gone this node passes on what still comes.
   */
  async stop(): Promise<void> {
    if (this.#isStopping) return
    this.#isStopping = true
    this.#founding.stop()
    const replica = this.#parts?.replica
    const isAlone = replica === undefined || replica.status().log.peers.length === 0
    if (!isAlone) await this.#handOver(replica)
    await this.#http.drain(LAME_MS_MAX)
    if (replica !== undefined) {
      replica.stopAdmission()
      await this.#until(() => replica.isIdle, PASS_ON_MS_MAX)
      // What waits here goes to the next leader; without one there is nobody left to wait for.
      if (!isAlone) await this.#until(() => replica.isPassedOn, PASS_ON_MS_MAX)
      replica.refuseHeld()
    }
    await this.#http.stop(HTTP_GRACE_MS)
    if (this.#parts !== undefined) await closeParts(this.#parts)
    this.#lock.release()
  }

  async #handOver(replica: Replica): Promise<void> {
    const error = await new Promise<DbError | undefined>(resolve => {
      replica.handOver(undefined, HAND_OVER_MS_MAX, resolve)
    })
    if (error === undefined) return
    this.#logger.warn({ error }, 'leadership was not handed over')
    // Bluntly then: what can't be finished must not keep the node from stopping.
    replica.transferLeadership()
  }

  /** From here on only status and health are answered. */
  #onRemoved(removed: IdentityOf<'removed'>): void {
    this.#removal = removedError(removed)
    this.#logger.warn({ error: this.#removal }, 'this node serves nothing any more')
    const parts = this.#parts
    this.#parts = undefined
    if (parts !== undefined) void closeParts(parts)
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
    return this.#identity
  }

  refusal(): DbError | undefined {
    return this.#removal
  }

  status(): ReplicaStatus | undefined {
    return this.#parts?.replica.status()
  }

  isStopping(): boolean {
    return this.#isStopping
  }

  overload: Service['overload'] = () => this.#parts?.replica.admission.overload

  wantedWrites: Service['wantedWrites'] = () =>
    this.#parts?.replica.admission.wantedWrites ?? Infinity

  execute: Service['execute'] = (request, { timeoutMs, receiveMs }, done) =>
    this.#running().replica.execute(request, timeoutMs, done, receiveMs)

  query: Service['query'] = (request, options, done) =>
    this.#running().replica.queryJson(request, request.rows, options, done)

  digest: Service['digest'] = (request, options, done) =>
    this.#running().replica.digest(request, options, done)

  transact: Service['transact'] = (operation, { timeoutMs }, done) =>
    this.#running().replica.transact(operation, timeoutMs, done)

  databases: Service['databases'] = done => this.#running().engine.databases(done)

  /** The parts; a request may have been let in just before the node was removed. */
  #running(): NodeParts {
    if (this.#parts !== undefined) return this.#parts
    throw this.#removal ?? new DbError('NOT_READY', `node ${this.nodeId} is starting`)
  }

  peerError(raftId: number): string {
    return this.#parts?.transport.health(raftId)?.lastError?.message ?? ''
  }

  transferLeadership(): void {
    this.#parts?.replica.handOver(undefined, HAND_OVER_MS_MAX, error => {
      if (error !== undefined) this.#logger.warn({ error }, 'leadership was not handed over')
    })
  }

  trust(nodeId: string): DbError | undefined {
    return this.#running().replica.trust(nodeId)
  }

  members(): MembersResponse | undefined {
    return this.#parts?.changes.list()
  }

  changeMembers: Service['changeMembers'] = (request, asked, done) =>
    this.#running().changes.change(request, asked, outcome => {
      if (outcome instanceof DbError) done({ type: 'failed', error: outcome })
      else done({ type: 'ok', value: outcome })
    })

  join({ body, isForwarded }: JoinRequest, done: (answer: JoinAnswer) => void): void {
    const result = this.#founding.handleJoin(body)
    if (result.type === 'failed') return done(result)
    if (result.type === 'ok') return done({ type: 'ok', text: JSON.stringify(result.json) })
    const { changes } = this.#running()
    const asked = { timeoutMs: JOIN_MS_MAX, isForwarded }
    changes.admit(result.request, body, asked, outcome => {
      if (outcome instanceof DbError) return done({ type: 'failed', error: outcome })
      // The leader has sealed its answer for the joiner, with the secret that all share.
      if (outcome.type === 'elsewhere') return done({ type: 'ok', text: outcome.text })
      done({ type: 'ok', text: JSON.stringify(result.seal(outcome)) })
    })
  }

  snapshot: Service['snapshot'] = request => {
    const parts = this.#parts
    if (parts === undefined) throw new DbError('NOT_READY', `node ${this.nodeId} is starting`)
    return parts.snapshots.answer(request)
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

async function closeParts({ keeper, replica, transport, freeSpace }: NodeParts): Promise<void> {
  keeper.stop()
  freeSpace.stop()
  await new Promise<void>(resolve => {
    replica.stop(resolve)
  })
  transport.stop()
}
