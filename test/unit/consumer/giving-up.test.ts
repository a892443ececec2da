import assert from 'node:assert/strict';
import { it } from 'node:test';
import { consume } from '../../../src/consume.js';
import { startScriptedServer } from '../../support/scripted-server.js';
import { until, within } from '../../support/until.js';
import { DEADLINE_MS, RecordedLog } from '../stomp/session-under-test.js';

it('a consumer that gives up names the messages that go back, and not those acked early', async () => {
  await using server = await startScriptedServer(async (connection) => {
    await connection.accept({ server: 'ActiveMQ/5.17.2' });
    const id = await connection.acceptSubscription();
    for (const message of ['m-1', 'm-2']) connection.deliver(id, message);
  });
  const drain = new AbortController();
  let started = 0;
  const done = consume({
    ...{
      host: server.host,
      port: server.port,
      destination: 'orders',
      concurrency: 2,
      gracefulWaitSeconds: 0,
    },
    ...{ log: new RecordedLog(), signal: drain.signal },
    callback: async (payload) => {
      if (payload.headers['message-id'] === 'm-1') await payload.ack();
      started++;
      await new Promise(() => undefined);
    },
  });
  const givenUp = assert.rejects(done, /: 1 message goes back to the queue: m-2$/);
  await until(() => started === 2, DEADLINE_MS, 'both run');
  drain.abort();
  await within(givenUp, DEADLINE_MS, 'the consumer gives up');
});
