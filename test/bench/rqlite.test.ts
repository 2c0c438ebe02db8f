/** rqlite's driver, against a server that answers in the forms that rqlite documents. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { connectRqlite } from '../../bench/peers/drivers/rqlite.ts'
import type { Failure } from '../../bench/load.ts'
import type { Connection, Operation } from '../../bench/peers/operations.ts'

interface Asked {
  readonly path: string
  readonly body: unknown
}

function perform(connection: Connection, operation: Operation): Promise<Failure | undefined> {
  return new Promise(resolve => connection.perform(operation, resolve))
}

test('rqlite is sent bound values and read levels, and an error with status 200 is one', async () => {
  const asked: Asked[] = []
  let answer: object = { results: [{ last_insert_id: 7, rows_affected: 1 }] }
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      asked.push({ path: request.url ?? '', body: JSON.parse(String(Buffer.concat(parts))) })
      response.end(JSON.stringify(answer))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const target = { driver: 'rqlite', address, level: 'weak', user: '', password: '' } as const
  const connection = must((await connectRqlite(target, 1))[0])
  try {
    assert.equal(await perform(connection, { type: 'insert', firstId: 7, rows: 1 }), undefined)
    const text = 'some text that a row may hold'
    answer = { results: [{ columns: ['a', 'b'], values: [[text, 1000]] }] }
    assert.equal(await perform(connection, { type: 'read', firstId: 3, rows: 1 }), undefined)
    assert.deepEqual(asked, [
      { path: '/db/execute', body: [['INSERT INTO t (id, a, b) VALUES (?, ?, ?)', 7, text, 1000]] },
      { path: '/db/query?level=weak', body: [['SELECT a, b FROM r WHERE id = ?', 3]] },
    ])
    const short = await perform(connection, { type: 'read', firstId: 3, rows: 1000 })
    assert(short !== undefined, 'one row instead of a thousand')
    answer = { results: [{ error: 'UNIQUE constraint failed: t.id' }] }
    const failed = await perform(connection, { type: 'insert', firstId: 7, rows: 1 })
    assert.match(failed?.text ?? '', /UNIQUE/)
  } finally {
    connection.close()
    server.close()
  }
})
