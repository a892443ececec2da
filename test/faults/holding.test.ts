/**
 * Dead-letter queues of RabbitMQ that take nothing for now: full, refused, deleted, of another type. What is nacked
 * meanwhile is held and neither lost nor run again; the ledger counts what has come to the dead-letter queue in the end.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { ConsumeOptions } from '../../src/index.js';
import { FRESH_MS } from '../../src/sending/link.js';
import { brokerUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { startConsuming, uniqueName, type Consuming } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, put, putAll, queueDepth, takeLeft } from '../support/messages.js';
import type { OwnBroker } from '../support/own-broker.js';
import { bound, unbound } from '../support/policies.js';
import { run } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { withRaw } from '../support/raw-client.js';
import { until, within } from '../support/until.js';

const COMPLETE_MS = 60_000;
const NACKED = 20;
const TAKEN = 5;
const GOOD = 100;
/** May be declared. */
const NO_DEAD_LETTERS = '^(?!DLQ\\.).*';
const FULL = /the queue may be full/;
const withId = { 'correlation-id': 'c' };
const skip = brokerUnderTest('rabbitmq') === undefined ? 'not in this run' : (rabbitmqMissing() ?? false);

const numberOf = (body: Buffer) => (JSON.parse(body.toString()) as { n: number }).n;

interface Scene {
  readonly queue: string;
  readonly deadLetters: string;
  /** Those that are nacked, by where they have come to be dead letters. */
  readonly ledger: Ledger;
  readonly consuming: Consuming;
  /** Puts in those that are nacked, and no others. */
  readonly putBad: () => Promise<void>;
  /** Puts in others and resolves when all of these are acked. */
  readonly goesOn: () => Promise<void>;
  /** How many have been dead-lettered, by what the consumer tells. */
  readonly told: () => number;
  /**
   * Resolves when it is told that they are held for that reason and so many wait in the dead-letter queue; of some of these no
   * receipt has come.
   */
  readonly held: (waiting: number, reason: RegExp) => Promise<void>;
  /** Empties the dead-letter queue, again and again, until all have come. */
  readonly empty: () => Promise<void>;
}

async function scene(
  t: TestContext,
  broker: BrokerUnderTest,
  options: Partial<ConsumeOptions> = {},
  bad = NACKED,
): Promise<Scene> {
  const queue = uniqueName(t);
  const deadLetters = `DLQ.${queue}`;
  const [ledger, good] = [new Ledger(bad), new Ledger(GOOD)];
  const consuming = await startConsuming(
    t,
    broker,
    `/queue/${queue}`,
    async (payload) => {
      if (payload.headers.bad === 'yes') await payload.nack();
      else if ((await payload.ack()) === 'sent') good.record(payload);
    },
    { concurrency: 50, ...options },
  );
  const type = options.queueType === 'quorum' ? { 'x-queue-type': 'quorum' } : {};
  const told = () =>
    consuming.events.filter((event) => 'outcome' in event && event.outcome === 'dead-lettered').length;
  return {
    ...{ queue, deadLetters, ledger, consuming, told },
    putBad: () => putAll(broker, `/queue/${queue}`, ledger.bodies(), { ...withId, ...type, bad: 'yes' }),
    goesOn: async () => {
      await putAll(broker, `/queue/${queue}`, good.bodies(), { ...withId, ...type });
      await good.complete(COMPLETE_MS);
      assert.equal(good.repeated, 0);
    },
    held: async (waiting, reason) => {
      for (let isTold = false; !isTold;) {
        const { fields, level } = await consuming.logged('target', 'reason', 'held');
        assert.equal(level, 'error');
        assert.equal(fields.target, `/queue/${deadLetters}`);
        isTold = reason.test(String(fields.reason));
      }
      const isHeld = async () =>
        consuming.payloads.length >= bad && (await queueDepth(broker, deadLetters)) === waiting;
      await until(isHeld, COMPLETE_MS, () => `${waiting} dead letters; told of ${told()}`);
    },
    empty: async () => {
      const emptied = async () => {
        for (const { body } of await drainQueue(broker, deadLetters)) ledger.count(numberOf(body));
        return ledger.lost === 0;
      };
      await until(emptied, COMPLETE_MS, () => `all in ${deadLetters}; missing: ${ledger.lost}`);
    },
  };
}

