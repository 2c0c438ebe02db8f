/** Names for the columns of a result whose rows become objects. */

/** A join may name two columns alike; the second becomes `id_2`, so that no value is lost. */
export function uniqueNames(columns: readonly string[]): readonly string[] {
  const taken = new Set(columns)
  if (taken.size === columns.length) return columns
  const seen = new Set<string>()
  return columns.map(column => {
    let name = column
    for (let number = 2; seen.has(name) || (name !== column && taken.has(name)); number += 1) {
      name = `${column}_${number}`
    }
    seen.add(name)
    return name
  })
}
