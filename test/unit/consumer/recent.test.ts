import assert from 'node:assert/strict';
import { it } from 'node:test';
import { RecentIds } from '../../../src/consumer/recent.js';

it('recent ids are known again, older ones forgotten: memory is bounded', () => {
  const ids = new RecentIds();
  const count = 20_000;
  for (let n = 0; n < count; n++) assert.equal(ids.add(`id-${n}`), false);
  for (let n = count - 4000; n < count; n++) assert.equal(ids.add(`id-${n}`), true);
  assert.equal(ids.add('id-0'), false);
});
