/** A real HTTP server that answers as a test says, in place of a node. */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { ERRORS, type ErrorCode } from '../../src/base/errors.ts'
import { encodeToken, tokenPrefix } from '../../src/protocol/token.ts'

/** `hang` never answers; `destroy` breaks the connection after the request came. */
export type Script = 'hang' | 'destroy' | { readonly status?: number; readonly json: unknown }

export interface SeenRequest {
  readonly path: string
  readonly json: Readonly<Record<string, unknown>>
}

export class ScriptedNode implements AsyncDisposable {
  /** All requests but those for /nodes, in the order they came. */
  readonly seen: SeenRequest[] = []
  /** Answers the next requests to /execute and /query; the last one is used for ever. */
  script: Script[] = [okAnswer()]
  /** Whom GET /nodes names as leader; `hang` if it is not answered. */
  leader: { readonly nodeId: string; readonly address: string } | null | 'hang' = null
  nodesAsked = 0
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => this.#answer(request.url ?? '', Buffer.concat(chunks), response))
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

  #answer(path: string, body: Buffer, response: ServerResponse): void {
    if (path === '/nodes') {
      this.nodesAsked += 1
      if (this.leader === 'hang') return
      const json = { node: 'n', term: 1, leader: this.leader, nodes: [] }
      response.end(JSON.stringify(json))
      return
    }
    const json: unknown = body.length === 0 ? {} : JSON.parse(body.toString())
    this.seen.push({ path, json: json as SeenRequest['json'] })
    const next = this.script.length > 1 ? this.script.shift() : this.script[0]
    if (next === undefined || next === 'hang') return
    if (next === 'destroy') {
      response.destroy()
      return
    }
    response.statusCode = next.status ?? 200
    response.end(JSON.stringify(next.json))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>(resolve => {
      if (this.#server.listening) this.#server.close(() => resolve())
      else resolve()
    })
  }
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
