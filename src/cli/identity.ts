/**
 * Who a node is, as its data directory says: DIR/node.json and DIR/secret. A disk gets a random
 * name, its incarnation, before the node speaks to anybody; the member list fixes the incarnations
 * of all founders before anybody votes. So a wiped disk is never mistaken for the one it was.
 */
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import * as z from 'zod'
import { DbError } from '../base/errors.ts'
import type { Random } from '../base/ports.ts'
import {
  type FileSystem,
  makeDirectoryDurably,
  systemFiles,
  writeFileDurably,
} from '../platform/durable-file.ts'
import { orDiskError } from './disk-error.ts'

/** Version of node.json that this build writes, and the newest it reads. It reads 1 too. */
export const IDENTITY_FORMAT = 2

/** Most voters that a cluster can be founded with. */
export const VOTERS_MAX = 7

const NAME = /^[A-Za-z0-9._-]{1,64}$/
const name = z.string().regex(NAME)
const raftId = z.int().min(1)
const head = { format: z.literal(IDENTITY_FORMAT), nodeId: name, incarnation: name }
const cluster = { clusterId: name, historyId: name, groupId: z.int().min(1) }

const member = z.strictObject({ raftId, nodeId: name, address: z.string(), incarnation: name })

/** The newest members that the node has heard of: whom to dial before the log says it again. */
const known = z.strictObject({
  index: z.int().min(0),
  members: z.array(member),
  nextRaftId: raftId,
})

const identity = z.discriminatedUnion('type', [
  /**
   * Has a disk and asks to be let in, at `addresses`, to found a cluster or to become a member of
   * one that runs. Knows no cluster, never votes.
   */
  z.strictObject({
    ...head,
    type: z.literal('joining'),
    as: z.enum(['founder', 'voter', 'learner']),
    addresses: z.array(z.string()),
  }),
  /** Made by init, waits for the others. Never votes. */
  z.strictObject({ ...head, ...cluster, type: z.literal('founding'), voters: z.int().min(1) }),
  /**
   * Belongs to a cluster; who else does, the log says. `founders` are the members that the log
   * begins with, empty if it begins with a snapshot. `hasLog` is true once a log was made: from
   * then on a missing log is a loss, not a beginning. `isPromotionDue`: joined to become a voter,
   * and is none yet. `starts`: how often the node was started as a member; the others know an older
   * copy of the directory by it. `recovering`: it was decided that this node is the only voter of
   * `historyId`, and the log may not say so yet; see recovery.ts.
   */
  z.strictObject({
    ...head,
    ...cluster,
    type: z.literal('member'),
    raftId,
    founders: z.array(member),
    known,
    hasLog: z.boolean(),
    isPromotionDue: z.boolean(),
    starts: z.int().min(0),
    recovering: z.strictObject({ isPardoned: z.boolean() }).optional(),
  }),
  /** Was a member, and the others have proved that it is none any more. Serves nothing for ever. */
  z.strictObject({
    ...head,
    ...cluster,
    type: z.literal('removed'),
    raftId,
    reason: z.string(),
  }),
])

/** node.json as format 1 had it, where the members of the founding were there for ever. */
const formerIdentity = z.looseObject({ format: z.literal(1), type: z.string() })
const formerMembers = z.array(member).min(1)

export type Member = Readonly<z.infer<typeof member>>
export type Identity = Readonly<z.infer<typeof identity>>
export type IdentityOf<T extends Identity['type']> = Extract<Identity, { type: T }>

/** Throws INVALID_REQUEST unless the id is a name as files, URLs and logs can carry it. */
export function checkNodeId(nodeId: string): void {
  if (NAME.test(nodeId)) return
  throw new DbError(
    'INVALID_REQUEST',
    `"${nodeId.slice(0, 100)}" can not be a node id; use 1 to 64 letters, digits, ".", "_", "-"`,
  )
}

/** A name that nothing else has: 32 hexadecimal digits. */
export function randomName(random: Random): string {
  return Buffer.from(random.bytes(16)).toString('hex')
}

/** Makes the directory, with the ones above it, if it is not there. */
export function makeDataDirectory(directory: string, files: FileSystem = systemFiles): void {
  const path = resolve(directory)
  if (existsSync(path)) return
  makeDataDirectory(dirname(path), files)
  orDiskError(path, () => makeDirectoryDurably(path, files))
}

/**
 * Reads DIR/node.json; undefined if the directory is empty or not there. Throws WRONG_DATA if it is
 * of a newer version or lost while data is there, CORRUPT if it can't be read.
 */
