import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Slots } from '../../src/slots.js';

describe('slots', () => {
  it('give back what was put in by its number, until it is removed', () => {
    const slots = new Slots<string>();
    const [a, b] = [slots.add('a'), slots.add('b')];
    assert.deepEqual([slots.get(a), slots.get(b), slots.size], ['a', 'b', 2]);
    slots.remove(a);
    assert.deepEqual([slots.get(a), slots.get(b), slots.size], [undefined, 'b', 1]);
    slots.remove(a);
    assert.equal(slots.size, 1);
  });

  it('keep a place that was given away again from the number it had before', () => {
    const slots = new Slots<string>();
    const old = slots.add('old');
    slots.remove(old);
    const next = slots.add('next');
    assert.equal(slots.get(old), undefined);
    slots.remove(old);
    assert.deepEqual([slots.get(next), slots.size], ['next', 1]);
  });

  it('tell more of them apart than a broker ever leaves unconfirmed at once', () => {
    const slots = new Slots<number>();
    const ids = Array.from({ length: 300_000 }, (_item, index) => slots.add(index));
    assert.ok(ids.every((id, index) => slots.get(id) === index));
    for (const id of ids) slots.remove(id);
    assert.equal(slots.size, 0);
  });

  it('know no number that they have not given', () => {
    const slots = new Slots<string>();
    const given = slots.add('a');
    for (const id of [0, given + 1, given + 64, -1, 0.5, NaN, Infinity, Number.MAX_SAFE_INTEGER]) {
      assert.equal(slots.get(id), undefined);
      slots.remove(id);
    }
    assert.equal(slots.size, 1);
  });

  it('keep what stays while many others come and go', () => {
    const slots = new Slots<string>();
    const [a, b] = [slots.add('a'), slots.add('b')];
    for (let turn = 0; turn < 1000; turn++) {
      const id = slots.add('other');
      assert.deepEqual([slots.get(a), slots.get(b), slots.get(id), slots.size], ['a', 'b', 'other', 3]);
      slots.remove(id);
    }
    const c = slots.add('c');
    slots.remove(b);
    slots.remove(b);
    assert.deepEqual(slots.entries(), [
      [a, 'a'],
      [c, 'c'],
    ]);
  });

  it('behave as a map whose keys are never used twice', () => {
    const moves = fc.array(fc.oneof(fc.constant('add' as const), fc.nat(200)), { maxLength: 200 });
    fc.assert(
      fc.property(moves, (run) => {
        const slots = new Slots<number>();
        const model = new Map<number, number>();
        const given: number[] = [];
        for (const [turn, move] of run.entries()) {
          if (move === 'add') {
            const id = slots.add(turn);
            assert.ok(Number.isSafeInteger(id) && !given.includes(id));
            given.push(id);
            model.set(id, turn);
          } else if (given.length > 0) {
            const id = given[move % given.length]!;
            slots.remove(id);
            model.delete(id);
          }
          assert.equal(slots.size, model.size);
        }
        for (const id of given) assert.equal(slots.get(id), model.get(id));
        // A map lists its entries in the order in which they came.
        assert.deepEqual(slots.entries(), [...model]);
      }),
    );
  });
});
