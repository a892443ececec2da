import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Payload } from '../../src/index.js';
import { brokerUnderTest } from '../support/brokers.js';
import { publisherTo, slowestRecovery, startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue } from '../support/messages.js';
import type { OwnBroker } from '../support/own-broker.js';
import { rabbitmqMissing, startRabbitmqCluster, type RabbitmqCluster } from '../support/rabbitmq.js';
import { until } from '../support/until.js';

/** Enough to be in the middle of them twice; TEST_MESSAGES=50000 takes about a minute. */
const MESSAGES = Number(process.env.TEST_MESSAGES ?? 5000);
const CONCURRENCY = 50;
const COMPLETE_MS = 200_000;
const skip = brokerUnderTest('rabbitmq') === undefined ? 'not in this run' : (rabbitmqMissing() ?? false);

describe('a RabbitMQ cluster of three nodes', { skip }, () => {
  let cluster: RabbitmqCluster;
  before(async () => {
    cluster = await startRabbitmqCluster();
  });
  after(() => cluster[Symbol.asyncDispose]());

  test('a quorum queue outlives the node of its consumer and its leader', async (t) => {
    const [home, leader, third] = cluster.nodes as [OwnBroker, OwnBroker, OwnBroker];
    const quorum = { queueType: 'quorum' } as const;
    // Declared over the second node, which then leads it, until it is silent for some seconds.
    const declare = async () => {
      const queue = uniqueName(t);
      await publisherTo(t, leader, quorum).send(`/queue/${queue}`, { n: 0 });
      return (await cluster.leaderOf(queue, third)) === leader && queue;
    };
    const queue = await until(declare, COMPLETE_MS, 'a queue is led by the node that it was declared on');
    const ledger = new Ledger(MESSAGES);
    const publisher = publisherTo(t, leader, quorum);
    const others = ledger.bodies().slice(1);
    await Promise.all(others.map((body) => publisher.send(`/queue/${queue}`, body)));
    await publisher.close();
    // Half of the messages wait for the second fault: the first node must be back before it.
    let goOn: () => void = () => undefined;
    const isLeaderGone = new Promise<void>((resolve) => (goOn = resolve));

    const consuming = await startConsuming(
      t,
      home,
      `/queue/${queue}`,
      async (payload) => {
        if (ledger.processed >= MESSAGES / 2) await isLeaderGone;
        if ((await payload.ack()) === 'sent') ledger.record(payload);
      },
      { ...quorum, concurrency: CONCURRENCY, standbyHost: third.host, standbyPort: third.port },
    );
    const processed = (count: number) =>
      until(
        () => ledger.processed >= count,
        COMPLETE_MS,
        () => `${count} messages; came: ${ledger.processed}`,
      );
    await processed(MESSAGES / 5);
    await home.down('kill');
    assert.equal((await consuming.turned('subscribed')).server, `${third.host}:${third.port}`);
    await Promise.all([home.up(), processed(MESSAGES / 2)]);
    await leader.down('kill');
    goOn();
    await ledger.complete(COMPLETE_MS);
    await consuming.stop();
    const isLedByAnother = async () => (await cluster.leaderOf(queue, third)) !== leader;
    await until(isLedByAnother, COMPLETE_MS, 'another node leads the queue');
    // A leader that is killed may take some acks with it, which no client is told of: their messages come again.
    for (const { body } of await drainQueue(third, queue)) {
      ledger.count((JSON.parse(body.toString()) as { n: number }).n);
    }
    ledger.report(t, { name: 'rabbitmq' }, slowestRecovery(consuming.events));
    ledger.assertRepeatedAtMost(CONCURRENCY * 4);
    assert.equal((await drainQueue(third, `DLQ.${queue}`)).length, 0);
    await leader.up();
  });

  test('a classic queue whose node is down is waited for, and consumed as soon as it is back', async (t) => {
    const [, home, other] = cluster.nodes as [OwnBroker, OwnBroker, OwnBroker];
    const queue = uniqueName(t);
    const ledger = new Ledger(1);
    await publisherTo(t, home).send(`/queue/${queue}`, { n: 0 });
    const callback = async (payload: Payload) => {
      if ((await payload.ack()) === 'sent') ledger.record(payload);
    };
    // RabbitMQ 4 answers no SUBSCRIBE meanwhile, 3.10 says why.
    const consuming = await startConsuming(t, other, `/queue/${queue}`, callback, {
      receiptTimeoutSeconds: 10,
    });
    await ledger.complete(COMPLETE_MS);
    await home.down('kill');
    await until(
      () =>
        consuming.log.some(({ fields }) =>
          /node that holds (?:the queue|it) is down/.test(String(fields.reason)),
        ),
      COMPLETE_MS,
      () => `it says which node is down; it said ${JSON.stringify(consuming.log.slice(-10))}`,
    );
    await home.up();
    const sinceMs = performance.now();
    const { atMs } = await consuming.turned('subscribed');
    await publisherTo(t, other).send(`/queue/${queue}`, ledger.next());
    await ledger.complete(COMPLETE_MS);
    ledger.report(t, { name: 'rabbitmq' }, atMs - sinceMs);
  });
});
