import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  checkSecretNeeded,
  formatAddress,
  isLoopbackHost,
  parseAddress,
} from '../../src/platform/address.ts'

test('an address is a host and a port, IPv6 in brackets', () => {
  for (const [text, host, port] of [
    ['127.0.0.1:7070', '127.0.0.1', 7070],
    ['db-1.example.com:80', 'db-1.example.com', 80],
    ['[::1]:65535', '::1', 65_535],
    ['localhost:0', 'localhost', 0],
  ] as const) {
    assert.deepEqual(parseAddress(text), { host, port })
    assert.equal(formatAddress({ host, port }), text)
  }
})

test('what is no address is refused with a sentence that shows one', () => {
  const wrong = ['', '7070', ':7070', 'host', 'host:', 'host:65536', '::1:7070', 'a b:1', 'h:1\n']
  for (const text of [...wrong, 'http://host:1', 'host:1/path', 'user@host:1']) {
    assert.throws(() => parseAddress(text), {
      code: 'INVALID_REQUEST',
      message: /is not an address; write host:port, such as 127\.0\.0\.1:7070/,
    })
  }
})

test('only addresses that stay inside the machine are loopback', () => {
  const inside = ['127.0.0.1', '127.255.1.2', '::1', 'localhost', 'LOCALHOST', '::ffff:127.0.0.1']
  const outside = [
    '0.0.0.0',
    '::',
    '128.0.0.1',
    '10.0.0.1',
    '127.0.0.1.example.com',
    '127.evil',
    '',
  ]
  assert.deepEqual(inside.filter(isLoopbackHost), inside)
  assert.deepEqual(outside.filter(isLoopbackHost), [])
})

test('a secret is needed as soon as one address can be reached from outside', () => {
  checkSecretNeeded('', ['127.0.0.1:1', '[::1]:2', 'localhost:3'])
  checkSecretNeeded('a secret', ['10.0.0.1:1'])
  assert.throws(() => checkSecretNeeded('', ['127.0.0.1:1', '0.0.0.0:2']), {
    code: 'UNAUTHENTICATED',
    message: /0\.0\.0\.0:2 can be reached from other machines, so the cluster needs a secret/,
  })
})
