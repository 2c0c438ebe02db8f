/** CPU and memory of a process and its children, from /proc (Linux only: elsewhere all is 0). */
import { readdirSync, readFileSync } from 'node:fs'

const TICKS_PER_SECOND = 100
const PAGE_SIZE_BYTES = 4096

export interface Usage {
  readonly cpuMicros: number
  readonly memoryBytes: number
}

interface Stat extends Usage {
  readonly pid: number
  readonly parent: number
}

/** Sums over the processes `roots` and all their descendants. */
export function usageOf(roots: readonly number[]): Usage {
  const all = readAll()
  const family = new Set(roots)
  // Children have been listed in any order: repeat until no new member is found.
  for (let size = -1; size !== family.size;) {
    size = family.size
    for (const { pid, parent } of all) if (family.has(parent)) family.add(pid)
  }
  let cpuMicros = 0
  let memoryBytes = 0
  for (const stat of all) {
    if (!family.has(stat.pid)) continue
    cpuMicros += stat.cpuMicros
    memoryBytes += stat.memoryBytes
  }
  return { cpuMicros, memoryBytes }
}

function readAll(): Stat[] {
  const stats: Stat[] = []
  let names: string[]
  try {
    names = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  } catch {
    // Not Linux.
    return []
  }
  for (const name of names) {
    let text: string
    try {
      text = readFileSync(`/proc/${name}/stat`, 'utf8')
    } catch {
      // It ended meanwhile.
      continue
    }
    // The second field is the command in parentheses and may hold anything.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const ticks = Number(fields[11]) + Number(fields[12])
    stats.push({
      pid: Number(name),
      parent: Number(fields[1]),
      cpuMicros: (ticks / TICKS_PER_SECOND) * 1e6,
      memoryBytes: Number(fields[21]) * PAGE_SIZE_BYTES,
    })
  }
  return stats
}
