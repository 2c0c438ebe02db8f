/** Processes that die, stand still or are restarted. */
import { always, victimOf } from './fault.ts'
import type { FaultKind } from './fault.ts'
import { signalTo } from './signals.ts'

const RESTART_MS_MAX = 10_000

const kill: FaultKind = {
  name: 'kill',
  weight: 4,
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const signal = random.chance(0.8) ? 'SIGKILL' : 'SIGTERM'
    await nodes.kill(victim, signal)
    return {
      what: `${signal} ${victim}`,
      hurts: [victim],
      undo: async () => nodes.start(victim),
    }
  },
}

const killAll: FaultKind = {
  name: 'kill-all',
  weight: 1,
  whyNot: always,
  async begin({ nodes }) {
    await Promise.all(nodes.nodeIds.map(nodeId => nodes.kill(nodeId)))
    const start = (): void => nodes.nodeIds.forEach(nodeId => nodes.start(nodeId))
    return { what: 'SIGKILL all nodes', undo: async () => start() }
  },
}

const pauseNode: FaultKind = {
  name: 'pause',
  weight: 3,
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const pid = nodes.pid(victim)
    if (pid === undefined) return undefined
    // A stopped machine stops the processes that run SQL too; a long garbage collection does not.
    const pids = random.chance(0.5) ? [pid] : [pid, ...nodes.enginePids(victim)]
    for (const each of pids) signalTo(each, 'SIGSTOP')
    return {
      what: `SIGSTOP ${victim} (${pids.length} processes)`,
      hurts: [victim],
      undo: async () => pids.forEach(each => signalTo(each, 'SIGCONT')),
    }
  },
}

const killEngine: FaultKind = {
  name: 'kill-engine',
  weight: 3,
  engine: 'sqlite',
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const pids = nodes.enginePids(victim)
    if (pids.length === 0) return undefined
    const pid = random.pick(pids)
    const signal = random.chance(0.7) ? 'SIGKILL' : 'SIGSTOP'
    signalTo(pid, signal)
    return {
      what: `${signal} one of ${pids.length} SQL processes of ${victim}`,
      hurts: [victim],
      undo: async () => signalTo(pid, 'SIGCONT'),
    }
  },
}

const rollingRestart: FaultKind = {
  name: 'rolling-restart',
  weight: 1,
  whyNot: always,
  async begin({ nodes }, random) {
    const order = random.shuffle(nodes.nodeIds)
    const running = (async (): Promise<void> => {
      for (const nodeId of order) {
        if (!nodes.nodeIds.includes(nodeId)) continue
        await nodes.kill(nodeId, 'SIGTERM')
        nodes.start(nodeId)
        // As an operator would: the next one only when this one serves again, if it can at all.
        await nodes.isReady(nodeId, RESTART_MS_MAX)
      }
    })()
    return { what: `SIGTERM and start of ${order.join(', ')} in turn`, undo: () => running }
  },
}

/** Every kind of fault of a process. */
export const PROCESS_FAULTS: readonly FaultKind[] = [
  kill,
  killAll,
  pauseNode,
  killEngine,
  rollingRestart,
]
