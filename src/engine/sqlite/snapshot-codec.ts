/**
 * What the main process and a snapshot's process say to each other. Messages are few, so they are
 * JSON. One process does one task and ends.
 */
import type { RequestError } from '../engine.ts'
import type { DataDigest, SnapshotManifest } from '../snapshot.ts'

export type SnapshotMessage =
  /** Open all files for a snapshot of this name. Answered by `ready`. */
  | { readonly type: 'open'; readonly id: string }
  /** Read all files as of now. Answered by `begun`, `progress` now and then, and `made`. */
  | { readonly type: 'begin'; readonly index: number; readonly context: string }
  /** Open all files for a digest. Answered by `ready`; then `begin`, as for a snapshot. */
  | { readonly type: 'digest' }
  | { readonly type: 'stage'; readonly manifest: SnapshotManifest }
  | { readonly type: 'finish' }
  | { readonly type: 'look' }
  | { readonly type: 'adopt'; readonly id: string }
  | { readonly type: 'discard' }

export type SnapshotReply =
  | { readonly type: 'ready' }
  | { readonly type: 'begun' }
  | { readonly type: 'progress' }
  | { readonly type: 'made'; readonly manifest: SnapshotManifest; readonly location: string }
  | { readonly type: 'digested'; readonly digest: DataDigest }
  | { readonly type: 'staged'; readonly location: string }
  | { readonly type: 'finished'; readonly manifest: SnapshotManifest }
  | { readonly type: 'looked'; readonly manifest?: SnapshotManifest }
  | { readonly type: 'adopted' }
  | { readonly type: 'discarded' }
  | { readonly type: 'failed'; readonly error: RequestError }

/** Both ends are of one build: what comes in is what went out. */
export function encodeSnapshotMessage(message: SnapshotMessage | SnapshotReply): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(message))
}

export function decodeSnapshotMessage(body: Uint8Array): SnapshotMessage {
  return JSON.parse(new TextDecoder().decode(body)) as SnapshotMessage
}

export function decodeSnapshotReply(body: Uint8Array): SnapshotReply {
  return JSON.parse(new TextDecoder().decode(body)) as SnapshotReply
}
