/** Data directories of every release so far are opened, and newer ones refused with a sentence. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'
import { programPath } from '../../src/cli/program.ts'
import { type Kept, unpackDirectory } from '../fixtures/data-directories.ts'
import { get, lockstep, makeDirectory, until, type Answer } from './kit.ts'

const KEPT = join(import.meta.dirname, '..', 'fixtures', 'data')
const RELEASES = readdirSync(KEPT).filter(name => name.endsWith('.json.gz'))

interface Laid {
  readonly kept: Kept
  readonly directory: string
  readonly address: string
  readonly args: readonly string[]
}

async function layOut(t: TestContext, release: string): Promise<Laid> {
  const directory = makeDirectory(t)
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  assert(typeof bound === 'object' && bound !== null)
  server.close()
  await once(server, 'close')
  const address = `127.0.0.1:${bound.port}`
  const kept = unpackDirectory(join(KEPT, release), directory, address)
  const args = ['start', '--data', directory, '--node-id', kept.nodeId, '--listen', address]
  return { kept, directory, address, args }
}

const execute = (
  address: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer['json']> => post(address, '/execute', body, headers)

async function post(
  address: string,
  path: string,
  body: unknown = {},
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer['json']> {
  const answer = await fetch(`http://${address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  return (await answer.json()) as Answer['json']
}

for (const release of RELEASES) {
  test(`what ${release} holds is opened, remembered and written on`, async t => {
    const { kept, address, args } = await layOut(t, release)
    const child = spawn(process.execPath, [programPath('main'), ...args], { stdio: 'ignore' })
    t.after(() => child.kill('SIGKILL'))
    const ready = (): Promise<number> =>
      get(address, '/health/ready').then(
        ({ status }) => status,
        () => 0,
      )
    await until(ready, status => status === 200)

    for (const [database, digest] of Object.entries(kept.digests)) {
      const { json } = await get(address, `/digest?database=${database}`)
      assert.equal(json['digest'], digest, database)
    }
    const sql = "UPDATE stock SET n = n - 1 WHERE sku = 'sku-7' RETURNING n"
    const body = { database: 'shop', sql }
    const keyed = await execute(address, body, { 'idempotency-key': 'order-1' })
    assert.deepEqual([keyed.results, keyed['repeated']], [kept.keyedAnswer, true])
    const again = await execute(address, body, { 'lockstep-request': kept.requestId })
    assert.deepEqual([again.results, again['repeated']], [kept.sessionAnswer, true])
    const cancelled = await execute(address, body, { 'idempotency-key': 'order-2' })
    assert.equal(cancelled.error?.code, 'REQUEST_CANCELLED')
    // The second commit gives no key: the transaction is known by its own name, too.
    const commit = await post(address, `/transactions/${kept.transaction}/commit`)
    assert.deepEqual([commit['error'], commit['repeated']], [undefined, true])
    const written = await execute(address, body)
    assert.equal(written.error, undefined)
    // Whoever holds the directory goes before it is removed.
    child.kill('SIGTERM')
    await once(child, 'close')
  })
}

/** Raises the version in one place of the data, as a newer release would. */
type Raise = (directory: string) => void

const engineFile = (directory: string, name: RegExp): string => {
  const generation = join(directory, 'group-1', 'engine', 'gen-1')
  const found = readdirSync(generation).find(file => name.test(file))
  assert(found !== undefined, `no file is named ${String(name)}`)
  return join(generation, found)
}

const setFormat =
  (name: RegExp, table: string): Raise =>
  directory => {
    const database = new DatabaseSync(engineFile(directory, name))
    database.exec(`UPDATE ${table} SET format = 99`)
    database.close()
  }

const NEWER: readonly (readonly [what: string, raise: Raise])[] = [
  [
    'the identity',
    directory => {
      const path = join(directory, 'node.json')
      writeFileSync(path, readFileSync(path, 'utf8').replace(/"format": *\d+/, '"format": 99'))
    },
  ],
  ['the catalogue of the engine', setFormat(/^system\.sqlite$/, 'lockstep_state')],
  ['a database', setFormat(/^db-\d+\.sqlite$/, 'lockstep_meta')],
]

for (const [what, raise] of NEWER) {
  test(`${what} of a newer release is refused with a sentence`, async t => {
    const { directory, args } = await layOut(t, RELEASES.at(-1) ?? '')
    raise(directory)

    const { code, output } = await lockstep(args)

    assert.notEqual(code, 0)
    assert.match(output, /newer/)
  })
}
