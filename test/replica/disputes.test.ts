import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Court, type Member } from './disputes-kit.ts'

/** Who stopped or was condemned where: `2!5` is condemned at 5, `2?5` waits there. */
function states(court: Court): string {
  return court.members
    .filter(({ divergence }) => divergence !== undefined)
    .map(
      ({ raftId, divergence, isCondemned }) =>
        `${raftId}${isCondemned ? '!' : '?'}${divergence?.index}`,
    )
    .join(' ')
}

function disputeAt(member: Member): string {
  const { dispute } = member.disputes
  if (dispute === undefined) return 'none'
  return `${dispute.isTie ? 'tie' : 'open'} at ${dispute.index}`
}

test('a follower alone against the others is condemned, and heals from one that is right', () => {
  const court = new Court(3)
  court.lead(1, 3)
  court.settle()
  court.member(3).state = 'odd'
  court.lead(1, 2)
  court.settle()
  assert.equal(states(court), '3!4')
  assert.equal(disputeAt(court.member(1)), 'none')

  assert(court.member(3).heal())
  court.lead(1)
  court.settle()
  assert.equal(states(court), '')
  assert.equal(court.member(3).state, 'right')
})

test('a leader that a majority contradicts is condemned; they go on with what they computed', () => {
  const court = new Court(3)
  court.lead(1, 2)
  court.settle()
  court.member(1).state = 'wrong'
  court.lead(1, 3)
  court.settle()
  assert.equal(states(court), '1!3')
  const [wrong, ...right] = court.members
  for (const member of right) {
    assert.equal(member.appliedIndex, 5)
    assert.deepEqual(
      [3, 4, 5].map(index => member.outcomeOf(index)),
      ['right@3', 'right@4', 'right@5'],
    )
  }
  // It tells what the others computed, and of which statement.
  assert.equal(wrong?.divergence?.sql, 'entry 3')
  assert.equal(wrong.divergence.expected, 'right@3')
  assert(wrong.heal())
  court.lead(2)
  court.settle()
  assert.equal(states(court), '')
  assert.equal(court.member(1).outcomeOf(4), 'right@4')
})

test('while the third is away nobody is judged, whoever is right', () => {
  for (const third of ['right', 'odd'] as const) {
    const court = new Court(3)
    court.lead(1, 2)
    court.settle()
    court.member(3).stop()
    court.member(2).state = 'odd'
    court.lead(1, 2)
    court.settle()
    assert.equal(states(court), '2?3')
    assert.equal(disputeAt(court.member(1)), 'open at 3')
    assert.equal(disputeAt(court.member(2)), 'open at 3')
    assert(court.members.every(member => !member.heal()))
    // The third comes back, and it is two to one.
    court.member(3).restart()
    court.member(3).state = third
    court.settle()
    assert.equal(states(court), third === 'right' ? '2!3' : '1!3')
    assert.equal(disputeAt(court.member(3)), 'none')
  }
})

test('of two that differ none is believed, until an operator says who is right', () => {
  for (const trusted of [1, 2]) {
    const court = new Court(2)
    court.lead(1, 2)
    court.settle()
    court.member(2).state = 'odd'
    court.lead(1, 2)
    court.settle()
    assert.equal(states(court), '2?3')
    assert.equal(disputeAt(court.member(1)), 'tie at 3')
    assert.equal(disputeAt(court.member(2)), 'tie at 3')
    assert(court.members.every(member => !member.heal()))

    assert.equal(court.member(1).disputes.trust('n9')?.code, 'UNKNOWN_NODE')
    assert.equal(court.member(1).disputes.trust(`n${trusted}`), undefined)
    court.settle()
    assert.equal(states(court), trusted === 1 ? '2!3' : '1!3')
    assert.equal(disputeAt(court.member(1)), 'none')
    assert.equal(court.member(trusted).appliedIndex, 4)
    assert.equal(court.member(1).disputes.trust('n1')?.code, 'MEMBERS_REFUSED')
    assert(court.member(3 - trusted).heal())
    court.lead(trusted, 2)
    court.settle()
    assert.equal(states(court), '')
  }
})

