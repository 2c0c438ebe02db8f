import assert from 'node:assert/strict'
import { test } from 'node:test'
import { putMessage } from '../../bench/peers/drivers/etcd.ts'
import { headerBlock } from '../../bench/peers/drivers/grpc.ts'
import { parseAnswer } from '../../bench/peers/drivers/http.ts'

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'

test('an answer with a length is taken when it is whole, and no byte more', () => {
  const whole = Buffer.from(`${HEAD}Content-Length: 5\r\n\r\nhello`)
  const answer = parseAnswer(Buffer.concat([whole, Buffer.from('HTTP/1.1')]))
  assert.equal(answer?.status, 200)
  assert.equal(String(answer?.body), 'hello')
  assert.equal(answer?.end, whole.length)
  for (let length = 0; length < whole.length; length += 1) {
    assert.equal(parseAnswer(whole.subarray(0, length)), undefined)
  }
})

test('an answer in chunks is taken when the last has come', () => {
  const text = `${HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na\r\n 123456789\r\n0\r\n\r\n`
  const whole = Buffer.from(text)
  assert.equal(parseAnswer(whole)?.end, whole.length)
  for (let length = 0; length < whole.length; length += 1) {
    assert.equal(parseAnswer(whole.subarray(0, length)), undefined)
  }
})

test('a put is what the definition of the message says, with lengths over 127 too', () => {
  const message = putMessage(7, 300)
  assert.deepEqual([...message.subarray(0, 2)], [0x0a, 14])
  assert.equal(message.toString('latin1', 2, 16), 'k/000000000007')
  assert.deepEqual([...message.subarray(16, 19)], [0x12, 0xac, 0x02])
  assert.equal(message.length, 19 + 300)
})

test('the header block names method, scheme, path, host and type', () => {
  const block = headerBlock('h:1', '/a').toString('latin1')
  assert.equal(
    block,
    '\x83\x86\x04\x02/a\x01\x03h:1\x0f\x10\x10application/grpc\x00\x02te\x08trailers',
  )
})
