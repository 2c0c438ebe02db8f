/**
 * A backup as a snapshot that waits to be adopted: the node that starts with it finds that its log
 * begins later than its data, and takes what is staged, as it would after a crash.
 */
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodeManifest, SNAPSHOT_FORMAT } from '../snapshot.ts'
import { nodeFileSystem } from '../sqlite/file-system.ts'
import { describeFile } from '../sqlite/snapshot-files.ts'
import { initialStateSql } from './node-tables.ts'
import { quoteText } from './render.ts'
import { databaseFile, headerLine, SYSTEM_FILE } from './snapshot-files.ts'
import { COMPLETE, MANIFEST, RESTORED } from './staged-files.ts'

/** What is restored, and as of which entry. */
export interface RestoredBackup {
  readonly index: number
  readonly nowMs: number
  readonly databases: readonly { readonly name: string; readonly path: string }[]
  /** What was remembered of requests; undefined if nothing is to be. */
  readonly systemPath: string | undefined
}

/** What the snapshot is to say of itself. */
export interface RestoredManifest {
  readonly id: string
  readonly build: string
  /** The point of the log that it is of. */
  readonly context: string
}

/** Whoever starts with it becomes its owner. */
const NOBODY = { clusterId: '', nodeId: '', incarnation: '' }
const DATABASE_ROWS = 'INSERT INTO `db` '

/** Puts everything into the directory `staged`, which it makes, and makes it durable. */
export function stageBackup(
  staged: string,
  backup: RestoredBackup,
  manifest: RestoredManifest,
): void {
  const { index, nowMs, databases } = backup
  nodeFileSystem.makeDirectory(staged)
  const write = (name: string, text: string): void => {
    nodeFileSystem.write(join(staged, name), new TextEncoder().encode(text))
    nodeFileSystem.sync(join(staged, name))
  }
  write(SYSTEM_FILE, systemText(backup))
  const names = [SYSTEM_FILE]
  for (const [at, { path }] of databases.entries()) {
    const name = databaseFile(at + 1)
    copyFileSync(path, join(staged, name))
    nodeFileSystem.sync(join(staged, name))
    names.push(name)
  }
  const files = names.map(name => describeFile(join(staged, name), name))
  write(MANIFEST, encodeManifest({ format: SNAPSHOT_FORMAT, index, nowMs, files, ...manifest }))
  write(RESTORED, '')
  write(COMPLETE, `${manifest.id}\n`)
  nodeFileSystem.syncDirectory(staged)
}

/** The system's file: databases have other numbers than they had, or are fewer. */
function systemText({ index, nowMs, databases, systemPath }: RestoredBackup): string {
  const named = databases.map(({ name }, at) => ({ name, madeBy: at + 1 }))
  const rows = named.map(({ name, madeBy }) => `(${quoteText(name)}, ${madeBy})`)
  const kept =
    systemPath === undefined
      ? [`${initialStateSql(NOBODY)};`]
      : readFileSync(systemPath, 'utf8').split('\n').slice(1).filter(isKept)
  const added = rows.length === 0 ? [] : [`${DATABASE_ROWS}VALUES ${rows.join(', ')};`]
  // Nobody knows here what became of requests that are not remembered.
  added.push(
    `UPDATE state SET applied = ${index}, now_ms = ${nowMs}, ` +
      `request_floor = GREATEST(request_floor, ${index - 1}), ` +
      `request_key_floor = GREATEST(request_key_floor, ${index});`,
  )
  return [headerLine({ index, nowMs, databases: named }), ...kept, ...added, ''].join('\n')
}

function isKept(line: string): boolean {
  return line !== '' && !line.startsWith(DATABASE_ROWS)
}