test('three that all differ are told by an operator, who is believed for everything after it too', () => {
  const court = new Court(3)
  court.member(1).state = 'a'
  court.member(2).state = 'b'
  court.member(3).state = 'c'
  court.lead(1, 4)
  court.settle()
  assert.equal(states(court), '2?1 3?1')
  assert.equal(disputeAt(court.member(1)), 'tie at 1')
  assert.equal(court.member(1).disputes.trust('n3'), undefined)
  court.settle()
  assert.equal(states(court), '1!1 2!1')
  assert.equal(court.member(3).appliedIndex, 4)
  for (const id of [1, 2]) assert(court.member(id).heal())
  court.lead(3, 2)
  court.settle()
  assert.equal(states(court), '')
})

// A follower far behind took the snapshot of a leader that was wrong, before the one that knew it
// was there to say so. An operator's word for that follower then stopped all writes for good.
test('who has the data of another stands and falls with it when an operator decides', () => {
  for (const trusted of [1, 2, 3]) {
    const court = new Court(3)
    const [leader, right, behind] = court.members
    assert(leader !== undefined && right !== undefined && behind !== undefined)
    court.lead(1, 2)
    court.settle()
    behind.stop()
    leader.state = 'odd'
    court.lead(1, 2)
    court.settle()
    assert.equal(states(court), '2?3')
    assert.equal(leader.disputes.trust('n3')?.code, 'MEMBERS_REFUSED')

    behind.copy(leader)
    behind.restart()
    court.settle()
    assert.equal(disputeAt(leader), 'tie at 3')
    assert.equal(leader.disputes.trust(`n${trusted}`), undefined)
    court.settle()
    assert.equal(states(court), trusted === 2 ? '1!3 3!3' : '2!3')
    assert.equal(disputeAt(leader), 'none')
  }
})

test('a majority condemns who has its data from one that is wrong, and believes no such copy', () => {
  const court = new Court(5)
  const [leader, , , , copy] = court.members
  assert(leader !== undefined && copy !== undefined)
  leader.state = 'odd'
  court.lead(1, 2)
  copy.copy(leader)
  court.settle()
  assert.equal(states(court), '1!1 5!1')
  assert(court.member(2).disputes.isSuspect(5))

  assert(leader.heal() && copy.heal())
  court.lead(2, 2)
  court.settle()
  assert.equal(states(court), '')
})

test('of five, two wrong ones lose against three, the leader among them or not', () => {
  for (const wrong of [
    [1, 2],
    [4, 5],
  ]) {
    const court = new Court(5)
    court.lead(1, 2)
    court.settle()
    for (const id of wrong) court.member(id).state = 'wrong'
    court.lead(1, 3)
    court.settle()
    assert.equal(states(court), wrong.map(id => `${id}!3`).join(' '))
    for (const id of wrong) assert(court.member(id).heal())
    court.lead(3)
    court.settle()
    assert(
      court.members.every(({ state, appliedIndex }) => state === 'right' && appliedIndex === 6),
    )
  }
})

test('of five, two against two wait for the fifth, and are a tie if it agrees with none', () => {
  const court = new Court(5)
  court.member(5).stop()
  for (const id of [2, 3]) court.member(id).state = 'b'
  court.lead(1)
  court.settle()
  assert.equal(states(court), '2?1 3?1')
  assert.equal(disputeAt(court.member(4)), 'open at 1')
  court.member(5).restart()
  court.member(5).state = 'c'
  court.settle()
  assert.equal(disputeAt(court.member(4)), 'tie at 1')
})

test('who can not come to the entry any more has no word on it: nobody waits for it in vain', () => {
  const court = new Court(3)
  court.member(3).stop()
  court.member(2).state = 'odd'
  court.lead(1, 2)
  court.settle()
  assert.equal(disputeAt(court.member(1)), 'open at 1')
  const third = court.member(3)
  third.restart()
  third.isStranded = true
  third.apply = () => {}
  court.settle()
  assert.equal(disputeAt(court.member(1)), 'tie at 1')
})

