/** The door of the package: a typed client for Node and browsers. */
export { DbError, type ErrorCode, type Fate, type Retry } from '../base/errors.ts'
export type { Command } from '../protocol/commands.ts'
export type { Condition } from '../protocol/conditions.ts'
export type {
  MembersRequest,
  MembersResponse,
  MemberStatus,
  NodesResponse,
  StatusResponse,
} from '../protocol/http-api.ts'
export type { InputValue, OutputValue } from '../protocol/values.ts'
export {
  createClient,
  type BatchResult,
  type Client,
  type ClientOptions,
  type Consistency,
  type ExecuteResult,
  type QueryOptions,
  type RequestOptions,
  type WriteFate,
  type WriteOptions,
} from './client.ts'
export type { BatchItem, DefaultRow, Params, Result } from './requests.ts'
export { sql, type SqlText } from './sql.ts'
export type { Transaction } from './transaction.ts'
export type { OutgoingRequest, Transport } from './transport.ts'
export type { WriteReference } from './writes.ts'