/** Of a consumer whose connection lived all the time: every message ran once, and nothing is left anywhere. */
async function assertRanOnce(t: TestContext, broker: BrokerUnderTest, all: Scene): Promise<void> {
  const { queue, deadLetters, ledger, consuming, told } = all;
  await until(() => told() === ledger.published, COMPLETE_MS, 'all are told to be dead-lettered');
  const { received, deadLettered, released, redelivered } = await consuming.stop();
  for (const { body } of await drainQueue(broker, deadLetters)) ledger.count(numberOf(body));
  assert.deepEqual(await drainQueue(broker, queue), []);
  ledger.report(t, broker);
  assert.equal(ledger.lost, 0);
  assert.deepEqual(
    { received, deadLettered, released, redelivered },
    { received: NACKED + GOOD, deadLettered: NACKED, released: 0, redelivered: 0 },
  );
}

describe('a dead-letter queue that takes nothing', { skip, concurrency: 3 }, () => {
  let broker: OwnBroker;
  before(async () => {
    broker = await startRabbitmq();
  });
  after(() => broker.stop());

  test('full: what it does not take is held, others go on, and all arrive when it is emptied', async (t) => {
    const all = await scene(t, broker);
    await bound(broker, all.deadLetters, TAKEN);
    await all.putBad();
    await all.held(TAKEN, FULL);
    await all.goesOn();
    const isAcked = async () => (await queueDepth(broker, all.queue)) === NACKED - all.told();
    await until(isAcked, COMPLETE_MS, 'the others are acked');
    assert.equal(await queueDepth(broker, all.deadLetters), TAKEN);
    await all.empty();
    await assertRanOnce(t, broker, all);
    // What was under way when a connection ended, at most.
    all.ledger.assertRepeatedAtMost(NACKED);
  });

  test('refused: held until the permission is given back', async (t) => {
    const { limited, permit } = await addUser(broker, 'limited');
    const all = await scene(t, limited);
    await permit(NO_DEAD_LETTERS);
    await all.putBad();
    await all.held(0, /refused for user 'limited'.*give the user the permission/);
    await all.goesOn();
    await permit('.*');
    await all.empty();
    await assertRanOnce(t, broker, all);
    assert.equal(all.ledger.repeated, 0);
  });

  test('deleted while messages are held for it: it is declared again, and all that were held arrive', async (t) => {
    await using proxy = await startProxy(broker);
    const all = await scene(t, { ...broker, host: proxy.host, port: proxy.port });
    await bound(broker, all.deadLetters, TAKEN);
    // What is deleted with its queue is lost by whoever deletes it: these, and none of the others.
    const filler = new Ledger(TAKEN);
    await putAll(broker, `/queue/${all.deadLetters}`, filler.bodies(), withId);
    await all.putBad();
    await all.held(TAKEN, FULL);
    await all.goesOn();
    assert.equal(all.told(), 0);
    // A message that is tried just then would be deleted, too.
    await proxy.refuse();
    await all.held(TAKEN, /ECONNREFUSED/);
    await broker.ctl!('delete_queue', all.deadLetters);
    await proxy.accept();
    await all.empty();
    await assertRanOnce(t, broker, all);
    all.ledger.assertRepeatedAtMost(NACKED);
  });

  test('of another type: held until it is of the type that is declared, and told when that is the reason', async (t) => {
    const { limited, permit } = await addUser(broker, 'other');
    const all = await scene(t, limited);
    await declareQuorum(broker, all.deadLetters);
    await permit(NO_DEAD_LETTERS);
    await all.putBad();
    await all.held(0, /refused for user 'other'/);
    await permit('.*');
    await all.held(0, /inequivalent arg 'x-queue-type'.*the same STOMP_QUEUE_TYPE/);
    await all.goesOn();
    await broker.ctl!('delete_queue', all.deadLetters);
    await all.empty();
    await assertRanOnce(t, broker, all);
    assert.equal(all.ledger.repeated, 0);
  });

  test('deleted and declared with another type between dead letters: each is in one of the two', async (t) => {
    const all = await scene(t, broker);
    const early = new Ledger(NACKED);
    await putAll(broker, `/queue/${all.queue}`, early.bodies(), { ...withId, bad: 'yes' });
    await until(() => all.told() === NACKED, COMPLETE_MS, 'the first dead letters');
    const takeEarly = async () => {
      for (const { body } of await drainQueue(broker, all.deadLetters)) early.count(numberOf(body));
    };
    await takeEarly();
    assert.deepEqual([early.lost, early.repeated], [0, 0]);
    const sinceMs = performance.now();
    await declareQuorum(broker, all.deadLetters);
    await until(() => performance.now() - sinceMs > FRESH_MS, COMPLETE_MS, 'nothing is taken for granted');
    await all.putBad();
    await all.held(0, /inequivalent arg/);
    await broker.ctl!('delete_queue', all.deadLetters);
    await all.empty();
    assert.equal(all.ledger.repeated, 0);
    all.ledger.report(t, broker);
  });

  test('a stop does not wait for what is held: it goes back at once', async (t) => {
    const all = await scene(t, broker, { gracefulWaitSeconds: 3600 });
    await bound(broker, all.deadLetters, TAKEN);
    await all.putBad();
    await all.held(TAKEN, FULL);
    const { deadLettered, released } = await within(all.consuming.stop(), COMPLETE_MS, 'the stop');
    assert.equal(deadLettered + released, NACKED);
    assert.ok(released >= NACKED - TAKEN);
    // Those whose receipt has not come are there twice.
    await takeLeft(broker, [all.queue, all.deadLetters], all.ledger, TAKEN - deadLettered);
    assert.equal(all.ledger.repeated, TAKEN - deadLettered);
    all.ledger.report(t, broker);
  });

  test('the command exits with 0 at SIGTERM while messages are held', async (t) => {
    const queue = uniqueName(t);
    const ledger = new Ledger(NACKED);
    const callback = './test/fixtures/callbacks/interop.mjs#consume';
    const args = [`/queue/${queue}`, callback, '--concurrency', '50', '--graceful-wait', '3600'];
    const consuming = run('pubsub', args, { env: broker.env });
    await consuming.waitFor(/"msg":"consuming"/);
    await bound(broker, `DLQ.${queue}`, TAKEN);
    const bodies = ledger.bodies().map((body) => ({ ...body, refuse: true }));
    await putAll(broker, `/queue/${queue}`, bodies, withId);
    await consuming.waitFor(/a queue takes nothing: messages for it are held/);
    consuming.signal('SIGTERM');
    assert.deepEqual(await consuming.exit(COMPLETE_MS), { code: 0, signal: null });
    await takeLeft(broker, [queue, `DLQ.${queue}`], ledger);
    ledger.report(t, broker);
  });

  test('held for longer than STOMP_HOLD_SECONDS, they go back, and the consumer stays away, longer each time', async (t) => {
    const all = await scene(t, broker, { holdSeconds: 1 }, 3);
    await bound(broker, all.deadLetters, 1);
    await all.putBad();
    await all.held(1, FULL);
    const away = async () => {
      const { fields, message } = await all.consuming.logged('reason', 'retryInMs');
      assert.equal(message, 'staying away from the broker');
      // Those for which it is that long: more of them a moment later.
      assert.match(String(fields.reason), /\d messages could not be settled for 1 s \(STOMP_HOLD_SECONDS\)/);
      return fields.retryInMs;
    };
    assert.deepEqual([await away(), await away(), await away()], [1000, 2000, 4000]);
    assert.equal(await queueDepth(broker, all.queue), 3 - all.told());
    const releases = () => all.consuming.events.filter(isReleased).length;
    const [toldBefore, releasedBefore] = [all.told(), releases()];
    await unbound(broker, all.deadLetters);
    await until(() => all.told() === 3, COMPLETE_MS, 'all are dead-lettered');
    await all.goesOn();
    const { released, received } = await all.consuming.stop();
    await all.empty();
    assert.deepEqual(await drainQueue(broker, all.queue), []);
    all.ledger.report(t, broker);
    // A copy that was confirmed too late for a second of holding, only.
    all.ledger.assertRepeatedAtMost(1 - toldBefore + releases() - releasedBefore);
    assert.equal(received, 3 + released + GOOD);
  });

  test('messages of a quorum queue that were delivered 15 times keep the consumer away until it is restarted', async (t) => {
    await using proxy = await startProxy(broker);
    const behind = { ...broker, host: proxy.host, port: proxy.port };
    const queue = uniqueName(t);
    const [deadLetters, ledger, filler] = [`DLQ.${queue}`, new Ledger(3), new Ledger(2)];
    const quorum = { ...withId, 'x-queue-type': 'quorum' };
    await putAll(broker, `/queue/${queue}`, ledger.bodies(), quorum);
    for (let delivered = 0; delivered <= 15; delivered++) await look(broker, queue, ledger.published);
    await putAll(broker, `/queue/${deadLetters}`, filler.bodies(), quorum);
    await bound(broker, deadLetters, 1);
    const start = (options: Partial<ConsumeOptions> = {}) =>
      startConsuming(t, behind, `/queue/${queue}`, (payload) => payload.nack(), {
        ...{ queueType: 'quorum', concurrency: 5, ...options },
      });
    const away = await start({ holdSeconds: 1 });
    const { reason } = (await away.turned('lost')) as { reason?: string };
    assert.match(String(reason), /delivered 15 times and more: restart the consumer when it is mended/);
    const line = await until(
      () => away.log.find(({ message }) => message === 'staying away from the broker'),
      COMPLETE_MS,
      'it stays away',
    );
    assert.equal(line.fields.retryInMs, undefined);
    for (const { body } of await drainQueue(broker, deadLetters)) filler.count(numberOf(body));
    assert.equal(filler.lost, 0);
    await unbound(broker, deadLetters);
    const { connections } = proxy;
    const sinceMs = performance.now();
    // The first absence of the others is of one second.
    await until(() => performance.now() - sinceMs > 4000, COMPLETE_MS, 'it stays away');
    assert.equal(proxy.connections, connections);
    const { received } = await away.stop();
    assert.ok(received <= ledger.published, `${received} received`);
    const back = await start();
    for (let count = 0; count < ledger.published; count++) await back.settled('dead-lettered');
    await back.stop();
    for (const { body } of await drainQueue(broker, deadLetters)) ledger.count(numberOf(body));
    assert.deepEqual(await drainQueue(broker, queue), []);
    ledger.report(t, broker);
    assert.deepEqual([ledger.lost, ledger.repeated], [0, 0]);
  });
});

