/**
 * The listener of a node: one port for clients and peers. It routes, bounds what strangers can
 * make it hold (bytes, time, connections), and leaves the rest to handlers.ts.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { AssertionError } from '../../base/assert.ts'
import { DbError, ERRORS } from '../../base/errors.ts'
import type { Logger } from '../../base/ports.ts'
import { API_HEADER, API_VERSION } from '../../protocol/api-version.ts'
import { KEY_HEADER, REQUEST_HEADER, SINCE_HEADER } from '../../protocol/request-id.ts'
import { routeAt, ROUTES, type Route, type RouteName } from '../../protocol/routes.ts'
import type { Service } from '../service.ts'
import { Connections } from './connections.ts'
import { Crowd } from './crowd.ts'
import { type Asker, errorText, Exchange, type ExchangeSettings } from './exchange.ts'
import type { HandlerContext, HandlerOptions, OpenStream } from './answers.ts'
import { HANDLERS } from './handlers.ts'
import { Metrics } from './metrics.ts'
import { announcedBytes, ReceiveBudget } from './read-body.ts'
import { isStream } from './stream.ts'
import { SendRate } from './send-rate.ts'
import { type Holder, UnreadAnswers } from './unread.ts'
import { Turns } from './turns.ts'

export interface HttpServerOptions extends HandlerOptions {
  readonly host: string
  /** 0 lets the system choose. */
  readonly port: number
  readonly maxConnections: number
  /** Bytes of all answers that clients have not read; beyond, such clients are cut off. */
  readonly maxUnreadBytes: number
  /** A page of this origin may use the API from a browser; `*` for any, empty for none. */
  readonly corsOrigin: string
}

/** Connections over the limit that are still heard, so that health checks and peers get through. */
const OVER_LIMIT_FACTOR = 4
const BACKLOG = 4096
const HEADER_BYTES_MAX = 16 * 1024

export class HttpServer {
  readonly #options: HttpServerOptions
  readonly #service: Service
  readonly #logger: Logger
  readonly #server: Server
  readonly #turns = new Turns()
  readonly #connections: Connections
  readonly #unread: UnreadAnswers
  readonly #metrics: Metrics
  readonly #context: HandlerContext
  readonly #exchanges: ExchangeSettings
  /** Of every answer. */
  readonly #headers: string[]
  readonly #streams = new Set<OpenStream>()
  #isDraining = false
  #openExchanges = 0
  #onIdle: (() => void) | undefined

