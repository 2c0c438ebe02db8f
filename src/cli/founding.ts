/**
 * How nodes become a cluster. One was made by `lockstep init` and founds; the others poll it with
 * `POST /join`. When as many voters as init asked for are there at the same time, the founder fixes
 * the member list, with the incarnation of every disk, durably, and gives this one list to
 * everybody from then on. A joiner stores it durably before it votes. So everybody knows every
 * disk before anybody votes, and a wiped disk, or a second node under one id, is refused for ever.
 *
 * Until the list is fixed nothing is promised to a joiner: the founder only remembers, in memory,
 * who asked a moment ago. A node that went away, or was started under a wrong name, is forgotten.
 */
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { Clock, Logger, Random } from '../base/ports.ts'
import { checkSecretNeeded, parseAddress } from '../platform/address.ts'
import type { FileSystem } from '../platform/durable-file.ts'
import { type Identity, type IdentityOf, knownOf, type Member, writeIdentity } from './identity.ts'
import { JoinClient } from './join-client.ts'
import {
  type JoinAnswer,
  type JoinRequest,
  openJoinRequest,
  type Sealed,
  sealJoinAnswer,
} from './join-messages.ts'
import { RequestFilter } from './request-filter.ts'

export interface FoundingOptions {
  readonly directory: string
  /** As prepareNode gave it. */
  readonly identity: Identity
  readonly secret: string
  /** Where the other nodes reach this one, host:port. */
  readonly address: string
  /** Names the SQL engine's build. */
  readonly build: string
  /** Addresses of nodes to ask; used only by a joiner. */
  readonly join: readonly string[]
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly files?: FileSystem
  readonly paces?: FoundingPaces
}

export interface FoundingPaces {
  /** A joiner asks again after so long. */
  readonly pollMs: number
  /** A joiner that has not asked for so long is not counted. Several polls. */
  readonly presenceMs: number
  /** One question to the founder is given up after so long. */
  readonly requestTimeoutMs: number
}

const FOUNDING_PACES: FoundingPaces = {
  pollMs: 300,
  presenceMs: 5000,
  requestTimeoutMs: 5000,
}

/** The answer to `POST /join`, as the HTTP server passes it on. */
export type JoinResult =
  | { readonly type: 'ok'; readonly json: Sealed }
  | { readonly type: 'failed'; readonly error: DbError }
  /** The cluster is founded and runs, so the log decides; `seal` makes the answer. */
  | {
      readonly type: 'admit'
      readonly request: JoinRequest
      readonly seal: (answer: JoinAnswer) => Sealed
    }

interface Candidate {
  readonly nodeId: string
  readonly address: string
  readonly incarnation: string
  readonly lastSeenMs: number
}

export class Founding {
  /**
   * Resolves when the member list is durable here; rejects with FORBIDDEN, UNAUTHENTICATED or
   * INVALID_REQUEST if it never will be. Stays open if the founding is stopped before.
   */
  readonly founded: Promise<IdentityOf<'member'>>

  readonly #options: FoundingOptions
  readonly #paces: FoundingPaces
  readonly #filter: RequestFilter
  readonly #candidates = new Map<string, Candidate>()
  readonly #settle: PromiseWithResolvers<IdentityOf<'member'>>
  #identity: Identity
  #client: JoinClient | undefined

  constructor(options: FoundingOptions) {
    this.#options = options
    this.#paces = options.paces ?? FOUNDING_PACES
    this.#filter = new RequestFilter(options.clock)
    this.#identity = options.identity
    this.#settle = Promise.withResolvers()
    this.founded = this.#settle.promise
  }

  /** Founds at once if nobody else is expected, or begins to wait or to ask. */
  start(): void {
    const { identity, logger } = this.#options
    switch (identity.type) {
      case 'member':
        this.#settle.resolve(identity)
        break
      case 'founding':
        if (identity.voters > 1) {
          logger.info({ voters: identity.voters }, 'waiting for the other nodes to join')
        }
        this.#foundIfComplete(identity)
        break
      case 'joining':
        this.#ask(identity)
        break
      // Who was removed has nothing to wait for.
      case 'removed':
        break
    }
  }

  /** Ends the waiting; `founded` stays as it is. */
  stop(): void {
    this.#client?.stop()
  }

