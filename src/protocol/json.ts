/**
 * JSON that loses no number. `JSON.parse` rounds 9223372036854775807 and can't tell 1.0 from 1;
 * here the first arrives exactly and the second stays a real, both as the tagged values of
 * values.ts.
 */

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json | undefined }

/** Text that may hold a number which `JSON.parse` alone would change: 1.0, 1e5 or 16 digits. */
const DELICATE_NUMBER = /\d\.0+(?!\d)|\d[eE][+\-\d]|\d{16}/

/** Parses a body. Throws the `SyntaxError` of `JSON.parse`. */
export function parseJson(text: string): Json {
  // The reviver costs five times the parsing, so only texts that need it pay for it.
  if (!DELICATE_NUMBER.test(text)) return JSON.parse(text)
  // An older runtime passes no source: numbers are then what JSON.parse made of them.
  const reviver = (_key: string, value: Json, context?: { readonly source?: string }): Json =>
    typeof value === 'number' && context?.source !== undefined
      ? exactNumber(value, context.source)
      : value
  return JSON.parse(text, reviver as (key: string, value: unknown) => unknown)
}

function exactNumber(value: number, source: string): Json {
  if (/[.eE]/.test(source)) return Number.isInteger(value) ? { $real: value } : value
  return Number.isSafeInteger(value) ? value : { $integer: source }
}