test('a wrong leader that was restarted still learns it, long after the others have gone on', () => {
  const court = new Court(3)
  court.lead(1, 2)
  court.settle()
  court.member(1).state = 'wrong'
  court.lead(1, 2)
  court.member(1).stop()
  court.settle()
  // Without the leader, the two that agree are a majority.
  assert.equal(states(court), '')
  court.lead(2, 3)
  court.settle()
  court.member(1).restart()
  court.settle()
  assert.equal(states(court), '1!3')
  // And again after a restart: its files say so.
  court.member(1).restart()
  court.settle()
  assert.equal(states(court), '1!3')
  assert(court.member(1).heal())
})

test('a wrong leader that replays its own entries from before is condemned at the first of them', () => {
  const court = new Court(3)
  court.member(1).state = 'wrong'
  court.lead(1, 4)
  court.member(1).stop()
  court.settle()
  court.member(1).restart(0)
  court.settle()
  assert.equal(states(court), '1!1')
})

test('who computes otherwise in a replay is alone against what was agreed before', () => {
  const court = new Court(3)
  court.lead(1, 5)
  court.settle()
  // The second has healed since, so that it has no word of its own on the old entries.
  const second = court.member(2)
  second.past = { ...second.past, copiedIndex: 5 }
  court.settle()
  const third = court.member(3)
  third.state = 'rotten'
  third.restart(2)
  court.settle()
  assert.equal(states(court), '3!3')
})

test('two of two have agreed before: who replays otherwise is wrong, and no operator is called', () => {
  const court = new Court(2)
  court.lead(1, 5)
  court.settle()
  court.member(2).state = 'rotten'
  court.member(2).restart(2)
  court.settle()
  assert.equal(states(court), '2!3')
})

test('a node alone that contradicts its own log stops, and goes on when an operator trusts it', () => {
  const court = new Court(1)
  court.lead(1, 3)
  court.settle()
  const [only] = court.members
  assert(only !== undefined)
  only.state = 'rotten'
  only.restart(1)
  court.settle()
  assert.equal(states(court), '1?2')
  assert.equal(disputeAt(only), 'tie at 2')
  assert.equal(only.disputes.trust('n1'), undefined)
  court.settle()
  assert.equal(states(court), '')
  assert.equal(only.appliedIndex, 3)
})

test('learners decide nothing, stop nobody, and are judged alike', () => {
  const court = new Court(3, 2)
  court.lead(1)
  court.settle()
  for (const id of [3, 4, 5]) court.member(id).state = 'odd'
  court.member(2).stop()
  court.lead(1)
  court.settle()
  // Three say so, but two of them don't count: one to one among the voters that are there.
  assert.equal(disputeAt(court.member(1)), 'open at 2')
  court.member(2).restart()
  court.settle()
  assert.equal(states(court), '3!2 4!2 5!2')

  const alone = new Court(2, 1)
  alone.lead(1)
  alone.settle()
  alone.member(3).state = 'odd'
  alone.member(2).stop()
  alone.lead(1)
  alone.settle()
  assert.equal(disputeAt(alone.member(1)), 'none')
  assert.equal(states(alone), '3?2')
})

test('a learner of a voter alone is wrong when it contradicts it', () => {
  const court = new Court(1, 1)
  court.member(2).state = 'odd'
  court.lead(1, 2)
  court.settle()
  assert.equal(states(court), '2!1')
  assert(court.member(2).heal())
})

test('one diverges while another heals: who healed has no word on what it copied', () => {
  const court = new Court(3)
  court.lead(1, 2)
  court.settle()
  court.member(2).state = 'odd'
  court.lead(1)
  court.settle()
  assert.equal(states(court), '2!3')
  court.lead(1)
  // The third computes the next one otherwise, before any majority has computed it.
  court.member(3).state = 'other'
  court.member(3).apply()
  court.settle()
  assert.equal(states(court), '2!3 3?4')
  // Nobody who may be wrong gives its data, though the leader has what the second needs.
  assert(!court.member(2).heal())
  assert.equal(disputeAt(court.member(1)), 'tie at 4')
  assert.equal(court.member(1).disputes.trust('n1'), undefined)
  court.settle()
  assert.equal(states(court), '2!3 3!4')
  assert(court.member(2).heal() && court.member(3).heal())
})

