/** How nodes become a cluster, and how nobody gets in, or votes, who should not. */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { readIdentity, writeIdentity } from '../../src/cli/identity.ts'
import { type JoinAnswer } from '../../src/cli/join-messages.ts'
import { type FileSystem, systemFiles } from '../../src/platform/durable-file.ts'
import { waitFor } from '../platform/peer-kit.ts'
import { PowerCut, PowerCutFiles } from '../platform/power-cut-files.ts'
import {
  FoundingNode,
  Joiner,
  ManualClock,
  openFounder,
  openFounding,
  openNodes,
  temporaryDirectory,
} from './founding-kit.ts'

const isFounded = (answer: JoinAnswer): boolean => answer.type === 'founded'

test('three nodes, started in any order, store one list that names every disk', async t => {
  const [n1, n2, n3] = await openNodes(t, 3)
  assert(n1 !== undefined && n2 !== undefined && n3 !== undefined)

  const waiting = [n3.start([n1.address]), n2.start([n3.address, n1.address])]
  const founded = await Promise.all([n1.start([]), ...waiting])

  const [first, third, second] = founded
  assert.deepEqual(
    first?.founders.map(member => [member.raftId, member.nodeId, member.address]),
    [
      [1, 'n1', n1.address],
      [2, 'n2', n2.address],
      [3, 'n3', n3.address],
    ],
  )
  for (const [identity, raftId] of [
    [first, 1],
    [second, 2],
    [third, 3],
  ] as const) {
    assert.deepEqual(identity?.founders, first?.founders)
    assert.equal(identity?.raftId, raftId)
    const own = first?.founders.find(member => member.raftId === raftId)
    assert.equal(identity?.incarnation, own?.incarnation)
    assert.deepEqual(
      [identity?.clusterId, identity?.historyId, identity?.groupId],
      [first?.clusterId, first?.historyId, 1],
    )
  }
  for (const node of [n1, n2, n3]) assert.equal(readIdentity(node.directory)?.type, 'member')
})

test('a cluster of one voter is founded at once, and a restart changes nothing', async t => {
  const { directory, founder } = openFounder(t, 1)
  const identity = await founder.founded

  assert.deepEqual(
    identity.founders.map(member => member.nodeId),
    ['n1'],
  )
  assert.deepEqual(readIdentity(directory), identity)
  const again = openFounding(directory, { nodeId: 'n1' })
  again.start()
  assert.deepEqual(await again.founded, identity)
})

test('a founder that loses power at any call gives one list to everybody all the same', t => {
  const clock = new ManualClock()
  let cuts = 0
  for (let failAt = 0; failAt < 8; failAt++) {
    for (const losesNames of [true, false]) {
      for (const isWiped of [true, false]) {
        const files = new PowerCutFiles(failAt)
        const { directory, founder } = openFounder(t, 3, { files, clock })
        const [n2, n3] = [new Joiner('n2', 7002), new Joiner('n3', 7003)]
        const lists: JoinAnswer[] = [n2.ask(founder, clock)]
        assert(lists.pop()?.type === 'waiting')
        try {
          lists.push(n3.ask(founder, clock))
        } catch (error) {
          assert(error instanceof PowerCut)
          cuts += 1
        }
        files.cutPower(losesNames)
        if (isWiped) n3.wipe()

        const restarted = openFounding(directory, { nodeId: 'n1', clock })
        restarted.start()
        for (const joiner of [n2, n3, n2, n3]) {
          try {
            lists.push(joiner.ask(restarted, clock))
          } catch (error) {
            // Fixed before the cut, with the disk that was wiped since.
            assert.equal((error as { code?: string }).code, 'FORBIDDEN')
            assert(isWiped && joiner === n3)
          }
        }

        const given = lists.filter(isFounded).map(list => JSON.stringify(list))
        const where = `cut at ${failAt}, names lost: ${losesNames}, wiped: ${isWiped}`
        assert(given.length > 0, where)
        assert.equal(new Set(given).size, 1, where)
      }
    }
  }
  assert.equal(cuts, 6 * 4, 'each of the six system calls was cut')
})

