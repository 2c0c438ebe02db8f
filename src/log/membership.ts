/**
 * The members as of an entry: how each change makes the next membership out of the last one, and
 * how both travel. The core decides by numbers; which node and address a number is, the contexts of
 * the membership entries say, and what comes of them all is kept beside the base of the log.
 *
 *   context => version u8, kind u8 (0 nothing, 1 newcomer, 2 address), then for
 *              1: raftId varint, nodeId, address, incarnation text; for 2: raftId varint, address
 *   book    => version u8, index varint, nextRaftId varint, count varint, member*, count varint,
 *              removed*
 *   member  => raftId varint, nodeId, address, incarnation text
 *   removed => raftId varint, nodeId, incarnation text
 *   point   => version u8, index, term varint, 4 lists (count varint, raftId varint*): voters,
 *              votersOutgoing, learners, learnersNext, book bytes
 */
import { assert } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { DbError } from '../base/errors.ts'
import type { ConfChange, ConfState, Snapshot } from '../raft/types.ts'
import type { StoredMembers } from '../wal/payload.ts'
import type { Member, Membership, RemovedMember, SnapshotPoint } from './log.ts'

const VERSION = 1
const KIND_NEWCOMER = 1
const KIND_ADDRESS = 2

/**
 * Names of so many removed members are kept from being taken again. Their number alone tells the
 * disk of an earlier one: no number below `nextRaftId` is ever given again.
 */
const REMOVED_MAX = 256

/** The members that a group begins with, all of them voters. */
export function foundingMembership(members: readonly Member[]): Membership {
  const sorted = members.toSorted((left, right) => left.raftId - right.raftId)
  const voters = sorted.map(({ raftId }) => raftId)
  return {
    index: 0,
    members: sorted,
    voters,
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    nextRaftId: (voters.at(-1) ?? 0) + 1,
    removed: [],
  }
}

/** A membership as the log on disk keeps it beside its base. */
export function storedMembers(membership: Membership): StoredMembers {
  return { confState: confStateOf(membership), book: encodeBook(membership) }
}

/** The part that the core decides by. Joint memberships are always left by the leader itself. */
export function confStateOf(membership: Membership): ConfState {
  const { voters, votersOutgoing, learners, learnersNext } = membership
  const autoLeave = votersOutgoing.length > 0
  return { voters, votersOutgoing, learners, learnersNext, autoLeave }
}

/** Says in the entry that adds a member which node it is. */
export function newcomerContext(member: Member): Uint8Array {
  const writer = new ByteWriter()
  writer.u8(VERSION)
  writer.u8(KIND_NEWCOMER)
  writeMember(writer, member)
  return writer.finish()
}

/** Says in an entry that changes nothing else where a member is reached from now on. */
export function addressContext(raftId: number, address: string): Uint8Array {
  const writer = new ByteWriter()
  writer.u8(VERSION)
  writer.u8(KIND_ADDRESS)
  writer.varint(raftId)
  writer.utf8(address)
  return writer.finish()
}

/** The membership after the entry at `index`, which the core answered with `confState`. */
export function nextMembership(
  before: Membership,
  index: number,
  change: ConfChange,
  confState: ConfState,
): Membership {
  const { voters, votersOutgoing, learners, learnersNext } = confState
  const named = applyContext(before.members, change.context)
  const ids = new Set([...voters, ...votersOutgoing, ...learners])
  const members = named.filter(({ raftId }) => ids.has(raftId))
  assert(members.length === ids.size, `entry ${index} names a member that nobody introduced`)
  const gone = named
    .filter(({ raftId }) => !ids.has(raftId))
    .map(({ raftId, nodeId, incarnation }) => ({ raftId, nodeId, incarnation }))
  return {
    index,
    members,
    voters,
    votersOutgoing,
    learners,
    learnersNext,
    nextRaftId: Math.max(before.nextRaftId, (named.at(-1)?.raftId ?? 0) + 1),
    removed: [...before.removed, ...gone].slice(-REMOVED_MAX),
  }
}

function applyContext(members: readonly Member[], context: Uint8Array): readonly Member[] {
  if (context.length === 0) return members
  const reader = new ByteReader(context)
  checkVersion(reader.u8(), 'a change of the members')
  const kind = reader.u8()
  if (kind === KIND_NEWCOMER) {
    const member = readMember(reader)
    const others = members.filter(({ raftId }) => raftId !== member.raftId)
    return [...others, member].toSorted((left, right) => left.raftId - right.raftId)
  }
  if (kind !== KIND_ADDRESS) throw new DbError('CORRUPT', `a change of members of kind ${kind}`)
  const raftId = reader.varint()
  const address = reader.utf8()
  return members.map(member => (member.raftId === raftId ? { ...member, address } : member))
}

