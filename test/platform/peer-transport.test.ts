/** The transport between real sockets: order, lanes, retries and who is let in. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { inspect } from 'node:util'
import { SystemClock } from '../../src/platform/clock.ts'
import type { NodeFacts } from '../../src/platform/handshake.ts'
import { UPGRADE_PROTOCOL } from '../../src/platform/peer-limits.ts'
import { TcpPeerTransport } from '../../src/platform/peer-transport.ts'
import { SystemRandom } from '../../src/platform/random.ts'
import {
  factsOf,
  FAST_LIMITS,
  listOf,
  membersAt,
  memoryLogger,
  PeerNode,
  Port,
  Recorder,
  SECRET,
  waitFor,
} from './peer-kit.ts'
import { Proxy } from './proxy.ts'

/** Ports that close with the test, and with them the transports that listen there. */
async function openPorts(t: TestContext, count: number): Promise<Port[]> {
  const ports = await Promise.all(Array.from({ length: count }, () => Port.open()))
  t.after(() => Promise.all(ports.map(port => port.close())))
  return ports
}

/** Starts nodes 1, 2, …; `changes` make one differ from what the others believe. */
async function startNodes(
  t: TestContext,
  changes: Readonly<Record<number, Partial<NodeFacts>>> = {},
  count = 2,
): Promise<PeerNode[]> {
  const ports = await openPorts(t, count)
  const members = membersAt(ports)
  return ports.map((port, index) => {
    const facts = { ...factsOf(members, index + 1), ...changes[index + 1] }
    const node = new PeerNode(port, facts)
    t.after(() => node.stop())
    return node
  })
}

async function pair(t: TestContext): Promise<[PeerNode, PeerNode]> {
  const [a, b] = await startNodes(t)
  assert(a !== undefined && b !== undefined)
  await waitFor(() => a.isConnectedTo(2) && b.isConnectedTo(1), 'both are connected')
  return [a, b]
}

/** Nodes 1 and 2 where node 1 reaches node 2 through a proxy, which `prepare` may arm. */
async function pairByProxy(
  t: TestContext,
  limits = FAST_LIMITS,
  prepare: (proxy: Proxy) => void = () => {},
): Promise<[PeerNode, PeerNode, Proxy]> {
  const [portA, portB] = await openPorts(t, 2)
  assert(portA !== undefined && portB !== undefined)
  const proxy = await Proxy.open(portB.number)
  t.after(() => proxy.close())
  prepare(proxy)
  const members = membersAt([portA, portB])
  const seenByA = members.map(m => (m.raftId === 2 ? { ...m, address: proxy.address } : m))
  const b = new PeerNode(portB, factsOf(members, 2), limits)
  const a = new PeerNode(portA, factsOf(seenByA, 1), limits)
  t.after(() => [a, b].forEach(node => node.stop()))
  return [a, b, proxy]
}

/** How often a lane of the node was opened. */
function connectedCount(node: PeerNode): number {
  return node.recorder.events.filter(event => event.startsWith('connected')).length
}

test('frames of a lane arrive once and in order, both ways', async t => {
  const [a, b] = await pair(t)

  for (let number = 0; number < 2000; number++) {
    assert(a.send(2, 'data', `a${number}`))
    assert(b.send(1, 'control', `b${number}`))
  }
  await waitFor(() => b.recorder.frames.length >= 2000, 'all frames came to b')
  await waitFor(() => a.recorder.frames.length >= 2000, 'all frames came to a')

  const numbers = Array.from({ length: 2000 }, (_, number) => number)
  assert.deepEqual(
    b.recorder.texts('data'),
    numbers.map(number => `a${number}`),
  )
  assert.deepEqual(
    a.recorder.texts('control'),
    numbers.map(number => `b${number}`),
  )
})

