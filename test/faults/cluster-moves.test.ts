/**
 * Dead letters and retries in a cluster of RabbitMQ with quorum queues, while the node that leads the queue they go to is
 * killed, stopped, or stands still: moves of the broker's own are lost then, a confirmed copy is not.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { Payload } from '../../src/index.js';
import { brokerUnderTest } from '../support/brokers.js';
import { publisherTo, slowestRecovery, startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue } from '../support/messages.js';
import type { OwnBroker } from '../support/own-broker.js';
import { setPolicy } from '../support/policies.js';
import { rabbitmqMissing, startRabbitmqCluster, type RabbitmqCluster } from '../support/rabbitmq.js';
import { withRaw } from '../support/raw-client.js';
import { until } from '../support/until.js';

/** Many times what is in flight at once; TEST_MESSAGES=6000 is more of the same. */
const MESSAGES = Number(process.env.TEST_MESSAGES ?? 2000);
const CONCURRENCY = 50;
const COMPLETE_MS = 100_000;
const STANDSTILL_MS = 8000;
/** So short that messages come back all the time while the fault is there. */
const RETRY_MS = 100;
const quorum = { queueType: 'quorum' } as const;
const skip = brokerUnderTest('rabbitmq') === undefined ? 'not in this run' : (rabbitmqMissing() ?? false);

interface Fault {
  readonly name: string;
  /** Calls `onGone` when the node is gone; resolves when it answers again. */
  readonly befall: (node: OwnBroker, onGone: () => void) => Promise<void>;
}

const goneFor = (how: 'kill' | 'clean') => async (node: OwnBroker, onGone: () => void) => {
  await node.down(how);
  onGone();
  await node.up();
};

const faults: readonly Fault[] = [
  { name: 'killed', befall: goneFor('kill') },
  { name: 'stopped cleanly', befall: goneFor('clean') },
  {
    name: 'standing still for 8 s',
    befall: async (node, onGone) => {
      node.pause();
      onGone();
      const sinceMs = performance.now();
      const isOver = () => performance.now() - sinceMs > STANDSTILL_MS;
      await until(isOver, STANDSTILL_MS * 2, 'the standstill is over').finally(() => node.resume());
    },
  },
];

/** A queue, and the arguments it is declared with beside those of all. */
interface Target extends Readonly<Record<string, string>> {
  readonly target: string;
}

const numberOf = (body: Buffer) => (JSON.parse(body.toString()) as { n: number }).n;