  /** Answers the body of one `POST /join`. */
  handleJoin(body: Uint8Array): JoinResult {
    const { secret } = this.#options
    try {
      const { request, mac } = openJoinRequest(Buffer.from(body).toString('utf8'), secret)
      this.#filter.check(request)
      if (request.as !== 'founder' && this.#identity.type === 'member') {
        return { type: 'admit', request, seal: answer => sealJoinAnswer(answer, mac, secret) }
      }
      return { type: 'ok', json: sealJoinAnswer(this.#answer(request), mac, secret) }
    } catch (error) {
      if (error instanceof DbError) return { type: 'failed', error }
      throw error
    }
  }

  #answer(request: JoinRequest): JoinAnswer {
    const identity = this.#identity
    if (identity.type === 'removed') throw removedError(identity)
    if (identity.type === 'member') {
      checkFounder(identity.founders, request, identity.known.members)
      return answerOf(identity)
    }
    if (request.as !== 'founder') {
      const message = `node ${identity.nodeId} belongs to no cluster that runs yet`
      throw new DbError('NOT_READY', message)
    }
    if (identity.type === 'joining') {
      throw new DbError(
        'NOT_READY',
        `node ${identity.nodeId} is itself waiting to join; ` +
          'ask the node that "lockstep init" was run for',
      )
    }
    this.#checkCandidate(identity, request)
    const { nodeId, address, incarnation } = request
    if (!this.#candidates.has(nodeId)) {
      this.#options.logger.info({ peer: nodeId, address }, 'a node asks to join')
    }
    const lastSeenMs = this.#options.clock.monotonicMs()
    this.#candidates.set(nodeId, { nodeId, address, incarnation, lastSeenMs })
    const founded = this.#foundIfComplete(identity)
    if (founded !== undefined) return answerOf(founded)
    return { type: 'waiting', present: this.#candidates.size + 1, voters: identity.voters }
  }

  #checkCandidate(identity: IdentityOf<'founding'>, request: JoinRequest): void {
    const { nodeId, address, incarnation } = request
    const own = this.#options
    parseAddress(address)
    checkSecretNeeded(own.secret, [address])
    if (request.build !== own.build) throw otherBuild(request, own.build)
    if (nodeId === identity.nodeId) throw idTaken(nodeId)
    this.#forgetAbsent()
    const present = this.#candidates.get(nodeId)
    if (present !== undefined && present.incarnation !== incarnation) {
      // Whoever comes to stay is let in as soon as the other has gone.
      throw new DbError(
        'NOT_READY',
        `another node asked to join as ${nodeId} (from ${present.address}) a moment ago; ` +
          'if its data directory was wiped this passes in a few seconds, else stop one of them',
      )
    }
    const neighbours = [
      { nodeId: identity.nodeId, address: own.address },
      ...this.#candidates.values(),
    ]
    const neighbour = neighbours.find(other => other.address === address && other.nodeId !== nodeId)
    if (neighbour !== undefined) {
      throw new DbError(
        'NOT_READY',
        `node ${neighbour.nodeId} has the address ${address} too; give every node its own`,
      )
    }
  }

  #forgetAbsent(): void {
    const oldestMs = this.#options.clock.monotonicMs() - this.#paces.presenceMs
    for (const candidate of this.#candidates.values()) {
      if (candidate.lastSeenMs < oldestMs) this.#candidates.delete(candidate.nodeId)
    }
  }

  #foundIfComplete(identity: IdentityOf<'founding'>): IdentityOf<'member'> | undefined {
    const { address, directory, files, logger } = this.#options
    const { nodeId, incarnation } = identity
    const all = [{ nodeId, address, incarnation }, ...this.#candidates.values()]
    if (all.length < identity.voters) return undefined
    all.sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1))
    const members = all.map(({ nodeId, address, incarnation }, index): Member => {
      return { raftId: index + 1, nodeId, address, incarnation }
    })
    const member = toMember(identity, identity, members)
    // Durable before anybody is told: from here on there is one list, whatever crashes.
    writeIdentity(directory, member, files)
    this.#identity = member
    this.#candidates.clear()
    logger.info(
      { clusterId: member.clusterId, members: namesOf(members) },
      'the cluster is founded',
    )
    this.#settle.resolve(member)
    return member
  }

  #ask(identity: IdentityOf<'joining'>): void {
    const { directory, files, logger, address } = this.#options
    const { nodeId, incarnation, as } = identity
    const join = this.#options.join.length > 0 ? this.#options.join : identity.addresses
    this.#client = new JoinClient({
      ...this.#options,
      ...this.#paces,
      join,
      nodeId,
      incarnation,
      as,
      onLetIn: answer => {
        try {
          const member =
            answer.type === 'founded'
              ? becomeFounder(identity, answer, address)
              : becomeMember(identity, answer)
          writeIdentity(directory, member, files)
          this.#identity = member
          const names = namesOf(member.known.members)
          logger.info({ clusterId: member.clusterId, members: names }, 'joined')
          this.#settle.resolve(member)
        } catch (error) {
          this.#settle.reject(error)
        }
      },
      onRefused: error => this.#settle.reject(error),
    })
    this.#client.start()
  }
}

