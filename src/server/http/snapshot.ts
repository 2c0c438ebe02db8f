/** `GET /snapshot`: the manifest of a snapshot, or a part of a file of it, for another node. */
import { type FileHandle, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { DbError } from '../../base/errors.ts'
import type { SnapshotAnswer, SnapshotWish } from '../service.ts'
import type { HandlerContext } from './answers.ts'
import type { Exchange } from './exchange.ts'
import type { SendRate } from './send-rate.ts'

/** What is let through at once: whoever reads slowly must not take the line for dead. */
const PIECE_BYTES = 256 * 1024
const FIELDS = ['atLeast', 'nonce', 'id', 'file', 'offset']

/** Answers one request. Throws `DbError` for one that can't be answered. */
export function snapshot(
  exchange: Exchange,
  { service, snapshotRate, metrics }: HandlerContext,
  search: URLSearchParams,
): void {
  const { request } = exchange
  const isBackup = exchange.route === 'readBackup'
  const answer = service.snapshot({
    isBackup,
    url: request.url ?? '',
    proof: String(request.headers['lockstep-proof'] ?? ''),
    remoteAddress: request.socket.remoteAddress ?? '',
    wish: parseWish(search),
  })
  if (answer.type === 'manifest') {
    exchange.send(200, 'application/json', answer.text, ['lockstep-proof', answer.proof])
    return
  }
  const file = answer
  exchange.stream(Math.max(0, answer.sizeBytes - answer.offset), counted())

  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const piece of checkedPieces(file, snapshotRate)) {
      metrics.countSentBytes(isBackup, piece.length)
      yield piece
    }
  }
}

/** The file from its offset on, each chunk checked before any of it is sent. */
async function* checkedPieces(
  file: SnapshotAnswer & { readonly type: 'file' },
  rate: SendRate,
): AsyncGenerator<Uint8Array> {
  const { path, sizeBytes, offset, chunkSizeBytes, onDamaged } = file
  let handle: FileHandle | undefined
  try {
    const first = Math.floor(offset / chunkSizeBytes)
    for (let number = first; number * chunkSizeBytes < sizeBytes; number += 1) {
      let chunk: Uint8Array
      try {
        handle ??= await open(path)
        chunk = await readChunk(handle, file, number)
      } catch (error) {
        onDamaged(error instanceof Error ? error.message : String(error))
        throw error
      }
      for (let at = Math.max(0, offset - number * chunkSizeBytes); at < chunk.length;) {
        const piece = chunk.subarray(at, at + PIECE_BYTES)
        await rate.take(piece.length)
        yield piece
        at += piece.length
      }
    }
  } finally {
    await handle?.close()
  }
}

async function readChunk(
  handle: FileHandle,
  file: SnapshotAnswer & { readonly type: 'file' },
  number: number,
): Promise<Uint8Array> {
  const { path, sizeBytes, chunks, chunkSizeBytes } = file
  const start = number * chunkSizeBytes
  const chunk = Buffer.allocUnsafe(Math.min(chunkSizeBytes, sizeBytes - start))
  for (let length = 0; length < chunk.length;) {
    const { bytesRead } = await handle.read(chunk, length, chunk.length - length, start + length)
    if (bytesRead === 0) throw new DbError('CORRUPT', `${path} ends at byte ${start + length}`)
    length += bytesRead
  }
  if (crc32(chunk) === chunks[number]) return chunk
  throw new DbError('CORRUPT', `${path} has other bytes from ${start} on than were written`)
}

function parseWish(search: URLSearchParams): SnapshotWish {
  for (const name of search.keys()) {
    if (!FIELDS.includes(name)) throw invalid(`there is no field "${name.slice(0, 100)}"`)
  }
  const atLeast = search.get('atLeast')
  if (atLeast !== null) return { type: 'manifest', minIndex: toWhole(atLeast, 'atLeast') }
  const id = search.get('id')
  const file = search.get('file')
  if (id === null || file === null) throw invalid('say atLeast, or id and file')
  return { type: 'file', id, file, offset: toWhole(search.get('offset') ?? '0', 'offset') }
}

function toWhole(text: string, name: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw invalid(`${name} must be a whole number`)
}

function invalid(message: string): DbError {
  return new DbError('INVALID_REQUEST', message)
}

/** `POST /backup`: has a snapshot made for a client, who reads its files by `GET /backup`. */
export function backup(
  exchange: Exchange,
  { service, metrics }: HandlerContext,
  minIndex: number,
): void {
  const identity = service.identity()
  if (identity === undefined) throw new DbError('NOT_READY', 'this node is starting')
  const { clusterId, historyId } = identity
  const wish = { type: 'manifest', minIndex } as const
  const answer = service.snapshot({ isBackup: true, url: '', proof: '', remoteAddress: '', wish })
  if (answer.type !== 'manifest') throw new DbError('INTERNAL', 'a manifest was asked for')
  metrics.countBackup()
  exchange.sendJson(JSON.stringify({ manifest: answer.text, clusterId, historyId }))
}
