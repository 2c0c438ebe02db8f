/**
 * Rows of neighbouring requests in one statement, which costs the server a third of what as many
 * statements do. The server says what became of all of them together, and from that follows what
 * became of each: every row was inserted, and their ids follow each other. If the statement fails,
 * the server has undone it, and the requests go once more, one by one.
 */
import type { Command } from './commands.ts'
import type { Answer } from './connection.ts'
import type { InsertTargets, Placed } from './insert-targets.ts'
import type { Session } from './session.ts'

const ROWS_MAX = 256
const LENGTH_MAX = 64 * 1024

/** Asks the server of the tables to which several of these requests add rows. */
export async function learnTargets(
  placed: readonly Placed[],
  targets: InsertTargets,
): Promise<void> {
  let last: Placed | undefined
  let learned: Placed | undefined
  for (const one of placed) {
    const { row } = one.plan
    const isSame = row !== undefined && last?.plan.row?.head === row.head
    const isLearned = learned?.plan.row?.form === row?.form && learned?.server === one.server
    if (isSame && last?.server === one.server && !isLearned) {
      await targets.learn(one)
      learned = one
    }
    last = one
  }
}

/** Puts neighbours together whose rows may share a statement; all others stay alone. */
export function joinNeighbours<T extends Placed>(
  placed: readonly T[],
  targets: InsertTargets,
): readonly (readonly T[])[] {
  targets.beginRound()
  const groups: T[][] = []
  let group: T[] = []
  let length = 0
  for (const one of placed) {
    const last = group.at(-1)
    const added = one.plan.row?.row.length ?? 0
    const isRoom = group.length < ROWS_MAX && length + added <= LENGTH_MAX
    if (last !== undefined && isRoom && follows(one, last, group.length > 1, targets)) {
      group.push(one)
      length += added
    } else {
      group = [one]
      groups.push(group)
      length = added
    }
  }
  return groups
}

/** `isJoined`: the last one shares a statement already. */
function follows(one: Placed, last: Placed, isJoined: boolean, targets: InsertTargets): boolean {
  const [row, before] = [one.plan.row, last.plan.row]
  if (row === undefined || before === undefined) return false
  if (row.head !== before.head || one.server !== last.server) return false
  if (row.id !== (before.id === 0n ? 0n : before.id + 1n)) return false
  if (isJoined && row.form === before.form) return true
  // Both are asked, since one text may give an id that the other leaves to the server.
  return targets.mayShare(one) && targets.mayShare(last)
}

/**
 * The commands for requests whose rows share a statement. `onOdd` is called if the server's answer
 * does not say what became of each; none of them knows then.
 */
export function jointCommands(
  placed: readonly Placed[],
  { targets, isMariaDb }: Pick<Session, 'targets' | 'isMariaDb'>,
  onOdd: () => void,
): readonly Command[] {
  const plans = placed.map(({ plan }) => plan)
  const rows = plans.map(({ row }) => row).filter(row => row !== undefined)
  const sql = `${rows[0]?.head ?? ''}${rows.map(({ row }) => row).join(',')}`
  const hasIds = placed.some(one => targets.targetOf(one)?.counter !== undefined)
  const take = (answer: Answer): void => {
    const { rowsAffected, insertId } = answer
    if (rowsAffected !== rows.length || hasIds !== (insertId !== 0n)) return onOdd()
    for (const [at, plan] of plans.entries()) {
      const id = insertId === 0n ? 0n : insertId + BigInt(at)
      plan.take({ ...answer, rowsAffected: 1, insertId: id })
    }
  }
  const id = rows[0]?.id ?? 0n
  if (id === 0n) return [{ sql, take }]
  if (isMariaDb) return [{ sql: `SET STATEMENT insert_id = ${id} FOR ${sql}`, take }]
  return [{ sql: `SET insert_id = ${id}` }, { sql, take }]
}
