/**
 * What callbacks publish, while everything ends: the process killed between each two steps of a hand-over, connections
 * cut, brokers that are away or refuse. The ledger counts what arrived at the target.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Payload } from '../../src/index.js';
import { brokersUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, startConsuming, uniqueName, type Consuming } from '../support/consuming.js';
import { handOverSteps, reaches } from '../support/hand-over.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, putAll } from '../support/messages.js';
import { packageRoot, run } from '../support/process.js';
import { startProxy, type Proxy } from '../support/proxy.js';
import { until } from '../support/until.js';

const withId = { 'correlation-id': 'c' };

interface Scene {
  readonly from: string;
  readonly to: string;
  readonly proxy: Proxy;
  readonly ledger: Ledger;
  /** The broker as the consumer under test sees it. */
  readonly behind: BrokerUnderTest;
  readonly forward: (payload: Payload) => Promise<unknown>;
  /** Empties the target into the ledger; there is nothing in the source, unless that counts, too, or dead-lettered. */
  readonly count: (options?: { readonly isRestCounted?: boolean }) => Promise<void>;
}

async function scene(t: TestContext, broker: BrokerUnderTest, messages: number): Promise<Scene> {
  const from = uniqueName(t);
  const to = `${from}-to`;
  const proxy = await startProxy(broker);
  t.after(() => proxy.close());
  const { host, port } = proxy;
  const env = { ...broker.env, STOMP_SERVER_HOST: host, STOMP_SERVER_PORT: String(port) };
  const ledger = new Ledger(messages);
  return {
    from,
    to,
    proxy,
    ledger,
    behind: { ...broker, host, port, env },
    forward: (payload) => {
      payload.publish(`/queue/${to}`, payload.body);
      return payload.ack();
    },
    count: async ({ isRestCounted = false } = {}) => {
      for (const { body } of await drainQueue(broker, to)) ledger.count(numberOf(body));
      const rest = await drainQueue(broker, from);
      if (isRestCounted) for (const { body } of rest) ledger.count(numberOf(body));
      else assert.deepEqual(rest, []);
      assert.deepEqual(await drainQueue(broker, `DLQ.${from}`), []);
    },
  };
}

const numberOf = (body: Buffer) => (JSON.parse(body.toString()) as { n: number }).n;

/** Resolves when so many messages have been acked. */
async function acked(consuming: Consuming, count: number): Promise<void> {
  const acks = () =>
    consuming.events.filter((event) => 'outcome' in event && event.outcome === 'acked').length;
  await until(
    () => acks() >= count,
    DEADLINE_MS * 3,
    () => `${count} messages acked; so far ${acks()}`,
  );
}

for (const broker of brokersUnderTest()) {
  describe(`forwarding faults: ${broker.name}`, { concurrency: 4 }, () => {
    for (const step of handOverSteps) {
      for (const flags of [[], ['--inline']]) {
        const where = flags.length === 0 ? 'in a worker' : 'inline';
        test(`kill -9 ${step.name} of a forward, ${where}`, async (t) => {
          const { from, to, proxy, ledger, behind, forward, count } = await scene(t, broker, 3);
          const callback = `${packageRoot}/test/fixtures/callbacks/forward.mjs#forward`;
          const env = { ...behind.env, TARGET: `/queue/${to}` };
          const victim = run('pubsub', [`/queue/${from}`, callback, ...flags], { env });
          await victim.says('subscribed');
          const reached = reaches(proxy, step);
          await putAll(broker, `/queue/${from}`, ledger.bodies(), withId);
          await reached;
          await victim.kill();
          // The broker notices the end of its client, as it does without a proxy.
          proxy.cut();
          const consuming = await startConsuming(t, broker, `/queue/${from}`, forward);
          await acked(consuming, step.isLast ? 2 : 3);
          await consuming.stop();
          await count();
          ledger.report(t, broker);
          assert.equal(ledger.lost, 0);
          assert.equal(ledger.repeated, step.repeated);
        });
      }
    }

    test(
      'what is forwarded while connections are cut again and again arrives, every one',
      needs(broker, 'returnsWhatWasCut'),
      async (t) => {
        const { from, proxy, ledger, behind, forward, count } = await scene(t, broker, 300);
        await putAll(broker, `/queue/${from}`, ledger.bodies(), withId);
        const concurrency = 10;
        const cuts = 5;
        let seen = 0;
        const consuming = await startConsuming(
          t,
          behind,
          `/queue/${from}`,
          (payload) => {
            if (++seen % 50 === 0 && seen <= cuts * 50) proxy.cut();
            return forward(payload);
          },
          { concurrency },
        );
        const numbers = () => new Set(consuming.payloads.map((payload) => (payload.body as { n: number }).n));
        await until(
          () => numbers().size === 300,
          DEADLINE_MS * 3,
          () => `300 messages; came: ${numbers().size}`,
        );
        await consuming.stop();
        // What was in flight at a cut may be back, and not have come again.
        await count({ isRestCounted: true });
        ledger.report(t, broker);
        assert.equal(ledger.lost, 0);
        ledger.assertRepeatedAtMost(cuts * concurrency * 2);
      },
    );

    test('while there is no connection to publish over, messages wait unacked and are sent later', async (t) => {
      const { from, to, proxy, ledger, behind, forward, count } = await scene(t, broker, 5);
      const consuming = await startConsuming(t, behind, `/queue/${from}`, forward, { concurrency: 5 });
      await proxy.refuse();
      await putAll(broker, `/queue/${from}`, ledger.bodies(), withId);
      await consuming.logged('reason', 'retryInMs');
      await consuming.logged('reason', 'retryInMs');
      assert.deepEqual(await drainQueue(broker, to), []);
      await proxy.accept();
      await acked(consuming, 5);
      const { redelivered } = await consuming.stop();
      await count();
      ledger.report(t, broker);
      assert.deepEqual([ledger.lost, ledger.repeated, redelivered], [0, 0, 0]);
    });

    test('a stop waits for what cannot be sent until its time is over, and the message goes back', async (t) => {
      const { from, to, proxy, behind, forward } = await scene(t, broker, 1);
      const options = { gracefulWaitSeconds: 1 };
      const consuming = await startConsuming(t, behind, `/queue/${from}`, forward, options);
      await proxy.refuse();
      await putAll(broker, `/queue/${from}`, [{ n: 0 }], withId);
      await consuming.logged('reason', 'retryInMs');
      await assert.rejects(consuming.stop(), { code: 'deadline-passed' });
      assert.deepEqual(await drainQueue(broker, to), []);
      assert.equal((await drainQueue(broker, from, { atLeast: 1 })).length, 1);
    });

    test("the end of the consumer's own connection gives up what cannot be sent; the message comes again", async (t) => {
      const { from, proxy, ledger, behind, forward, count } = await scene(t, broker, 1);
      const settlements: unknown[] = [];
      const consuming = await startConsuming(t, behind, `/queue/${from}`, async (payload) => {
        settlements.push(await forward(payload));
      });
      await proxy.refuse();
      await putAll(broker, `/queue/${from}`, ledger.bodies(), withId);
      await consuming.logged('reason', 'retryInMs');
      proxy.cut();
      await consuming.settled('released');
      await proxy.accept();
      await acked(consuming, 1);
      await consuming.stop();
      await count();
      assert.deepEqual(settlements, ['connection-lost', 'sent']);
      assert.deepEqual([ledger.lost, ledger.repeated], [0, 0]);
    });
  });
}
