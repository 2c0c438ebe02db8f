/** What a backup's files are: those of SQLite, or texts of SQL of nodes that keep data in MySQL. */
import { DatabaseSync } from 'node:sqlite'
import { databaseFile, readHeader } from '../engine/mysql/snapshot-files.ts'
import { whyGarbled } from './backup-files.ts'

/** A database in a snapshot. */
export interface NamedFile {
  readonly name: string
  readonly file: string
}

export interface BackupKind {
  /** What names of its files end in. */
  readonly extension: 'sqlite' | 'sql'
  /** The file of a snapshot that names all databases. */
  readonly systemFile: string
  /** The name of that file in a backup, if it is a part of one: no database can have it. */
  readonly kept: 'lockstep.sql' | undefined
  readonly readDatabases: (systemPath: string) => readonly NamedFile[]
  /** What is wrong with a file of a database, beside other bytes than were sent. */
  readonly whyGarbled: (path: string) => string | undefined
}

const SQLITE: BackupKind = {
  extension: 'sqlite',
  systemFile: 'system.sqlite',
  kept: undefined,
  readDatabases,
  whyGarbled,
}

const MYSQL: BackupKind = {
  extension: 'sql',
  systemFile: 'system.sql',
  kept: 'lockstep.sql',
  readDatabases: path =>
    (readHeader(path).databases ?? []).map(({ name, madeBy }) => {
      return { name, file: databaseFile(madeBy) }
    }),
  whyGarbled: () => undefined,
}

/** The kind of a snapshot with these files. */
export function kindOf(files: readonly { readonly name: string }[]): BackupKind {
  return files.some(({ name }) => name === MYSQL.systemFile) ? MYSQL : SQLITE
}

function readDatabases(path: string): readonly NamedFile[] {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    const rows = database.prepare('SELECT name, made_by FROM lockstep_database ORDER BY name').all()
    return rows.map(row => ({
      name: String(row['name']),
      file: `db-${Number(row['made_by'])}.sqlite`,
    }))
  } finally {
    database.close()
  }
}