test('who stopped stays in dispute while it restarts, and no longer once it was removed', () => {
  const court = new Court(2)
  court.member(2).state = 'odd'
  court.lead(1)
  court.settle()
  assert.equal(disputeAt(court.member(1)), 'tie at 1')
  const [first, second] = court.members
  assert(first !== undefined && second !== undefined)
  // It has not come to that entry again, and says nothing about it.
  second.restart()
  second.disputes.tick()
  court.network.deliver()
  first.disputes.tick()
  assert.equal(disputeAt(first), 'tie at 1')

  court.voters = [1]
  court.settle()
  assert.equal(disputeAt(first), 'none')
})

test('the members change while a dispute is open: the voters of now decide', () => {
  const court = new Court(3, 2)
  court.voters = [1, 2]
  court.learners = [3, 4, 5]
  court.member(2).state = 'odd'
  court.lead(1)
  court.settle()
  assert.equal(disputeAt(court.member(1)), 'tie at 1')
  court.voters = [1, 2, 3]
  court.learners = [4, 5]
  court.settle()
  assert.equal(states(court), '2!1')
})

/** Chance of one run: who is wrong, who is down when, and in which order things happen. */
const runs = fc.record({
  voters: fc.constantFrom(2, 3, 5),
  learners: fc.constantFrom(0, 1),
  wrong: fc.integer({ min: 1, max: 5 }),
  at: fc.integer({ min: 0, max: 6 }),
  steps: fc.array(
    fc.record({
      kind: fc.constantFrom('lead', 'lead', 'stop', 'restart', 'replay', 'deliver', 'lose', 'heal'),
      member: fc.integer({ min: 1, max: 6 }),
    }),
    { maxLength: 40 },
  ),
})

test("one wrong member, any faults: nobody's good data is ever overwritten, and the wrong one heals", () => {
  fc.assert(
    fc.property(runs, ({ voters, learners, wrong, at, steps }) => {
      const court = new Court(voters, learners)
      const odd = court.member(((wrong - 1) % voters) + 1)
      court.onHealed = (healed, source) => {
        assert.equal(source.state, 'right', `${healed.raftId} takes the data of ${source.raftId}`)
      }
      const pick = (id: number): Member => court.member(((id - 1) % (voters + learners)) + 1)
      for (const [step, { kind, member: id }] of steps.entries()) {
        if (step === at) odd.state = 'wrong'
        const member = pick(id)
        const canLead = !member.isDown && member.divergence === undefined
        if (kind === 'lead') {
          const isVoter = member.raftId <= voters && member.appliedIndex === court.last
          if (canLead && isVoter) court.lead(member.raftId)
        } else if (kind === 'stop') member.stop()
        else if (kind === 'restart') member.restart()
        else if (kind === 'replay') member.restart(Math.max(0, member.appliedIndex - 3))
        else if (kind === 'lose') court.network.lose()
        else if (kind === 'heal') member.heal()
        else court.settle(1)
        for (const each of court.members) {
          const isRight = each.state === 'right'
          assert(!isRight || voters === 2 || !each.isCondemned, `${each.raftId} is right`)
        }
      }
      if (steps.length <= at || voters === 2) return
      for (const member of court.members) if (member.isDown) member.restart()
      court.settle()
      for (let round = 0; round < 6; round++) {
        for (const member of court.members) member.heal()
        court.settle()
        const leader: Member | undefined = court.members.find(
          ({ raftId, divergence }) => raftId <= voters && !divergence,
        )
        assert(leader !== undefined)
        court.lead(leader.raftId)
        court.settle()
      }
      assert.equal(states(court), '')
      assert(court.members.every(({ state }) => state === 'right'))
    }),
    { numRuns: 120 },
  )
})
