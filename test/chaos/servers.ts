/**
 * The MariaDB servers of a fault run, one under each node. What is done to one of them is done in
 * order: faults overlap, and a server that is being started must not be killed by half.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must } from '../../src/base/assert.ts'
import { MariaDbServer } from '../fixtures/mariadb-server.ts'
import { signalTo } from './signals.ts'

interface Placed {
  readonly server: MariaDbServer
  /** Ends when all is done that was asked so far. */
  done: Promise<void>
}

export class ChaosServers {
  readonly #directory: string
  /** Sockets have short paths. */
  readonly #sockets = mkdtempSync(join(tmpdir(), 'lockstep-sockets-'))
  readonly #placed = new Map<string, Placed>()
  #isStopping = false

  /** `directory`: where their logs are written. */
  constructor(directory: string) {
    this.#directory = directory
  }

  /** Makes an empty server for a node, in place of the one that it has, and starts it. */
  async place(nodeId: string): Promise<void> {
    await this.#placed.get(nodeId)?.server.stop()
    const server = await MariaDbServer.start([
      `socket=${this.#socketOf(nodeId)}`,
      `log-error=${join(this.#directory, `${nodeId}-server.log`)}`,
    ])
    if (this.#isStopping) await server.stop()
    this.#placed.set(nodeId, { server, done: Promise.resolve() })
  }

  /** Options of the node. By the socket its server is reached from every network. */
  optionsOf(nodeId: string): readonly string[] {
    return ['--engine', `mysql://root@localhost/?socket=${this.#socketOf(nodeId)}`]
  }

  pid(nodeId: string): number | undefined {
    return this.#placed.get(nodeId)?.server.pid
  }

  /** Ends the server of a node, unless it is down already. */
  kill(nodeId: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    return this.#then(nodeId, async server => {
      const { pid } = server
      const ended = server.kill(signal)
      // One that is paused hears of its end when it goes on.
      if (pid !== undefined) signalTo(pid, 'SIGCONT')
      await ended
    })
  }

  /** Starts it, unless it runs; resolves when it answers. */
  start(nodeId: string): Promise<void> {
    return this.#then(nodeId, server => server.restart())
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await Promise.all([...this.#placed.values()].map(({ server }) => server.stop()))
    rmSync(this.#sockets, { recursive: true, force: true })
  }

  #socketOf(nodeId: string): string {
    return join(this.#sockets, nodeId)
  }

  #then(nodeId: string, act: (server: MariaDbServer) => Promise<void>): Promise<void> {
    const placed = must(this.#placed.get(nodeId), `the server of ${nodeId}`)
    placed.done = placed.done.then(() => (this.#isStopping ? undefined : act(placed.server)))
    return placed.done
  }
}
