/**
 * As much of the MySQL protocol as a load generator needs, on a bare socket: log in, prepare, execute
 * with values, count rows. Rows aren't decoded, so that it costs about what the HTTP client costs.
 */
import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import type { Socket } from 'node:net'

export type SqlValue = number | string

/** `rows` of a result set, 0 for anything else. */
export type OnResult = (error: MysqlError | undefined, rows: number) => void

export interface MysqlError {
  readonly code: number
  readonly text: string
}

const HEAD_BYTES = 4
const COM_QUERY = 0x03
const COM_STMT_PREPARE = 0x16
const COM_STMT_EXECUTE = 0x17
const TYPE_LONGLONG = 0x08
const TYPE_VAR_STRING = 0xfd
const OK = 0x00
const EOF_MARK = 0xfe
const ERROR = 0xff
/** CLIENT_LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH. */
const CAPABILITIES = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000
const UTF8MB4 = 45
const LOST = 2013

type OnPacket = (packet: Buffer) => void

interface Prepared {
  readonly id: number
  hasTypes: boolean
}

export class MysqlConnection {
  readonly #socket: Socket
  readonly #prepared = new Map<string, Prepared>()
  #received: Buffer = Buffer.alloc(0)
  #onPacket: OnPacket = () => {}
  #onResult: OnResult | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data: Buffer) => this.#receive(data))
    socket.on('error', error => this.#finish({ code: LOST, text: error.message }, 0))
    socket.on('close', () => this.#finish({ code: LOST, text: 'the connection was closed' }, 0))
  }

  static async open(
    address: string,
    user: string,
    password: string,
    database: string,
  ): Promise<MysqlConnection> {
    const [host = '', port = ''] = address.split(':')
    const connection = new MysqlConnection(connect({ host, port: Number(port), noDelay: true }))
    await new Promise<void>((resolve, reject) => {
      connection.#onResult = error => {
        if (error === undefined) return resolve()
        connection.close()
        reject(fault(error))
      }
      connection.#onPacket = greeting => {
        if (greeting[0] === ERROR) return connection.#finish(errorOf(greeting), 0)
        connection.#onPacket = packet => connection.#first(packet)
        connection.#send(loginPacket(scrambleOf(greeting), user, password, database), 1)
      }
    })
    return connection
  }

  /** A statement without values, as text. */
  query(sql: string, onResult: OnResult): void {
    this.#begin(onResult)
    this.#send(Buffer.concat([Buffer.from([COM_QUERY]), Buffer.from(sql)]), 0)
  }

  /** Prepares the statement at its first use and executes it. */
  execute(sql: string, values: readonly SqlValue[], onResult: OnResult): void {
    const prepared = this.#prepared.get(sql)
    if (prepared !== undefined) {
      this.#begin(onResult)
      this.#send(executePacket(prepared, values), 0)
      return
    }
    this.#prepare(sql, error => {
      if (error === undefined) this.execute(sql, values, onResult)
      else onResult(error, 0)
    })
  }

  close(): void {
    this.#onResult = undefined
    this.#socket.destroy()
  }

  #prepare(sql: string, onPrepared: (error: MysqlError | undefined) => void): void {
    this.#onResult = error => onPrepared(error)
    this.#onPacket = packet => {
      if (packet[0] === ERROR) return this.#finish(errorOf(packet), 0)
      this.#prepared.set(sql, { id: packet.readUInt32LE(1), hasTypes: false })
      const [columns, values] = [packet.readUInt16LE(5), packet.readUInt16LE(7)]
      // Descriptions of both, each list with an end of its own unless it is empty.
      let left = (columns > 0 ? columns + 1 : 0) + (values > 0 ? values + 1 : 0)
      if (left === 0) return this.#finish(undefined, 0)
      this.#onPacket = () => {
        left -= 1
        if (left === 0) this.#finish(undefined, 0)
      }
    }
    this.#send(Buffer.concat([Buffer.from([COM_STMT_PREPARE]), Buffer.from(sql)]), 0)
  }

  #begin(onResult: OnResult): void {
    this.#onResult = onResult
    this.#onPacket = packet => this.#first(packet)
  }

  #first(packet: Buffer): void {
    const [mark] = packet
    if (mark === ERROR) return this.#finish(errorOf(packet), 0)
    if (mark === OK) return this.#finish(undefined, 0)
    if (mark === EOF_MARK) {
      return this.#finish({ code: 0, text: 'the server asks for another way to log in' }, 0)
    }
    // A result set: descriptions of columns, an end, rows, an end.
    let hasRows = false
    let rows = 0
    this.#onPacket = next => {
      if (next[0] === ERROR) return this.#finish(errorOf(next), 0)
      if (next[0] !== EOF_MARK || next.length >= 9) {
        if (hasRows) rows += 1
      } else if (hasRows) this.#finish(undefined, rows)
      else hasRows = true
    }
  }

  #receive(data: Buffer): void {
    let bytes = this.#received.length === 0 ? data : Buffer.concat([this.#received, data])
    while (bytes.length >= HEAD_BYTES) {
      const end = HEAD_BYTES + bytes.readUIntLE(0, 3)
      if (bytes.length < end) break
      const packet = bytes.subarray(HEAD_BYTES, end)
      bytes = bytes.subarray(end)
      this.#onPacket(packet)
    }
    this.#received = bytes
  }

  #finish(error: MysqlError | undefined, rows: number): void {
    const onResult = this.#onResult
    this.#onResult = undefined
    onResult?.(error, rows)
  }

  #send(packet: Buffer, number: number): void {
    const head = Buffer.alloc(HEAD_BYTES)
    head.writeUIntLE(packet.length, 0, 3)
    head[3] = number
    this.#socket.write(Buffer.concat([head, packet]))
  }
}

