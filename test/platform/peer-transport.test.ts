/** The transport between real sockets: order, lanes, retries and who is let in. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { factsOf, membersAt, PeerNode, Port, waitFor } from './peer-kit.ts'

/** Two connected nodes that end with the test. */
async function pair(t: TestContext): Promise<[PeerNode, PeerNode]> {
  const ports = [await Port.open(), await Port.open()] as const
  t.after(async () => {
    for (const port of ports) await port.close()
  })
  const members = membersAt(ports)
  const a = new PeerNode(ports[0], factsOf(members, 1))
  const b = new PeerNode(ports[1], factsOf(members, 2))
  await waitFor(() => a.isConnectedTo(2) && b.isConnectedTo(1), 'both are connected')
  return [a, b]
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
