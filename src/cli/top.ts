/**
 * `lockstep top`: looks at the metrics of all nodes again and again, and prints a line for each
 * node and look.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { DbError } from '../base/errors.ts'
import { createClient, type Client, type MemberStatus } from '../client/index.ts'
import { addressList } from './client-commands.ts'
import { MetricsText } from './metrics-text.ts'
import { type Look, toLine } from './node-line.ts'
import { topLines } from './top-lines.ts'

const ASK_MS_MAX = 3000
const INTERVAL_MS_MIN = 100
const INTERVAL_MS_MAX = 3_600_000

/** `lockstep top`: prints until it is ended, or once. */
export async function top(given: {
  readonly nodes: string
  readonly intervalMs: string
  readonly isOnce: boolean
  readonly isJson: boolean
}): Promise<void> {
  const intervalMs = parseInterval(given.intervalMs)
  const addresses = addressList(given.nodes)
  const client = createClient({ nodes: addresses, timeoutMs: ASK_MS_MAX })
  let { nodes: members } = await client.nodes()
  let last = await Promise.all(members.map(lookAt))
  for (let count = 0; ; count += 1) {
    await pause(intervalMs)
    members = await membersNow(client, members)
    const next = await Promise.all(members.map(lookAt))
    const lines = next.map(({ member, look }) => toLine(member, lookOf(last, member), look))
    const at = new Date()
    if (given.isJson) {
      const json = { at: at.toISOString(), intervalMs, nodes: lines }
      process.stdout.write(`${JSON.stringify(json)}\n`)
    } else {
      process.stdout.write(`${topLines(lines, at, count)}\n`)
    }
    if (given.isOnce) return
    last = next
  }
}

function parseInterval(text: string): number {
  const intervalMs = Number(text)
  const isWhole = /^\d{1,9}$/.test(text)
  if (isWhole && intervalMs >= INTERVAL_MS_MIN && intervalMs <= INTERVAL_MS_MAX) return intervalMs
  const bounds = `${INTERVAL_MS_MIN} to ${INTERVAL_MS_MAX}`
  throw new DbError('INVALID_REQUEST', `--interval-ms must be a whole number from ${bounds}`)
}

/** Those of the last look, while no node answers. */
async function membersNow(
  client: Client,
  otherwise: readonly MemberStatus[],
): Promise<readonly MemberStatus[]> {
  try {
    return (await client.nodes()).nodes
  } catch (error) {
    if (error instanceof DbError) return otherwise
    throw error
  }
}

interface MemberLook {
  readonly member: MemberStatus
  readonly look: Look | Error
}

function lookOf(looks: readonly MemberLook[], { nodeId }: MemberStatus): Look | Error | undefined {
  return looks.find(({ member }) => member.nodeId === nodeId)?.look
}

async function lookAt(member: MemberStatus): Promise<MemberLook> {
  try {
    const signal = AbortSignal.timeout(ASK_MS_MAX)
    const answer = await fetch(`http://${member.address}/metrics`, { signal })
    const metrics = new MetricsText(await answer.text())
    return { member, look: { metrics, atMs: performance.now() } }
  } catch (error) {
    if (error instanceof Error) return { member, look: reasonOf(error) }
    throw error
  }
}

/** `fetch` says "fetch failed" of everything; what it means is in the cause. */
function reasonOf(error: Error): Error {
  return error.cause instanceof Error ? error.cause : error
}