test('a joiner that loses power at any call comes back as the same disk', async t => {
  const [n1, n2] = await openNodes(t, 2)
  assert(n1 !== undefined && n2 !== undefined)
  const founded = n1.start([])
  const first = new PowerCutFiles()
  n2.founding = openFounding(n2.directory, { nodeId: 'n2', address: n2.address, files: first })
  first.cutPower(true)
  const incarnation = readIdentity(n2.directory)?.incarnation
  assert(incarnation !== undefined, 'the disk had its name before the node spoke to anybody')

  let cuts = 0
  for (let failAt = 0, isJoined = false; !isJoined; failAt++) {
    const files = new PowerCutFiles(failAt)
    try {
      await n2.start([n1.address], { files })
      isJoined = true
    } catch (error) {
      assert(error instanceof PowerCut)
      cuts += 1
      files.cutPower(failAt % 2 === 0)
    }
    n2.stop()
    assert.equal(readIdentity(n2.directory)?.incarnation, incarnation)
  }

  assert(cuts >= 5, `${cuts} cuts`)
  const identity = readIdentity(n2.directory)
  assert(identity?.type === 'member')
  assert.deepEqual(identity.founders, (await founded).founders)
})

test('a joiner wiped before the founding is let in when its former self is forgotten', t => {
  const clock = new ManualClock()
  const { founder } = openFounder(t, 3, { clock })
  const [n2, n3] = [new Joiner('n2', 7002), new Joiner('n3', 7003)]
  n2.ask(founder, clock)

  n2.wipe()
  assert.throws(() => n2.ask(founder, clock), {
    code: 'NOT_READY',
    message: /another node asked to join as n2 \(from 127\.0\.0\.1:7002\) a moment ago/,
  })
  clock.nowMs += 5001
  assert.equal(n2.ask(founder, clock).type, 'waiting')
  const answer = n3.ask(founder, clock)

  assert(answer.type === 'founded')
  const member = answer.members.find(member => member.nodeId === 'n2')
  assert.equal(member?.incarnation, n2.incarnation)
})

test('a joiner wiped after the founding is refused for ever', async t => {
  const [n1, n2] = await openNodes(t, 2)
  assert(n1 !== undefined && n2 !== undefined)
  await Promise.all([n1.start([]), n2.start([n1.address])])
  n2.stop()
  rmSync(n2.directory, { recursive: true })

  await assert.rejects(n2.start([n1.address]), {
    code: 'FORBIDDEN',
    message: /node n2 belongs to the cluster with another data directory; start it with that one/,
  })
  assert.equal(readIdentity(n2.directory)?.type, 'joining', 'it knows no cluster and never votes')
})

test('who joined behind a cut log refuses a wiped founder as one that lost its disk', t => {
  const clock = new ManualClock()
  const { directory, founder } = openFounder(t, 2, { clock })
  const n2 = new Joiner('n2', 7002)
  assert(isFounded(n2.ask(founder, clock)))
  const identity = readIdentity(directory)
  assert(identity?.type === 'member')
  writeIdentity(directory, { ...identity, founders: [] })
  const joined = openFounding(directory, { nodeId: 'n1', clock })
  joined.start()
  n2.wipe()

  assert.throws(() => n2.ask(joined, clock), {
    code: 'FORBIDDEN',
    message: /n2 belongs to the cluster with another data.*"lockstep remove n2".*under a new id/,
  })
  const message = /n9 is not one of the nodes that founded the cluster/
  assert.throws(() => new Joiner('n9', 7009).ask(joined, clock), { code: 'FORBIDDEN', message })
})

test('a node that is not there any more is not founded with, and does not stand in the way', t => {
  const clock = new ManualClock()
  const { founder } = openFounder(t, 3, { clock })
  const misnamed = new Joiner('n22', 7002)
  const [n2, n3] = [new Joiner('n2', 7002), new Joiner('n3', 7003)]
  misnamed.ask(founder, clock)
  assert.throws(() => n2.ask(founder, clock), {
    code: 'NOT_READY',
    message: /node n22 has the address 127\.0\.0\.1:7002 too/,
  })

  clock.nowMs += 5001
  n2.ask(founder, clock)
  const answer = n3.ask(founder, clock)

  assert(answer.type === 'founded')
  assert.deepEqual(
    answer.members.map(member => member.nodeId),
    ['n1', 'n2', 'n3'],
  )
})

