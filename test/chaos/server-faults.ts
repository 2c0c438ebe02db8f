/** MariaDB servers that die, stand still, are restarted, or lose the connections of their node. */
import { always, victimOf } from './fault.ts'
import type { FaultKind } from './fault.ts'
import { signalTo } from './signals.ts'

const killServer: FaultKind = {
  name: 'kill-server',
  weight: 4,
  engine: 'mariadb',
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const signal = random.chance(0.8) ? 'SIGKILL' : 'SIGTERM'
    await nodes.killServer(victim, signal)
    return {
      what: `${signal} the server of ${victim}`,
      hurts: [victim],
      undo: () => nodes.startServer(victim),
    }
  },
}

/** It is back before its node may have noticed. */
const restartServer: FaultKind = {
  name: 'restart-server',
  weight: 3,
  engine: 'mariadb',
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    await nodes.killServer(victim, 'SIGKILL')
    const started = nodes.startServer(victim)
    return {
      what: `SIGKILL and start of the server of ${victim}`,
      hurts: [victim],
      undo: () => started,
    }
  },
}

const killServers: FaultKind = {
  name: 'kill-all-servers',
  weight: 1,
  engine: 'mariadb',
  whyNot: always,
  async begin({ nodes }) {
    const victims = nodes.nodeIds
    await Promise.all(victims.map(nodeId => nodes.killServer(nodeId, 'SIGKILL')))
    return {
      what: 'SIGKILL the servers of all nodes',
      undo: async () => void (await Promise.all(victims.map(each => nodes.startServer(each)))),
    }
  },
}

/** A machine that loses power: its node and its server at once. */
const killMachine: FaultKind = {
  name: 'kill-machine',
  weight: 2,
  engine: 'mariadb',
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    await Promise.all([nodes.kill(victim), nodes.killServer(victim, 'SIGKILL')])
    const isNodeFirst = random.chance(0.5)
    return {
      what: `SIGKILL ${victim} and its server`,
      hurts: [victim],
      undo: async () => {
        // Whoever comes back first finds the other one missing.
        if (isNodeFirst) nodes.start(victim)
        await nodes.startServer(victim)
        nodes.start(victim)
      },
    }
  },
}

const pauseServer: FaultKind = {
  name: 'pause-server',
  weight: 3,
  engine: 'mariadb',
  whyNot: always,
  async begin({ nodes }, random) {
    const victim = await victimOf(nodes, random)
    const [pid] = nodes.enginePids(victim)
    if (pid === undefined) return undefined
    signalTo(pid, 'SIGSTOP')
    return {
      what: `SIGSTOP the server of ${victim}`,
      hurts: [victim],
      undo: async () => signalTo(pid, 'SIGCONT'),
    }
  },
}

/** Every kind of fault of a server under a node. */
export const SERVER_FAULTS: readonly FaultKind[] = [
  killServer,
  restartServer,
  killServers,
  killMachine,
  pauseServer,
]
