/** A real HTTP server that answers as a test says, in place of a node. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { ERRORS, type ErrorCode } from '../../src/base/errors.ts'
import { encodeToken, tokenPrefix } from '../../src/protocol/token.ts'

/** `hang` never answers; `destroy` breaks the connection after the request came. */
export type Script = 'hang' | 'destroy' | { readonly status?: number; readonly json: unknown }

export interface SeenRequest {
  readonly path: string
  readonly json: Readonly<Record<string, unknown>>
  /** The id of a write: header `Lockstep-Request` or `Idempotency-Key`. */
  readonly id: string | undefined
  /** What stands beside a key. */
  readonly since: string | undefined
}

export class ScriptedNode implements AsyncDisposable {
  /** All requests but those for /nodes, /sessions, /cancel and health, in the order they came. */
  readonly seen: SeenRequest[] = []
  /** Answers the next requests that are seen; the last one is used for ever. */
  script: Script[] = [okAnswer()]
  /** Requests to /cancel, and what answers them. */
  readonly cancelled: SeenRequest[] = []
  fates: Script[] = [{ json: { fate: 'not-applied', node: 'n', durationMs: 1 } }]
  /** How many sessions were opened, and what opens them; the session's text is made up if empty. */
  sessionsOpened = 0
  sessions: Script[] = []
  /** False: it does not even say that it lives. */
  isLive = true
  /** Whom GET /nodes names as leader; `hang` if it is not answered. */
  leader: { readonly nodeId: string; readonly address: string } | null | 'hang' = null
  nodesAsked = 0
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => this.#answer(request, Buffer.concat(chunks), response))
  })
  readonly #sockets = new Set<Socket>()

  static async start(): Promise<ScriptedNode> {
    const node = new ScriptedNode()
    node.#server.on('connection', socket => {
      node.#sockets.add(socket)
      socket.once('close', () => node.#sockets.delete(socket))
    })
    await new Promise<void>(resolve => {
      node.#server.listen(0, '127.0.0.1', resolve)
    })
    return node
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  #answer({ url: path = '', headers }: IncomingMessage, body: Buffer, response: ServerResponse) {
    if (path === '/nodes') {
      this.nodesAsked += 1
      if (this.leader === 'hang') return
      const json = { node: 'n', term: 1, leader: this.leader, nodes: [] }
      response.end(JSON.stringify(json))
      return
    }
    if (path === '/health/live') {
      if (this.isLive) response.end('{}')
      return
    }
    if (path === '/sessions') {
      this.sessionsOpened += 1
      const session = `h-1-${this.sessionsOpened.toString(16)}`
      give(this.sessions, response, { json: { session, window: 64, node: 'n' } })
      return
    }
    const json: unknown = body.length === 0 ? {} : JSON.parse(body.toString())
    const id = headers['lockstep-request'] ?? headers['idempotency-key']
    const since = headers['lockstep-since']?.toString()
    const seen = { path, json: json as SeenRequest['json'], id: id?.toString(), since }
    if (path === '/cancel') {
      this.cancelled.push(seen)
      give(this.fates, response)
    } else {
      this.seen.push(seen)
      give(this.script, response)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>(resolve => {
      if (this.#server.listening) this.#server.close(() => resolve())
      else resolve()
    })
  }
}

function give(script: Script[], response: ServerResponse, otherwise?: Script): void {
  const next = (script.length > 1 ? script.shift() : script[0]) ?? otherwise
  if (next === undefined || next === 'hang') return
  if (next === 'destroy') {
    response.destroy()
    return
  }
  response.statusCode = next.status ?? 200
  response.end(JSON.stringify(next.json))
}

/** An answer to a statement, as of `index`. */
export function okAnswer(index = 1, result: object = { rowsAffected: 1 }): Script {
  const token = encodeToken(tokenPrefix('h', 1), index)
  return { json: { results: [result], token, index, node: 'n', durationMs: 1 } }
}

/** An error answer with its row of the table. */
export function errorAnswer(code: ErrorCode, details: object = {}): Script {
  const { http, fate, retry } = ERRORS[code]
  return { status: http, json: { error: { code, message: `it is ${code}`, fate, retry, details } } }
}
