/**
 * Who a process is, beyond its number: numbers are used again, so a process that must not be
 * mistaken for another is known by its start time and by a token on its command line too.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export interface ProcessIdentity {
  /** When it started, in the system's own words: equal for one process as long as it lives. */
  readonly startedAt: string
  /** Empty while it is ending. */
  readonly commandLine: string
}

/**
 * The process `pid` as of now, or undefined if it has ended. One that has ended but was not yet
 * collected by its parent counts as ended: it holds no file any more.
 */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  return process.platform === 'linux' ? identifyByProc(pid) : identifyByPs(pid)
}

function identifyByProc(pid: number): ProcessIdentity | undefined {
  const stat = readOrUndefined(`/proc/${pid}/stat`)
  const commandLine = readOrUndefined(`/proc/${pid}/cmdline`)
  if (stat === undefined || commandLine === undefined) return undefined
  // The second field is the program's name in parentheses and may itself hold spaces and
  // parentheses; the third follows the last one. State is field 3, threads 20, start time 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state = '', threads = '', startedAt = ''] = [fields[0], fields[17], fields[19]]
  // The first thread is a zombie as soon as it has ended, while others may still hold the files.
  const hasEnded = (state === 'Z' || state === 'X') && Number(threads) <= 1
  return hasEnded ? undefined : { startedAt, commandLine: commandLine.replaceAll('\0', ' ') }
}

/** Every Unix has `ps`; it is slower and knows the start time to the second only. */
export function identifyByPs(pid: number): ProcessIdentity | undefined {
  let line: string
  try {
    line = execFileSync('ps', ['-ww', '-o', 'stat=,lstart=,command=', '-p', String(pid)], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch (error) {
    // It exits with 1 if there is no such process. That it can't be run at all is another matter.
    if ((error as { status?: number | null }).status === 1) return undefined
    throw error
  }
  // Such as `Ss   Tue Nov  4 09:15:27 2025 /usr/bin/node child.ts`.
  const match = /^(\S+)\s+(\S+\s+\S+\s+\d+\s+[\d:]+\s+\d+)\s+(.*)$/s.exec(line)
  const [, state = '', startedAt = '', commandLine = ''] = match ?? []
  if (match === null || state.startsWith('Z')) return undefined
  // In parentheses stands the name of a process that is ending and has lost its command line.
  const isEnding = commandLine.startsWith('(')
  return { startedAt: startedAt.replaceAll(/\s+/g, ' '), commandLine: isEnding ? '' : commandLine }
}

function readOrUndefined(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}
