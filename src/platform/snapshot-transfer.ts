/**
 * Brings snapshots over HTTP, from the port that a member has anyway. One file after another is
 * read as fast as it can be written and no faster, so that nothing gathers in memory. A connection
 * that breaks is made anew, and what is there already is not asked for again.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { Agent, get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { DbError, ERRORS } from '../base/errors.ts'
import type { CarriedSnapshot, Logger, Random, SnapshotTransfer } from '../base/ports.ts'
import { parseAddress } from './address.ts'
import { checkAnswer, makeProof, type ProofFacts } from './peer-proof.ts'

export interface HttpSnapshotTransferOptions {
  /** The route that gives them. */
  readonly path: string
  readonly facts: ProofFacts
  /** Where a member is reached, undefined if it is none any more. */
  readonly addressOf: (raftId: number) => string | undefined
  readonly random: Random
  readonly logger: Logger
  /** As in the manifest. */
  readonly chunkSizeBytes: number
  readonly paces?: TransferPaces
}

export interface TransferPaces {
  /** A connection on which nothing comes for so long is given up. */
  readonly silenceMs: number
  /** Before a broken connection is made anew. */
  readonly retryMs: number
  /** So often in a row a connection may break or a chunk be wrong. */
  readonly failuresMax: number
}

const PACES: TransferPaces = { silenceMs: 15_000, retryMs: 200, failuresMax: 5 }
const MANIFEST_BYTES_MAX = 256 * 1024 * 1024
const ERROR_BYTES_MAX = 64 * 1024

type File = CarriedSnapshot['files'][number]

export class HttpSnapshotTransfer implements SnapshotTransfer {
  readonly #options: HttpSnapshotTransferOptions
  readonly #paces: TransferPaces
  /** The last challenge of each address. */
  readonly #challenges = new Map<string, string>()

  constructor(options: HttpSnapshotTransferOptions) {
    this.#options = options
    this.#paces = options.paces ?? PACES
  }

  ask(raftId: number, minIndex: number, done: (outcome: string | DbError) => void): void {
    const nonce = Buffer.from(this.#options.random.bytes(16)).toString('hex')
    const url = `${this.#options.path}?atLeast=${minIndex}&nonce=${nonce}`
    const controller = new AbortController()
    const askNow = async (): Promise<void> => {
      done(await orDbError(this.#manifest(raftId, url, controller.signal)))
    }
    void askNow()
  }

  fetch(
    raftId: number,
    snapshot: CarriedSnapshot,
    location: string,
    handler: Parameters<SnapshotTransfer['fetch']>[3],
  ): { cancel(): void } {
    const controller = new AbortController()
    const { signal } = controller
    let sizeBytes = 0
    const onBytes = (count: number): void => {
      sizeBytes += count
      if (!signal.aborted) handler.onProgress(sizeBytes)
    }
    const fetchAll = async (): Promise<undefined> => {
      for (const file of snapshot.files) {
        await this.#fetchFile(raftId, snapshot.id, file, join(location, file.name), signal, onBytes)
      }
    }
    const fetchNow = async (): Promise<void> => {
      const error = await orDbError(fetchAll())
      if (!signal.aborted) handler.onDone(error)
    }
    void fetchNow()
    return { cancel: () => controller.abort() }
  }

  async #manifest(raftId: number, url: string, signal: AbortSignal): Promise<string> {
    const response = await this.#get(raftId, url, signal)
    const body = await readText(response, MANIFEST_BYTES_MAX)
    checkAnswer(this.#options.facts, url, body, String(response.headers['lockstep-proof'] ?? ''))
    return body
  }

  async #fetchFile(
    raftId: number,
    id: string,
    file: File,
    path: string,
    signal: AbortSignal,
    onBytes: (count: number) => void,
  ): Promise<void> {
    const { logger, chunkSizeBytes } = this.#options
    const handle = await openAnyway(path)
    try {
      const { size } = await handle.stat()
      const isWhole = size === file.sizeBytes
      let offset = isWhole ? size : Math.floor(size / chunkSizeBytes) * chunkSizeBytes
      if (offset > file.sizeBytes) offset = 0
      await handle.truncate(offset)
      onBytes(offset)
      let failures = 0
      while (offset < file.sizeBytes) {
        const before = offset
        try {
          const url = `${this.#options.path}?id=${id}&file=${file.name}&offset=${offset}`
          const response = await this.#get(raftId, url, signal)
          await this.#receive(response, file, handle, offset, count => {
            offset += count
            onBytes(count)
          })
        } catch (error) {
          signal.throwIfAborted()
          // A sentence of the other side won't change, a full disk neither.
          if (error instanceof DbError && error.code !== 'CORRUPT') throw error
          if (isDiskError(error)) throw error
          failures = offset > before ? 1 : failures + 1
          if (failures >= this.#paces.failuresMax) throw error
          logger.debug({ error, file: file.name, offset }, 'a part of a snapshot comes again')
          await pause(this.#paces.retryMs, undefined, { signal })
        }
      }
    } finally {
      await handle.close()
    }
  }

  /** Writes what comes, chunk by chunk, each checked before. */
  async #receive(
    response: IncomingMessage,
    file: File,
    handle: FileHandle,
    from: number,
    onWritten: (count: number) => void,
  ): Promise<void> {
    const { chunkSizeBytes } = this.#options
    const chunk = Buffer.allocUnsafe(chunkSizeBytes)
    let offset = from
    let length = 0
    try {
      for await (const data of response as AsyncIterable<Buffer>) {
        for (let at = 0; at < data.length;) {
          const wanted = Math.min(chunkSizeBytes, file.sizeBytes - offset)
          if (wanted === 0) throw new DbError('CORRUPT', `${file.name} is longer than announced`)
          const count = data.copy(chunk, length, at, at + wanted - length)
          at += count
          length += count
          if (length < wanted) continue
          const number = offset / chunkSizeBytes
          if (crc32(chunk.subarray(0, length)) !== file.chunks[number]) {
            throw new DbError('CORRUPT', `chunk ${number} of ${file.name} came garbled`)
          }
          await handle.write(chunk, 0, length, offset)
          onWritten(length)
          offset += length
          length = 0
        }
      }
    } finally {
      response.destroy()
    }
    if (offset < file.sizeBytes) throw new Error(`the connection ended within ${file.name}`)
  }

  /** The answer, once it is one of success; the challenge is met on the way. */
  async #get(raftId: number, url: string, signal: AbortSignal): Promise<IncomingMessage> {
    const { addressOf, facts } = this.#options
    const address = addressOf(raftId)
    if (address === undefined) throw new DbError('UNKNOWN_NODE', `there is no member ${raftId}`)
    for (let round = 0; ; round++) {
      const challenge = this.#challenges.get(address)
      const proof = challenge === undefined ? '' : makeProof(facts, challenge, url)
      const response = await this.#request(address, url, proof, signal)
      if (response.statusCode === 200) return response
      const error = await readError(response)
      const next = error.details['challenge']
      if (error.code !== 'UNAUTHENTICATED' || typeof next !== 'string' || round > 0) throw error
      this.#challenges.set(address, next)
    }
  }