/** What is kept beside the numbers of `confStateOf`. */
export function encodeBook(membership: Membership): Uint8Array {
  const writer = new ByteWriter()
  writer.u8(VERSION)
  writer.varint(membership.index)
  writer.varint(membership.nextRaftId)
  writer.varint(membership.members.length)
  for (const member of membership.members) writeMember(writer, member)
  writer.varint(membership.removed.length)
  for (const { raftId, nodeId, incarnation } of membership.removed) {
    writer.varint(raftId)
    writer.utf8(nodeId)
    writer.utf8(incarnation)
  }
  return writer.finish()
}

/** The membership of which `bytes` are the book, or throws CORRUPT or WRONG_DATA. */
export function decodeBook(confState: ConfState, bytes: Uint8Array): Membership {
  const { voters, votersOutgoing, learners, learnersNext } = confState
  const lists = { voters, votersOutgoing, learners, learnersNext }
  if (bytes.length === 0) {
    const ids = [...voters, ...votersOutgoing, ...learners]
    if (ids.length > 0) throw new DbError('CORRUPT', 'the members of the log have no names')
    return { index: 0, members: [], ...lists, nextRaftId: 1, removed: [] }
  }
  const reader = new ByteReader(bytes)
  checkVersion(reader.u8(), 'the book of members')
  const index = reader.varint()
  const nextRaftId = reader.varint()
  const members: Member[] = []
  for (let left = reader.varint(); left > 0; left -= 1) members.push(readMember(reader))
  const removed: RemovedMember[] = []
  for (let left = reader.varint(); left > 0; left -= 1) {
    removed.push({ raftId: reader.varint(), nodeId: reader.utf8(), incarnation: reader.utf8() })
  }
  return { index, members, ...lists, nextRaftId, removed }
}

/** A point as bytes, for whoever keeps copies of the data. */
export function encodePoint(point: SnapshotPoint): Uint8Array {
  const { index, term, membership } = point
  const writer = new ByteWriter()
  writer.u8(VERSION)
  writer.varint(index)
  writer.varint(term)
  const { voters, votersOutgoing, learners, learnersNext } = membership
  for (const list of [voters, votersOutgoing, learners, learnersNext]) {
    writer.varint(list.length)
    for (const raftId of list) writer.varint(raftId)
  }
  writer.bytes(encodeBook(membership))
  return writer.finish()
}

/** Reads what `encodePoint` wrote, or throws CORRUPT or WRONG_DATA. */
export function decodePoint(bytes: Uint8Array): SnapshotPoint {
  const reader = new ByteReader(bytes)
  checkVersion(reader.u8(), 'a point of the log')
  const index = reader.varint()
  const term = reader.varint()
  const readList = (): number[] => {
    const list: number[] = []
    for (let left = reader.varint(); left > 0; left -= 1) list.push(reader.varint())
    return list
  }
  const voters = readList()
  const votersOutgoing = readList()
  const learners = readList()
  const learnersNext = readList()
  const autoLeave = votersOutgoing.length > 0
  const confState = { voters, votersOutgoing, learners, learnersNext, autoLeave }
  return { index, term, membership: decodeBook(confState, reader.bytes()) }
}

/** A point as the core and the log on disk know it. */
export function toSnapshot({ index, term, membership }: SnapshotPoint): Snapshot {
  const { confState, book } = storedMembers(membership)
  return { metadata: { index, term, confState }, data: book }
}

function writeMember(writer: ByteWriter, member: Member): void {
  writer.varint(member.raftId)
  writer.utf8(member.nodeId)
  writer.utf8(member.address)
  writer.utf8(member.incarnation)
}

function readMember(reader: ByteReader): Member {
  return {
    raftId: reader.varint(),
    nodeId: reader.utf8(),
    address: reader.utf8(),
    incarnation: reader.utf8(),
  }
}

function checkVersion(version: number, what: string): void {
  if (version === VERSION) return
  const text = `${what} is of format ${version}, and this program reads ${VERSION}`
  throw new DbError('WRONG_DATA', `${text}: start the newer version of the program that wrote it`)
}
