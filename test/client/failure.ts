/** What tests of the client share. */
import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { DbError } from '../../src/base/errors.ts'

/** The error that a call ends in. */
export async function failure(call: Promise<unknown>): Promise<DbError> {
  try {
    await call
  } catch (error) {
    assert(error instanceof DbError, String(error))
    return error
  }
  return assert.fail('the call succeeded')
}

/** An address at which nothing listens. */
export async function deadAddress(): Promise<string> {
  const server = createServer()
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as { port: number }
  await new Promise<void>(resolve => {
    server.close(() => resolve())
  })
  return `127.0.0.1:${port}`
}