  #request(
    address: string,
    url: string,
    proof: string,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { host, port } = parseAddress(address)
    return new Promise((resolve, reject) => {
      const request = get(
        { host, port, path: url, headers: { 'lockstep-proof': proof }, signal, agent: AGENT },
        resolve,
      )
      request.on('error', reject)
      request.setTimeout(this.#paces.silenceMs, () => {
        request.destroy(new Error(`${address} was silent for ${this.#paces.silenceMs} ms`))
      })
    })
  }
}

/** A connection for each request: none is left over when a transfer is over. */
const AGENT = new Agent({ keepAlive: false })

/** For reading and writing, made if it isn't there, kept as it is if it is. */
async function openAnyway(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return open(path, 'w+', 0o600)
  }
}

async function readText(response: IncomingMessage, sizeBytesMax: number): Promise<string> {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length
    if (sizeBytes > sizeBytesMax) throw new DbError('TOO_LARGE', 'the answer is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** What the other side says in place of what was asked for. */
async function readError(response: IncomingMessage): Promise<DbError> {
  const text = await readText(response, ERROR_BYTES_MAX)
  try {
    const { error } = JSON.parse(text) as { error?: Partial<DbError> }
    const { code, message, details } = error ?? {}
    if (code !== undefined && Object.hasOwn(ERRORS, code)) {
      return new DbError(code, String(message), { details: details ?? {} })
    }
  } catch {
    // Not JSON: whoever it is, it is no node of ours.
  }
  return new DbError('SNAPSHOT_FAILED', `the answer has status ${response.statusCode}`)
}

function isDiskError(error: unknown): boolean {
  const { syscall } = error as NodeJS.ErrnoException
  return ['write', 'ftruncate', 'open', 'fstat', 'close'].includes(syscall ?? '')
}

/** What comes of it, or why nothing does. */
async function orDbError<Value>(promise: Promise<Value>): Promise<Value | DbError> {
  try {
    return await promise
  } catch (error) {
    return toDbError(error)
  }
}

function toDbError(error: unknown): DbError {
  if (error instanceof DbError) return error
  const { code, message } = error as NodeJS.ErrnoException
  const isFull = code === 'ENOSPC' || code === 'EDQUOT'
  return new DbError(isFull ? 'DISK_FULL' : 'SNAPSHOT_FAILED', message, { cause: error })
}
