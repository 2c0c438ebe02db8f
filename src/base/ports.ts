/**
 * What the world can do for a replica. `platform/` makes these from the real clock, dice, disk and
 * sockets; `sim/` makes them from one seed. All calls back happen later, never inside the call.
 */

import type { DbError } from './errors.ts'

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Milliseconds since 1970, as the machine believes. May jump either way. */
  wallMs(): number
  /** Milliseconds that never go back, from an arbitrary origin. */
  monotonicMs(): number
  setTimer(delayMs: number, callback: () => void): Timer
}

export interface Random {
  /** A whole number from 0 to `bound` - 1, `bound` at most 2^32. */
  below(bound: number): number
  bytes(count: number): Uint8Array
}

/** Called once, later. An error is an expected fault of the disk (ENOSPC, EIO), with its `code`. */
export type DiskCallback = (error: DiskError | undefined) => void

/** The system's word for what went wrong, such as ENOSPC or EIO. */
export interface DiskError extends Error {
  readonly code?: string
}

/** An open file. Operations on one file take effect in the order of the calls. */
export interface DiskFile {
  /** Writes all chunks one after another from `offset` on. */
  write(offset: number, chunks: readonly Uint8Array[], done: DiskCallback): void
  /**
   * The same, and these bytes survive a power cut once `done` is called without error. That says
   * nothing of what was written before. If it fails, any part may have reached the disk.
   */
  writeDurably(offset: number, chunks: readonly Uint8Array[], done: DiskCallback): void
  /**
   * Everything written before the call survives a power cut once `done` is called without error.
   */
  sync(done: DiskCallback): void
  close(): void
}

/** One directory tree of a node. Paths are relative to its root and use `/`. */
export interface Disk {
  /** Names in `directory`, sorted; empty if it isn't there. Synchronous: used while starting. */
  list(directory: string): readonly string[]
  sizeBytes(path: string): number
  /** Up to `length` bytes from `offset`, fewer only at the end of the file. Synchronous. */
  read(path: string, offset: number, length: number): Uint8Array
  makeDirectory(path: string): void
  open(path: string, options: { readonly create: boolean }): DiskFile
  rename(from: string, to: string, done: DiskCallback): void
  remove(path: string, done: DiskCallback): void
  /** Names created, renamed and removed in `directory` before the call survive a power cut. */
  syncDirectory(directory: string, done: DiskCallback): void
}

/**
 * Frames between the members of a group. Each peer has two ordered lanes, so that a heartbeat never
 * waits behind megabytes of entries. Frames may be lost, and a lane that broke loses a suffix.
 */
export interface PeerTransport {
  /** The members have changed: those that are gone are spoken to no more, new ones are dialled. */
  setMembers(list: MemberList): void
  /** False if the frame was dropped at once: no connection, or the lane's queue is full. */
  send(to: number, lane: Lane, frame: Uint8Array): boolean
  listen(handler: PeerHandler): void
}

/** Whom a node speaks to. */
export interface MemberList {
  /** Index of the entry that made it, 0 for the founding. */
  readonly index: number
  readonly members: readonly PeerMember[]
  /** What the next member will get; lower ones that are not in the list were removed. */
  readonly nextRaftId: number
}

export interface PeerMember {
  readonly raftId: number
  readonly nodeId: string
  readonly address: string
  /** Random name of the disk that this member joined with. Another disk is another incarnation. */
  readonly incarnation: string
}

export type Lane = 'control' | 'data'

export interface PeerHandler {
  onFrame(from: number, lane: Lane, frame: Uint8Array): void
  /** A lane to `peer` was opened (again); `retries` attempts failed before. */
  onConnected(peer: number, lane: Lane, retries: number): void
  onDisconnected(peer: number, lane: Lane, reason: string): void
  /** The machine of `peer` answered that nobody listens at its address: no process is there. */
  onAbsent(peer: number): void
}

/** What is carried of a snapshot: its name, and files with a checksum for each part. */
export interface CarriedSnapshot {
  readonly id: string
  readonly files: readonly {
    readonly name: string
    readonly sizeBytes: number
    /** CRC-32 of each part of `chunkSizeBytes`, the last one shorter. */
    readonly chunks: readonly number[]
  }[]
}

/** Brings snapshots from other members. One at a time. */
export interface SnapshotTransfer {
  /**
   * Asks a member for a snapshot as of entry `minIndex` or later; `done` hears its manifest once.
   * NOT_READY: the member makes one, or will soon be able to.
   */
  ask(raftId: number, minIndex: number, done: (outcome: string | DbError) => void): void
  /**
   * Brings into the directory `location` what it lacks of the files; what an earlier attempt
   * brought stays. Each part is checked as it comes. `onDone` is called once, or never if it is
   * cancelled.
   */
  fetch(
    raftId: number,
    snapshot: CarriedSnapshot,
    location: string,
    handler: {
      /** Bytes that are there now, those of earlier attempts among them. */
      readonly onProgress: (sizeBytes: number) => void
      readonly onDone: (error: DbError | undefined) => void
    },
  ): { cancel(): void }
}

/** Structured logger output, never called "the log". */
export interface Logger {
  debug(facts: Readonly<Record<string, unknown>>, message: string): void
  info(facts: Readonly<Record<string, unknown>>, message: string): void
  warn(facts: Readonly<Record<string, unknown>>, message: string): void
  error(facts: Readonly<Record<string, unknown>>, message: string): void
}
