/** Makes the pages of docs/reference/ from the tables of the code: `npm run docs`. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { ERRORS } from '../base/errors.ts'
import { commandSchemas } from '../protocol/commands.ts'
import { OPERATORS } from '../protocol/conditions.ts'
import {
  backupSchema,
  beginSchema,
  cancelSchema,
  digestSchema,
  endSchema,
  executeBatchSchema,
  executeStatementSchema,
  lineIdSchema,
  membersSchemas,
  trustSchema,
  queryBatchSchema,
  queryStatementSchema,
  statementSchema,
} from '../protocol/http-api.ts'
import { COMMON_ERRORS, ROUTES, type Route } from '../protocol/routes.ts'
import { WRITE_STAGES } from '../replica/write-stages.ts'
import { HISTOGRAM_METRICS } from '../server/http/histograms.ts'
import { PEER_METRICS, SERVER_METRICS, STATUS_METRICS } from '../server/http/metrics.ts'
import { envName, flagName, OPTIONS, type OptionRow } from './options.ts'

const NOTICE = '<!-- Made by `npm run docs` from the tables of the code. Change those. -->'

/** The pages by name, as they must stand in docs/reference/. */
export function referencePages(): Readonly<Record<string, string>> {
  return {
    'errors.md': errorsPage(),
    'options.md': optionsPage(),
    'routes.md': routesPage(),
    'metrics.md': metricsPage(),
  }
}

function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(([code, row]) => {
    const [errno, sqlState] = row.mysql
    return [`\`${code}\``, row.about, row.fate, row.retry, String(row.http), `${errno} ${sqlState}`]
  })
  return page('Errors', [
    'Every error that a node or the client can report. Over HTTP an error is',
    '',
    '```json',
    '{ "error": { "code": "…", "message": "…", "fate": "…", "retry": "…", "details": {} } }',
    '```',
    '',
    'with the status of its row. The message is a sentence for people; programs look at `code`.',
    '',
    '* **Fate** says what became of a write. `not-applied`: it did not and will not take effect.',
    '  `unknown`: it may or may not; look before you write again. Of a read nothing is ever left.',
    '  It speaks of the request that got this answer. If an earlier one under the same id was left',
    '  without an answer, or with `unknown`, then only `REQUEST_CANCELLED`, or `not-applied` from',
    '  `POST /cancel`, says that none of them took effect.',
    '* **Retry** says what may be done next. `never`: the same request will fail again. `same`:',
    '  send it again, after a pause, to any node. `leader`: send it to the leader. `same-id`: only',
    '  a write that carries a request id may be sent again, under the same id. `transaction`: run',
    '  the whole transaction again. The typed client does all this by itself: its writes carry',
    '  request ids, so that it asks again until it knows what became of them.',
    '',
    ...table(['Code', 'When, and what to do', 'Fate', 'Retry', 'HTTP', 'MySQL'], rows),
  ])
}

function optionsPage(): string {
  const rows = Object.entries<OptionRow>(OPTIONS).map(([name, row]) => {
    const flag = row.type === 'text' && row.isSecret === true ? '' : `\`${flagName(name)}\``
    return [flag, `\`${envName(name)}\``, row.about, defaultOf(row), boundsOf(row), row.scope]
  })
  return page('Options', [
    'Options of `lockstep start`. Each can be given on the command line, in the environment, or in',
    'a JSON file named by `--config` (or `LOCKSTEP_CONFIG`) under its name in camel case, as in',
    '`{ "nodeId": "n1", "electionTimeoutMs": 1000 }`. The command line wins over the environment,',
    'the environment over the file. Unknown names and values out of bounds are refused.',
    '',
    'Options of scope *cluster* should be the same on every node. Nodes compare them when they',
    'connect and warn of differences. They go on all the same, so that a value can be changed by',
    'restarting one node after the other.',
    '',
    ...table(['Flag', 'Variable', 'Meaning', 'Default', 'Values', 'Scope'], rows),
  ])
}

function defaultOf(row: OptionRow): string {
  const text = row.type === 'list' ? row.default.join(',') : String(row.default)
  return text === '' ? '' : `\`${text}\``
}

