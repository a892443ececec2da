import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Delivery } from '../../../src/consumer/delivery.js';
import { StuckWatch } from '../../../src/consumer/stuck.js';
import { within } from '../../support/until.js';
import { DEADLINE_MS, openPair, type Pair } from '../stomp/session-under-test.js';

/** For how long a message with these headers, which is stuck, keeps its consumer away. */
async function absenceOf({ session }: Pair, headers: Record<string, string>): Promise<number | undefined> {
  const frame = { command: 'MESSAGE', headers, body: Buffer.of() };
  const stuck = { frame, session, heldMs: -Infinity } as unknown as Delivery;
  new StuckWatch(1000, () => [stuck]).watch(session);
  const { stayAwayMs } = await within(session.closed, DEADLINE_MS, 'the session is given up');
  return stayAwayMs;
}

describe('what is stuck', () => {
  it('keeps its consumer away for good when the broker has delivered it many times', async () => {
    await using pair = await openPair();
    assert.equal(await absenceOf(pair, { redelivered: 'true', 'x-delivery-count': '15' }), Infinity);
  });

  it('keeps it away for a while when its sender says so', async () => {
    await using pair = await openPair();
    assert.equal(await absenceOf(pair, { redelivered: 'false', 'x-delivery-count': '15' }), 1000);
  });
});
