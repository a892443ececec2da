/** Asking the broker for an answer over the connection of a consumer: what that proves, and that it changes nothing. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue, putAll } from '../support/messages.js';
import { startProxy } from '../support/proxy.js';
import { until } from '../support/until.js';

const withId = { 'correlation-id': 'c-1' };

export function askingBehaviours(broker: BrokerUnderTest): void {
  it('a broker that is asked amid messages in flight answers, and they are settled as ever', async (t) => {
    const queue = uniqueName(t);
    const count = 60;
    await putAll(
      broker,
      `/queue/${queue}`,
      Array.from({ length: count }, (_, n) => ({ n })),
      withId,
    );
    let answers = 0;
    const callback = async (payload: Payload) => {
      const seen = answers;
      await until(() => answers > seen, DEADLINE_MS, 'an answer while this message is in flight');
      const { n } = payload.body as { n: number };
      await (n % 3 === 0 ? payload.nack() : payload.ack());
    };
    const options = { canaryIntervalSeconds: 0.05, concurrency: 10, onRoundTrip: () => answers++ };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, options);
    await until(
      () => consuming.events.filter((event) => 'outcome' in event).length >= count,
      DEADLINE_MS,
      'all messages settled',
    );
    const { received, redelivered, acked, deadLettered } = await consuming.stop();
    assert.deepEqual(
      { received, redelivered, acked, deadLettered },
      { received: count, redelivered: 0, acked: 40, deadLettered: 20 },
    );
    assert.equal((await drainQueue(broker, `DLQ.${queue}`, { atLeast: 20 })).length, 20);
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('a connection that brings no answer is given up for another, without heart-beats too', async (t) => {
    const queue = uniqueName(t);
    await using proxy = await startProxy(broker);
    const through = { ...broker, host: proxy.host, port: proxy.port };
    const consuming = await startConsuming(t, through, `/queue/${queue}`, (payload) => payload.ack(), {
      ...{ canaryIntervalSeconds: 0.2, receiptTimeoutSeconds: 1, connectTimeoutSeconds: 2 },
      ...{ incomingHeartbeatMs: 0, outgoingHeartbeatMs: 0 },
    });
    proxy.stall();
    const { reason } = await consuming.turned('lost');
    assert.match(reason ?? '', /no receipt for ABORT within 1 s/);
    proxy.resume();
    await consuming.turned('subscribed');
    await putAll(broker, `/queue/${queue}`, [{ n: 1 }], withId);
    await consuming.settled('acked');
  });
}
