/** Addresses of nodes, `host:port`, and the rule that says when a cluster needs a secret. */
import { isIPv4 } from 'node:net'
import { DbError } from '../base/errors.ts'

/** Where a node listens or is reached. The host has no brackets, also if it is IPv6. */
export interface Address {
  readonly host: string
  readonly port: number
}

const ADDRESS = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]{1,253})):(\d{1,5})$/

/** Reads `host:port` or `[ipv6]:port`; throws INVALID_REQUEST with a sentence. */
export function parseAddress(text: string): Address {
  const match = ADDRESS.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || !(port <= 65_535)) {
    throw new DbError(
      'INVALID_REQUEST',
      `"${text.slice(0, 300)}" is not an address; write host:port, such as 127.0.0.1:7070`,
    )
  }
  return { host, port }
}

/** The text that {@link parseAddress} reads. */
export function formatAddress(address: Address): string {
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${host}:${address.port}`
}

/** Whether only this machine can reach the host: 127.0.0.0/8, ::1, localhost. */
export function isLoopbackHost(host: string): boolean {
  const lower = host.toLowerCase().replace(/^::ffff:/, '')
  if (lower === 'localhost' || lower === '::1') return true
  return isIPv4(lower) && lower.startsWith('127.')
}

/**
 * Throws UNAUTHENTICATED if there is no secret although one of the addresses, written `host:port`,
 * can be reached from another machine.
 */
export function checkSecretNeeded(secret: string, addresses: readonly string[]): void {
  if (secret !== '') return
  const open = addresses.find(address => !isLoopbackHost(parseAddress(address).host))
  if (open === undefined) return
  throw new DbError(
    'UNAUTHENTICATED',
    `${open} can be reached from other machines, so the cluster needs a secret; ` +
      'give every node the secret that "lockstep init" made',
  )
}
