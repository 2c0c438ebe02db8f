/** Small words for tests that talk to real nodes. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { TestContext } from 'node:test'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import { programPath } from '../../src/cli/program.ts'

export interface Answer {
  readonly status: number
  readonly json: {
    readonly error?: {
      readonly code: string
      readonly message: string
      readonly fate: string
      readonly retry: string
      readonly details: Readonly<Record<string, unknown>>
    }
    readonly results?: readonly {
      readonly rowsAffected: number
      readonly lastInsertId?: unknown
      readonly columns?: readonly string[]
      readonly rows?: readonly unknown[]
    }[]
    readonly token?: string
    readonly index?: number
    readonly [key: string]: unknown
  }
}

/** An empty directory that is gone after the test. */
export function makeDirectory(t: TestContext): string {
  mkdirSync('.lockstep', { recursive: true })
  const directory = resolve(mkdtempSync(join('.lockstep', 'test-')))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A running cluster that is killed after the test. */
export async function startCluster(
  t: TestContext,
  options: {
    readonly nodes?: number
    readonly options?: readonly string[]
    readonly backup?: string
    readonly ports?: readonly number[]
    readonly nodeOptions?: (nodeId: string) => readonly string[]
  } = {},
): Promise<LocalCluster> {
  const directory = makeDirectory(t)
  const { nodes = 3, backup, nodeOptions, ports } = options
  const cluster = await LocalCluster.start({
    nodes,
    directory,
    options: options.options ?? [],
    ...(backup !== undefined && { backup }),
    ...(nodeOptions && { nodeOptions }),
    ...(ports && { ports }),
  })
  t.after(() => cluster.stop('SIGKILL'))
  return cluster
}

export async function post(
  address: string,
  path: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const answer = await fetch(`http://${address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  return { status: answer.status, json: (await answer.json()) as Answer['json'] }
}

export async function get(address: string, path: string): Promise<Answer> {
  const answer = await fetch(`http://${address}${path}`)
  return { status: answer.status, json: (await answer.json()) as Answer['json'] }
}

/** Addresses of the leader and of one follower. */
export async function rolesOf(
  cluster: LocalCluster,
): Promise<{ readonly leader: string; readonly follower: string; readonly leaderId: string }> {
  const leaderId = await cluster.ready()
  const address = (isLeader: boolean): string => {
    const node = cluster.nodes.find(({ nodeId }) => (nodeId === leaderId) === isLeader)
    if (node === undefined) throw new Error('there is no such node')
    return node.address
  }
  return { leader: address(true), follower: address(false), leaderId }
}

/** Runs one command of the program to its end, or until it is stopped after `timeoutMs`. */
export async function lockstep(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  timeoutMs = 60_000,
): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(process.execPath, [programPath('main'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  let output = ''
  child.stdout.on('data', chunk => (output += String(chunk)))
  child.stderr.on('data', chunk => (output += String(chunk)))
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  const [code] = (await once(child, 'close')) as [number | null]
  clearTimeout(timer)
  return { code, output }
}

/** Asks again until the answer fits; fails when `timeoutMs` have passed. */
export async function until<T>(
  ask: () => Promise<T> | T,
  fits: (value: T) => boolean,
  timeoutMs = 20_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await ask()
    if (fits(value)) return value
    if (performance.now() > deadline) {
      throw new Error(`it did not happen in ${timeoutMs} ms; last seen: ${JSON.stringify(value)}`)
    }
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
