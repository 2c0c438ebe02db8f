/** The receiving end of a lane: what it confirms, and when it ends the connection. */
import assert from 'node:assert/strict'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import type { DbError } from '../../src/base/errors.ts'
import { SystemClock } from '../../src/platform/clock.ts'
import { encodeFrames, PING } from '../../src/platform/frame.ts'
import { IncomingLane } from '../../src/platform/incoming-lane.ts'
import { FAST_LIMITS, waitFor } from './peer-kit.ts'

interface Tested {
  readonly lane: IncomingLane
  /** The sending end of the connection. */
  readonly sender: Socket
  readonly frames: string[]
  readonly errors: DbError[]
}

async function setUp(t: TestContext, rest: Uint8Array = Buffer.alloc(0)): Promise<Tested> {
  const server = createServer({ allowHalfOpen: true })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const sender = connect((server.address() as AddressInfo).port, '127.0.0.1')
  sender.on('error', () => {})
  const socket = await new Promise<Socket>(resolve => server.once('connection', resolve))
  t.after(() => {
    sender.destroy()
    socket.destroy()
    server.close()
  })
  const frames: string[] = []
  const errors: DbError[] = []
  const lane = new IncomingLane({
    socket,
    limits: { ...FAST_LIMITS, confirmMs: 10, idleMs: 100 },
    clock: new SystemClock(),
    onContact: () => {},
    onFrame: body => {
      frames.push(Buffer.from(body).toString())
      if (frames.at(-1) === 'close') lane.close()
    },
    onClosed: error => errors.push(error),
  })
  lane.start(rest)
  return { lane, sender, frames, errors }
}

const frame = (text: string): Buffer => Buffer.concat(encodeFrames([Buffer.from(text)]))

test('bytes that came with the handshake are read before all others', async t => {
  const { sender, frames } = await setUp(t, frame('first').subarray(0, 9))
  sender.write(frame('first').subarray(9))
  sender.write(frame('second'))

  await waitFor(() => frames.length === 2, 'both came')

  assert.deepEqual(frames, ['first', 'second'])
})

test('every byte is confirmed, pings included', async t => {
  const { sender } = await setUp(t)
  let counted = 0n
  sender.on('data', (chunk: Buffer) => {
    counted = chunk.readBigUInt64BE(chunk.length - 8)
  })

  sender.write(frame('12345'))
  sender.write(PING)

  await waitFor(() => counted === 21n, '13 bytes of a frame and 8 of a ping are confirmed')
})

test('a bad checksum ends the connection with a sentence', async t => {
  const { sender, frames, errors } = await setUp(t)
  const bad = frame('damaged')
  bad[10] = (bad[10] ?? 0) ^ 1
  const closed = new Promise(resolve => sender.once('close', resolve))
  sender.resume()

  sender.write(Buffer.concat([frame('good'), bad, frame('never read')]))
  await closed

  assert.deepEqual(frames, ['good'])
  assert.equal(errors.length, 1)
  assert.match(errors[0]?.message ?? '', /a frame of 7 bytes has checksum \d+, announced was \d+/)
})

test('a frame over the limit ends the connection', async t => {
  const { sender, errors } = await setUp(t)

  sender.write(Buffer.from('7fffffff00000000', 'hex'))
  await waitFor(() => errors.length > 0, 'it was noticed')

  assert.equal(errors[0]?.code, 'CORRUPT')
})

test('a sender that falls silent is given up', async t => {
  const { sender, errors } = await setUp(t)
  sender.write(PING)

  await waitFor(() => errors.length > 0, 'it was noticed')

  assert.equal(errors[0]?.message, 'nothing came for 100 ms')
})

test('a connection may end in the middle of a frame, which is not handed on then', async t => {
  const { sender, frames, errors } = await setUp(t)

  sender.end(Buffer.concat([frame('whole'), frame('cut short').subarray(0, 12)]))
  await waitFor(() => errors.length > 0, 'it was noticed')

  assert.deepEqual(frames, ['whole'])
  assert.equal(errors[0]?.message, 'the peer closed the connection')
})

test('a lane closed by what it delivers is silent from then on', async t => {
  const { sender, frames, errors } = await setUp(t)
  const closed = new Promise(resolve => sender.once('close', resolve))
  sender.resume()

  sender.write(Buffer.concat([frame('one'), frame('close'), frame('three')]))
  await closed

  assert.deepEqual(frames, ['one', 'close'])
  assert.deepEqual(errors, [])
})
