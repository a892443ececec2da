/**
 * What ActiveMQ destroys or refuses by itself: a second copy with an id that it has seen, what is not persistent, what came
 * by a topic, and what its dead-letter queue has no room for. Nothing of it is lost; the ledger counts each message where
 * it has come to be.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { activemqMissing, startActivemq } from '../support/activemq.js';
import { brokerUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { bodiesIn, put, putAll } from '../support/messages.js';
import { packageRoot, run } from '../support/process.js';
import { settlingHeaders, withRaw, type RawHeaders } from '../support/raw-client.js';
import { until } from '../support/until.js';

const COMPLETE_MS = 60_000;
const withId = { 'correlation-id': 'c' };
const shared = brokerUnderTest('activemq');
const skip = shared === undefined ? 'not in this run' : (activemqMissing() ?? false);

const numberOf = (body: string) => (JSON.parse(body) as { n: number }).n;

/** Takes all that lie there now into the ledger. */
async function countIn(broker: BrokerUnderTest, queue: string, ledger: Ledger): Promise<void> {
  for (const body of await bodiesIn(broker, queue)) ledger.count(numberOf(body));
}

/** Takes what lies there and what comes, until it is enough; drainQueue needs room for its marks. */
async function takeInto(broker: BrokerUnderTest, queue: string, ledger: Ledger, isEnough: () => boolean) {
  await withRaw(broker, async (client) => {
    await client.subscribe(`/queue/${queue}`);
    const isTaken = () => {
      for (const message of client.takeArrived('MESSAGE')) {
        ledger.count(numberOf(message.body.toString()));
        client.send('ACK', settlingHeaders(message));
      }
      return isEnough();
    };
    await until(isTaken, COMPLETE_MS, () => `all of ${queue}; missing: ${ledger.lost}`);
    await client.disconnect();
  });
}

/** Consumers of these nack what `send` sends; each queue gets all of it, and all of it lies in its dead-letter queue then. */
async function assertAllDead(
  t: TestContext,
  broker: BrokerUnderTest,
  queues: readonly string[],
  send: (bodies: readonly unknown[]) => Promise<unknown>,
): Promise<void> {
  const ledgers = queues.map(() => new Ledger(3));
  const consumers = [];
  for (const queue of queues)
    consumers.push(await startConsuming(t, broker, queue, (payload) => payload.nack()));
  await send(ledgers[0]!.bodies());
  for (const consumer of consumers)
    for (let count = 0; count < 3; count++) await consumer.settled('dead-lettered');
  for (const consumer of consumers) await consumer.stop();
  for (const [index, queue] of queues.entries()) {
    const ledger = ledgers[index]!;
    await countIn(broker, `DLQ.${queue}`, ledger);
    ledger.report(t, broker);
    assert.deepEqual([ledger.lost, ledger.repeated], [0, 0], queue);
    assert.deepEqual(await bodiesIn(broker, queue), []);
  }
}

interface Oversized {
  readonly name: string;
  /** What is consumed, and to where the message is sent; a queue's name is unique. */
  readonly source: (name: string) => string;
  readonly target?: (name: string) => string;
  readonly headers?: RawHeaders;
  readonly flags?: readonly string[];
}

/** A NACK destroys each of these. */
const oversized: readonly Oversized[] = [
  {
    name: 'that is not persistent',
    source: (name) => name,
    headers: { persistent: undefined },
  },
  {
    name: 'of a virtual topic',
    source: (name) => `Consumer.app.VirtualTopic.${name}`,
    target: (name) => `/topic/VirtualTopic.${name}`,
  },
  { name: 'in a dead-letter queue', source: (name) => `DLQ.${name}` },
  {
    name: 'of a durable topic subscription',
    source: (name) => `/topic/${name}`,
    target: (name) => `/topic/${name}`,
    flags: ['--durable'],
  },
];

const nack = `${packageRoot}/test/fixtures/callbacks/interop.mjs#consume`;

