/** What a benchmark ran on, to stand beside its figures. */
import { cpus, release, totalmem } from 'node:os'

export type Machine = Readonly<Record<string, string | number>>

export function machine(): Machine {
  const all = cpus()
  return {
    cpus: all.length,
    model: all[0]?.model.trim() ?? 'unknown',
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    node: process.version,
    sqlite: process.versions['sqlite'] ?? 'unknown',
  }
}

/** In words, for a page. */
export function describeMachine(facts: Machine): string {
  return Object.entries(facts)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')
}
