import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { until } from '../../support/until.js';
import { DEADLINE_MS, openPair, roundTrip, turn } from './session-under-test.js';

describe('heart-beats', () => {
  it('T14: a session survives an event loop that is blocked for longer than the broker may be silent', async () => {
    await using pair = await openPair({ incomingHeartbeatMs: 40 }, async (connection) => {
      await connection.accept({ 'heart-beat': '40,0' });
    });
    // The beat waits in the socket while nothing is read: timers run before that, and would find 300 ms of silence.
    pair.peer.write('\n');
    const end = performance.now() + 300;
    while (performance.now() < end);
    // From then on they come as promised, however slow this process is.
    const beating = setInterval(() => pair.peer.write('\n'), 20);
    await turn();
    await turn();
    assert.equal(pair.session.isOpen, true);
    await roundTrip(pair);
    clearInterval(beating);
  });

  it('go out, not promised, to a broker that wants to hear something all the same', async () => {
    await using pair = await openPair({ outgoingHeartbeatMs: 0 }, async (connection) => {
      await connection.accept({ 'heart-beat': '0,40' });
    });
    assert.equal(pair.peer.frames[0]?.headers['heart-beat'], '0,0');
    await until(() => pair.peer.beats >= 3, DEADLINE_MS, 'beats');
    await roundTrip(pair);
  });
});
