/**
 * What request ids promise, said as plainly as possible: lists that are searched from end to end.
 * Only for databases whose requests append a tag to a table, so that every effect can be counted.
 */
import type { RequestId, RequestResult, WriteRequest } from '../../../src/engine/engine.ts'
import type { RequestLimits } from '../../../src/engine/limits.ts'

const WINDOW = 64

/** What a request asks for: to append its tag, to fail, or something of the whole database. */
export type Body = 'append' | 'fail' | 'create' | 'drop' | 'cancel'

export interface Asked {
  readonly database: string
  readonly body: Body
  /** What is appended, and how requests with the same id differ. */
  readonly tag: string
  readonly id: RequestId | undefined
}

export type Expected =
  | { readonly type: 'ok'; readonly isRepeat: boolean; readonly rowCount: number | undefined }
  | { readonly type: 'failed'; readonly code: string | undefined }

type Fate =
  | { readonly type: 'cancelled' }
  | ({ readonly type: 'applied'; readonly asked: Asked } & {
      readonly rowCount: number | undefined
    })

interface SessionModel {
  readonly name: number
  readonly birth: number
  readonly fates: Map<number, Fate>
}

interface Noted {
  readonly book: BookModel
  readonly asked: Asked
  readonly fate: Fate
}

class BookModel {
  floor: number
  /** In the order of their last use. */
  sessions: SessionModel[] = []
  keys: { readonly key: string; readonly fate: Fate; readonly index: number }[] = []
  keyFloor: number

  /** Of a book that begins after entry `begin`. */
  constructor(begin: number) {
    this.floor = begin - 1
    this.keyFloor = begin
  }

  find(id: RequestId): Fate | 'fresh' | 'expired' {
    if (id.type === 'key') {
      const known = this.keys.find(({ key }) => key === id.key)
      return known?.fate ?? (birthOf(id) < this.keyFloor ? 'expired' : 'fresh')
    }
    const { birth, name } = id.session
    const session = this.sessions.find(each => each.name === name)
    if (session === undefined) return birth > this.floor ? 'fresh' : 'expired'
    if (session.birth !== birth) return 'expired'
    if (id.sequence <= Math.max(...session.fates.keys()) - WINDOW) return 'expired'
    return session.fates.get(id.sequence) ?? 'fresh'
  }

  note(id: RequestId, fate: Fate, index: number): void {
    if (id.type === 'key') {
      this.keys.push({ key: id.key, fate, index })
      return
    }
    const { birth, name } = id.session
    const known = this.sessions.find(each => each.name === name)
    const session = known ?? { name, birth, fates: new Map() }
    session.fates.set(id.sequence, fate)
    this.sessions = [...this.sessions.filter(each => each !== known), session]
  }

  forget({ sessionsMax, keysMax }: RequestLimits): void {
    for (const { index } of this.keys.slice(0, -keysMax)) {
      this.keyFloor = Math.max(this.keyFloor, index)
    }
    this.keys = this.keys.slice(-keysMax)
    while (this.sessions.length > sessionsMax) {
      this.floor = Math.max(this.floor, this.sessions.shift()?.birth ?? 0)
    }
  }
}

interface DatabaseModel {
  readonly book: BookModel
  readonly tags: string[]
}

export class IdsModel {
  readonly #limits: RequestLimits
  readonly #catalogue = new BookModel(0)
  readonly databases = new Map<string, DatabaseModel>()
  /** Everything that was ever appended, also to databases that are gone. */
  readonly appended: { readonly database: string; readonly tag: string; readonly id?: string }[] =
    []
  #drops: { readonly name: string; readonly index: number }[] = []
  #dropFloor = 0
  /** Of the batch that is open. */
  #noted: Noted[] = []
  #done: (() => void)[] = []
  readonly #pendingTags = new Map<string, string[]>()

  constructor(limits: RequestLimits) {
    this.#limits = limits
  }

  /** What a request is to be answered, after those before it in its batch. */
  ask(asked: Asked, index: number): Expected {
    const known = asked.id === undefined ? undefined : this.#known(asked, asked.id, index)
    return known ?? this.#run(asked, index)
  }

  /** The batch is entry `index`, or nothing of it stays. */
  end(isCommitted: boolean, index: number): void {
    if (isCommitted) {
      for (const { book, asked, fate } of this.#noted) {
        if (asked.id !== undefined) book.note(this.#idIn(book, asked, asked.id), fate, index)
      }
      for (const book of new Set(this.#noted.map(noted => noted.book))) book.forget(this.#limits)
      for (const act of this.#done) act()
    }
    this.#noted = []
    this.#done = []
    this.#pendingTags.clear()
  }

  #known(asked: Asked, id: RequestId, index: number): Expected | undefined {
    if (birthOf(id) > index) return failed('INVALID_REQUEST')
    const found = this.#find(asked, id)
    if (found === 'fresh') return undefined
    if (found === 'expired') return failed('REQUEST_EXPIRED')
    if (found.type === 'cancelled') return failed('REQUEST_CANCELLED')
    const first = found.asked
    // A database is made or dropped without a word more.
    const hasTag = asked.body === 'append' || asked.body === 'fail'
    const isSame = first.body === asked.body && (!hasTag || first.tag === asked.tag)
    if (asked.body !== 'cancel' && !(isSame && first.database === asked.database)) {
      return failed('REQUEST_ID_REUSED')
    }
    return { type: 'ok', isRepeat: true, rowCount: found.rowCount }
  }

  #find(asked: Asked, id: RequestId): Fate | 'fresh' | 'expired' {
    const neighbour = this.#noted.find(each => isSameId(each.asked, { ...asked, id }))
    if (neighbour !== undefined) return neighbour.fate
    const here = this.databases.get(asked.database)?.book.find(id) ?? this.#afterDrop(asked, id)
    if (typeof here === 'object') return here
    const there = this.#catalogue.find(this.#idIn(this.#catalogue, asked, id))
    if (there !== 'fresh') return there
    if (here === 'expired' || id.type === 'key') return here
    const last = Math.max(
      0,
      ...this.#noted.flatMap(({ asked: { id: other } }) =>
        other?.type === 'session' && other.session.name === id.session.name ? [other.sequence] : [],
      ),
    )
    return id.sequence <= last - WINDOW ? 'expired' : 'fresh'
  }

  #afterDrop({ database, body }: Asked, id: RequestId): 'fresh' | 'expired' {
    if (body === 'create' || body === 'drop') return 'fresh'
    return birthOf(id) < this.#droppedAt(database) ? 'expired' : 'fresh'
  }