test('a heartbeat passes while 50 MB wait on the data lane, and none of them is lost', async t => {
  const [a, b, proxy] = await pairByProxy(t)
  await waitFor(() => a.isConnectedTo(2), 'a is connected')
  const resume = proxy.pause('data')
  const megabyte = randomBytes(1024 * 1024)
  let accepted = 0
  for (; accepted < 50; accepted++) assert(a.send(2, 'data', megabyte))
  const sentMs = performance.now()

  assert(a.send(2, 'control', 'heartbeat'))
  await waitFor(() => b.recorder.texts('control').length > 0, 'the heartbeat came')

  assert(performance.now() - sentMs < 500, 'the heartbeat came at once')
  assert(b.recorder.texts('data').length < 50, 'the data did wait')
  while (a.send(2, 'data', megabyte)) accepted++
  assert(accepted < 66, `the lane took ${accepted} MB although its limit is 64 MB`)
  resume()
  await waitFor(() => b.recorder.texts('data').length === accepted, 'all data came')
})

test('a node that was stopped and started again is reached again', async t => {
  const [portA, portB] = await openPorts(t, 2)
  assert(portA !== undefined && portB !== undefined)
  const members = membersAt([portA, portB])
  const a = new PeerNode(portA, factsOf(members, 1))
  const first = new PeerNode(portB, factsOf(members, 2))
  await waitFor(() => a.isConnectedTo(2) && first.isConnectedTo(1), 'both are connected')

  await portB.close()
  await waitFor(() => a.lastError(2).includes('ECONNREFUSED'), 'a notices the loss and retries')
  assert.equal(a.send(2, 'control', 'lost'), false)
  await portB.listen()
  const second = new PeerNode(portB, { ...factsOf(members, 2), starts: 2 })
  await waitFor(() => a.isConnectedTo(2) && second.isConnectedTo(1), 'both are connected again')

  assert(a.send(2, 'control', 'found'))
  await waitFor(() => second.recorder.texts('control').length > 0, 'a frame came')
  assert.deepEqual(second.recorder.texts('control'), ['found'])
  const control = a.recorder.events.filter(event => event.endsWith('control'))
  assert.deepEqual(control, [
    'connected 2 control',
    'disconnected 2 control',
    'connected 2 control',
  ])
  assert.equal(a.transport.health(2)?.retries, 0)
})

test('that nobody listens at the address of a peer is told, and a closed connection is not', async t => {
  const [a, b] = await startNodes(t)
  assert(a !== undefined && b !== undefined)
  await waitFor(() => a.transport.isLetIn && b.transport.isLetIn, 'they are connected')
  b.transport.stop()
  await waitFor(() => a.recorder.events.includes('disconnected 2 data'), 'it is noticed')
  assert.deepEqual(a.recorder.absent, [])
  await b.port.close()
  await waitFor(() => a.recorder.absent.includes(2), 'it is told')
})

test('a peer that comes back is dialled at once, however long the pause was to be', async t => {
  const [portA, portB] = await openPorts(t, 2)
  assert(portA !== undefined && portB !== undefined)
  const members = membersAt([portA, portB])
  const patient = { ...FAST_LIMITS, backoffMsMin: 600_000, backoffMsMax: 600_000 }
  const a = new PeerNode(portA, factsOf(members, 1), patient)
  await waitFor(() => a.lastError(2) !== '', 'the first attempt failed')

  const b = new PeerNode(portB, factsOf(members, 2))

  await waitFor(() => a.isConnectedTo(2) && b.isConnectedTo(1), 'both are connected')
})

test('a broken connection costs a suffix of the frames, never one in the middle', async t => {
  const [a, b, proxy] = await pairByProxy(t)
  await waitFor(() => a.isConnectedTo(2), 'a is connected')

  let number = 0
  for (let round = 0; round < 5; round++) {
    const body = (): string => `${number}`.padEnd(30_000, '.')
    for (let count = 0; count < 100; count++, number++) a.send(2, 'data', body())
    await new Promise(resolve => setImmediate(resolve))
    proxy.reset()
    await waitFor(() => connectedCount(a) === 2 * (round + 2), 'a is connected again')
  }
  a.send(2, 'data', 'end')
  await waitFor(() => b.recorder.texts('data').at(-1) === 'end', 'the last frame came')

  const numbers = b.recorder.texts('data').map(text => Number.parseInt(text, 10))
  for (const [index, value] of numbers.slice(1, -1).entries()) {
    const before = numbers[index] ?? -1
    // A gap may only lie where one connection ended, which is at a multiple of a round.
    assert(value === before + 1 || value % 100 === 0, `${value} came after ${before}`)
  }
})