  constructor(options: HttpServerOptions, service: Service, logger: Logger) {
    this.#options = options
    this.#service = service
    this.#logger = logger
    const { maxQueuedMs, receiveTimeoutMs } = options
    // A request of which half was read when its connection had to wait must still arrive in time.
    const maxWaitMs = Math.min(maxQueuedMs, receiveTimeoutMs / 2)
    const wanted = (): number => service.wantedWrites()
    const crowd = new Crowd({ turns: this.#turns, wanted, maxWaitMs })
    this.#connections = new Connections(options.maxConnections, this.#turns, crowd)
    this.#unread = new UnreadAnswers({
      // Whatever is set, an answer of the largest size must get out.
      limitBytes: Math.max(options.maxUnreadBytes, 2 * options.maxResultBytes),
      holders: () => this.#connections.holders,
      onCut: (holder, heldBytes) => this.#onCut(holder, heldBytes),
    })
    this.#metrics = new Metrics(service, {
      connections: () => this.#connections.count,
      streams: () => this.#streams.size,
    })
    this.#context = {
      service,
      options,
      metrics: this.#metrics,
      budget: new ReceiveBudget(options.maxReceivingBytes),
      connections: () => this.#connections.count,
      snapshotRate: new SendRate(options.snapshotBytesPerSecond),
      streams: this.#streams,
      turns: this.#turns,
      crowd,
      unread: this.#unread,
      beginWrite: exchange => this.#connections.beginWrite(exchange),
      isDraining: () => this.#isDraining,
      guard: (asker, action) => this.#guard(asker, action),
    }
    const { corsOrigin } = options
    this.#headers = corsOrigin === '' ? [] : ['access-control-allow-origin', corsOrigin]
    this.#exchanges = {
      headers: this.#headers,
      sendTimeoutMs: options.receiveTimeoutMs,
      onEnd: (ended, status) => this.#onExchangeEnd(ended, status),
      onHeld: (exchange, sizeBytes) => this.#connections.queued(exchange, sizeBytes),
    }
    this.#server = this.#createServer()
  }

  /** The port, known once {@link listen} is done. */
  get port(): number {
    const address = this.#server.address() as AddressInfo | null
    return address?.port ?? this.#options.port
  }

  /** Throws PORT_IN_USE if the address is taken, INVALID_REQUEST if it is none of this machine. */
  async listen(): Promise<void> {
    const { host, port } = this.#options
    await new Promise<void>((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException): void => reject(listenError(error, host, port))
      this.#server.once('error', onError)
      this.#server.listen({ host, port, backlog: BACKLOG }, () => {
        this.#server.off('error', onError)
        // A later error (no file descriptor left) concerns one connection, not the node.
        this.#server.on('error', error => this.#logger.warn({ error }, 'the listener complains'))
        resolve()
      })
    })
  }

  /**
   * Takes no new connection, and lets the ones that are there go with their next answer: a client
   * that has a request on its way gets its answer, and no broken connection. Waits up to `lameMs`.
   */
  async drain(lameMs: number): Promise<void> {
    this.#headers.push('connection', 'close')
    this.#stopStreams()
    // The one of the HTTP server would close idle connections at once, under a request on its way.
    NetServer.prototype.close.call(this.#server)
    if (this.#connections.count > 0) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, lameMs)
        this.#connections.onEmpty = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** Waits for open exchanges up to `graceMs`, then closes all. */
  async stop(graceMs: number): Promise<void> {
    if (this.#server.listening) this.#server.close()
    this.#server.closeIdleConnections()
    this.#stopStreams()
    if (this.#openExchanges > 0) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, graceMs)
        this.#onIdle = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    this.#server.closeAllConnections()
  }

  #stopStreams(): void {
    this.#isDraining = true
    for (const stream of this.#streams) stream.stop()
  }

  #createServer(): Server {
    const { receiveTimeoutMs, keepAliveMs, maxConnections } = this.#options
    const settings = {
      // Some clients offer HTTP/2 to every server by an Upgrade; they get plain HTTP/1.1.
      shouldUpgradeCallback: (request: IncomingMessage) => request.url === ROUTES.replicate.path,
      requestTimeout: receiveTimeoutMs,
      headersTimeout: receiveTimeoutMs,
      connectionsCheckingInterval: Math.max(50, Math.min(1000, receiveTimeoutMs / 4)),
      keepAliveTimeout: keepAliveMs,
      maxHeaderSize: HEADER_BYTES_MAX,
      noDelay: true,
    }
    const server = createServer(settings, (request, response) => this.#onRequest(request, response))
    server.maxConnections = maxConnections * OVER_LIMIT_FACTOR
    server.on('drop', () => this.#metrics.countRefusedConnection())
    server.on('connection', (socket: Socket) => {
      if (!this.#connections.add(socket)) this.#metrics.countRefusedConnection()
    })
    server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      // A body that is too large is refused before its client has sent it.
      const mayCome = announcedBytes(request) <= this.#options.maxBodyBytes || isStream(request)
      if (mayCome) response.writeContinue()
      this.#onRequest(request, response)
    })
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) =>
      this.#onClientError(error, socket),
    )
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) =>
      this.#onUpgrade(request, socket, head),
    )
    return server
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? '/'
    const mark = url.indexOf('?')
    const route = routeAt(mark < 0 ? url : url.slice(0, mark), request.method ?? 'GET')
    const exchange = new Exchange(request, response, route, this.#exchanges)
    this.#openExchanges += 1
    this.#connections.begin(exchange)
    this.#guard(exchange, () => {
      if (request.method === 'OPTIONS' && this.#options.corsOrigin !== '') {
        sendPreflight(exchange)
        return
      }
      const name = this.#admit(exchange, url)
      const search = mark < 0 ? NO_SEARCH : new URLSearchParams(url.slice(mark + 1))
      if (mark >= 0 && !TAKES_SEARCH.includes(name)) refuseSearch(search, name)
      HANDLERS[name](exchange, this.#context, search)
    })
    // Whatever body the handler did not read must not stand before the next request.
    if (exchange.isEnded) request.resume()
  }

  /** The route, if it may be used now. Throws otherwise. */
  #admit(exchange: Exchange, url: string): RouteName {
    const { request, route: name } = exchange
    if (name === undefined) {
      const paths = Object.values(ROUTES).map(route => `${route.method} ${route.path}`)
      const shown = url.slice(0, 100)
      throw new DbError('NOT_FOUND', `there is no ${shown}; there are ${paths.join(', ')}`)
    }
    const route: Route = ROUTES[name]
    if (request.method !== route.method && !(request.method === 'HEAD' && route.method === 'GET')) {
      const message = `${route.path} takes ${route.method}, not ${request.method}`
      throw new DbError('METHOD_NOT_ALLOWED', message, { details: { allow: route.method } })
    }
    if (request.method === 'POST') this.#refuseStrangePage(request)
    refuseNewerApi(request)
    if (route.isAlwaysOn) return name
    const refusal = this.#service.refusal()
    if (refusal !== undefined) throw refusal
    if (this.#isOverLimit(exchange)) {
      const limit = this.#options.maxConnections
      const message = `node ${this.#service.nodeId} already has ${limit} connections, its limit`
      throw new DbError('OVERLOADED', `${message}; use fewer, or another node`)
    }
    return name
  }

  /**
   * Browsers say which page a request comes from. What a strange page sends must not be carried out
   * either: that it can't read the answer is no comfort, and with a host name of its own that leads
   * to this machine it could even read it.
   */
  #refuseStrangePage(request: IncomingMessage): void {
    const { origin } = request.headers
    const { corsOrigin } = this.#options
    if (origin === undefined || corsOrigin === '*' || origin === corsOrigin) return
    const page = origin.slice(0, 100)
    const message = `pages of ${page} may not use this node; --cors-origin allows one origin`
    throw new DbError('FORBIDDEN', message)
  }

  #guard(asker: Asker, action: () => void): void {
    try {
      action()
    } catch (error) {
      // A broken invariant ends the process at the top of the program; it is no answer.
      if (error instanceof AssertionError) throw error
      asker.sendError(...this.#toAnswer(asker, error))
    }
  }

  #toAnswer(asker: Asker, error: unknown): [DbError, readonly string[]] {
    const { route } = asker
    if (!(error instanceof DbError)) {
      this.#logger.error({ error, route }, 'a request met a bug')
      const message = error instanceof Error ? error.message : String(error)
      return [new DbError('INTERNAL', `a bug: ${message}`, { cause: error }), []]
    }
    if (error.code === 'METHOD_NOT_ALLOWED') {
      return [error, ['allow', String(error.details['allow'])]]
    }
    const isOverLimit = asker instanceof Exchange && this.#isOverLimit(asker)
    return [error, isOverLimit ? ['connection', 'close'] : []]
  }

  #isOverLimit({ request }: Exchange): boolean {
    return this.#connections.isOverLimit(request.socket)
  }

  #onExchangeEnd(exchange: Exchange, status: number): void {
    this.#openExchanges -= 1
    this.#connections.end(exchange)
    // Of a stream each line is counted.
    if (!exchange.isPiecewise)
      this.#metrics.countRequest(exchange.route, status, exchange.durationMs)
    if (this.#openExchanges === 0) this.#onIdle?.()
    this.#unread.answered(exchange.sentBytes)
  }

  #onCut({ socket }: Holder, heldBytes: number): void {
    this.#metrics.countCutConnection()
    const { maxUnreadBytes } = this.#options
    const client = socket.remoteAddress
    const facts = { code: 'OVERLOADED', client, heldBytes, maxUnreadBytes }
    this.#logger.warn(facts, 'a client that does not read its answers was cut off')
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // From here on nobody else listens: a reset without a listener would end the process.
    socket.on('error', () => socket.destroy())
    this.#connections.release(socket)
    this.#service.upgrade(request, socket, head)
  }

  /** The bytes were no HTTP, too slow or too many: there is no exchange that could answer. */
  #onClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    // A stream lasts as long as it likes; it watches over its lines by itself.
    const isTooLong = error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
    if (isTooLong && this.#connections.isStreaming(socket)) return
    if (!socket.writable || error.code === 'ECONNRESET' || !this.#connections.isQuiet(socket)) {
      socket.destroy()
      return
    }
    socket.end(rawAnswer(this.#toClientError(error)), () => socket.destroy())
  }

  #toClientError(error: NodeJS.ErrnoException): DbError {
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
      const message = `the request did not arrive within ${this.#options.receiveTimeoutMs} ms`
      return new DbError('SLOW_REQUEST', message)
    }
    if (error.code === 'HPE_HEADER_OVERFLOW') {
      const message = `the headers are over the limit of ${HEADER_BYTES_MAX} bytes`
      return new DbError('TOO_LARGE', message, { details: { limitBytes: HEADER_BYTES_MAX } })
    }
    return new DbError('INVALID_REQUEST', `this is not HTTP/1.1: ${error.message}`)
  }
}

