import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { WaitingLine } from '../../src/waiting-line.js';

describe('a waiting line', () => {
  it('behaves as an array whose first item is taken off', () => {
    const step = fc.oneof(fc.constant('shift' as const), fc.constant('clear' as const), fc.nat(2000));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const line = new WaitingLine<number>();
        let model: number[] = [];
        let last = 0;
        for (const each of steps) {
          if (each === 'clear') {
            assert.deepEqual(line.clear(), model);
            model = [];
          } else if (each === 'shift') {
            for (let left = 1500; left > 0; left--) assert.equal(line.shift(), model.shift());
          } else {
            for (let left = each; left > 0; left--) {
              line.push(++last);
              model.push(last);
            }
          }
          assert.deepEqual([line.length, line.first], [model.length, model[0]]);
        }
      }),
    );
  });
});