describe('moves in a RabbitMQ cluster of three nodes', { skip }, () => {
  let cluster: RabbitmqCluster;
  let nodes: [home: OwnBroker, other: OwnBroker, third: OwnBroker];
  before(async () => {
    cluster = await startRabbitmqCluster();
    nodes = cluster.nodes as typeof nodes;
    const atLeastOnce = { 'dead-letter-strategy': 'at-least-once', overflow: 'reject-publish' };
    await setPolicy(nodes[0], 'retries', '\\.retry\\.\\d+$', atLeastOnce);
  });
  after(() => cluster[Symbol.asyncDispose]());

  /** A queue with all messages in it, and one that they go to, each led by a node of its own. */
  async function scene(
    t: TestContext,
    [source, elsewhere]: readonly [source: OwnBroker, elsewhere: OwnBroker],
    targetOf: (queue: string) => Target,
  ) {
    for (let tries = 1; ; tries++) {
      const queue = uniqueName(t);
      const third = nodes[2];
      const [ledger, { target, ...args }] = [new Ledger(MESSAGES), targetOf(queue)];
      const declaring = { 'x-queue-type': 'quorum', 'x-dead-letter-exchange': '', 'prefetch-count': '-1' };
      await withRaw(elsewhere, (client) => client.subscribe(`/queue/${target}`, { ...declaring, ...args }));
      const publisher = publisherTo(t, source, quorum);
      await Promise.all(ledger.bodies().map((body) => publisher.send(`/queue/${queue}`, body)));
      await publisher.close();
      const leads = (name: string) =>
        until(() => cluster.leaderOf(name, third), COMPLETE_MS, `a node leads ${name}`);
      if ((await leads(queue)) === source && (await leads(target)) === elsewhere) return { queue, ledger };
      // The node that a queue is declared on leads it, until it is silent for some seconds.
      assert.ok(tries < 5, `${tries} times a queue was led by another node than the one it was declared on`);
    }
  }

  /** The fault comes when a quarter of them have had that outcome, and half of them wait until the node is gone. */
  async function consume(
    t: TestContext,
    { queue, fault, outcome }: { queue: string; fault: Fault; outcome: string },
    callback: (payload: Payload) => unknown,
  ) {
    const options = { ...quorum, concurrency: CONCURRENCY, retries: 3, retryDelay: `${RETRY_MS}ms` };
    let onGone: () => void = () => undefined;
    const isGone = new Promise<void>((resolve) => (onGone = resolve));
    const gated = async (payload: Payload) => {
      if ((payload.body as { n: number }).n >= MESSAGES / 2) await isGone;
      return callback(payload);
    };
    const consuming = await startConsuming(t, nodes[0], `/queue/${queue}`, gated, options);
    const ended = () =>
      consuming.events.filter((event) => 'outcome' in event && event.outcome === outcome).length;
    const reached = (count: number) =>
      until(
        () => ended() >= count,
        COMPLETE_MS,
        () => `${count} ${outcome}; so far ${ended()}`,
      );
    await reached(MESSAGES / 4);
    await fault.befall(nodes[1], onGone);
    await reached(MESSAGES);
    return consuming;
  }

  for (const fault of faults) {
    test(`dead letters while the node that leads their queue is ${fault.name}`, async (t) => {
      const [home, other, third] = nodes;
      const { queue, ledger } = await scene(t, [home, other], (source) => ({
        target: `DLQ.${source}`,
        'x-dead-letter-routing-key': `DLQ.DLQ.${source}`,
      }));
      const outcome = 'dead-lettered';
      const consuming = await consume(t, { queue, fault, outcome }, (payload) => payload.nack());
      const { released } = await consuming.stop();
      // A leader that is replaced, be it for a while of silence, may take some acks with it, which no client is told of: their
      // messages come again.
      for (const name of [`DLQ.${queue}`, queue])
        for (const { body } of await drainQueue(third, name)) ledger.count(numberOf(body));
      ledger.report(t, { name: 'rabbitmq' }, slowestRecovery(consuming.events));
      assert.equal(ledger.lost, 0);
      assert.equal(released, 0);
      ledger.assertRepeatedAtMost(CONCURRENCY * 2);
    });

    for (const [what, source, elsewhere] of [
      ['their delay queue', 0, 1],
      // The broker's own move goes there.
      ['the queue they come back to', 1, 2],
    ] as const) {
      test(`retries while the node that leads ${what} is ${fault.name}`, async (t) => {
        const third = nodes[2];
        const { queue, ledger } = await scene(t, [nodes[source], nodes[elsewhere]], (name) => ({
          target: `${name}.retry.${RETRY_MS}`,
          'x-dead-letter-routing-key': name,
          'x-message-ttl': String(RETRY_MS),
        }));
        const consuming = await consume(t, { queue, fault, outcome: 'retried' }, async (payload) => {
          if (payload.headers['x-attempt'] === undefined) throw new Error('not the first time');
          if ((await payload.ack()) === 'sent') ledger.record(payload);
        });
        await ledger.complete(COMPLETE_MS);
        await consuming.stop();
        ledger.report(t, { name: 'rabbitmq' }, slowestRecovery(consuming.events));
        assert.deepEqual(await drainQueue(third, `DLQ.${queue}`), []);
        assert.equal(ledger.lost, 0);
      });
    }
  }
});
