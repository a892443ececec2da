/** What ActiveMQ has of its own, through everything that is done with a message: consumed, retried, dead-lettered, sent back. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { bodiesIn, drainQueue, firstIn, put } from '../support/messages.js';
import { until } from '../support/until.js';
import { IDLE, operate, startOperator } from './operator.js';

const hasComposites = ({ name }: BrokerUnderTest) => name.startsWith('activemq');

const throws = () => {
  throw new Error('no');
};

for (const broker of brokersUnderTest().filter(hasComposites)) {
  describe(`queues of ${broker.name} ${broker.version}`, { concurrency: 4 }, () => {
    it('a selector leaves what it does not select, for consumers and peek', async (t) => {
      const queue = uniqueName(t);
      const publisher = publisherTo(t, broker);
      for (const tenant of ['a', 'b', 'c']) await publisher.send(queue, tenant, { headers: { tenant } });
      const selector = "tenant IN ('b', 'c')";
      const consuming = await startConsuming(t, broker, queue, (payload) => payload.ack(), {
        subscribeHeaders: { selector },
      });
      const payloads = await consuming.received(2);
      assert.deepEqual(
        payloads.map(({ body }) => body),
        ['b', 'c'],
      );
      await consuming.stop();
      await publisher.send(queue, 'd', { headers: { tenant: 'd' } });
      const peek = startOperator(broker, [
        ...['peek', queue, ...IDLE],
        ...['--subscribe-header', "selector=tenant = 'd'"],
      ]);
      assert.equal((await peek.exit()).code, 0, peek.stderr);
      assert.match(peek.stdout, /^\{.*"tenant":"d".*\}\n$/);
      assert.deepEqual(await bodiesIn(broker, queue, 2), ['"a"', '"d"']);
    });

    it('of two exclusive consumers one gets all messages, and the other goes on', async (t) => {
      const queue = uniqueName(t);
      const start = () =>
        startConsuming(t, broker, queue, (payload) => payload.ack(), {
          subscribeHeaders: { 'activemq.exclusive': 'true' },
        });
      const both = [await start(), await start()];
      const publisher = publisherTo(t, broker);
      for (const n of [1, 2, 3, 4]) await publisher.send(queue, n);
      await Promise.any(both.map((one) => one.received(4)));
      const active = both.find(({ payloads }) => payloads.length === 4);
      const waiting = both.find((one) => one !== active);
      assert.equal(waiting?.payloads.length, 0);
      await active?.stop();
      await publisher.send(queue, 5);
      await waiting.received(1);
    });

    it('messages of a group go to one consumer', async (t) => {
      const queue = uniqueName(t);
      const start = () => startConsuming(t, broker, queue, (payload) => payload.ack());
      const both = [await start(), await start()];
      const publisher = publisherTo(t, broker);
      for (const n of [1, 2, 3, 4, 5, 6])
        await publisher.send(queue, n % 2, { headers: { JMSXGroupID: `g${n % 2}` } });
      const received = () => both.flatMap(({ payloads }) => payloads).length;
      await until(
        () => received() === 6,
        DEADLINE_MS,
        () => `6 messages; came: ${received()}`,
      );
      for (const { payloads } of both) {
        assert.equal(new Set(payloads.map(({ body }) => body)).size, 1);
      }
    });

    it('a priority goes with a retry, a dead letter and back', async (t) => {
      const queue = uniqueName(t);
      let isCured = false;
      const consuming = await startConsuming(
        t,
        broker,
        queue,
        (payload) => {
          if (!isCured) throw new Error('not yet');
          return payload.ack();
        },
        { retries: 1, retryDelay: '50ms' },
      );
      await publisherTo(t, broker).send(queue, 1, { headers: { priority: '7' } });
      await consuming.settled('dead-lettered');
      assert.equal((await firstIn(broker, `DLQ.${queue}`)).headers.priority, '7');
      isCured = true;
      await operate(broker, ['redrive', queue, '--count', '1']);
      await consuming.settled('acked');
      assert.deepEqual(
        consuming.payloads.map(({ headers }) => headers.priority),
        ['7', '7', '7'],
      );
    });

    it('what has expired is not consumed, and a dead letter has no limit in time any more', async (t) => {
      const queue = uniqueName(t);
      const ids = { 'correlation-id': '1' };
      await put(broker, queue, '"late"', { expires: String(Date.now() - 1000), ...ids });
      const consuming = await startConsuming(t, broker, queue, throws);
      await put(broker, queue, '"in time"', { expires: String(Date.now() + 600_000), ...ids });
      await consuming.settled('dead-lettered');
      assert.equal((await consuming.stop()).received, 1);
      const dead = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
      const own = dead.find(({ headers }) => headers['x-failure-reason'] !== undefined);
      assert.equal(own?.body.toString(), '"in time"');
      assert.ok(['0', undefined].includes(own.headers.expires));
    });

    it('what is published to several queues comes to each', async (t) => {
      const [a, b] = [`${uniqueName(t)}-a`, `${uniqueName(t)}-b`];
      await publisherTo(t, broker).send(`/queue/${a},${b}`, 1);
      assert.deepEqual(await bodiesIn(broker, a, 1), ['1']);
      assert.deepEqual(await bodiesIn(broker, b, 1), ['1']);
    });

    /** Consumes, with a retry; each of the queues has its own dead letters then, which go back there. */
    const throughSeveral = async (t: TestContext, source: string, queues: readonly string[]) => {
      let isCured = false;
      const consuming = await startConsuming(
        t,
        broker,
        source,
        (payload) => {
          if (!isCured) throw new Error('not yet');
          return payload.ack();
        },
        { retries: 1, retryDelay: '50ms', concurrency: 2 },
      );
      const publisher = publisherTo(t, broker);
      for (const queue of queues) {
        await publisher.send(queue, queue);
        await consuming.settled('dead-lettered');
      }
      for (const queue of queues) {
        const { headers, body } = await firstIn(broker, `DLQ.${queue}`);
        assert.equal(body.toString(), JSON.stringify(queue));
        assert.equal(headers['original-destination'], `/queue/${queue}`);
        assert.equal(headers['x-failure-attempts'], '2');
      }
      isCured = true;
      for (const queue of queues) {
        await operate(broker, ['redrive', queue, '--count', '1']);
        await consuming.settled('acked');
      }
      assert.equal((await consuming.stop()).acked, queues.length);
      for (const queue of queues) assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`), []);
    };

    it('several queues are consumed by one wildcard', async (t) => {
      const name = uniqueName(t);
      await throughSeveral(t, `/queue/${name}.>`, [`${name}.eu`, `${name}.us.east`]);
    });

    it('several queues are consumed by a list of their names', async (t) => {
      const queues = [`${uniqueName(t)}-a`, `${uniqueName(t)}-b`];
      await throughSeveral(t, queues.join(','), queues);
    });
  });
}

for (const broker of brokersUnderTest().filter((broker) => !hasComposites(broker))) {
  it(`${broker.name} has no wildcards for queues: exit 2`, async () => {
    const running = startOperator(broker, ['orders.>', './callbacks#ack']);
    assert.deepEqual(await running.exit(), { code: 2, signal: null });
    assert.match(
      running.stderr,
      /^pubsub: error: cannot consume from "orders\.>": \w+ has no wildcards for queues/m,
    );
  });
}
