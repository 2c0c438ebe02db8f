/** Money that is moved between accounts is neither made nor lost, whenever anybody looks. */

export interface BankRead {
  readonly balances: readonly number[]
  /** What the reader did, for the report. */
  readonly what: string
}

/** Says which reads saw another sum, other accounts or a debt; empty if none did. */
export function checkBank(reads: readonly BankRead[], accounts: number, total: number): string[] {
  const complaints: string[] = []
  for (const { balances, what } of reads) {
    const sum = balances.reduce((before, balance) => before + balance, 0)
    const isWhole = balances.length === accounts && sum === total
    if (isWhole && balances.every(balance => balance >= 0)) continue
    complaints.push(`${what} saw ${sum} of ${total} in [${balances.join(' ')}]`)
  }
  return complaints
}
