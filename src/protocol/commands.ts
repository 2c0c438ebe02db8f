/**
 * Commands: what can be asked of a database without writing SQL. Their fields are data; what they
 * mean as SQL is in command-sql.ts.
 */
import { z } from 'zod'
import { databaseName } from './http-api.ts'
import type { Condition } from './conditions.ts'
import type { InputValue } from './values.ts'

/** Types of columns that a create_table can name; some take a size. */
const COLUMN_TYPES = [
  'ANY BIGINT BLOB BOOLEAN DATE DATETIME DOUBLE FLOAT INT INTEGER JSON NUMERIC REAL SMALLINT',
  'TEXT TIME TIMESTAMP TINYINT',
].flatMap(line => line.split(' '))
const SIZED_TYPE = /^(?:CHAR|VARCHAR)(?:\(\d{1,9}\))?$|^DECIMAL(?:\(\d{1,3}(?:, ?\d{1,3})?\))?$/

/** Only types of the list: the text stands in SQL as it is. */
function isColumnType(type: string): boolean {
  const upper = type.toUpperCase()
  return COLUMN_TYPES.includes(upper) || SIZED_TYPE.test(upper)
}

const table = z.string().min(1).describe('Name of the table.')
const where = z.unknown().optional().describe('Which rows; all without it.')
const names = z.array(z.string().min(1)).min(1)

const column = z.strictObject({
  name: z.string().min(1).describe('Name of the column.'),
  type: z
    .string()
    .refine(isColumnType, 'must be a type such as INTEGER, REAL, TEXT, BLOB or VARCHAR(40)')
    .describe('Type of the column.'),
  primary_key: z.boolean().optional().describe('The column is the whole primary key.'),
  not_null: z.boolean().optional().describe('Refuses null.'),
  unique: z.boolean().optional().describe('Refuses a second row with the same value.'),
  default: z.unknown().optional().describe('Value of a row that gives none.'),
})

const order = z.strictObject({
  column: z.string().min(1).describe('Column to sort by.'),
  direction: z.enum(['asc', 'desc']).default('asc').describe('Upwards or downwards.'),
})

const count = z.int().min(0).optional()

/** The schema of each action; every one of them refuses unknown fields. */
export const commandSchemas = {
  create_db: z.strictObject({ action: z.literal('create_db'), database: databaseName }),
  drop_db: z.strictObject({ action: z.literal('drop_db'), database: databaseName }),
  create_table: z.strictObject({
    action: z.literal('create_table'),
    database: databaseName,
    table,
    columns: z.array(column).min(1).describe('The columns, in order.'),
    primary_key: names.optional().describe('Columns of a primary key of several columns.'),
    if_not_exists: z.boolean().optional().describe('Do nothing if the table is there.'),
    strict: z.boolean().optional().describe('A STRICT table: wrong types are errors.'),
  }),
  drop_table: z.strictObject({
    action: z.literal('drop_table'),
    database: databaseName,
    table,
    if_exists: z.boolean().optional().describe('Do nothing if the table is not there.'),
  }),
  insert: z.strictObject({
    action: z.literal('insert'),
    database: databaseName,
    table,
    columns: names.optional().describe('Columns that the arrays in `values` speak of.'),
    values: z
      .unknown()
      .describe('One row or an array of rows; a row is an array, or an object of columns.'),
    on_conflict: z
      .enum(['ignore', 'replace'])
      .optional()
      .describe('What to do with a row whose key is taken; without it the request fails.'),
    returning: names.optional().describe('Columns of the inserted rows to give back.'),
  }),
  update: z.strictObject({
    action: z.literal('update'),
    database: databaseName,
    table,
    set: z.record(z.string(), z.unknown()).describe('Columns and their new values.'),
    where,
    returning: names.optional().describe('Columns of the changed rows to give back.'),
  }),
  delete: z.strictObject({
    action: z.literal('delete'),
    database: databaseName,
    table,
    where,
    returning: names.optional().describe('Columns of the deleted rows to give back.'),
  }),
  select: z.strictObject({
    action: z.literal('select'),
    database: databaseName,
    table,
    columns: names.optional().describe('Columns to read; all without it.'),
    where,
    order_by: z.array(order).min(1).optional().describe('Columns to sort by, first one first.'),
    limit: count.describe('Most rows to give.'),
    offset: count.describe('Rows to leave out first.'),
  }),
} as const

/** The name of a Command. */
export type Action = keyof typeof commandSchemas

/** A Command as its schema leaves it: shape checked, values and conditions still JSON. */
export type CheckedCommand = z.output<(typeof commandSchemas)[Action]>

/** True if `action` is one of a Command. */
export function isAction(action: unknown): action is Action {
  return typeof action === 'string' && Object.hasOwn(commandSchemas, action)
}

/** A row to insert. */
type InputRow = readonly InputValue[] | Readonly<Record<string, InputValue>>

interface ColumnDefinition {
  readonly name: string
  readonly type: string
  readonly primary_key?: boolean
  readonly not_null?: boolean
  readonly unique?: boolean
  readonly default?: InputValue
}

/** A Command as a client writes it. */
export type Command =
  | { readonly action: 'create_db'; readonly database: string }
  | { readonly action: 'drop_db'; readonly database: string }
  | {
      readonly action: 'create_table'
      readonly database: string
      readonly table: string
      readonly columns: readonly ColumnDefinition[]
      readonly primary_key?: readonly string[]
      readonly if_not_exists?: boolean
      readonly strict?: boolean
    }
  | {
      readonly action: 'drop_table'
      readonly database: string
      readonly table: string
      readonly if_exists?: boolean
    }
  | {
      readonly action: 'insert'
      readonly database: string
      readonly table: string
      readonly columns?: readonly string[]
      readonly values: InputRow | readonly InputRow[]
      readonly on_conflict?: 'ignore' | 'replace'
      readonly returning?: readonly string[]
    }
  | {
      readonly action: 'update'
      readonly database: string
      readonly table: string
      readonly set: Readonly<Record<string, InputValue>>
      readonly where?: Condition
      readonly returning?: readonly string[]
    }
  | {
      readonly action: 'delete'
      readonly database: string
      readonly table: string
      readonly where?: Condition
      readonly returning?: readonly string[]
    }
  | {
      readonly action: 'select'
      readonly database: string
      readonly table: string
      readonly columns?: readonly string[]
      readonly where?: Condition
      readonly order_by?: readonly {
        readonly column: string
        readonly direction?: 'asc' | 'desc'
      }[]
      readonly limit?: number
      readonly offset?: number
    }