function boundsOf(row: OptionRow): string {
  if (row.type === 'choice') return row.choices.map(choice => `\`${choice}\``).join(', ')
  if (row.type === 'list') return 'texts with commas between them'
  if (row.type === 'text') return 'text'
  return `${row.min} to ${row.max}${row.unit === 'count' ? '' : ` ${row.unit}`}`
}

function metricsPage(): string {
  const status = Object.entries<{ type: string; about: string }>(STATUS_METRICS)
  const peers = Object.entries<{ about: string }>(PEER_METRICS)
  const histograms = Object.entries<{ about: string; label?: string }>(HISTOGRAM_METRICS)
  const server = Object.entries<{ type: string; about: string; labels: readonly string[] }>(
    SERVER_METRICS,
  )
  const rows = [
    ...status.map(([name, row]) => [`\`${name}\``, row.type, '', row.about]),
    ...peers.map(([name, row]) => [`\`${name}\``, 'gauge', '`peer`', row.about]),
    ...histograms.map(([name, row]) => {
      const label = row.label === undefined ? '' : `\`${row.label}\``
      return [`\`${name}\``, 'histogram', label, row.about]
    }),
    ...server.map(([name, row]) => {
      return [
        `\`${name}\``,
        row.type,
        row.labels.map(label => `\`${label}\``).join(', '),
        row.about,
      ]
    }),
  ]
  return page('Metrics', [
    '`GET /metrics` gives these as Prometheus text, beside the usual ones of the process',
    '(`process_…`) and of Node.js (`nodejs_…`, the lag of the event loop among them). What a node',
    'does not know is absent.',
    '',
    ...table(['Metric', 'Type', 'Labels', 'Meaning'], rows),
    '',
    '## Stages of a write',
    '',
    'The values of `stage`. Each begins where the one before it ends. A node that does not lead',
    'has `receive`, `forward` and `answer` of the writes that it passed on; the leader has all but',
    '`forward`, and of those it was passed no `receive`. Writes that changed nothing (all of their',
    'batch failed, or were answered before) are in none but `receive`; commits of interactive',
    'transactions are in all others. `lockstep top` shows the percentiles.',
    '',
    ...table(
      ['Stage', 'From the end of the one before, what happens'],
      Object.entries(WRITE_STAGES).map(([stage, about]) => [`\`${stage}\``, about]),
    ),
  ])
}

const SHAPES: Readonly<Record<Route['request'], readonly [title: string, schema: z.ZodType][]>> = {
  execute: [
    ['One SQL statement', executeStatementSchema],
    ['Several: `statements` (or the array alone)', executeBatchSchema],
    ['An SQL statement inside of `statements`', statementSchema],
    ['Beside these, in a line of a stream (`content-type: application/x-ndjson`)', lineIdSchema],
  ],
  query: [
    ['One SQL statement', queryStatementSchema],
    ['Several: `statements` (or the array alone)', queryBatchSchema],
  ],
  digest: [['After the question mark', digestSchema]],
  backup: [['How new it must be', backupSchema]],
  begin: [['Its database', beginSchema]],
  end: [['Nothing, or', endSchema]],
  cancel: [['A JSON object, and the header `Idempotency-Key` or `Lockstep-Request`', cancelSchema]],
  transfer: [],
  members: Object.entries(membersSchemas).map(([action, schema]) => [`\`${action}\``, schema]),
  trust: [['A JSON object', trustSchema]],
  bytes: [],
  none: [],
}

