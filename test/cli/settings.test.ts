import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readOptions } from '../../src/cli/options.ts'
import { nodeSettings, packageVersion } from '../../src/cli/settings.ts'
import type { NodeSettings } from '../../src/cli/node-settings.ts'

const settings = (flags: Readonly<Record<string, string>>): NodeSettings =>
  nodeSettings(readOptions({ flags, env: {}, file: undefined }))

test('times become ticks, and the address to be reached at is the one to listen on', () => {
  const { log, http, address, secret, version } = settings({
    data: 'd',
    nodeId: 'n1',
    listen: '[::1]:7000',
    tickMs: '10',
    electionTimeoutMs: '500',
  })

  assert.deepEqual([log.tickMs, log.heartbeatTicks, log.electionTicks], [10, 10, 50])
  assert.deepEqual([http.host, http.port, address, secret], ['::1', 7000, '[::1]:7000', undefined])
  assert.equal(version, packageVersion())
})

test('a node must have a directory, a name, and an address that others can use', () => {
  const refused = (flags: Readonly<Record<string, string>>, message: RegExp): void =>
    assert.throws(() => settings(flags), { code: 'INVALID_REQUEST', message })

  refused({ nodeId: 'n1' }, /^--data is needed/)
  refused({ data: 'd' }, /^--node-id is needed/)
  const node = { data: 'd', nodeId: 'n1' }
  refused({ ...node, listen: 'x' }, /"x" is not an address/)
  refused({ ...node, listen: '0.0.0.0:7070' }, /give one with --advertise/)
  refused({ ...node, listen: '127.0.0.1:0' }, /give one with --advertise/)
  const { http, address } = settings({ ...node, listen: '0.0.0.0:7070', advertise: 'db1:7070' })
  assert.deepEqual([http.host, address], ['0.0.0.0', 'db1:7070'])
})
