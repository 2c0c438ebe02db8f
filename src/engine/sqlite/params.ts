/**
 * Parameters as a statement wants them. The driver would turn a missing one into NULL; here every
 * parameter has its value and every value its parameter, or the request is invalid.
 */
import type { SQLInputValue } from 'node:sqlite'
import { DbError } from '../../base/errors.ts'
import type { SqlParams } from '../../base/sql.ts'
import { isPositional } from '../value-codec.ts'
import { PARAMETERS_MAX } from '../limits.ts'
import type { Scan } from './scan.ts'

const NONE: readonly SQLInputValue[] = []

/** What to hand to the driver's `run`, `all` or `iterate`. Throws INVALID_REQUEST or TOO_LARGE. */
export function bindParams(scan: Scan, params: SqlParams): readonly SQLInputValue[] {
  const { positionalCount, parameterNames } = scan
  if (parameterNames.length === 0) {
    if (isPositional(params)) return byPosition(positionalCount, params)
    if (positionalCount === 0 && Object.keys(params).length === 0) return NONE
    throw invalid(`the statement's parameters are given by position, ? by ?, as a list`)
  }
  if (positionalCount > 0) {
    throw invalid('a statement has parameters by position or by name, not both')
  }
  if (isPositional(params)) {
    throw invalid(`the statement's parameters have names: ${parameterNames.join(', ')}`)
  }
  return [byName(parameterNames, params)]
}

function byPosition(count: number, params: readonly SQLInputValue[]): readonly SQLInputValue[] {
  if (count > PARAMETERS_MAX) {
    throw new DbError('TOO_LARGE', `a statement has at most ${PARAMETERS_MAX} parameters`, {
      details: { limit: PARAMETERS_MAX },
    })
  }
  if (params.length === count) return params
  throw invalid(`the statement has ${count} parameters, but ${params.length} values are given`)
}

function byName(names: readonly string[], params: SqlParams): SQLInputValue {
  const bound = Object.create(null) as Record<string, SQLInputValue>
  const given = params as Readonly<Record<string, SQLInputValue>>
  const used = new Set<string>()
  for (const name of names) {
    const bare = name.slice(1)
    if (!Object.hasOwn(given, bare)) throw invalid(`no value is given for the parameter ${name}`)
    bound[name] = given[bare] ?? null
    used.add(bare)
  }
  for (const name of Object.keys(given)) {
    if (!used.has(name)) throw invalid(`the statement has no parameter named ${name}`)
  }
  // The driver takes an object of names in the place of the first value.
  return bound as unknown as SQLInputValue
}

function invalid(message: string): DbError {
  return new DbError('INVALID_REQUEST', message)
}
