/** The first steps of a node: what it may become, and what it refuses to start with. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { readIdentity, readSecret, writeIdentity } from '../../src/cli/identity.ts'
import { initCluster, type PreparedNode, prepareNode } from '../../src/cli/init.ts'
import { PowerCutFiles } from '../platform/power-cut-files.ts'
import { random, temporaryDirectory } from './founding-kit.ts'

function prepare(directory: string, changes: object = {}): PreparedNode {
  return prepareNode({
    directory,
    nodeId: 'n1',
    address: '127.0.0.1:7001',
    join: [],
    random,
    ...changes,
  })
}

test('init makes ids, a disk name and a secret, all different each time', t => {
  const base = temporaryDirectory(t)
  const identities = ['a', 'b'].map(name => {
    const directory = join(base, name)
    return initCluster({ directory, nodeId: 'n1', voters: 3, random })
  })

  const names = identities.flatMap(identity => {
    return [identity.clusterId, identity.historyId, identity.incarnation]
  })
  const secrets = ['a', 'b'].map(name => readSecret(join(base, name)))
  assert.equal(new Set([...names, ...secrets]).size, 8)
  assert(names.every(name => /^[0-9a-f]{32}$/.test(name)))
  assert(secrets.every(secret => /^[0-9a-f]{64}$/.test(secret)))
  assert.deepEqual(readIdentity(join(base, 'a')), identities[0])
  assert.equal(statSync(join(base, 'a', 'secret')).mode & 0o777, 0o600)
})

test('init does not touch a directory that belongs to a node', t => {
  const directory = temporaryDirectory(t)
  const first = initCluster({ directory, nodeId: 'n1', voters: 3, random })
  const secret = readSecret(directory)

  assert.throws(() => initCluster({ directory, nodeId: 'n1', voters: 3, random }), {
    code: 'WRONG_DATA',
    message: /already belongs to node n1 of cluster [0-9a-f]{32}; choose an empty directory/,
  })

  assert.deepEqual(readIdentity(directory), first)
  assert.equal(readSecret(directory), secret)
})

test('init refuses a number of voters or a node id that can not be', t => {
  const directory = join(temporaryDirectory(t), 'n1')
  for (const voters of [0, 8, 2.5, Number.NaN]) {
    assert.throws(() => initCluster({ directory, nodeId: 'n1', voters, random }), {
      code: 'INVALID_REQUEST',
      message: /a cluster has 1 to 7 voters/,
    })
  }
  assert.throws(() => initCluster({ directory, nodeId: 'n 1', voters: 3, random }))
  assert.equal(existsSync(directory), false)
})

test('a power cut during init leaves an empty directory or a complete one', t => {
  for (let failAt = 0, isComplete = false; !isComplete; failAt++) {
    for (const losesNames of [true, false]) {
      const directory = join(temporaryDirectory(t), 'n1')
      mkdirSync(directory)
      const files = new PowerCutFiles(failAt)
      try {
        initCluster({ directory, nodeId: 'n1', voters: 3, random, files })
        isComplete = true
      } catch (error) {
        assert.match((error as Error).message, /the power went/)
      }
      files.cutPower(losesNames)

      const identity = readIdentity(directory)
      if (isComplete) assert(identity !== undefined)
      if (identity !== undefined) assert.match(readSecret(directory), /^[0-9a-f]{64}$/)
    }
  }
})

test('an empty directory does not start without init or join, and says what to run', t => {
  const directory = join(temporaryDirectory(t), 'n1')

  assert.throws(() => prepare(directory), {
    code: 'NOT_READY',
    message:
      /run "npm run lockstep -- init --data .*n1 --node-id n1" to found a new cluster, or .* --join/,
  })
  assert.equal(existsSync(directory), false)
})

test('a node that joins has the same disk name at each start', t => {
  const directory = join(temporaryDirectory(t), 'n2')
  const changes = { nodeId: 'n2', join: ['127.0.0.1:7001'] }

  const first = prepare(directory, changes)
  const second = prepare(directory, changes)
  const withoutJoin = prepare(directory, { nodeId: 'n2' })

  assert.equal(first.identity.type, 'joining')
  assert.deepEqual([second, withoutJoin], [first, first])
})

test('a directory does not start under another node id', t => {
  const directory = temporaryDirectory(t)
  initCluster({ directory, nodeId: 'n1', voters: 3, random })

  assert.throws(() => prepare(directory, { nodeId: 'n2' }), {
    code: 'WRONG_DATA',
    message: /belongs to node n1, not to n2; start it with --node-id n1/,
  })
})

test('without a secret only loopback addresses are let through', t => {
  const base = temporaryDirectory(t)
  const join_ = (name: string, changes: object) => () => {
    return prepare(join(base, name), { join: ['127.0.0.1:7002'], ...changes })
  }

  assert.equal(join_('a', {})().secret, '')
  assert.throws(join_('b', { address: '0.0.0.0:7001' }), { code: 'UNAUTHENTICATED' })
  const listen = '0.0.0.0:7001'
  assert.throws(join_('b', { listen }), { code: 'UNAUTHENTICATED' }, 'whatever it tells the others')
  assert.throws(join_('c', { join: ['10.0.0.1:7001'] }), { code: 'UNAUTHENTICATED' })
  assert.equal(existsSync(join(base, 'b', 'node.json')), false, 'nothing was made')
  const secret = 'a-secret-long-enough'
  assert.equal(join_('d', { address: '0.0.0.0:7001', secret })().secret, secret)
  assert.equal(readSecret(join(base, 'd')), secret)
  assert.equal(join_('d', { address: '0.0.0.0:7001' })().secret, secret, 'it was kept')
})

test('a member starts at another address, and its directory stays as it is', t => {
  const directory = join(temporaryDirectory(t), 'n1')
  const { voters: _voters, ...founding } = initCluster({
    directory,
    nodeId: 'n1',
    voters: 2,
    random,
  })
  const { incarnation } = founding
  const members = [{ raftId: 1, nodeId: 'n1', address: '127.0.0.1:7001', incarnation }]
  const known = { index: 0, members, nextRaftId: 2 }
  const more = { founders: members, known, hasLog: true, isPromotionDue: false, starts: 3 }
  writeIdentity(directory, { ...founding, type: 'member', raftId: 1, ...more })
  const before = readIdentity(directory)

  const moved = prepare(directory, { address: '127.0.0.1:8001' })

  assert.deepEqual(moved.identity, before)
  assert.deepEqual(readIdentity(directory), before)
})

test('a join can be repeated by the same words, and by no others', t => {
  const base = temporaryDirectory(t)
  const join_ = (name: string, as: 'voter' | 'learner') =>
    prepare(join(base, name), { nodeId: 'n1', join: ['127.0.0.1:1'], as })
  const first = join_('a', 'voter').identity

  assert(first.type === 'joining')
  assert.deepEqual([first.as, first.addresses], ['voter', ['127.0.0.1:1']])
  assert.deepEqual(join_('a', 'voter').identity, first)
  assert.deepEqual(prepare(join(base, 'a')).identity, first, 'a plain start goes on with it')
  assert.throws(() => join_('a', 'learner'), {
    code: 'WRONG_DATA',
    message: /n1 in .* is about to join as a voter; join with an empty directory/,
  })
  initCluster({ directory: join(base, 'b'), nodeId: 'n1', voters: 1, random })
  assert.throws(() => join_('b', 'voter'), { message: /is about to found a cluster/ })
})

test('an address that is none is refused before anything is written', t => {
  const directory = join(temporaryDirectory(t), 'n1')

  assert.throws(() => prepare(directory, { address: 'here', join: ['127.0.0.1:1'] }))
  assert.throws(() => prepare(directory, { join: ['there'] }), { code: 'INVALID_REQUEST' })
  assert.equal(existsSync(directory), false)
})
