/** Where programs of this machine are that are not ours. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where servers are installed; ordinary users don't have them in their PATH. */
const SERVER_FOLDERS = ['/usr/sbin', '/usr/local/sbin'] as const

/** The path of a program: from `folders`, PATH, or where servers are installed. */
export function findProgram(name: string, folders: readonly string[] = []): string | undefined {
  const path = (process.env['PATH'] ?? '').split(delimiter)
  const places = [...folders, ...path, ...SERVER_FOLDERS].filter(folder => folder !== '')
  return places.map(folder => join(folder, name)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
