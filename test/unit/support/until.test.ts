import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { until, within } from '../../support/until.js';

describe('until', () => {
  it('resolves with the first truthy result', async () => {
    let calls = 0;
    assert.equal(await until(() => ++calls === 3 && 'here', 5000, 'three calls'), 'here');
  });

  it('says at the deadline what was awaited and why the last try failed', async () => {
    const fail = () => {
      throw new Error('refused');
    };
    await assert.rejects(until(fail, 1, 'a connection'), (error: Error) => {
      assert.match(error.message, /not within 1 ms: a connection/);
      assert.match(String(error.cause), /refused/);
      return true;
    });
  });
});

describe('within', () => {
  it('passes on a rejection and rejects for a promise that never settles', async () => {
    await assert.rejects(within(Promise.reject(new Error('mine')), 5000, 'it'), /mine/);
    await assert.rejects(within(new Promise(() => undefined), 1, 'the end'), /not within 1 ms: the end/);
  });
});
