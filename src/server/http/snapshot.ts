/** `GET /snapshot`: the manifest of a snapshot, or a part of a file of it, for another node. */
import { createReadStream } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { DbError } from '../../base/errors.ts'
import type { Service, SnapshotWish } from '../service.ts'
import type { Exchange } from './exchange.ts'

const READ_BYTES = 256 * 1024
const FIELDS = ['atLeast', 'nonce', 'id', 'file', 'offset']

/** Shares out what all snapshots of this node together may send in a second. */
export class SendRate {
  readonly #bytesPerSecond: number
  /** When what was let through so far has had its time. */
  #spentMs = 0

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Resolves when so many bytes more may go. */
  async take(sizeBytes: number): Promise<void> {
    const nowMs = performance.now()
    this.#spentMs = Math.max(nowMs, this.#spentMs) + (sizeBytes * 1000) / this.#bytesPerSecond
    const waitMs = this.#spentMs - nowMs
    // Timers are coarse: short waits are left to add up.
    if (waitMs > 10) await pause(waitMs)
  }
}

/** Answers one request. Throws `DbError` for one that can't be answered. */
export function snapshot(
  exchange: Exchange,
  service: Service,
  rate: SendRate,
  search: URLSearchParams,
): void {
  const { request } = exchange
  const answer = service.snapshot({
    isBackup: exchange.route === 'readBackup',
    url: request.url ?? '',
    proof: String(request.headers['lockstep-proof'] ?? ''),
    remoteAddress: request.socket.remoteAddress ?? '',
    wish: parseWish(search),
  })
  if (answer.type === 'manifest') {
    exchange.send(200, 'application/json', answer.text, ['lockstep-proof', answer.proof])
    return
  }
  const { path, sizeBytes, offset } = answer
  const file = createReadStream(path, { start: offset, highWaterMark: READ_BYTES })
  exchange.stream(Math.max(0, sizeBytes - offset), file, bytes => rate.take(bytes))
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
export function backup(exchange: Exchange, service: Service, minIndex: number): void {
  const identity = service.identity()
  if (identity === undefined) throw new DbError('NOT_READY', 'this node is starting')
  const { clusterId, historyId } = identity
  const wish = { type: 'manifest', minIndex } as const
  const answer = service.snapshot({ isBackup: true, url: '', proof: '', remoteAddress: '', wish })
  if (answer.type !== 'manifest') throw new DbError('INTERNAL', 'a manifest was asked for')
  exchange.sendJson(JSON.stringify({ manifest: answer.text, clusterId, historyId }))
}
