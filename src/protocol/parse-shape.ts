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
  const problem = issue.message.replace(/^Invalid (?:input|option|string): /, '')
  return field === '' ? problem : `${field}: ${problem}`
}