function routesPage(): string {
  const routes = Object.values<Route>(ROUTES)
  return page('Routes', [
    'All routes of the one port of a node. [http-api.md](http-api.md) explains them with examples.',
    '',
    ...table(
      ['Route', 'What it does'],
      routes.map(route => [`\`${route.method} ${route.path}\``, route.about]),
    ),
    '',
    `Every route can also end in ${codes(COMMON_ERRORS)}.`,
    ...routes.flatMap(routeSection),
    '',
    '## Commands',
    '',
    'A Command is an object with an `action`. It stands alone in the body of `POST /execute`',
    '(beside `timeoutMs` and `rows`), a `select` also in that of `POST /query`, and each in',
    '`statements`.',
    ...Object.entries(commandSchemas).flatMap(([action, schema]) => [
      '',
      `### ${action}`,
      '',
      ...fields(schema),
    ]),
    '',
    '## Conditions',
    '',
    'The field `where` of a Command is data, never SQL:',
    '',
    '* `{ "column": "age", "operator": ">=", "value": 18 }` compares a column,',
    '* `{ "and": […] }` and `{ "or": […] }` combine conditions, `{ "not": … }` reverses one.',
    '',
    `Operators: ${codes(OPERATORS)}. \`in\` and \`not_in\` take an`,
    'array as their value, `between` and `not_between` take `[lowest, highest]`, `is_null` and',
    '`is_not_null` take none. Nothing compares with null, as in SQL.',
    '',
    '## Answers',
    '',
    'As TypeScript types. Values are explained in [http-api.md](http-api.md#values).',
    '',
    '```ts',
    ...answerTypes(),
    '```',
  ])
}

/** The declarations of all answers, as they stand in the source. */
function answerTypes(): string[] {
  const source = readFileSync(new URL('../protocol/http-api.ts', import.meta.url), 'utf8')
  const from = source.indexOf('/** What one statement or Command gave. */')
  const to = source.indexOf('/** Every error answer')
  return source
    .slice(from, to)
    .trim()
    .replaceAll(/^export /gm, '')
    .split('\n')
}

function routeSection(route: Route): string[] {
  const shapes = SHAPES[route.request].flatMap(([title, schema]) => [
    '',
    `*Request*: ${title}.`,
    '',
    ...fields(schema),
  ])
  const errors = route.errors.length === 0 ? [] : ['', `*Errors*: ${codes(route.errors)}.`]
  return [
    '',
    `## ${route.method} ${route.path}`,
    '',
    route.about,
    '',
    `*Guarantee*: ${route.guarantee}`,
    ...shapes,
    '',
    `*Answer*: \`${route.response}\`.`,
    ...errors,
  ]
}

function codes(list: readonly string[]): string {
  return list.map(code => `\`${code}\``).join(', ')
}

/** A JSON Schema, as far as the fields of our requests need it. */
interface FieldSchema {
  readonly type?: string
  readonly description?: string
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly default?: unknown
  readonly items?: FieldSchema
  readonly properties?: Readonly<Record<string, FieldSchema>>
  readonly required?: readonly string[]
  readonly minimum?: number
  readonly maximum?: number
}

function fields(schema: z.ZodType): string[] {
  const json = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as FieldSchema
  return table(['Field', 'Type', 'Needed', 'Meaning'], fieldRows(json, ''))
}

function fieldRows(schema: FieldSchema, prefix: string): string[][] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const isNeeded = schema.required?.includes(name) ?? false
    const usual = field.default === undefined ? '' : ` Default: ${code(field.default)}.`
    const meaning = (field.description ?? '') + usual
    const row = [`\`${prefix}${name}\``, typeOf(field), isNeeded ? 'yes' : '', meaning]
    const inner = field.type === 'array' ? field.items : field
    const place = field.type === 'array' ? `${prefix}${name}[].` : `${prefix}${name}.`
    return [row, ...fieldRows(inner ?? {}, place)]
  })
}

function typeOf(field: FieldSchema): string {
  if (field.const !== undefined) return code(field.const)
  if (field.enum !== undefined) return field.enum.map(code).join(', ')
  if (field.type === 'array') return `array of ${typeOf(field.items ?? {})}`
  if (field.type === 'integer') return `whole number${bounds(field)}`
  return { string: 'text', boolean: 'true or false', object: 'object' }[field.type ?? ''] ?? 'JSON'
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``
}

function bounds({ minimum, maximum }: FieldSchema): string {
  if (minimum === undefined) return ''
  const isOpen = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER
  return isOpen ? ` from ${minimum}` : `, ${minimum} to ${maximum}`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map(cell => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)]
}

function page(title: string, lines: readonly string[]): string {
  return `# ${title}\n\n${NOTICE}\n\n${lines.join('\n')}\n`
}

if (import.meta.main) {
  const directory = new URL('../../docs/reference/', import.meta.url)
  mkdirSync(directory, { recursive: true })
  for (const [name, text] of Object.entries(referencePages())) {
    writeFileSync(new URL(name, directory), text)
  }
}