  #droppedAt(database: string): number {
    return this.#drops.find(({ name }) => name === database)?.index ?? this.#dropFloor
  }

  #run(asked: Asked, index: number): Expected {
    const { database: name, body, tag } = asked
    const database = this.databases.get(name)
    switch (body) {
      case 'cancel':
        this.#noted.push({ book: this.#catalogue, asked, fate: { type: 'cancelled' } })
        return failed('REQUEST_CANCELLED')
      case 'create':
        if (database !== undefined) return failed('DATABASE_EXISTS')
        this.#done.push(() => {
          const book = new BookModel(this.#droppedAt(name))
          this.databases.set(name, { book, tags: [] })
        })
        return this.#applied(this.#catalogue, asked, undefined)
      case 'drop':
        if (database === undefined) return failed('UNKNOWN_DATABASE')
        this.#done.push(() => this.#drop(name, index + 1))
        return this.#applied(this.#catalogue, asked, undefined)
      default: {
        if (database === undefined) return failed('UNKNOWN_DATABASE')
        if (body === 'fail') return failed(undefined)
        const pending = this.#pendingTags.get(name) ?? []
        pending.push(tag)
        this.#pendingTags.set(name, pending)
        this.#done.push(() => {
          database.tags.push(tag)
          this.appended.push({ database: name, tag, ...(asked.id && { id: textOf(asked) }) })
        })
        return this.#applied(database.book, asked, database.tags.length + pending.length)
      }
    }
  }

  #drop(name: string, index: number): void {
    this.databases.delete(name)
    this.#drops = [...this.#drops.filter(each => each.name !== name), { name, index }]
    while (this.#drops.length > this.#limits.droppedNamesMax) {
      this.#dropFloor = this.#drops.shift()?.index ?? 0
    }
  }

  #applied(book: BookModel, asked: Asked, rowCount: number | undefined): Expected {
    if (asked.id !== undefined) {
      this.#noted.push({ book, asked, fate: { type: 'applied', asked, rowCount } })
    }
    return { type: 'ok', isRepeat: false, rowCount }
  }

  #idIn(book: BookModel, { database }: Asked, id: RequestId): RequestId {
    if (id.type === 'session' || book !== this.#catalogue) return id
    return { ...id, key: `${database}/${id.key}` }
  }
}

/** The request as the engine gets it. */
export function requestOf({ database, body, tag, id }: Asked): WriteRequest {
  const known = id === undefined ? {} : { id }
  const statements = [
    { sql: 'CREATE TABLE IF NOT EXISTS t (tag TEXT)', params: [] },
    { sql: 'INSERT INTO t VALUES (?) RETURNING (SELECT count(*) FROM t)', params: [tag] },
  ]
  switch (body) {
    case 'cancel':
      return { type: 'cancel', database, id: id ?? { type: 'key', key: tag } }
    case 'create':
      return { type: 'create-database', database, ...known }
    case 'drop':
      return { type: 'drop-database', database, ...known }
    case 'append':
      return { type: 'statements', database, statements, ...known }
    default: {
      const wrong = { sql: 'INSERT INTO nowhere VALUES (1)', params: [] }
      return { type: 'statements', database, statements: [...statements, wrong], ...known }
    }
  }
}

/** What the engine answered, as the model says it. */
export function answerOf(result: RequestResult): Expected {
  if (result.type === 'failed') return failed(result.error.code)
  const count = result.results[1]?.rows?.[0]?.[0]
  const rowCount = count === undefined ? undefined : Number(count)
  return { type: 'ok', isRepeat: result.isRepeat === true, rowCount }
}

function failed(code: string | undefined): Expected {
  return { type: 'failed', code }
}

/** An entry before which it was surely not sent. */
function birthOf(id: RequestId): number {
  return id.type === 'session' ? id.session.birth : (id.birth ?? 0)
}

function isSameId(left: Asked, right: Asked): boolean {
  return left.id !== undefined && right.id !== undefined && textOf(left) === textOf(right)
}

/** A key belongs to its database, a session's number to everything. */
function textOf({ database, id }: Asked): string {
  return id?.type === 'key' ? `${database}/${id.key}` : JSON.stringify(id)
}