/** Made once: to make one for each request shows in profiles. */
const NO_SEARCH = new URLSearchParams()
const TAKES_SEARCH: readonly RouteName[] = ['digest', 'snapshot', 'readBackup']

/** What this node would misread must not look as if it had been understood. */
function refuseNewerApi({ headers }: IncomingMessage): void {
  const asked = headers[API_HEADER]
  if (asked === undefined) return
  if (/^[1-9]\d{0,5}$/.test(String(asked)) && Number(asked) <= API_VERSION) return
  const other = String(asked).slice(0, 20)
  const message = `this node speaks version ${API_VERSION} of the API, not ${other}`
  throw new DbError('UNSUPPORTED', `${message}; upgrade the nodes before their clients`)
}

function refuseSearch(search: URLSearchParams, name: RouteName): void {
  const [field] = search.keys()
  if (field === undefined) return
  const message = `${ROUTES[name].path} takes nothing after the question mark, but has "${field}"`
  throw new DbError('INVALID_REQUEST', message)
}

function sendPreflight(exchange: Exchange): void {
  exchange.send(200, 'text/plain', '', [
    'access-control-allow-methods',
    'GET, POST',
    'access-control-allow-headers',
    `content-type, ${API_HEADER}, ${KEY_HEADER}, ${REQUEST_HEADER}, ${SINCE_HEADER}`,
    'access-control-max-age',
    '600',
  ])
}

/** An error as the bytes of an HTTP answer that ends its connection. */
function rawAnswer(error: DbError): string {
  const body = errorText(error)
  const status = ERRORS[error.code].http
  const head = [
    `HTTP/1.1 ${status} ${error.code}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): DbError {
  if (error.code === 'EADDRINUSE') {
    const message = `${host}:${port} is taken; stop the other program or choose another port`
    return new DbError('PORT_IN_USE', message, { cause: error, details: { host, port } })
  }
  const message = `can not listen on ${host}:${port}: ${error.message}`
  return new DbError('INVALID_REQUEST', message, { cause: error, details: { host, port } })
}
