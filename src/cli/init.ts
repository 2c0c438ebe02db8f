/**
 * The first step of a node's life: `lockstep init` founds a cluster, once, and `lockstep start`
 * finds out which node its data directory makes it. Nothing here talks to another node.
 */
import { join } from 'node:path'
import { DbError } from '../base/errors.ts'
import type { Random } from '../base/ports.ts'
import { checkSecretNeeded, parseAddress } from '../platform/address.ts'
import type { FileSystem } from '../platform/durable-file.ts'
import {
  checkNodeId,
  checkSecret,
  type Identity,
  IDENTITY_FORMAT,
  type IdentityOf,
  makeDataDirectory,
  randomName,
  readIdentity,
  readSecret,
  VOTERS_MAX,
  writeIdentity,
  writeSecret,
} from './identity.ts'
import { invocation } from './program.ts'

export interface InitOptions {
  readonly directory: string
  readonly nodeId: string
  /** How many nodes, this one included, found the cluster together. */
  readonly voters: number
  /** Given by the operator; a random one is made if it is absent. */
  readonly secret?: string
  readonly random: Random
  readonly files?: FileSystem
  /** Puts data into the directory before it becomes a node's. */
  readonly addData?: () => void
}

/**
 * Founds a cluster in an empty data directory: gives it an id and a secret. The directory must not
 * be in use; the caller holds its lock. Throws WRONG_DATA if it already belongs to a node.
 */
export function initCluster(options: InitOptions): IdentityOf<'founding'> {
  const { directory, nodeId, voters, random, files } = options
  checkNodeId(nodeId)
  if (!Number.isInteger(voters) || voters < 1 || voters > VOTERS_MAX) {
    throw new DbError('INVALID_REQUEST', `a cluster has 1 to ${VOTERS_MAX} voters, not ${voters}`)
  }
  const secret = options.secret ?? randomSecret(random)
  checkSecret(secret)
  const present = readIdentity(directory)
  if (present !== undefined) throw new DbError('WRONG_DATA', alreadyInit(directory, present))
  const identity: IdentityOf<'founding'> = {
    format: IDENTITY_FORMAT,
    type: 'founding',
    clusterId: randomName(random),
    historyId: randomName(random),
    groupId: 1,
    nodeId,
    incarnation: randomName(random),
    voters,
  }
  makeDataDirectory(directory, files)
  // The secret first: a node.json says that all the rest is there.
  writeSecret(directory, secret, files)
  options.addData?.()
  writeIdentity(directory, identity, files)
  return identity
}

export interface PrepareOptions {
  readonly directory: string
  readonly nodeId: string
  /** Where the other nodes reach this one, host:port. */
  readonly address: string
  /** Where this node listens, host:port, if that is another address. */
  readonly listen?: string
  /** Addresses of nodes to ask for a cluster; looked at only if the directory has none yet. */
  readonly join: readonly string[]
  /** What an empty directory is to become: a founder, if it is absent. */
  readonly as?: IdentityOf<'joining'>['as']
  /** Given by the operator; takes the place of the one in the directory. */
  readonly secret?: string
  readonly random: Random
  readonly files?: FileSystem
}

export interface PreparedNode {
  readonly identity: Identity
  /** Empty only if all addresses are loopback. */
  readonly secret: string
}

/**
 * Which node this is, before it speaks to anybody. An empty directory with addresses to join gets
 * an identity that survives any crash from here on; without, it never starts: NOT_READY says what
 * to run. The directory is made if it is not there.
 */
export function prepareNode(options: PrepareOptions): PreparedNode {
  const { directory, nodeId, address, listen = address } = options
  checkNodeId(nodeId)
  parseAddress(address)
  options.join.forEach(parseAddress)
  const present = readIdentity(directory)
  if (present !== undefined && present.nodeId !== nodeId) {
    throw new DbError(
      'WRONG_DATA',
      `${directory} belongs to node ${present.nodeId}, not to ${nodeId}; ` +
        `start it with --node-id ${present.nodeId}, or give ${nodeId} its own directory`,
    )
  }
  if (present === undefined && options.join.length === 0) {
    throw new DbError(
      'NOT_READY',
      `${directory} is empty: run "${invocation()} init --data ${directory} --node-id ${nodeId}" ` +
        'to found a new cluster, or start with --join and the address of a node of the cluster',
    )
  }
  const secret = chooseSecret(options)
  const addresses =
    present?.type === 'member' ? present.known.members.map(m => m.address) : options.join
  checkSecretNeeded(secret, [listen, address, ...addresses])
  checkPurpose(options, present)
  return { identity: present ?? createJoining(options), secret }
}

/** Throws WRONG_DATA if the directory is on another way than the one that was asked for. */
function checkPurpose(options: PrepareOptions, present: Identity | undefined): void {
  const { as, directory } = options
  if (as === undefined || present === undefined) return
  if (present.type === 'joining' && present.as === as) return
  // A join that was interrupted is repeated by the same words, also when it had come to its end.
  if (present.type === 'member') return
  const what =
    present.type === 'removed'
      ? 'was removed from its cluster'
      : present.type === 'founding' || present.as === 'founder'
        ? 'is about to found a cluster'
        : `is about to join as a ${present.as}`
  throw new DbError(
    'WRONG_DATA',
    `node ${present.nodeId} in ${directory} ${what}; join with an empty directory`,
  )
}

function createJoining(options: PrepareOptions): IdentityOf<'joining'> {
  const { directory, nodeId, random, files, as = 'founder', join: addresses } = options
  const identity: IdentityOf<'joining'> = {
    format: IDENTITY_FORMAT,
    type: 'joining',
    nodeId,
    incarnation: randomName(random),
    as,
    addresses: [...addresses],
  }
  makeDataDirectory(directory, files)
  writeIdentity(directory, identity, files)
  return identity
}

function chooseSecret(options: PrepareOptions): string {
  const { directory, secret, files } = options
  const present = readSecret(directory)
  if (secret === undefined || secret === present) return present
  checkSecret(secret)
  makeDataDirectory(directory, files)
  writeSecret(directory, secret, files)
  return secret
}

function randomSecret(random: Random): string {
  return Buffer.from(random.bytes(32)).toString('hex')
}

function alreadyInit(directory: string, present: Identity): string {
  const what =
    present.type === 'joining'
      ? `to node ${present.nodeId}, which waits to join a cluster`
      : `to node ${present.nodeId} of cluster ${present.clusterId}`
  return `${join(directory, 'node.json')} already belongs ${what}; choose an empty directory`
}