export function readIdentity(directory: string): Identity | undefined {
  const path = join(directory, 'node.json')
  if (!existsSync(path)) {
    const data = existsSync(directory) ? readdirSync(directory).filter(isData) : []
    if (data.length === 0) return undefined
    throw new DbError(
      'WRONG_DATA',
      `${directory} holds ${data.join(', ')}, but not node.json; restore it from the same node, ` +
        'or choose an empty directory',
    )
  }
  const content = parseJson(readFileSync(path, 'utf8'))
  const format = z.object({ format: z.int() }).safeParse(content).data?.format ?? 0
  if (format > IDENTITY_FORMAT) {
    throw new DbError(
      'WRONG_DATA',
      `${directory} was written by a newer version (format ${format}, this one reads up to ` +
        `${IDENTITY_FORMAT}); start it with that version`,
    )
  }
  const parsed = identity.safeParse(format === 1 ? upgrade(content) : content)
  if (!parsed.success || !isConsistent(parsed.data)) {
    const why = parsed.success ? 'its members do not name this node' : z.prettifyError(parsed.error)
    throw new DbError('CORRUPT', `${path} can not be used: ${why.replaceAll('\n', ' ')}`)
  }
  return parsed.data
}

/** Writes DIR/node.json; it survives a power cut then. Throws DISK_FULL or WRONG_DATA. */
export function writeIdentity(directory: string, identity: Identity, files?: FileSystem): void {
  const path = join(directory, 'node.json')
  const text = `${JSON.stringify(identity, undefined, 2)}\n`
  orDiskError(path, () => writeFileDurably(path, text, { mode: 0o644, ...(files && { files }) }))
}

/** Shortest secret that is accepted. `init` makes one of 64 characters. */
const SECRET_CHARACTERS_MIN = 16

/** The cluster secret in DIR/secret, or an empty text if there is none. */
export function readSecret(directory: string): string {
  const path = join(directory, 'secret')
  if (!existsSync(path)) return ''
  const secret = readFileSync(path, 'utf8').trim()
  checkSecret(secret)
  // Copied by hand it may have come with other rights.
  chmodSync(path, 0o600)
  return secret
}

/** Writes DIR/secret, readable by the owner only. */
export function writeSecret(directory: string, secret: string, files?: FileSystem): void {
  checkSecret(secret)
  const path = join(directory, 'secret')
  const text = `${secret}\n`
  orDiskError(path, () => writeFileDurably(path, text, { mode: 0o600, ...(files && { files }) }))
}

/** Throws INVALID_REQUEST if somebody could guess the secret or type it wrong unseen. */
export function checkSecret(secret: string): void {
  if (/^[\x21-\x7e]+$/.test(secret) && secret.length >= SECRET_CHARACTERS_MIN) return
  throw new DbError(
    'INVALID_REQUEST',
    `the cluster secret must have at least ${SECRET_CHARACTERS_MIN} characters, ` +
      'printable ones without spaces',
  )
}

function isData(name: string): boolean {
  return name.startsWith('group-')
}

/** What format 1 said, in the words of this one. What can't be read stays as it is. */
function upgrade(content: unknown): unknown {
  const former = formerIdentity.safeParse(content)
  if (!former.success) return content
  const { members, ...rest } = former.data
  const next = { ...rest, format: IDENTITY_FORMAT }
  if (rest.type === 'joining') return { ...next, as: 'founder', addresses: [] }
  const founders = formerMembers.safeParse(members)
  if (rest.type !== 'member' || !founders.success) return next
  const list = knownOf(founders.data)
  return { ...next, founders: founders.data, known: list, isPromotionDue: false, starts: 0 }
}

/** The list that the founding of these members makes. */
export function knownOf(founders: readonly Member[]): IdentityOf<'member'>['known'] {
  const nextRaftId = 1 + Math.max(0, ...founders.map(member => member.raftId))
  return { index: 0, members: [...founders], nextRaftId }
}

function isConsistent(identity: Identity): boolean {
  if (identity.type !== 'member') return true
  const { nodeId, raftId, incarnation, known } = identity
  const own = known.members.find(member => member.raftId === raftId)
  const ids = new Set(known.members.flatMap(member => [member.raftId, member.nodeId]))
  const isUnique = ids.size === 2 * known.members.length
  return isUnique && own?.nodeId === nodeId && own.incarnation === incarnation
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not JSON is one more way of not being an identity; the caller says so.
    return undefined
  }
}