test('what an abandoned connection still holds is not delivered after the next one', async t => {
  const limits = { ...FAST_LIMITS, pingMs: 20, confirmMs: 10, stallMs: 100 }
  const [a, b, proxy] = await pairByProxy(t, limits)
  await waitFor(() => a.isConnectedTo(2), 'a is connected')

  const resume = proxy.pause('data')
  a.send(2, 'data', 'old')
  await waitFor(() => connectedCount(a) === 3, 'a gave the connection up and opened another')
  a.send(2, 'data', 'new')
  await waitFor(() => b.recorder.texts('data').includes('new'), 'a frame came')
  resume()
  a.send(2, 'data', 'newer')
  await waitFor(() => proxy.pausedCount === 0, 'the old connection is at its end')
  await waitFor(() => b.recorder.texts('data').includes('newer'), 'another frame came')

  assert.deepEqual(b.recorder.texts('data'), ['new', 'newer'])
})

const REFUSED: readonly {
  readonly what: string
  readonly second: Partial<NodeFacts>
  readonly says: RegExp
}[] = [
  {
    what: 'a node with a wrong secret',
    second: { secret: 'some other secret of the same length....' },
    says: /UNAUTHENTICATED|has another cluster secret/,
  },
  {
    what: 'a node of another cluster',
    second: { clusterId: 'c2' },
    says: /belongs to cluster c[12] and node n[12] to cluster/,
  },
]

for (const { what, second, says } of REFUSED) {
  test(`${what} is refused on both sides, and both say so`, async t => {
    const [a, b] = await startNodes(t, { 2: second })
    assert(a !== undefined && b !== undefined)

    await waitFor(() => says.test(a.lastError(2)), 'a is told')
    await waitFor(() => says.test(b.lastError(1)), 'b is told')

    assert.equal(a.send(2, 'control', 'x'), false)
    assert(a.lines.some(line => line.level === 'warn' && says.test(line.text)))
    assert.deepEqual([...a.recorder.events, ...b.recorder.events], [])
  })
}

test('a wiped disk under an old id is refused by everybody', async t => {
  const ports = await openPorts(t, 3)
  const members = membersAt(ports)
  const wiped = members.map(m => (m.raftId === 2 ? { ...m, incarnation: 'disk-2-again' } : m))
  const [a, b, c] = ports.map((port, index) => {
    return new PeerNode(port, factsOf(index === 1 ? wiped : members, index + 1))
  })
  assert(a !== undefined && b !== undefined && c !== undefined)
  const says = /n2 came with another data directory than the one it joined with/

  await waitFor(() => says.test(a.lastError(2)) && says.test(c.lastError(2)), 'the others see it')
  await waitFor(() => says.test(b.lastError(1)) && says.test(b.lastError(3)), 'it is told')
  await waitFor(() => a.isConnectedTo(3) && c.isConnectedTo(1), 'the others go on')

  assert.deepEqual(b.recorder.events, [])
})

test('a second node under the id of a member is refused by all', async t => {
  const ports = await openPorts(t, 3)
  const [portA, portB, portDouble] = ports
  assert(portA !== undefined && portB !== undefined && portDouble !== undefined)
  const members = membersAt([portA, portB])
  const a = new PeerNode(portA, factsOf(members, 1))
  const b = new PeerNode(portB, factsOf(members, 2))
  const believed = members.map(m => (m.raftId === 2 ? { ...m, incarnation: 'other' } : m))
  const double = new PeerNode(portDouble, factsOf(believed, 2))

  await waitFor(() => double.lastError(1).includes('or two nodes run as n2'), 'a refuses it')
  await waitFor(() => a.isConnectedTo(2) && b.isConnectedTo(1), 'the members go on')

  assert(a.lines.some(line => line.text.includes('or two nodes run as n2')))
})