function fault({ code, text }: MysqlError): Error {
  return new Error(`${code} ${text}`)
}

function errorOf(packet: Buffer): MysqlError {
  return { code: packet.readUInt16LE(1), text: packet.toString('utf8', 3) }
}

/** The 20 random bytes of the server's greeting, which stand in two parts. */
function scrambleOf(greeting: Buffer): Buffer {
  const versionEnd = greeting.indexOf(0, 1)
  const first = versionEnd + 1 + 4
  const second = first + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10
  return Buffer.concat([
    greeting.subarray(first, first + 8),
    greeting.subarray(second, second + 12),
  ])
}

/** The answer of mysql_native_password, and what the client can do. */
export function loginPacket(
  scramble: Buffer,
  user: string,
  password: string,
  database: string,
): Buffer {
  const head = Buffer.alloc(32)
  head.writeUInt32LE(CAPABILITIES, 0)
  head.writeUInt32LE(0x1000000, 4)
  head[8] = UTF8MB4
  const sha1 = (...parts: Buffer[]): Buffer =>
    createHash('sha1').update(Buffer.concat(parts)).digest()
  const once = sha1(Buffer.from(password))
  const mask = sha1(scramble, sha1(once))
  const proof = password === '' ? [] : once.map((byte, at) => byte ^ (mask[at] ?? 0))
  return Buffer.concat([
    head,
    Buffer.from(`${user}\0`),
    Buffer.from([proof.length, ...proof]),
    Buffer.from(`${database}\0mysql_native_password\0`),
  ])
}

/** Types are sent with the first execution only. */
function executePacket(prepared: Prepared, values: readonly SqlValue[]): Buffer {
  const parts: Buffer[] = []
  const head = Buffer.alloc(10)
  head[0] = COM_STMT_EXECUTE
  head.writeUInt32LE(prepared.id, 1)
  head.writeUInt32LE(1, 6)
  parts.push(head)
  if (values.length === 0) return head
  parts.push(Buffer.alloc(Math.ceil(values.length / 8)))
  if (prepared.hasTypes) parts.push(Buffer.from([0]))
  else {
    const types = values.flatMap(value => [
      typeof value === 'number' ? TYPE_LONGLONG : TYPE_VAR_STRING,
      0,
    ])
    parts.push(Buffer.from([1, ...types]))
    prepared.hasTypes = true
  }
  for (const value of values) parts.push(valueBytes(value))
  return Buffer.concat(parts)
}

function valueBytes(value: SqlValue): Buffer {
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64LE(BigInt(value))
    return bytes
  }
  const text = Buffer.from(value)
  // Longer ones have a length of several bytes, which nothing here needs.
  if (text.length > 250) throw new Error('a text longer than 250 bytes')
  return Buffer.concat([Buffer.from([text.length]), text])
}
