/**
 * Request ids in one batch or entry: which of its requests are known already, by the books of the
 * files or by a neighbour in the batch, and what its entry adds to the books.
 */
import { unreachable } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import type { StatementResult } from '../base/sql.ts'
import type { RequestId, RequestResult, WriteRequest } from './engine.ts'
import type { StatementOutcome } from './entry.ts'
import { SESSION_WINDOW } from './limits.ts'
import { toRequestError } from './request-errors.ts'
import type { Found, RequestFate } from './request-records.ts'
import { hashBody, RecordsBuilder } from './request-records.ts'

const FRESH: Found = { type: 'fresh' }

/** A request that has an id. */
export type IdentifiedRequest = WriteRequest & { readonly id: RequestId }

/** A book of request ids, wherever it is kept. */
export interface RequestBook {
  find(id: RequestId): Found
}

/** The book of the catalogue, and what else it knows of databases that are no more. */
export interface CatalogueBook {
  readonly requests: RequestBook
  /** The entry that last dropped a database of this name, or a later one; 0 if there was none. */
  droppedAt(name: string): number
}

/** What has a book of its own: the file of a database. */
export interface BookOwner {
  readonly requests: RequestBook
}

/** Whether a request has an id. */
export function hasId(request: WriteRequest): request is IdentifiedRequest {
  return request.id !== undefined
}

/** A request once for each id that it is known by. */
export function identitiesOf(request: WriteRequest): readonly IdentifiedRequest[] {
  const ownId = request.type === 'transaction' ? request.ownId : undefined
  const ids = [request.id, ownId].filter(id => id !== undefined)
  return ids.map(id => ({ ...request, id }))
}

export class RequestIds {
  readonly #catalogue: CatalogueBook
  readonly #records = new Map<RequestBook, RecordsBuilder>()
  /** Highest sequence of each session in this batch, by its name. */
  readonly #lastSequences = new Map<number, number>()
  /** All keys in this batch with their databases, and the book that each went to. */
  readonly #keys = new Map<string, RequestBook>()

  constructor(catalogue: CatalogueBook) {
    this.#catalogue = catalogue
  }

  /** What the batch adds to a book, undefined if nothing. */
  recordsOf(book: RequestBook): RecordsBuilder | undefined {
    return this.#records.get(book)
  }

  /**
   * The answer of the leader to a request that is not to be executed: it was before, or never may
   * be. Undefined if it is new. `file`: of its database, if there is one. `commitIndex`: the last
   * entry known to be committed.
   */
  answer(
    request: IdentifiedRequest,
    bytes: Uint8Array,
    file: BookOwner | undefined,
    commitIndex: number,
  ): RequestResult | undefined {
    const { id } = request
    const birth = birthOf(id)
    if (birth > commitIndex) {
      const message = `no ${id.type} was born at entry ${birth}: it is to come yet`
      return failed('INVALID_REQUEST', message)
    }
    const found = this.#find(request, file)
    switch (found.type) {
      case 'fresh':
        return undefined
      case 'cancelled':
        return cancelled()
      case 'expired':
        return failed('REQUEST_EXPIRED', whyExpired(id))
      case 'applied': {
        if (request.type !== 'cancel') {
          const { low, high } = hashBody(bytes)
          if (low !== found.hash.low || high !== found.hash.high) {
            return failed('REQUEST_ID_REUSED', REUSED)
          }
        }
        return { ...found.result, isRepeat: true }
      }
      default:
        return unreachable(found)
    }
  }