test('a process on a copy of the data directory is kept out while the original lives', async t => {
  const ports = await openPorts(t, 3)
  const [portA, portB, portCopy] = ports
  assert(portA !== undefined && portB !== undefined && portCopy !== undefined)
  const members = membersAt([portA, portB])
  const a = new PeerNode(portA, factsOf(members, 1))
  const original = new PeerNode(portB, factsOf(members, 2))
  await waitFor(() => original.isConnectedTo(1), 'the original is connected')

  const copy = new PeerNode(portCopy, { ...factsOf(members, 2), starts: 2 })
  await waitFor(() => copy.lastError(1).includes('another process runs as node n2'), 'told')
  assert(original.isConnectedTo(1) && !copy.isConnectedTo(1))
  assert(a.lines.some(line => line.text.includes('another process runs as node n2')))

  original.stop()
  await waitFor(() => copy.isConnectedTo(1), 'when the original has gone the copy is a restart')
  const former = new PeerNode(portB, factsOf(members, 2))
  const says = 'came with an older copy of its data directory'
  await waitFor(() => former.lastError(1).includes(says), 'and the original an older copy')
})

test('an address that leads to another member is told as such', async t => {
  const ports = await openPorts(t, 3)
  const members = membersAt(ports)
  const [, second, third] = members
  const mixed = members.map(m => {
    return { ...m, address: (m.raftId === 2 ? third : m.raftId === 3 ? second : m)?.address ?? '' }
  })
  const nodes = ports.map((port, index) => new PeerNode(port, factsOf(mixed, index + 1)))

  const says = /the address given for node n2 leads to node n3/
  await waitFor(() => says.test(nodes[0]?.lastError(2) ?? ''), 'n1 is told')
})

for (const direction of ['askedBytes', 'answeredBytes'] as const) {
  test(`a handshake cut at any byte (${direction}) is tried again until it succeeds`, async t => {
    const limits = { ...FAST_LIMITS, backoffMsMin: 1, backoffMsMax: 2 }
    const [a, b, proxy] = await pairByProxy(t, limits, proxy => {
      proxy.cut = connection => ({ [direction]: connection })
    })

    await waitFor(() => a.isConnectedTo(2), 'a is connected in the end', 20_000)

    // The upgrade, hello and proof of one side, or the upgrade, challenge and card of the other.
    assert(proxy.connectionCount > 400, `cut at ${proxy.connectionCount} places`)
    proxy.cut = () => ({})
    proxy.reset()
    await waitFor(() => {
      a.send(2, 'data', 'through')
      return b.recorder.texts('data').includes('through')
    }, 'a frame passes over the next connection')
  })
}

