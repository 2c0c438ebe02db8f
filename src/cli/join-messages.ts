/**
 * What a joiner and a node of the cluster say to each other over `POST /join`. Both directions
 * carry {"payload": text, "mac": hex}: the payload is JSON, kept as text because the MAC,
 * HMAC-SHA256 under the cluster secret, is made over these very characters. An answer's MAC covers
 * the MAC of the request too, so it answers that request and no other.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import * as z from 'zod'
import { DbError } from '../base/errors.ts'

const name = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/)
const mac = z.string().regex(/^[0-9a-f]{64}$/)

const envelope = z.object({ payload: z.string(), mac })

/** 2: a cluster that runs takes new members. */
export const JOIN_VERSION = 2

const joinRequest = z.object({
  version: z.literal(JOIN_VERSION),
  nodeId: name,
  incarnation: name,
  /** To found a cluster together, or to become a member of one that runs. */
  as: z.enum(['founder', 'voter', 'learner']),
  /** Where the others will reach the joiner. */
  address: z.string().max(300),
  /** Names the SQL engine's build, which must be the same on all nodes. */
  build: z.string().max(300),
  /** The joiner's wall clock: an old recording of a request is not taken for a new one. */
  sentAtMs: z.number(),
  nonce: z.string().regex(/^[0-9a-f]{32}$/),
})

const member = z.object({
  raftId: z.int().min(1),
  nodeId: name,
  address: z.string(),
  incarnation: name,
})

const joinAnswer = z.discriminatedUnion('type', [
  /** Come again: so many of the voters have shown up. */
  z.object({ type: z.literal('waiting'), present: z.int(), voters: z.int() }),
  z.object({
    type: z.literal('founded'),
    clusterId: name,
    historyId: name,
    groupId: z.int().min(1),
    members: z.array(member),
  }),
  /** The joiner is a member from here on; its log begins with the founders, or a snapshot. */
  z.object({
    type: z.literal('joined'),
    clusterId: name,
    historyId: name,
    groupId: z.int().min(1),
    raftId: z.int().min(1),
    founders: z.array(member),
    known: z.object({
      index: z.int().min(0),
      members: z.array(member),
      nextRaftId: z.int().min(1),
    }),
  }),
])

export type JoinRequest = z.infer<typeof joinRequest>
export type JoinAnswer = z.infer<typeof joinAnswer>

/** A payload with its MAC: the JSON value that goes over the wire. */
export type Sealed = z.infer<typeof envelope>

export function sealJoinRequest(request: JoinRequest, secret: string): Sealed {
  return seal(secret, 'request', '', JSON.stringify(request))
}

/** Throws INVALID_REQUEST or UNAUTHENTICATED. */
export function openJoinRequest(
  body: string,
  secret: string,
): { readonly request: JoinRequest; readonly mac: string } {
  const { payload, mac } = open(body, secret, 'request', '')
  const parsed = joinRequest.safeParse(parseJson(payload))
  if (parsed.success) return { request: parsed.data, mac }
  throw new DbError(
    'INVALID_REQUEST',
    'the request to join has another form than this version knows; run the same release everywhere',
  )
}

export function sealJoinAnswer(answer: JoinAnswer, requestMac: string, secret: string): Sealed {
  return seal(secret, 'answer', requestMac, JSON.stringify(answer))
}

/** Throws INVALID_REQUEST or UNAUTHENTICATED. */
export function openJoinAnswer(body: string, requestMac: string, secret: string): JoinAnswer {
  const { payload } = open(body, secret, 'answer', requestMac)
  const parsed = joinAnswer.safeParse(parseJson(payload))
  if (parsed.success) return parsed.data
  throw new DbError(
    'INVALID_REQUEST',
    'the answer to the request to join has another form than this version knows; ' +
      'run the same release everywhere',
  )
}

function seal(secret: string, label: string, context: string, payload: string): Sealed {
  return { payload, mac: macOf(secret, label, context, payload).toString('hex') }
}

function open(body: string, secret: string, label: string, context: string): Sealed {
  const parsed = envelope.safeParse(parseJson(body))
  if (!parsed.success) {
    throw new DbError('INVALID_REQUEST', 'the body is no message of a node that joins a cluster')
  }
  const { payload, mac } = parsed.data
  if (!timingSafeEqual(macOf(secret, label, context, payload), Buffer.from(mac, 'hex'))) {
    throw new DbError(
      'UNAUTHENTICATED',
      'the joining node and the one it asked have different cluster secrets; ' +
        'give every node the secret that "lockstep init" made',
    )
  }
  return parsed.data
}

/** The context is empty or a MAC of fixed length, so the parts can't be cut differently. */
function macOf(secret: string, label: string, context: string, payload: string): Buffer {
  return createHmac('sha256', secret)
    .update(`lockstep join ${label}\0${context}\0${payload}`)
    .digest()
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not JSON is one more way of not being a message; the caller says so.
    return undefined
  }
}