  /** Whether a follower has never heard of an id, as the leader hadn't. */
  isNew(request: IdentifiedRequest, book: RequestBook): boolean {
    if (this.#inBatch(request) !== undefined) return false
    return book.find(this.#idIn(book, request)).type === 'fresh'
  }

  /** A request took effect and will be in the entry. */
  noteApplied(
    request: IdentifiedRequest,
    bytes: Uint8Array,
    book: RequestBook,
    results: readonly StatementResult[],
    outcomes: readonly StatementOutcome[],
  ): void {
    const records = this.#recordsFor(book)
    records.addApplied(this.#idIn(book, request), bytes, results, outcomes)
    this.#note(request, book)
  }

  /** A request will never take effect, and that will be in the entry. */
  noteCancelled(request: IdentifiedRequest): RequestResult {
    const book = this.#catalogue.requests
    const records = this.#recordsFor(book)
    records.addCancelled(this.#scoped(request))
    this.#note(request, book)
    return cancelled()
  }

  #recordsFor(book: RequestBook): RecordsBuilder {
    let records = this.#records.get(book)
    if (records === undefined) {
      records = new RecordsBuilder()
      this.#records.set(book, records)
    }
    return records
  }

  #note({ id, database }: IdentifiedRequest, book: RequestBook): void {
    if (id.type === 'key') {
      this.#keys.set(scopedKey(database, id.key), book)
      return
    }
    const { session, sequence } = id
    const last = this.#lastSequences.get(session.name) ?? 0
    if (sequence > last) this.#lastSequences.set(session.name, sequence)
  }

  #find(request: IdentifiedRequest, file: BookOwner | undefined): Found {
    const { id } = request
    const fate = this.#inBatch(request)
    if (fate !== undefined) return fate
    const found = this.#inBooks(request, file)
    if (found.type !== 'fresh' || id.type === 'key') return found
    const last = this.#lastSequences.get(id.session.name) ?? 0
    return id.sequence > last - SESSION_WINDOW ? found : { type: 'expired' }
  }

  /** What a neighbour with the same id has come to. */
  #inBatch(request: IdentifiedRequest): RequestFate | undefined {
    const { id, database } = request
    if (id.type === 'key') {
      // The same key in another database is another one.
      const book = this.#keys.get(scopedKey(database, id.key))
      return book && this.#records.get(book)?.find(this.#idIn(book, request))
    }
    // Requests of a session come in their order, nearly always.
    const last = this.#lastSequences.get(id.session.name)
    if (last === undefined || id.sequence > last) return undefined
    for (const records of this.#records.values()) {
      const fate = records.find(id)
      if (fate !== undefined) return fate
    }
    return undefined
  }

  /**
   * Effects of statements are in the book of their file. Databases made and dropped are in that of
   * the catalogue, and so is what was cancelled: it may have been anything.
   */
  #inBooks(request: IdentifiedRequest, file: BookOwner | undefined): Found {
    const here = file === undefined ? this.#withoutFile(request) : file.requests.find(request.id)
    if (here.type === 'applied') return here
    const there = this.#catalogue.requests.find(this.#scoped(request))
    return there.type === 'fresh' ? here : there
  }

  /** With a database goes its book: who was born before may have written to it. */
  #withoutFile({ id, type, database }: IdentifiedRequest): Found {
    if (type === 'create-database' || type === 'drop-database') return FRESH
    const isOlder = birthOf(id) < this.#catalogue.droppedAt(database)
    return isOlder ? { type: 'expired' } : FRESH
  }

  #idIn(book: RequestBook, request: IdentifiedRequest): RequestId {
    return book === this.#catalogue.requests ? this.#scoped(request) : request.id
  }

  /** An id as the catalogue has it, which keeps the keys of all databases. */
  #scoped({ id, database }: IdentifiedRequest): RequestId {
    return id.type === 'session' ? id : { ...id, key: scopedKey(database, id.key) }
  }
}

function scopedKey(database: string, key: string): string {
  return `${database}/${key}`
}

/** The entry after which a request was first sent, as far as its id tells. */
function birthOf(id: RequestId): number {
  return id.type === 'session' ? id.session.birth : (id.birth ?? 0)
}

const REUSED =
  'this request id came before with another body; nothing was executed now: give each write an ' +
  'id of its own'
const CANCELLED =
  'the request was not applied and never will be, because it was cancelled under this id; to ' +
  'write it all the same, give it a new one'

function whyExpired(id: RequestId): string {
  const since =
    id.type === 'key' && id.birth === undefined
      ? ', and it does not say since when it has been sent'
      : ''
  return (
    `the request id is not known and may be older than those remembered${since}: nothing was ` +
    'executed now, but it may have been before; look before you write again'
  )
}

function cancelled(): RequestResult {
  return failed('REQUEST_CANCELLED', CANCELLED)
}

function failed(code: DbError['code'], message: string): RequestResult {
  return { type: 'failed', error: toRequestError(new DbError(code, message)) }
}
