/**
 * Finds the programs of the other databases, and installs what is missing: packages of Debian with
 * its own package manager, programs in Go by `go install` into this checkout. Nothing is downloaded
 * otherwise.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { findProgram as findOnMachine } from '../../src/platform/programs.ts'

const OWN_PROGRAMS = resolve('.lockstep', 'peers', 'bin')
const POLICY = '/usr/sbin/policy-rc.d'
const REASON_CHARACTERS = 300

/** The path of a program that is compared; undefined if it isn't there. */
export function findProgram(name: string): string | undefined {
  return findOnMachine(name, [OWN_PROGRAMS, '/usr/local/go/bin'])
}

/** Why `programs` or `files` are missing; undefined if all are there. Installs if it may. */
export function needDebian(
  mayInstall: boolean,
  packages: readonly string[],
  { programs = [], files = [] }: { programs?: readonly string[]; files?: readonly string[] },
): string | undefined {
  const missing = (): string[] => [
    ...programs.filter(name => findProgram(name) === undefined),
    ...files.filter(path => !existsSync(path)),
  ]
  if (missing().length === 0) return undefined
  const command = `apt-get install --no-install-recommends ${packages.join(' ')}`
  const advice = `${missing().join(', ')} not found; on Debian: ${command}`
  if (!mayInstall) return advice
  if (process.getuid?.() !== 0) return `${advice} (as root)`
  if (findProgram('apt-get') === undefined) return advice
  console.error(`installing Debian packages: ${packages.join(' ')}`)
  return installDebian(packages) ?? (missing().length === 0 ? undefined : advice)
}

/** Why a program in Go is missing; undefined if it is there. Installs it if it may. */
export function needGo(mayInstall: boolean, name: string, source: string): string | undefined {
  if (findProgram(name) !== undefined) return undefined
  const go = findProgram('go')
  const advice = `${name} not found; with Go: go install ${source}`
  if (!mayInstall || go === undefined) return advice
  console.error(`installing ${source}`)
  mkdirSync(OWN_PROGRAMS, { recursive: true })
  const run = spawnSync(go, ['install', source], {
    env: { ...process.env, GOBIN: OWN_PROGRAMS },
    encoding: 'utf8',
  })
  if (run.status === 0 && findProgram(name) !== undefined) return undefined
  return `${advice} failed: ${lastOf(run.stderr)}`
}

/**
 * Installs packages as root; why that failed, undefined if it did not. Packages start their servers
 * at once, unless a file says that they may not.
 */
export function installDebian(packages: readonly string[]): string | undefined {
  const isOurs = !existsSync(POLICY)
  if (isOurs) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]]) {
      const run = spawnSync('apt-get', args, { env, encoding: 'utf8' })
      if (run.status !== 0) return `apt-get ${args.join(' ')} failed: ${lastOf(run.stderr)}`
    }
    return undefined
  } finally {
    if (isOurs) rmSync(POLICY)
  }
}

function lastOf(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ').slice(-REASON_CHARACTERS)
}