test('of two living nodes under one id only the first is founded with', t => {
  const clock = new ManualClock()
  const { founder } = openFounder(t, 3, { clock })
  const [n2, double, n3] = [new Joiner('n2', 7002), new Joiner('n2', 7012), new Joiner('n3', 7003)]
  for (let round = 0; round < 10; round++, clock.nowMs += 1000) {
    n2.ask(founder, clock)
    assert.throws(() => double.ask(founder, clock), { code: 'NOT_READY' })
  }
  n3.ask(founder, clock)

  assert(isFounded(n2.ask(founder, clock)))
  assert.throws(() => double.ask(founder, clock), { code: 'FORBIDDEN' })
})

test('nodes that do not belong are refused with what to do', t => {
  const clock = new ManualClock()
  const { founder } = openFounder(t, 2, { clock })
  const refused = (joiner: Joiner, changes: object, code: string, message: RegExp): void =>
    assert.throws(() => joiner.ask(founder, clock, changes), { code, message })
  const n2 = new Joiner('n2', 7002)

  refused(new Joiner('n1', 7002), {}, 'FORBIDDEN', /the founder itself is node n1/)
  refused(n2, { build: 'sqlite 3.51' }, 'FORBIDDEN', /n2 runs the SQL engine "sqlite 3\.51"/)
  refused(n2, { address: 'nowhere' }, 'INVALID_REQUEST', /"nowhere" is not an address/)
  refused(n2, { version: 3 }, 'INVALID_REQUEST', /run the same release everywhere/)
  refused(n2, { address: '127.0.0.1:7001' }, 'NOT_READY', /n1 has the address 127\.0\.0\.1:7001/)
  assert(isFounded(n2.ask(founder, clock)))
  refused(
    new Joiner('n3', 7003),
    {},
    'FORBIDDEN',
    /n3 is not one of the nodes that founded the cluster; an empty directory becomes/,
  )
})

test('a body that is not sealed with the secret gets nothing', t => {
  const clock = new ManualClock()
  const { founder } = openFounder(t, 2, { clock })
  const n2 = new Joiner('n2', 7002)
  const codeOf = (body: Buffer): string => {
    const result = founder.handleJoin(body)
    return result.type === 'failed' ? result.error.code : result.type
  }

  assert.equal(codeOf(n2.body(clock, {}, 'another-secret-of-someone')), 'UNAUTHENTICATED')
  for (const garbage of [
    '',
    'null',
    '[]',
    '{"payload":1}',
    '{"payload":"","mac":"00"}',
    '\u0000',
  ]) {
    assert.equal(codeOf(Buffer.from(garbage)), 'INVALID_REQUEST')
  }
  const copied = n2.body(clock, { nodeId: 'n9' })
  copied[copied.indexOf('n9') + 1] = '8'.charCodeAt(0)
  assert.equal(codeOf(copied), 'UNAUTHENTICATED')
  assert.equal(codeOf(n2.body(clock)), 'ok')
})

test('a joiner with another secret ends with a sentence', async t => {
  const [n1, n2] = await openNodes(t, 2)
  assert(n1 !== undefined && n2 !== undefined)
  void n1.start([])

  await assert.rejects(n2.start([n1.address], { secret: 'not-the-secret-of-n1' }), {
    code: 'UNAUTHENTICATED',
    message: /different cluster secrets/,
  })
})

test('an answer that the founder did not seal is not believed', async t => {
  const members = [{ raftId: 1, nodeId: 'n2', address: '127.0.0.1:1', incarnation: 'x' }]
  const cluster = { type: 'founded', clusterId: 'c', historyId: 'h', groupId: 1, members }
  const forged = { payload: JSON.stringify(cluster), mac: '0'.repeat(64) }
  const server = createServer((_request, response) => response.end(JSON.stringify(forged)))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const node = await FoundingNode.open(t, 'n2', join(temporaryDirectory(t), 'n2'))

  const founded = node.start([`127.0.0.1:${(server.address() as AddressInfo).port}`])

  await assert.rejects(founded, { code: 'UNAUTHENTICATED' })
  assert.equal(readIdentity(node.directory)?.type, 'joining')
})