interface ClusterFacts {
  readonly clusterId: string
  readonly historyId: string
  readonly groupId: number
}

function becomeFounder(
  identity: IdentityOf<'joining'>,
  answer: Extract<JoinAnswer, { type: 'founded' }>,
  address: string,
): IdentityOf<'member'> {
  checkFounder(answer.members, identity)
  const member = toMember(identity, answer, answer.members)
  checkOwnAddress(member, address)
  return member
}

function becomeMember(
  identity: IdentityOf<'joining'>,
  answer: Extract<JoinAnswer, { type: 'joined' }>,
): IdentityOf<'member'> {
  const { format, nodeId, incarnation, as } = identity
  const { clusterId, historyId, groupId, raftId, founders, known } = answer
  const head = { format, type: 'member', clusterId, historyId, groupId, nodeId } as const
  const isPromotionDue = as === 'voter'
  return { ...head, raftId, incarnation, founders, known, hasLog: false, isPromotionDue, starts: 0 }
}

function toMember(
  identity: IdentityOf<'founding' | 'joining'>,
  cluster: ClusterFacts,
  members: readonly Member[],
): IdentityOf<'member'> {
  const { format, nodeId, incarnation } = identity
  const { clusterId, historyId, groupId } = cluster
  const own = must(
    members.find(member => member.nodeId === nodeId),
    `member ${nodeId}`,
  )
  return {
    format,
    type: 'member',
    clusterId,
    historyId,
    groupId,
    nodeId,
    raftId: own.raftId,
    incarnation,
    founders: [...members],
    known: knownOf(members),
    hasLog: false,
    isPromotionDue: false,
    starts: 0,
  }
}

function answerOf(identity: IdentityOf<'member'>): JoinAnswer {
  const { clusterId, historyId, groupId, founders } = identity
  return { type: 'founded', clusterId, historyId, groupId, members: [...founders] }
}

/** Why a node that was removed does nothing any more. */
export function removedError(identity: IdentityOf<'removed'>): DbError {
  const { nodeId, clusterId, reason } = identity
  return new DbError(
    'REMOVED',
    `node ${nodeId} was removed from cluster ${clusterId}, ${reason}; ` +
      'to come back it joins with an empty directory under a new id',
  )
}

/**
 * Throws FORBIDDEN unless this very disk is in the fixed list. `known`: members now. A node that
 * joined behind a cut log has no list, but knows who lost a disk.
 */
function checkFounder(
  founders: readonly Member[],
  node: { readonly nodeId: string; readonly incarnation: string },
  known: readonly Member[] = [],
): void {
  const isNode = ({ nodeId }: Member): boolean => nodeId === node.nodeId
  const member = founders.find(isNode)
  if (member?.incarnation === node.incarnation) return
  if (member === undefined && !known.some(isNode)) {
    throw new DbError(
      'FORBIDDEN',
      `node ${node.nodeId} is not one of the nodes that founded the cluster; ` +
        'an empty directory becomes a member by "lockstep join"',
    )
  }
  throw new DbError(
    'FORBIDDEN',
    `node ${node.nodeId} belongs to the cluster with another data directory; start it with that ` +
      'one: an empty disk under an old id could forget votes and entries that it confirmed. ' +
      `If that directory is lost, run "lockstep remove ${node.nodeId}" and let the empty one ` +
      'join under a new id',
  )
}

function checkOwnAddress(identity: IdentityOf<'member'>, address: string): void {
  const own = identity.founders.find(member => member.raftId === identity.raftId)
  if (own?.address === address) return
  throw new DbError(
    'INVALID_REQUEST',
    `node ${identity.nodeId} is known to the others at ${own?.address}, not at ${address}; ` +
      'start it with that address',
  )
}

function idTaken(nodeId: string): DbError {
  return new DbError(
    'FORBIDDEN',
    `the founder itself is node ${nodeId}; give the joining node another --node-id`,
  )
}

function otherBuild(request: JoinRequest, build: string): DbError {
  return new DbError(
    'FORBIDDEN',
    `node ${request.nodeId} runs the SQL engine "${request.build}" and the founder "${build}"; ` +
      'run the same release on every node, replicas must compute the same',
  )
}

function namesOf(members: readonly Member[]): string {
  return members.map(member => member.nodeId).join(', ')
}
