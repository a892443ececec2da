/**
 * A broker that keeps transactions whole until COMMIT: what is declared, and found out about a queue that refuses, must not
 * depend on what an aborted transaction leaves behind. In front of a real one a proxy defers what is in a transaction.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { ConsumeOptions, Payload } from '../../src/index.js';
import { startEmbeddedBroker } from '../../src/embedded/broker.js';
import { brokerUnderTest, describeBroker, type BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, putAll } from '../support/messages.js';
import { run } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { withRaw } from '../support/raw-client.js';
import { until } from '../support/until.js';

const COUNT = 10;
const withId = { 'correlation-id': 'c' };
const numberOf = (body: Buffer) => (JSON.parse(body.toString()) as { n: number }).n;

/** `direct` is the same broker, that does as it always does. */
interface Deferring {
  readonly behind: BrokerUnderTest;
  readonly direct: BrokerUnderTest;
}

async function rabbitmq(t: TestContext): Promise<Deferring> {
  const direct = brokerUnderTest('rabbitmq')!;
  const proxy = await startProxy(direct, { defersTransactions: true });
  t.after(() => proxy.close());
  const { host, port } = proxy;
  const env = { ...direct.env, STOMP_SERVER_HOST: host, STOMP_SERVER_PORT: String(port) };
  return { direct, behind: { ...direct, host, port, env } };
}

async function embedded(t: TestContext): Promise<Deferring> {
  const login = { user: 'app', password: 'secret' };
  const broker = await startEmbeddedBroker({ ...login, defersTransactions: true });
  t.after(() => broker.close());
  const { host, port } = broker;
  const behind = describeBroker({ name: 'embedded', version: 'deferring', host, port, ...login });
  return { behind, direct: behind };
}

for (const [name, start] of Object.entries({ rabbitmq, embedded })) {
  const skip = brokerUnderTest(name as 'rabbitmq' | 'embedded') === undefined && 'not in this run';
  describe(`a broker that defers transactions: ${name}`, { skip, concurrency: true }, () => {
    /** Consumes all messages of a new queue; resolves when so many attempts have had that outcome. */
    async function consume(
      t: TestContext,
      { behind }: Deferring,
      callback: (payload: Payload) => unknown,
      { until: outcome, ...options }: Partial<ConsumeOptions> & { until: string },
    ) {
      const [queue, ledger] = [uniqueName(t), new Ledger(COUNT)];
      const consuming = await startConsuming(t, behind, `/queue/${queue}`, callback, options);
      await putAll(behind, `/queue/${queue}`, ledger.bodies(), withId);
      const ended = () =>
        consuming.events.filter((event) => 'outcome' in event && event.outcome === outcome).length;
      await until(
        () => ended() === COUNT,
        DEADLINE_MS,
        () => `${COUNT} ${outcome}; so far ${ended()}`,
      );
      await consuming.stop();
      return { queue, ledger };
    }

    test('an aborted transaction declares nothing there', async (t) => {
      const { behind, direct } = await start(t);
      const queue = uniqueName(t);
      await withRaw(behind, async (client) => {
        await client.receipt('BEGIN', { transaction: 'aborted' });
        client.send('SEND', { destination: `/queue/${queue}`, transaction: 'aborted' }, 'x');
        await client.receipt('ABORT', { transaction: 'aborted' });
      });
      const looking = withRaw(direct, (client) => client.subscribe(`/amq/queue/${queue}`));
      await assert.rejects(looking, /no queue/);
    });

    for (const deadLetterBy of ['copy', 'nack'] as const) {
      test(`dead letters by ${deadLetterBy} are in a queue that the start has declared`, async (t) => {
        const broker = await start(t);
        const outcome = 'dead-lettered';
        const { queue, ledger } = await consume(t, broker, (payload) => payload.nack(), {
          ...{ until: outcome, deadLetterBy, concurrency: 5 },
        });
        const dead = await drainQueue(broker.direct, `DLQ.${queue}`, { atLeast: COUNT });
        for (const { body } of dead) ledger.count(numberOf(body));
        ledger.report(t, broker.behind);
        assert.deepEqual([ledger.lost, ledger.repeated], [0, 0]);
      });
    }

    test('retries come back from queues that the start has declared', async (t) => {
      const broker = await start(t);
      const again = async (payload: Payload) => {
        if (payload.headers['x-attempt'] === undefined) throw new Error('not the first time');
        await payload.ack();
      };
      const { queue } = await consume(t, broker, again, {
        ...{ until: 'acked', retries: 1, retryDelay: '100ms', concurrency: 5 },
      });
      for (const other of [queue, `DLQ.${queue}`, `${queue}.retry.100`])
        assert.deepEqual(await drainQueue(broker.direct, other), []);
    });

    test('the start declares the dead-letter queue and those of retries before any message comes', async (t) => {
      const { behind, direct } = await start(t);
      const queue = uniqueName(t);
      const options = { retries: 2, retryDelay: '7s,8s' };
      const consuming = await startConsuming(t, behind, `/queue/${queue}`, () => undefined, options);
      // One that is not there is refused.
      for (const declared of [`DLQ.${queue}`, `${queue}.retry.7000`, `${queue}.retry.8000`])
        await withRaw(direct, (client) => client.subscribe(`/amq/queue/${declared}`));
      await consuming.stop();
    });

    test('a transaction of the command, and one of the library, arrive whole', async (t) => {
      const { behind, direct } = await start(t);
      const [queue, ledger] = [uniqueName(t), new Ledger(COUNT * 2)];
      const bodies = ledger.bodies();
      const input = bodies.slice(0, COUNT).map((body) => `${JSON.stringify(body)}\n`);
      const args = [`/queue/${queue}`, '--lines', '--transaction'];
      const publishing = run('publish', args, { env: behind.env, input: input.join('') });
      assert.deepEqual(await publishing.exit(), { code: 0, signal: null }, publishing.stderr);
      await publisherTo(t, behind).transaction(async (transaction) => {
        for (const body of bodies.slice(COUNT)) await transaction.send(`/queue/${queue}`, body);
      });
      for (const { body } of await drainQueue(direct, queue)) ledger.count(numberOf(body));
      ledger.report(t, behind);
      assert.deepEqual([ledger.lost, ledger.repeated], [0, 0]);
    });
  });
}