test('a joiner passes over nodes that can not help until one can', async t => {
  const [n1, n2, n3] = await openNodes(t, 3)
  assert(n1 !== undefined && n2 !== undefined && n3 !== undefined)
  const elsewhere = createServer((_request, response) => response.writeHead(404).end('what?'))
  await new Promise<void>(resolve => elsewhere.listen(0, '127.0.0.1', resolve))
  t.after(() => elsewhere.close())
  const other = `127.0.0.1:${(elsewhere.address() as AddressInfo).port}`

  const joined = n2.start(['127.0.0.1:1', other, n3.address, n1.address])
  const last = n3.start([n2.address, n1.address])
  const founded = await n1.start([])

  assert.deepEqual((await joined).founders, founded.founders)
  assert.deepEqual((await last).founders, founded.founders)
})

test('after the founding any member gives the list, also when the founder is away', async t => {
  const [n1, n2, n3] = await openNodes(t, 3)
  assert(n1 !== undefined && n2 !== undefined && n3 !== undefined)
  const founded = n1.start([])
  const joined = n2.start([n1.address])
  openFounding(n3.directory, { nodeId: 'n3', address: n3.address })
  await assert.rejects(n3.start([n1.address], { files: new PowerCutFiles(0) }), PowerCut)
  assert.equal(readIdentity(n3.directory)?.type, 'joining', 'it was counted and never stored it')
  await Promise.all([founded, joined])
  n1.stop()
  n3.stop()

  const late = await n3.start([n2.address])

  assert.deepEqual(late.founders, (await founded).founders)
})

test('a founder whose disk is full says so, and founds when there is room', t => {
  const clock = new ManualClock()
  let isFull = true
  const files: FileSystem = {
    ...systemFiles,
    write: (file, text) => {
      if (isFull) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' })
      systemFiles.write(file, text)
    },
  }
  const { founder } = openFounder(t, 2, { clock, files })
  const n2 = new Joiner('n2', 7002)

  assert.throws(() => n2.ask(founder, clock), { code: 'DISK_FULL' })
  isFull = false

  assert(isFounded(n2.ask(founder, clock)))
})

test('a joiner that was founded with under an old address is told so', async t => {
  const clock = new ManualClock()
  clock.nowMs = Date.now()
  const { founder } = openFounder(t, 2, { clock })
  const node = await FoundingNode.open(t, 'n2', join(temporaryDirectory(t), 'n2'))
  node.founding = openFounding(node.directory, { nodeId: 'n2', address: node.address })
  const former = new Joiner('n2', 7002)
  former.incarnation = readIdentity(node.directory)?.incarnation ?? ''
  assert(isFounded(former.ask(founder, clock)))
  const server = await FoundingNode.open(t, 'n1', '')
  server.founding = founder

  await assert.rejects(node.start([server.address]), {
    code: 'INVALID_REQUEST',
    message: /node n2 is known to the others at 127\.0\.0\.1:7002, not at/,
  })
})

test('who wants to join a cluster that runs is not founded with, and waits until it runs', t => {
  const clock = new ManualClock()
  const { founder } = openFounder(t, 2, { clock })
  const n2 = new Joiner('n2', 7002)
  const n3 = new Joiner('n3', 7003)

  assert.throws(() => n3.ask(founder, clock, { as: 'voter' }), {
    code: 'NOT_READY',
    message: /n1 belongs to no cluster that runs yet/,
  })
  assert(isFounded(n2.ask(founder, clock)))
  const result = founder.handleJoin(n3.body(clock, { as: 'learner' }))
  assert(result.type === 'admit')
  assert.deepEqual([result.request.nodeId, result.request.as], ['n3', 'learner'])
  assert.throws(() => n3.ask(founder, clock), { message: /becomes a member by "lockstep join"/ })
})

test('a joiner that is stopped asks no more', async t => {
  const asked: string[] = []
  const server = createServer((request, response) => {
    request.on('data', (chunk: Buffer) => {
      asked.push(/n[23]/.exec(chunk.toString())?.[0] ?? '')
      response.end('not yet')
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const base = temporaryDirectory(t)
  const stopped = await FoundingNode.open(t, 'n2', join(base, 'n2'))
  const going = await FoundingNode.open(t, 'n3', join(base, 'n3'))
  const count = (nodeId: string): number => asked.filter(name => name === nodeId).length
  void stopped.start([address])
  void going.start([address])
  await waitFor(() => count('n2') > 1, 'the first has asked twice')

  stopped.stop()
  const before = count('n2')
  const goal = count('n3') + 5
  await waitFor(() => count('n3') >= goal, 'the other has asked five times more')

  assert(count('n2') <= before + 1, 'at most the question that was under way came')
})
