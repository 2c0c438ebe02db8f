import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type JoinAnswer,
  type JoinRequest,
  openJoinAnswer,
  openJoinRequest,
  sealJoinAnswer,
  sealJoinRequest,
} from '../../src/cli/join-messages.ts'

const SECRET = 'a-secret-of-the-messages'
const REQUEST: JoinRequest = {
  version: 2,
  nodeId: 'n2',
  as: 'voter',
  incarnation: 'disk-2',
  address: '127.0.0.1:7002',
  build: 'sqlite 3.50',
  sentAtMs: 1_700_000_000_000,
  nonce: '0123456789abcdef0123456789abcdef',
}
const ANSWER: JoinAnswer = {
  type: 'founded',
  clusterId: 'c1',
  historyId: 'h1',
  groupId: 1,
  members: [{ raftId: 1, nodeId: 'n1', address: '127.0.0.1:7001', incarnation: 'disk-1' }],
}

test('request and answer are opened as they were sealed', () => {
  const sealed = sealJoinRequest(REQUEST, SECRET)
  const opened = openJoinRequest(JSON.stringify(sealed), SECRET)
  const answer = JSON.stringify(sealJoinAnswer(ANSWER, opened.mac, SECRET))

  assert.deepEqual(opened.request, REQUEST)
  assert.deepEqual(openJoinAnswer(answer, sealed.mac, SECRET), ANSWER)
})

test('an answer is only good for the request that it answers', () => {
  const one = sealJoinRequest(REQUEST, SECRET)
  const two = sealJoinRequest({ ...REQUEST, nonce: 'f'.repeat(32) }, SECRET)
  const answer = JSON.stringify(sealJoinAnswer(ANSWER, one.mac, SECRET))

  assert.throws(() => openJoinAnswer(answer, two.mac, SECRET), { code: 'UNAUTHENTICATED' })
})

test('a request can not be turned round into an answer', () => {
  const payload = JSON.stringify(ANSWER)
  const { mac } = sealJoinRequest(JSON.parse(payload) as JoinRequest, SECRET)

  assert.throws(() => openJoinAnswer(JSON.stringify({ payload, mac }), '', SECRET), {
    code: 'UNAUTHENTICATED',
  })
})

test('no character of a sealed request can be changed', () => {
  const sealed = sealJoinRequest(REQUEST, SECRET)
  for (let at = 0; at < sealed.payload.length; at++) {
    const characters = sealed.payload.split('')
    characters[at] = String.fromCharCode(sealed.payload.charCodeAt(at) ^ 1)
    const payload = characters.join('')
    const body = JSON.stringify({ ...sealed, payload })

    assert.throws(() => openJoinRequest(body, SECRET), { code: 'UNAUTHENTICATED' })
  }
})

test('what is sealed but of an unknown form asks for the same release everywhere', () => {
  const odd = { ...REQUEST, version: 3 } as unknown as JoinRequest
  const body = JSON.stringify(sealJoinRequest(odd, SECRET))

  assert.throws(() => openJoinRequest(body, SECRET), {
    code: 'INVALID_REQUEST',
    message: /run the same release everywhere/,
  })
})
