/** What processes and their children have used, from /proc (Linux only: elsewhere all is 0). */
import { readdirSync, readFileSync, statSync } from 'node:fs'

const TICKS_PER_SECOND = 100
const PAGE_SIZE_BYTES = 4096
const SECTOR_SIZE_BYTES = 512

export interface Usage {
  readonly cpuMicros: number
  readonly memoryBytes: number
  /** What the kernel was given to store. It counts whole large pages, however little is in them. */
  readonly writtenBytes: number
}

export interface Stat {
  readonly pid: number
  readonly parent: number
  /** Of this process and of those of its children that have ended. */
  readonly cpuMicros: number
  readonly memoryBytes: number
}

/** Sums over the processes `roots` and all their descendants. */
export function usageOf(roots: readonly number[]): Usage {
  return sum(familyOf(roots))
}

/** The processes `roots` and all their descendants, as far as they run. */
export function familyOf(roots: readonly number[]): number[] {
  const all = readAll()
  const family = new Set(roots)
  // Children have been listed in any order: repeat until no new member is found.
  for (let size = -1; size !== family.size;) {
    size = family.size
    for (const { pid, parent } of all) if (family.has(parent)) family.add(pid)
  }
  return all.map(({ pid }) => pid).filter(pid => family.has(pid))
}

/** Sums over just these processes; cheaper than looking for their children each time. */
export function sum(pids: readonly number[]): Usage {
  let [cpuMicros, memoryBytes, writtenBytes] = [0, 0, 0]
  for (const pid of pids) {
    const stat = readStat(pid)
    if (stat === undefined) continue
    cpuMicros += stat.cpuMicros
    memoryBytes += stat.memoryBytes
    writtenBytes += parseWrittenBytes(read(`/proc/${pid}/io`) ?? '')
  }
  return { cpuMicros, memoryBytes, writtenBytes }
}

/** One line of /proc/PID/stat. */
export function parseStat(text: string): Stat {
  // The second field is the command in parentheses and may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const ticks = [11, 12, 13, 14].reduce((total, at) => total + Number(fields[at]), 0)
  return {
    pid: Number.parseInt(text, 10),
    parent: Number(fields[1]),
    cpuMicros: (ticks / TICKS_PER_SECOND) * 1e6,
    memoryBytes: Number(fields[21]) * PAGE_SIZE_BYTES,
  }
}

/** `write_bytes` of /proc/PID/io; 0 if it isn't there, as in a file that may not be read. */
export function parseWrittenBytes(text: string): number {
  return Number(/^write_bytes: (\d+)$/m.exec(text)?.[1] ?? 0)
}

/**
 * What all programs of this machine have written to the device on which a path is, by its own
 * counter; undefined where it has none.
 */
export function deviceWrittenBytes(path: string): number | undefined {
  const { dev } = statSync(path)
  const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)]
  const text = read(`/sys/dev/block/${major}:${minor}/stat`)
  return text === undefined ? undefined : parseDeviceWrittenBytes(text)
}

/** The seventh number of a device's statistics is what was written, in sectors. */
export function parseDeviceWrittenBytes(text: string): number {
  return Number(text.trim().split(/\s+/)[6]) * SECTOR_SIZE_BYTES
}

function readAll(): Stat[] {
  let names: string[]
  try {
    names = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  } catch {
    // Not Linux.
    return []
  }
  return names.map(name => readStat(Number(name))).filter(stat => stat !== undefined)
}

/** Undefined once it has ended. */
function readStat(pid: number): Stat | undefined {
  const text = read(`/proc/${pid}/stat`)
  return text === undefined ? undefined : parseStat(text)
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // It ended meanwhile, or belongs to somebody else.
    return undefined
  }
}
