/** A directory of node n2 of three, stopped, with a log and data; and what can be done to it. */
import assert from 'node:assert/strict'
import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Clock, Disk, DiskCallback, DiskFile } from '../../src/base/ports.ts'
import { type Identity, type IdentityOf, readIdentity } from '../../src/cli/identity.ts'
import { writeIdentity } from '../../src/cli/identity.ts'
import { recover } from '../../src/cli/recover.ts'
import type { OtherNode } from '../../src/cli/recover-checks.ts'
import { withLog } from '../../src/cli/recovery.ts'
import type { WriterMessage, WriterReply } from '../../src/engine/engine.ts'
import { SqliteWriter } from '../../src/engine/sqlite/sqlite-writer.ts'
import { foundingMembership, storedMembers } from '../../src/log/membership.ts'
import { type OnlyVoter, readLogEnd } from '../../src/log/only-voter.ts'
import { fastCrc32, RealDisk } from '../../src/platform/disk.ts'
import { type FileSystem, systemFiles } from '../../src/platform/durable-file.ts'
import { SystemRandom } from '../../src/platform/random.ts'
import type { Entry } from '../../src/raft/types.ts'
import { Wal } from '../../src/wal/wal.ts'
import { temporaryDirectory } from './founding-kit.ts'

const MEMBERS = [1, 2, 3].map(raftId => ({
  raftId,
  nodeId: `n${raftId}`,
  address: `127.0.0.1:${raftId}`,
  incarnation: `disk-${raftId}`,
}))
/** The members as the log begins with them. */
export const STORED = storedMembers(foundingMembership(MEMBERS))
const IDENTITY: IdentityOf<'member'> = {
  format: 2,
  type: 'member',
  clusterId: 'c1',
  historyId: 'old',
  groupId: 1,
  nodeId: 'n2',
  raftId: 2,
  incarnation: 'disk-2',
  founders: MEMBERS,
  known: { index: 0, members: MEMBERS, nextRaftId: 4 },
  hasLog: true,
  isPromotionDue: false,
  starts: 1,
}

/** Entries without data, as leaders begin their terms with. */
export function entries(count: number): Entry[] {
  const data = new Uint8Array()
  return Array.from({ length: count }, (_, at) => ({
    index: at + 1,
    term: 1,
    type: 'normal',
    data,
  }))
}

/** What the log of a new directory holds, if it isn't three entries. */
export type LogContent = Parameters<Wal['append']>[0]
const THREE: LogContent = { entries: entries(3), hardState: { term: 1, vote: 1, commit: 2 } }

/** A directory that goes with the test. */
export async function makeNode(t: TestContext, content: LogContent = THREE): Promise<string> {
  const directory = temporaryDirectory(t)
  writeIdentity(directory, IDENTITY)
  const wal = Wal.open({
    disk: new RealDisk(directory),
    directory: 'group-1/log',
    identity: { clusterId: 'c1', groupId: 1, raftId: 2 },
    initialMembers: STORED,
    checksum: fastCrc32,
    onFatal: error => assert.fail(error),
  })
  await new Promise<void>(resolve => wal.append(content, resolve))
  await new Promise<void>(resolve => wal.close(resolve))
  tellEngine(directory)
  return directory
}

/** Sends messages to the engine of a directory; the last reply. */
export function tellEngine(directory: string, ...messages: WriterMessage[]): WriterReply {
  const writer = new SqliteWriter({ directory: engineOf(directory) })
  try {
    let reply = writer.handle({ type: 'open' })
    for (const message of messages) reply = writer.handle(message)
    return reply
  } finally {
    writer.close()
  }
}

export function engineOf(directory: string): string {
  return join(directory, 'group-1', 'engine')
}

export interface Deviation {
  readonly isPardoned?: boolean
  /** What an address says at the look of this number, from 1. */
  readonly ask?: (address: string, look: number) => OtherNode | undefined
  readonly disk?: Disk
  readonly files?: FileSystem
}

/** As the command does it, with time that passes at once. Gives what it printed too. */
export async function recoverHere(
  directory: string,
  { isPardoned = false, ask = () => undefined, ...files }: Deviation = {},
): Promise<OnlyVoter & { readonly printed: string }> {
  const printed: string[] = []
  let looks = 1
  const clock: Clock = {
    wallMs: () => 0,
    monotonicMs: () => 0,
    setTimer: (_delayMs, callback) => {
      looks += 1
      queueMicrotask(callback)
      return { cancel: () => {} }
    },
  }
  const voter = await recover({
    directory,
    isPardoned,
    random: new SystemRandom(),
    clock,
    ask: async address => ask(address, looks),
    print: line => printed.push(line),
    ...files,
  })
  return { ...voter, printed: printed.join('\n') }
}

export interface Seen {
  readonly historyId: string
  readonly isDecided: boolean
  readonly voters: readonly number[]
  readonly known: readonly string[]
  readonly lastIndex: number
}

/** What a directory says that the node is. */
export async function look(directory: string): Promise<Seen> {
  const identity = memberIn(directory)
  const end = await withLog({ directory }, identity, readLogEnd)
  return {
    historyId: identity.historyId,
    isDecided: identity.recovering !== undefined,
    voters: end.membership.voters,
    known: identity.known.members.map(({ nodeId }) => nodeId),
    lastIndex: end.lastIndex,
  }
}

/** The identity in a directory of a member. */
export function memberIn(directory: string): IdentityOf<'member'> {
  const identity: Identity | undefined = readIdentity(directory)
  assert(identity?.type === 'member')
  return identity
}

/** The file that says who the node is. */
export function identityText(directory: string): string {
  return readFileSync(join(directory, 'node.json'), 'utf8')
}

/** Copies a directory before everything that is done to it: what a crash there leaves. */
export class Moments {
  readonly copies: string[] = []
  readonly #directory: string
  readonly files: FileSystem
  readonly disk: Disk

  constructor(directory: string) {
    this.#directory = directory
    const keep = (): void => this.#keep()
    this.files = {
      ...systemFiles,
      open: (path, flags, mode) => (keep(), systemFiles.open(path, flags, mode)),
      write: (file, text) => (keep(), systemFiles.write(file, text)),
      sync: file => (keep(), systemFiles.sync(file)),
      rename: (from, to) => (keep(), systemFiles.rename(from, to)),
    }
    this.disk = new KeepingDisk(directory, keep)
  }

  #keep(): void {
    const copy = `${this.#directory}-${this.copies.length}`
    cpSync(this.#directory, copy, { recursive: true })
    this.copies.push(copy)
  }
}

class KeepingDisk extends RealDisk {
  readonly #keep: () => void

  constructor(root: string, keep: () => void) {
    super(root)
    this.#keep = keep
  }

  override open(path: string, options: { readonly create: boolean }): DiskFile {
    this.#keep()
    const file = super.open(path, options)
    const keep = this.#keep
    return {
      write: (offset, chunks, done) => (keep(), file.write(offset, chunks, done)),
      writeDurably: (offset, chunks, done) => (keep(), file.writeDurably(offset, chunks, done)),
      sync: done => (keep(), file.sync(done)),
      close: () => file.close(),
    }
  }

  override syncDirectory(directory: string, done: DiskCallback): void {
    this.#keep()
    super.syncDirectory(directory, done)
  }
}
