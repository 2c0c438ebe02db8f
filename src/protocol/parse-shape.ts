/** Runs a schema and says in one sentence what is wrong, naming the field. */
import type { z } from 'zod'
import { DbError } from '../base/errors.ts'

/** The checked value. Throws INVALID_REQUEST with every problem in `details.problems`. */
export function parseShape<Schema extends z.ZodType>(
  schema: Schema,
  json: unknown,
  path: string,
): z.output<Schema> {
  const parsed = schema.safeParse(json)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map(issue => describe(issue, path))
  throw new DbError('INVALID_REQUEST', problems[0] ?? 'the request has a wrong shape', {
    details: { problems },
  })
}

function describe(issue: z.core.$ZodIssue, path: string): string {
  const field = issue.path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`
    return text === '' ? String(key) : `${text}.${String(key)}`
  }, path)
  if (issue.code === 'unrecognized_keys') {
    const inside = field === '' ? '' : ` in ${field}`
    return `unknown field "${issue.keys.join('", "')}"${inside}`
  }
  const problem = problemOf(issue)
  return field === '' ? problem : `${field}: ${problem}`
}

function problemOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'too_small') return `must ${limit(issue.origin, 'least', issue.minimum)}`
  if (issue.code === 'too_big') return `must ${limit(issue.origin, 'most', issue.maximum)}`
  return issue.message.replace(/^Invalid (?:input|option|string): /, '')
}

/** All limits are inclusive. */
function limit(origin: string, end: 'least' | 'most', bound: number | bigint): string {
  const unit = { array: 'element', string: 'character' }[origin]
  if (unit === undefined) return `be at ${end} ${bound}`
  if (end === 'least' && bound === 1) return 'not be empty'
  return `have at ${end} ${bound} ${unit}${bound === 1 ? '' : 's'}`
}
