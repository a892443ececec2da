import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { until, within } from '../../support/until.js';

describe('until', () => {
  it('resolves with the first truthy result', async () => {
    let calls = 0;
    assert.equal(await until(() => ++calls === 3 && 'here', 30_000, 'three calls'), 'here');
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

  it('counts no time in which this process stood still, and could see nothing', async () => {
    let isThere = false;
    setTimeout(() => (isThere = true), 50);
    const seen = until(() => isThere, 300, 'what came meanwhile');
    const also = within(
      seen.then(() => new Promise(setImmediate)),
      300,
      'what followed from it',
    );
    await new Promise(setImmediate);
    const sinceMs = performance.now();
    while (performance.now() - sinceMs < 1000);
    assert.equal(await seen, true);
    await also;
  });
});

describe('within', () => {
  it('passes on a rejection and rejects for a promise that never settles', async () => {
    await assert.rejects(within(Promise.reject(new Error('mine')), 30_000, 'it'), /mine/);
    await assert.rejects(within(new Promise(() => undefined), 1, 'the end'), /not within 1 ms: the end/);
  });
});
