/**
 * Children of the engine are written down, so that those that outlive a killed main process are
 * found and ended at the next start, before anybody opens the files that they still write to.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { DbError } from '../../base/errors.ts'
import type { Clock } from '../../base/ports.ts'
import { identifyProcess } from './process-identity.ts'

interface ChildRecord {
  readonly pid: number
  readonly startedAt: string
  /** Stands on the child's command line. Random for each start of a main process. */
  readonly token: string
}

const FORMAT = 1
const POLL_MS = 5
/** A process that waits for its disk can't be killed before the disk has answered. */
const WAIT_MS_MAX = 30_000

/** The living children of one main process, in a file. */
export class ChildRegister {
  readonly token: string
  readonly #path: string
  readonly #children = new Map<number, ChildRecord>()

  /** `token` must be random and new; every child gets it as an argument. */
  constructor(path: string, token: string) {
    this.#path = path
    this.token = token
  }

  /**
   * Writes the child down. Call it before the first message is sent: a child that did not get a
   * message yet does nothing and ends when its pipe does, so that it need not be found. Throws what
   * the disk says, such as that it is full: then the child must end.
   */
  add(pid: number): void {
    const identity = identifyProcess(pid)
    if (identity === undefined) return
    this.#children.set(pid, { pid, startedAt: identity.startedAt, token: this.token })
    this.#save()
  }

  /** A full disk is no reason to fail: one that is gone is known as that by its start and token. */
  remove(pid: number): void {
    if (!this.#children.delete(pid)) return
    try {
      this.#save()
    } catch {
      // It stands in the file until the next change.
    }
  }

  /** No flush: the file need not survive the machine, because the processes don't either. */
  #save(): void {
    const draft = `${this.#path}.draft`
    writeFileSync(draft, JSON.stringify({ format: FORMAT, children: [...this.#children.values()] }))
    renameSync(draft, this.#path)
  }
}

/**
 * Ends the children that an earlier main process left behind and calls back when all are gone,
 * with their number. Throws or fails with WRONG_DATA if one can't be ended.
 */
export function endOrphans(
  path: string,
  clock: Clock,
  done: (error: DbError | undefined, count: number) => void,
): void {
  const orphans = readRecords(path).filter(isOurs)
  for (const orphan of orphans) kill(orphan.pid)
  const deadlineMs = clock.monotonicMs() + WAIT_MS_MAX
  const look = (): void => {
    const left = orphans.find(orphan => identifyProcess(orphan.pid)?.startedAt === orphan.startedAt)
    if (left === undefined) done(undefined, orphans.length)
    else if (clock.monotonicMs() < deadlineMs) clock.setTimer(POLL_MS, look)
    else done(stillThere(left.pid), orphans.length)
  }
  clock.setTimer(0, look)
}

function stillThere(pid: number): DbError {
  const message =
    `process ${pid}, left behind by an earlier run, still has the files of this node open ` +
    'and does not end; end it, or restart the machine, and start again'
  return new DbError('WRONG_DATA', message, { details: { pid } })
}

function isOurs(record: ChildRecord): boolean {
  const identity = identifyProcess(record.pid)
  if (identity?.startedAt !== record.startedAt) return false
  // A process that is ending loses its command line some time before it lets go of its files.
  return identity.commandLine === '' || identity.commandLine.includes(record.token)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // It ended since we looked.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** A file that is not there or half written (the machine lost power) names nobody who lives. */
function readRecords(path: string): readonly ChildRecord[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  try {
    const content = JSON.parse(text) as { children?: unknown }
    return Array.isArray(content.children) ? content.children.filter(isRecord) : []
  } catch {
    return []
  }
}

function isRecord(value: unknown): value is ChildRecord {
  if (typeof value !== 'object' || value === null) return false
  const { pid, startedAt, token } = value as Record<string, unknown>
  const isPid = typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 1
  return isPid && typeof startedAt === 'string' && typeof token === 'string' && token.length >= 16
}
