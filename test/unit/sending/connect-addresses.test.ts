import assert from 'node:assert/strict';
import dns from 'node:dns';
import { afterEach, describe, it, mock } from 'node:test';
import type { Settings } from '../../../src/settings.js';
import { resolve } from '../../../src/settings/resolve.js';
import { connectOnce, sessions } from '../../../src/sending/connect.js';
import { startScriptedServer } from '../../support/scripted-server.js';
import { within } from '../../support/until.js';
import { DEADLINE_MS, RecordedLog } from '../stomp/session-under-test.js';

const NAME = 'broker.test';
/** Nobody listens there: the servers of these tests have 127.0.0.1 only. */
const DEAD = '127.0.0.2';
const ALIVE = '127.0.0.1';

const settingsFor = (port: number, given: Partial<Settings> = {}): Settings =>
  resolve({ host: NAME, port, outgoingHeartbeatMs: 0, incomingHeartbeatMs: 0, ...given }, {});

/** Lets the name have these addresses, at each look-up the next ones; the last ones stay. */
function serveName(...answers: (readonly string[])[]): () => number {
  let lookups = 0;
  const lookup = (name: string, options: dns.LookupOptions, callback: (...result: unknown[]) => void) => {
    assert.equal(name, NAME);
    const addresses = answers[Math.min(lookups++, answers.length - 1)]!;
    const all = addresses.map((address) => ({ address, family: 4 }));
    process.nextTick(callback, null, ...(options.all === true ? [all] : [all[0]!.address, 4]));
  };
  mock.method(dns, 'lookup', lookup as typeof dns.lookup);
  return () => lookups;
}

describe('a host whose name', () => {
  afterEach(() => mock.restoreAll());

  it('has several addresses is reached at the one that lives', async () => {
    await using server = await startScriptedServer();
    serveName([DEAD, ALIVE]);
    await within(
      connectOnce(settingsFor(server.port), new RecordedLog()),
      DEADLINE_MS,
      'connectOnce settles',
    );
    assert.equal(server.accepted, 1);
  });

  it('has several addresses is told with what was wrong with each', async () => {
    const server = await startScriptedServer();
    await server.close();
    serveName([DEAD, ALIVE]);
    await assert.rejects(connectOnce(settingsFor(server.port), new RecordedLog()), (error: Error) => {
      for (const address of [DEAD, ALIVE]) assert.ok(error.message.includes(`${address}:${server.port}`));
      return true;
    });
  });

  it('moves to another address is looked up anew at each attempt, and found there', async () => {
    await using server = await startScriptedServer();
    const lookups = serveName([DEAD], [DEAD], [ALIVE]);
    const stop = new AbortController();
    const loop = sessions(settingsFor(server.port), new RecordedLog(), stop.signal);
    const { value } = await within(loop.next(), DEADLINE_MS, 'a session');
    assert.equal(lookups(), 3);
    assert.equal(value!.isOpen, true);
    stop.abort();
    await value!.close();
  });
});