describe('what ActiveMQ does of its own', { skip, concurrency: 3 }, () => {
  const broker = shared!;

  test('three applications of a virtual topic that all fail have all dead letters, under its audit of ids', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const queues = ['a', 'b', 'c'].map((app) => `Consumer.${app}.${topic}`);
    const publisher = publisherTo(t, broker);
    await assertAllDead(t, broker, queues, async (bodies) => {
      for (const body of bodies) await publisher.send(`/topic/${topic}`, body);
    });
  });

  test('consumers of a composite destination that both fail have all dead letters, under its audit of ids', async (t) => {
    const queues = ['a', 'b'].map((part) => `${uniqueName(t)}-${part}`);
    await assertAllDead(t, broker, queues, (bodies) =>
      putAll(broker, `/queue/${queues.join(',')}`, bodies, withId),
    );
  });

  test('a message too large to be read is nacked where it survives that', async (t) => {
    const queue = uniqueName(t);
    const consuming = run('pubsub', [queue, nack, '--max-message-bytes', '100'], { env: broker.env });
    await consuming.waitFor(/"msg":"consuming"/);
    const large = JSON.stringify({ n: 1, text: 'x'.repeat(200) });
    await put(broker, `/queue/${queue}`, large, withId);
    await put(broker, `/queue/${queue}`, { n: 2 }, withId);
    await consuming.waitFor(/consumed 2/);
    const { reason, isConfirmed } = await consuming.says('dead-lettered');
    assert.deepEqual([reason, isConfirmed], ['too-large', false]);
    consuming.signal('SIGTERM');
    assert.equal((await consuming.exit()).code, 0);
    assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`, 1), [large]);
  });

  for (const {
    name,
    source,
    target = (queue: string) => `/queue/${source(queue)}`,
    headers,
    flags = [],
  } of oversized) {
    test(`a message too large to be read ${name} ends the consumer, and is not destroyed`, async (t) => {
      const unique = uniqueName(t);
      const from = source(unique);
      const large = JSON.stringify({ n: 1, text: 'x'.repeat(200) });
      const args = [from, nack, '--client-id', unique, ...flags];
      const consuming = run('pubsub', [...args, '--max-message-bytes', '100'], { env: broker.env });
      await consuming.waitFor(/"msg":"consuming"/);
      await put(broker, target(unique), large, { ...withId, ...headers });
      assert.deepEqual(await consuming.exit(), { code: 4, signal: null });
      assert.match(consuming.stderr, /NACK would destroy it: raise STOMP_MAX_MESSAGE_BYTES/);
      const again = run('pubsub', args, { env: broker.env });
      await again.waitFor(/consumed 1/);
      again.signal('SIGTERM');
      assert.equal((await again.exit()).code, 0);
    });
  }
});

const BAD = 20;
const GOOD = 100;
/** Some ten of the messages below; without the cursor that keeps all in memory nothing would count. */
const limited = `
  <policyEntry queue="DLQ.&gt;" producerFlowControl="true" memoryLimit="64kb">
    <pendingQueuePolicy><vmQueueCursor/></pendingQueuePolicy>
  </policyEntry>`;

describe('dead-letter queues of ActiveMQ that are over their memory limit', { skip, concurrency: 2 }, () => {
  for (const sendFailIfNoSpace of [false, true]) {
    const how = sendFailIfNoSpace ? 'refuse what comes' : 'block whoever sends';
    test(`and ${how}: it is held, others go on, and all arrive when there is room`, async (t) => {
      await using broker = await startActivemq({ policies: limited, sendFailIfNoSpace });
      const queue = uniqueName(t);
      const [bad, good] = [new Ledger(BAD), new Ledger(GOOD)];
      const consuming = await startConsuming(
        t,
        broker,
        `/queue/${queue}`,
        async (payload) => {
          if (payload.headers.bad === 'yes') await payload.nack();
          else if ((await payload.ack()) === 'sent') good.record(payload);
        },
        // What is blocked shows by a receipt that does not come; what is refused, by an ERROR.
        { concurrency: 50, ...(sendFailIfNoSpace ? {} : { receiptTimeoutSeconds: 3 }) },
      );
      const text = 'x'.repeat(5000);
      const bodies = bad.bodies().map((body) => ({ ...body, text }));
      await putAll(broker, `/queue/${queue}`, bodies, { ...withId, bad: 'yes' });
      const { fields, level } = await consuming.logged('target', 'reason', 'held');
      assert.deepEqual([level, fields.target], ['error', `/queue/DLQ.${queue}`]);
      assert.match(String(fields.reason), sendFailIfNoSpace ? /Memory Limit reached/ : /may be blocked by/);
      await putAll(broker, `/queue/${queue}`, good.bodies(), withId);
      await good.complete(COMPLETE_MS);
      const told = () =>
        consuming.events.filter((event) => 'outcome' in event && event.outcome === 'dead-lettered').length;
      assert.ok(told() < BAD, `${told()} of ${BAD} are said to be dead letters`);
      await takeInto(broker, `DLQ.${queue}`, bad, () => told() === BAD);
      const { received, deadLettered, released, redelivered } = await consuming.stop();
      await countIn(broker, `DLQ.${queue}`, bad);
      assert.deepEqual(await bodiesIn(broker, queue), []);
      bad.report(t, broker);
      assert.deepEqual([bad.lost, good.repeated], [0, 0]);
      assert.deepEqual(
        { received, deadLettered, released, redelivered },
        { received: BAD + GOOD, deadLettered: BAD, released: 0, redelivered: 0 },
      );
      // A SEND that is blocked when it is given up arrives when there is room: of each, and of each round that tries one.
      bad.assertRepeatedAtMost(sendFailIfNoSpace ? 0 : 2 * BAD);
    });
  }
});
