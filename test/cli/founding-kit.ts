/** Nodes that found a cluster: real directories, and real HTTP where a test wants it. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Clock, Timer } from '../../src/base/ports.ts'
import { Founding, type FoundingOptions, type JoinResult } from '../../src/cli/founding.ts'
import { initCluster, prepareNode } from '../../src/cli/init.ts'
import { type IdentityOf, randomName } from '../../src/cli/identity.ts'
import {
  type JoinAnswer,
  type JoinRequest,
  openJoinAnswer,
  sealJoinRequest,
} from '../../src/cli/join-messages.ts'
import { SystemClock } from '../../src/platform/clock.ts'
import type { FileSystem } from '../../src/platform/durable-file.ts'
import { SystemRandom } from '../../src/platform/random.ts'
import { memoryLogger } from '../platform/peer-kit.ts'

const SECRET = 'the-secret-of-the-founding-tests'
const BUILD = 'sqlite 3.50'
export const random = new SystemRandom()

/** A directory that goes with the test. */
export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-founding-'))
  t.after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }))
  return directory
}

/** Time that a test moves by hand. Its timers never fire. */
export class ManualClock implements Clock {
  nowMs = 1_000_000

  wallMs(): number {
    return this.nowMs
  }

  monotonicMs(): number {
    return this.nowMs
  }

  setTimer(): Timer {
    return { cancel: () => {} }
  }
}

export interface NodeOptions {
  readonly nodeId: string
  readonly address?: string
  readonly join?: readonly string[]
  readonly secret?: string
  readonly build?: string
  readonly clock?: Clock
  readonly files?: FileSystem
}

/** A founding over what is in the directory, as a starting process makes it. */
export function openFounding(directory: string, options: NodeOptions): Founding {
  const { nodeId, address = '127.0.0.1:7001', join = ['127.0.0.1:1'], files } = options
  const secret = options.secret ?? SECRET
  const withFiles = files === undefined ? {} : { files }
  const own = { directory, nodeId, address, join, random, ...withFiles }
  const prepared = prepareNode({ ...own, secret })
  const founding: FoundingOptions = {
    ...own,
    ...prepared,
    build: options.build ?? BUILD,
    clock: options.clock ?? new SystemClock(),
    logger: memoryLogger().logger,
    paces: { pollMs: 5, presenceMs: 5000, requestTimeoutMs: 2000 },
  }
  return new Founding(founding)
}

/** A founder of `voters`, in a directory that `init` made just now, started. */
export function openFounder(
  t: TestContext,
  voters: number,
  options: Partial<NodeOptions> = {},
): { readonly directory: string; readonly founder: Founding } {
  const directory = join(temporaryDirectory(t), 'n1')
  initCluster({ directory, nodeId: 'n1', voters, secret: SECRET, random })
  const founder = openFounding(directory, { nodeId: 'n1', ...options })
  founder.start()
  return { directory, founder }
}

/** A joiner that consists of its messages only. */
export class Joiner {
  readonly nodeId: string
  readonly address: string
  incarnation = randomName(random)

  constructor(nodeId: string, port: number) {
    this.nodeId = nodeId
    this.address = `127.0.0.1:${port}`
  }

  /** Its disk is gone. */
  wipe(): void {
    this.incarnation = randomName(random)
  }

  /** The body of one request, with what a test wants otherwise. */
  body(clock: Clock, changes: Partial<JoinRequest> = {}, secret = SECRET): Buffer {
    return Buffer.from(JSON.stringify(this.#seal(clock, changes, secret)))
  }

  /** Asks, and opens the answer as a joiner does; throws the refusal. */
  ask(founder: Founding, clock: Clock, changes: Partial<JoinRequest> = {}): JoinAnswer {
    const sealed = this.#seal(clock, changes, SECRET)
    const result = founder.handleJoin(Buffer.from(JSON.stringify(sealed)))
    if (result.type === 'failed') throw result.error
    assert(result.type === 'ok')
    return openJoinAnswer(JSON.stringify(result.json), sealed.mac, SECRET)
  }

  #seal(clock: Clock, changes: Partial<JoinRequest>, secret: string) {
    const { nodeId, address, incarnation } = this
    const sentAtMs = clock.wallMs()
    const nonce = randomName(random)
    const who = { version: 2, nodeId, address, incarnation, as: 'founder', build: BUILD }
    return sealJoinRequest({ ...who, sentAtMs, nonce, ...changes } as JoinRequest, secret)
  }
}

/** A node that founds or joins over HTTP on a port of the system. */
export class FoundingNode {
  readonly nodeId: string
  readonly directory: string
  founding: Founding | undefined
  readonly #server: Server

  private constructor(t: TestContext, nodeId: string, directory: string) {
    this.nodeId = nodeId
    this.directory = directory
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        const result = this.founding?.handleJoin(Buffer.concat(chunks))
        response.end(result === undefined ? 'not here' : textOf(result))
      })
    })
    t.after(() => {
      this.founding?.stop()
      this.#server.close()
      this.#server.closeAllConnections()
    })
  }

  static async open(t: TestContext, nodeId: string, directory: string): Promise<FoundingNode> {
    const node = new FoundingNode(t, nodeId, directory)
    await new Promise<void>(resolve => node.#server.listen(0, '127.0.0.1', resolve))
    return node
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Starts from its directory; resolves with the membership. */
  start(
    addresses: readonly string[],
    options: Partial<NodeOptions> = {},
  ): Promise<IdentityOf<'member'>> {
    const { nodeId, address } = this
    this.founding = openFounding(this.directory, { nodeId, address, join: addresses, ...options })
    this.founding.start()
    return this.founding.founded
  }

  /** Its process is gone: nobody answers. */
  stop(): void {
    this.founding?.stop()
    this.founding = undefined
  }
}

function textOf(result: JoinResult): string {
  if (result.type === 'ok') return JSON.stringify(result.json)
  assert(result.type === 'failed')
  const { code, message } = result.error
  return JSON.stringify({ error: { code, message } })
}

/** n1, which `init` was run for, and the others, none started. */
export async function openNodes(t: TestContext, count: number): Promise<FoundingNode[]> {
  const base = temporaryDirectory(t)
  const names = Array.from({ length: count }, (_, index) => `n${index + 1}`)
  const nodes = await Promise.all(names.map(name => FoundingNode.open(t, name, join(base, name))))
  const [first] = nodes
  assert(first !== undefined)
  initCluster({ directory: first.directory, nodeId: 'n1', voters: count, secret: SECRET, random })
  return nodes
}
