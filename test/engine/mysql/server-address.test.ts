import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeServer, parseServerAddress } from '../../../src/engine/mysql/server-address.ts'

test('an address tells host, port, account and prefix', () => {
  const address = parseServerAddress('mysql://me:p%40ss@[::1]:3307/?prefix=n1_')
  assert.deepEqual(address, {
    host: '::1',
    port: 3307,
    socketPath: undefined,
    user: 'me',
    password: 'p@ss',
    prefix: 'n1_',
  })
  assert.equal(describeServer(address), '[::1]:3307')
  const onSocket = parseServerAddress('mysql://root@localhost?socket=/run/db.sock')
  assert.equal(describeServer(onSocket), '/run/db.sock')
  assert.equal(onSocket.port, 3306)
})

test('an address that is none is refused without its password', () => {
  for (const text of [
    'mysql',
    'postgres://me:secret@h/',
    'mysql://me:secret@h/database',
    'mysql://h/',
    'mysql://me:secret@h/?prefix=A-',
    `mysql://me:secret@h/?prefix=${'p'.repeat(24)}`,
    'mysql://me:secret@h/?ssl=1',
    'mysql://me:100%secret@h/',
    'mysql://m%e:secret@h/',
  ]) {
    assert.throws(
      () => parseServerAddress(text),
      (error: Error) => error.message.startsWith('--engine ') && !error.message.includes('secret'),
      text,
    )
  }
})
