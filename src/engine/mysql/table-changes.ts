/**
 * What schema changes of a node speak of, for those who read as of an earlier moment. A server
 * keeps old rows for them and no old definitions, and tells them of a table that was built anew,
 * but neither of columns that took each other's names or were dropped and added again, nor of
 * tables that changed places: their old rows come by the new definition, with no error.
 */
import { quoteName } from './render.ts'
import { nameOf, nextToken } from './tokens.ts'

/** Who reads on a connection, and is asked to let go of what a schema change waits for. */
export interface TableReader {
  /** Of its connection. */
  readonly id: number
  /** `whom`: everybody who reads in this database of the server, or who names what is changed. */
  giveWay(server: string, whom: 'who-names-it' | 'everybody'): void
}

/** What was changed since its beginning. */
export interface TableWatch {
  /** A table that was changed and that a text of ours names, as `database`.`table`. */
  changedIn(sql: string): string | undefined
  /** Whether a client's text, in a database of the server, names a table that was changed. */
  isNamed(server: string, sql: string): boolean
  /** Has it forgotten: whoever watches does this at last. */
  end(): void
}

export class TableChanges {
  readonly #watches = new Map<TableReader, Set<string>>()

  watch(reader: TableReader): TableWatch {
    const changed = new Set<string>()
    this.#watches.set(reader, changed)
    return {
      changedIn: sql => {
        if (changed.size === 0) return undefined
        const text = sql.toLowerCase()
        return [...changed].find(name => text.includes(name))
      },
      isNamed: (server, sql) => {
        if (changed.size === 0) return false
        for (const name of namesIn(server, sql)) if (changed.has(name)) return true
        return false
      },
      end: () => this.#watches.delete(reader),
    }
  }

  /** The connections of those who watch. */
  get readers(): readonly number[] {
    return [...this.#watches.keys()].map(({ id }) => id)
  }

  /** A schema change waits for a table. */
  askForWay(server: string, whom: Parameters<TableReader['giveWay']>[1]): void {
    for (const reader of this.#watches.keys()) reader.giveWay(server, whom)
  }

  /**
   * A schema change is about to run in a database of the server. Whatever it changes, it names;
   * that it names more costs those who read it no more than to begin anew.
   */
  note(server: string, sql: string): void {
    if (this.#watches.size === 0) return
    for (const name of namesIn(server, sql)) {
      for (const changed of this.#watches.values()) changed.add(name)
    }
  }
}

/** All that may be names of tables, in small letters: some servers know them by these only. */
function* namesIn(server: string, sql: string): Generator<string> {
  const database = quoteName(server).toLowerCase()
  for (let token = nextToken(sql); token !== undefined; token = nextToken(sql, token)) {
    if (token.type !== 'word' && token.type !== 'quoted') continue
    yield `${database}.${quoteName(nameOf(sql, token)).toLowerCase()}`
  }
}