const isReleased = (event: Consuming['events'][number]) => 'outcome' in event && event.outcome === 'released';

/** Hands out what is in a queue and leaves it there: its numbers. Each look is a delivery. */
async function look(broker: BrokerUnderTest, queue: string, count: number): Promise<number[]> {
  return withRaw(broker, async (client) => {
    await client.subscribe(`/amq/queue/${queue}`);
    const numbers: number[] = [];
    while (numbers.length < count) numbers.push(numberOf((await client.next('MESSAGE')).body));
    await client.disconnect();
    return numbers;
  });
}

/** Who may do everything until `permit` says which queues they may declare. */
async function addUser(broker: OwnBroker, name: string) {
  const permit = (configure: string) => broker.ctl!('set_permissions', name, configure, '.*', '.*');
  await broker.ctl!('add_user', name, name);
  await permit('.*');
  return { limited: { ...broker, user: name, password: name }, permit };
}

/** The queue, which is there and empty, is a quorum queue from then on. */
async function declareQuorum(broker: BrokerUnderTest, queue: string): Promise<void> {
  await broker.ctl!('delete_queue', queue);
  await put(broker, `/queue/${queue}`, { n: -1 }, { ...withId, 'x-queue-type': 'quorum' });
  await drainQueue(broker, queue, { atLeast: 1 });
}