/** A caller that is no node: asks for the upgrade and then says what it likes. */
async function stranger(t: TestContext, port: Port): Promise<Socket> {
  const socket = connect(port.number, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  socket.resume()
  socket.write(
    'GET /replicate HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\n' +
      `Upgrade: ${UPGRADE_PROTOCOL}\r\n\r\n`,
  )
  await new Promise(resolve => socket.once('data', resolve))
  return socket
}

test('garbage instead of a handshake ends that connection and nothing else', async t => {
  const [a, b] = await pair(t)

  for (let round = 0; round < 50; round++) {
    const socket = await stranger(t, a.port)
    const closed = new Promise(resolve => socket.once('close', resolve))
    const garbage = randomBytes(2 + round * 40)
    // Short of its announced length it would be waited for, until the deadline.
    garbage[0] = round % 2 === 0 ? 0xff : 0
    socket.write(garbage)
    if (round % 2 === 1) socket.end()
    await closed
  }

  assert(a.send(2, 'control', 'still there'))
  await waitFor(() => b.recorder.texts('control').includes('still there'), 'the peer is unharmed')
  assert(a.isConnectedTo(2) && b.isConnectedTo(1))
})

test('of a crowd of callers that never speak the oldest go, and a member comes in', async t => {
  const [portA, portB] = await openPorts(t, 2)
  assert(portA !== undefined && portB !== undefined)
  const members = membersAt([portA, portB])
  const limits = { ...FAST_LIMITS, unprovenCountMax: 8, handshakeTimeoutMs: 60_000 }
  const a = new PeerNode(portA, factsOf(members, 1), limits)
  const crowd: Socket[] = []
  for (let count = 0; count < 40; count++) crowd.push(await stranger(t, portA))

  const b = new PeerNode(portB, factsOf(members, 2))
  await waitFor(() => b.isConnectedTo(1) && a.isConnectedTo(2), 'the member is let in')

  // Each lane of the member took the place of one more.
  await waitFor(() => crowd.filter(socket => socket.closed).length >= 32, 'the oldest are out')
  assert(
    crowd.slice(-6).every(socket => !socket.closed),
    'the latest are still heard',
  )
})

test('a caller that never speaks is out at the deadline', async t => {
  const [port] = await openPorts(t, 1)
  assert(port !== undefined)
  const limits = { ...FAST_LIMITS, handshakeTimeoutMs: 50 }
  const node = new PeerNode(port, factsOf(membersAt([port]), 1), limits)

  const socket = await stranger(t, port)
  await waitFor(() => socket.closed, 'it is out')

  assert(node.lines.some(line => line.text.includes('the handshake took longer than 50 ms')))
})

interface Answer {
  readonly status: string
}

/** What a transport answers to a request that it must not upgrade. */
async function ask(
  transport: TcpPeerTransport,
  headers: Readonly<Record<string, string>>,
  remoteAddress: string,
): Promise<Answer> {
  const socket = new PassThrough()
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const request = { headers, socket: { remoteAddress } } as unknown as IncomingMessage
  transport.accept(request, socket, Buffer.alloc(0))
  await waitFor(() => text.includes('\r\n\r\n'), 'an answer came')
  socket.destroy()
  return { status: text.slice(9, 12) }
}

test('a member that is added is dialled, and one that is removed is told so', async t => {
  const ports = await openPorts(t, 3)
  const members = membersAt(ports)
  const [a, b] = ports.slice(0, 2).map((port, index) => {
    return new PeerNode(port, factsOf(members.slice(0, 2), index + 1))
  })
  assert(a !== undefined && b !== undefined && ports[2] !== undefined)
  const c = new PeerNode(ports[2], factsOf(members, 3))
  a.transport.setMembers(listOf(members, 5))
  await waitFor(() => a.isConnectedTo(3) && c.isConnectedTo(1), 'the new member is there')

  const { nextRaftId } = listOf(members)
  const left = { index: 7, members: [members[0], members[2]].filter(m => m !== undefined) }
  a.transport.setMembers({ ...left, nextRaftId })

  await waitFor(() => b.removals.length > 0, 'the removed one is told')
  assert.deepEqual(b.removals[0], 'n1')
  // The lanes that were open break as well, and that is the last word until the next attempt.
  const isTold = (): boolean => /n2 was removed from the cluster/.test(b.lastError(1))
  await waitFor(isTold, 'the refusal is what is known of the others')
  assert.equal(a.transport.health(2), undefined)
  assert(a.recorder.events.includes('disconnected 2 control'))
  assert.equal(a.send(2, 'data', 'nobody'), false)
  // An older list, as a node may replay it after a restart, brings nobody back.
  a.transport.setMembers(listOf(members, 5))
  assert.equal(a.transport.health(2), undefined)
  assert(a.isConnectedTo(3), 'who stays keeps its lanes')
})

test('a node that is behind talks to members that it does not know yet', async t => {
  const ports = await openPorts(t, 2)
  const members = membersAt(ports)
  const [portA, portB] = ports
  assert(portA !== undefined && portB !== undefined && members[0] !== undefined)
  const behind = new PeerNode(portA, factsOf([members[0]], 1))
  const newer = new PeerNode(portB, factsOf(members, 2))

  await waitFor(() => behind.isConnectedTo(2) && newer.isConnectedTo(1), 'both ways')
  assert(newer.send(1, 'data', 'news') && behind.send(2, 'data', 'thanks'))
  await waitFor(() => behind.recorder.texts('data').includes('news'), 'it hears the newer one')
  await waitFor(() => newer.recorder.texts('data').includes('thanks'), 'and answers it')

  behind.transport.setMembers(listOf(members, 3))
  assert(behind.isConnectedTo(2), 'the lanes stay when the stranger becomes a member')
  behind.transport.setMembers({ index: 4, members: [members[0]], nextRaftId: 3 })
  assert.equal(behind.transport.health(2), undefined)
})

test('strangers with the secret take the place of older strangers, never of members', async t => {
  const ports = await openPorts(t, 12)
  const members = membersAt(ports)
  const known = members.slice(0, 2)
  const nodes = ports.map((port, index) => {
    const seen = index < 2 ? known : members.filter(m => m.raftId === 1 || m.raftId === index + 1)
    return new PeerNode(port, factsOf(seen, index + 1))
  })
  const [first] = nodes
  assert(first !== undefined)

  await waitFor(() => first.isConnectedTo(2), 'the member is there')
  await waitFor(() => {
    const lines = first.lines.filter(line => line.message === 'a newer member called')
    return lines.length >= 10
  }, 'all strangers called')

  assert(first.isConnectedTo(2))
  const strangers = members.slice(2).filter(m => first.transport.health(m.raftId) !== undefined)
  assert(strangers.length <= 8, `${strangers.length} strangers`)
})

test('a member that has moved is dialled at its new address', async t => {
  const [portA, portB, portNew] = await openPorts(t, 3)
  assert(portA !== undefined && portB !== undefined && portNew !== undefined)
  const members = membersAt([portA, portB])
  const a = new PeerNode(portA, factsOf(members, 1))
  const b = new PeerNode(portB, factsOf(members, 2))
  await waitFor(() => a.isConnectedTo(2) && b.isConnectedTo(1), 'connected')
  await portB.close()
  await waitFor(() => !a.isConnectedTo(2), 'it went away')

  const moved = members.map(m => (m.raftId === 2 ? { ...m, address: portNew.address } : m))
  const again = new PeerNode(portNew, { ...factsOf(moved, 2), starts: 2 })
  a.transport.setMembers(listOf(moved, 4))

  await waitFor(() => a.isConnectedTo(2) && again.isConnectedTo(1), 'reached where it is now')
})

test('a request that can not become a lane gets an HTTP answer', async t => {
  const [port] = await openPorts(t, 1)
  assert(port !== undefined)
  const facts = { ...factsOf(membersAt([port]), 1), secret: '' }
  const { logger } = memoryLogger()
  const transport = new TcpPeerTransport({
    facts,
    members: facts.roster.list,
    limits: FAST_LIMITS,
    clock: new SystemClock(),
    random: new SystemRandom(),
    logger,
  })
  t.after(() => transport.stop())
  const upgrade = { upgrade: UPGRADE_PROTOCOL }

  const early = await ask(transport, upgrade, '127.0.0.1')
  transport.listen(new Recorder())
  const wrong = await ask(transport, { upgrade: 'websocket' }, '127.0.0.1')
  const outside = await ask(transport, upgrade, '192.0.2.7')
  const inside = await ask(transport, upgrade, '127.0.0.1')

  const statuses = [early, wrong, outside, inside].map(answer => answer.status)
  assert.deepEqual(statuses, ['503', '426', '403', '101'])
})

test('without a secret no transport starts that others could reach', () => {
  const members = [
    { raftId: 1, nodeId: 'n1', address: '127.0.0.1:7001', incarnation: 'disk-1' },
    { raftId: 2, nodeId: 'n2', address: '192.0.2.7:7001', incarnation: 'disk-2' },
  ]
  const options = {
    facts: { ...factsOf(members, 1), secret: '' },
    members: listOf(members),
    limits: FAST_LIMITS,
    clock: new SystemClock(),
    random: new SystemRandom(),
    logger: memoryLogger().logger,
  }

  assert.throws(() => new TcpPeerTransport(options), {
    code: 'UNAUTHENTICATED',
    message: /192\.0\.2\.7:7001 can be reached from other machines/,
  })
})

test('the secret is in no line of logger output and in no dump of a transport', async t => {
  const [a, b] = await startNodes(t, { 2: { secret: `${SECRET}-not` } })
  assert(a !== undefined && b !== undefined)
  await waitFor(() => a.lastError(2) !== '' && b.lastError(1) !== '', 'both failed')

  const said = [...a.lines, ...b.lines].map(line => line.text).join('\n')

  assert(said.length > 100)
  assert(!said.includes(SECRET))
  const options = { depth: 12, showHidden: true }
  assert(!inspect(a.transport, options).includes(SECRET))
  assert(!inspect(a.transport.health(2), options).includes(SECRET))
})
