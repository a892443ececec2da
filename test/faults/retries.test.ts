/** Retries, while everything ends: the process killed between each two steps of a retry, connections cut. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Payload } from '../../src/index.js';
import { brokersUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, startConsuming, uniqueName } from '../support/consuming.js';
import { handOverSteps, reaches } from '../support/hand-over.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, putAll } from '../support/messages.js';
import { packageRoot, run } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { until } from '../support/until.js';

const withId = { 'correlation-id': 'c' };
/** Longer than it takes a broker to hand out the next message of those that were put in together. */
const DELAY = '1s';
const options = { retries: 3, retryDelay: DELAY };

/** Throws at the first attempt; the ledger has what was acked. */
const secondTime = (ledger: Ledger) => async (payload: Payload) => {
  if (payload.headers['x-attempt'] === undefined) throw new Error('not the first time');
  if ((await payload.ack()) === 'sent') ledger.record(payload);
};

/** Nothing of this queue is anywhere any more. */
async function assertEmpty(broker: BrokerUnderTest, queue: string): Promise<void> {
  for (const name of [queue, `DLQ.${queue}`, `${queue}.retry.1000`])
    assert.deepEqual(await drainQueue(broker, name), []);
}

for (const broker of brokersUnderTest()) {
  describe(`retry faults: ${broker.name}`, { concurrency: 4 }, () => {
    for (const step of handOverSteps) {
      test(`kill -9 ${step.name} of a retry`, async (t) => {
        const queue = uniqueName(t);
        const proxy = await startProxy(broker);
        t.after(() => proxy.close());
        const { host, port } = proxy;
        const victim = run(
          'pubsub',
          [
            `/queue/${queue}`,
            `${packageRoot}/test/fixtures/callbacks/retry.mjs#secondTime`,
            ...['--retries', '3', '--retry-delay', DELAY],
          ],
          { env: { ...broker.env, STOMP_SERVER_HOST: host, STOMP_SERVER_PORT: String(port) } },
        );
        await victim.says('subscribed');
        const reached = reaches(proxy, step);
        const ledger = new Ledger(2);
        await putAll(broker, `/queue/${queue}`, ledger.bodies(), withId);
        await reached;
        await victim.kill();
        // The broker notices the end of its client, as it does without a proxy.
        proxy.cut();
        const consuming = await startConsuming(t, broker, `/queue/${queue}`, secondTime(ledger), options);
        await until(
          () => ledger.lost === 0 && ledger.repeated >= step.repeated,
          DEADLINE_MS,
          () => `2 messages acked; lost ${ledger.lost}, repeated ${ledger.repeated}`,
        );
        await consuming.stop();
        await assertEmpty(broker, queue);
        ledger.report(t, broker);
        assert.equal(ledger.repeated, step.repeated);
      });
    }

    test(
      'messages that are retried while connections are cut again and again are all processed',
      needs(broker, 'returnsWhatWasCut'),
      async (t) => {
        const queue = uniqueName(t);
        const proxy = await startProxy(broker);
        t.after(() => proxy.close());
        const ledger = new Ledger(100);
        await putAll(broker, `/queue/${queue}`, ledger.bodies(), withId);
        const [concurrency, cuts] = [5, 4];
        let seen = 0;
        const behind = { ...broker, host: proxy.host, port: proxy.port };
        const callback = secondTime(ledger);
        const consuming = await startConsuming(
          t,
          behind,
          `/queue/${queue}`,
          (payload) => {
            if (++seen % 30 === 0 && seen <= cuts * 30) proxy.cut();
            return callback(payload);
          },
          { ...options, concurrency },
        );
        const told = () =>
          new Set(
            consuming.payloads
              .filter(({ headers }) => headers['x-attempt'] !== undefined)
              .map(({ body }) => (body as { n: number }).n),
          );
        await until(
          () => told().size === 100,
          DEADLINE_MS * 3,
          () => `100 second attempts; came: ${told().size}`,
        );
        await consuming.stop();
        // What was in flight at the last cut may be back, and not have come again.
        const takeRest = async () => {
          for (const { body } of await drainQueue(broker, queue))
            ledger.count((JSON.parse(body.toString()) as { n: number }).n);
          return ledger.lost === 0;
        };
        await until(takeRest, DEADLINE_MS, () => `all messages; missing: ${ledger.lost}`);
        assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
        ledger.report(t, broker);
        assert.equal(ledger.lost, 0);
        ledger.assertRepeatedAtMost(cuts * concurrency * 2);
      },
    );
  });
}
