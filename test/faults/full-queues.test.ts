/**
 * Queues of RabbitMQ that are full and refuse what comes: for what is published, what callbacks forward, and what comes
 * back for its next attempt. The ledger counts what is in each queue in the end.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { Frame } from '../../src/stomp/frames.js';
import { brokerUnderTest } from '../support/brokers.js';
import { startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, putAll, queueDepth, takeLeft } from '../support/messages.js';
import type { OwnBroker } from '../support/own-broker.js';
import { bound, unbound } from '../support/policies.js';
import { run } from '../support/process.js';
import { startProxy, type Proxy } from '../support/proxy.js';
import { rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { until, within } from '../support/until.js';

const COMPLETE_MS = 60_000;
const withId = { 'correlation-id': 'c' };
const skip = brokerUnderTest('rabbitmq') === undefined ? 'not in this run' : (rabbitmqMissing() ?? false);

const numberOf = (body: Buffer) => (JSON.parse(body.toString()) as { n: number }).n;

/** Calls `onFrame` with each frame that is sent to the broker from now on. */
function follow(proxy: Proxy, onFrame: (frame: Frame) => void): void {
  const isAwaited = (frame: Frame) => {
    onFrame(frame);
    return false;
  };
  void proxy.frame('toServer', isAwaited, { isHeld: false });
}

describe('a queue that is full', { skip, concurrency: 3 }, () => {
  let broker: OwnBroker;
  before(async () => {
    broker = await startRabbitmq();
  });
  after(() => broker.stop());

  /** Empties the queue into the ledger, again and again, until all have come. */
  async function empty(queue: string, ledger: Ledger): Promise<void> {
    const emptied = async () => {
      for (const { body } of await drainQueue(broker, queue)) ledger.count(numberOf(body));
      return ledger.lost === 0;
    };
    await until(emptied, COMPLETE_MS, () => `all in ${queue}; missing: ${ledger.lost}`);
  }

  test('publish --lines sends one message again in a round, and goes on when there is room', async (t) => {
    const [queue, window, room] = [uniqueName(t), 50, 5];
    const ledger = new Ledger(60);
    await using proxy = await startProxy(broker);
    const env = { ...broker.env, STOMP_SERVER_HOST: proxy.host, STOMP_SERVER_PORT: String(proxy.port) };
    let sends = 0;
    follow(proxy, ({ command, headers }) => {
      if (command === 'SEND' && headers.transaction === undefined) sends++;
    });
    await bound(broker, queue, room);
    const input = ledger.bodies().map((body) => `${JSON.stringify(body)}\n`);
    const args = [`/queue/${queue}`, '--lines', '--window', String(window)];
    const publishing = run('publish', args, { env, input: input.join('') });
    const rounds = () =>
      publishing.logLines.filter(({ msg }) => String(msg).startsWith('no connection to the broker')).length;
    await until(
      () => rounds() >= 5,
      COMPLETE_MS,
      () => `5 rounds; there were ${rounds()}`,
    );
    // The window once, when the queue became full; then one for each round and the one that is under way.
    const [atMost, asSent] = [room + window + rounds() + 1, sends];
    assert.ok(asSent <= atMost, `${asSent} sends in ${rounds()} rounds`);
    assert.match(publishing.stderr, /"hint":"the queue may be full/);
    assert.equal(await queueDepth(broker, queue), room);
    await empty(queue, ledger);
    assert.deepEqual(await publishing.exit(COMPLETE_MS), { code: 0, signal: null });
    for (const { body } of await drainQueue(broker, queue)) ledger.count(numberOf(body));
    ledger.report(t, broker);
    t.diagnostic(`${sends} sends in ${rounds()} rounds`);
    assert.equal(ledger.lost, 0);
    // Each time that it is full again costs no window either.
    assert.ok(sends <= room + window + 2 * ledger.published + rounds(), `${sends} sends`);
    const said = publishing.logLines.find(({ msg }) => msg === 'messages published');
    assert.deepEqual([said?.confirmed, said?.sent], [60, sends]);
  });

  test('publish --lines that gives up says what is there, and all is there after it has gone on', async (t) => {
    const [queue, room] = [uniqueName(t), 5];
    const ledger = new Ledger(60);
    await bound(broker, queue, room);
    const publish = async (...flags: string[]) => {
      const input = ledger.bodies().map((body) => `${JSON.stringify(body)}\n`);
      const args = [`/queue/${queue}`, '--lines', '--window', '20', ...flags];
      const publishing = run('publish', args, { env: broker.env, input: input.join('') });
      const { code } = await publishing.exit(COMPLETE_MS);
      return { code, stderr: publishing.stderr };
    };
    const stopped = await publish('--reconnect-for', '2');
    assert.equal(stopped.code, 4, stopped.stderr);
    const said = /given up after 2 s; (\d+) confirmed, (\d+) unknown; go on with --resume-from (\d+)/;
    const [, confirmed, unknown, line] = (said.exec(stopped.stderr) ?? []).map(Number);
    assert.ok(confirmed! <= room && confirmed! + unknown! >= room, stopped.stderr);
    for (const { body } of await drainQueue(broker, queue)) ledger.count(numberOf(body));
    assert.ok(ledger.processed >= line!, stopped.stderr);
    await unbound(broker, queue);
    const resumed = await publish('--resume-from', String(line));
    assert.equal(resumed.code, 0, resumed.stderr);
    for (const { body } of await drainQueue(broker, queue)) ledger.count(numberOf(body));
    ledger.report(t, broker);
    assert.equal(ledger.lost, 0);
    ledger.assertRepeatedAtMost(room - line!);
  });

  test('a stop does not wait for what cannot be forwarded to it: that goes back at once', async (t) => {
    const [queue, target, room] = [uniqueName(t), `${uniqueName(t)}-to`, 2];
    const ledger = new Ledger(10);
    await bound(broker, target, room);
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      (payload) => {
        payload.publish(`/queue/${target}`, payload.body);
        return payload.ack();
      },
      { concurrency: 20, gracefulWaitSeconds: 3600 },
    );
    await putAll(broker, `/queue/${queue}`, ledger.bodies(), withId);
    await consuming.logged('target', 'reason', 'held');
    await consuming.received(ledger.published);
    const { acked, released } = await within(consuming.stop(), COMPLETE_MS, 'the stop');
    assert.equal(acked + released, ledger.published);
    await takeLeft(broker, [queue, target], ledger, room - acked);
    assert.equal(ledger.repeated, room - acked);
    assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
    ledger.report(t, broker);
  });

  test('what shall be retried is held while the queue of its delay is full, and comes again', async (t) => {
    const queue = uniqueName(t);
    const ledger = new Ledger(10);
    await bound(broker, `${queue}.retry.500`, 2);
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      async (payload) => {
        if (payload.headers['x-attempt'] === undefined) throw new Error('not the first time');
        if ((await payload.ack()) === 'sent') ledger.record(payload);
      },
      { concurrency: 20, retries: 1, retryDelay: '500ms' },
    );
    await putAll(broker, `/queue/${queue}`, ledger.bodies(), withId);
    const { fields } = await consuming.logged('target', 'reason', 'held');
    assert.equal(fields.target, `/queue/${queue}.retry.500`);
    await ledger.complete(COMPLETE_MS);
    const settled = () =>
      consuming.events.filter((event) => 'outcome' in event && event.outcome === 'retried');
    await until(() => settled().length === ledger.published, COMPLETE_MS, 'all are retried');
    // Nothing may come at the stop. In this order: what leaves the first goes to the second.
    for (const left of [`${queue}.retry.500`, queue])
      await until(async () => (await queueDepth(broker, left)) === 0, COMPLETE_MS, `${left} is empty`);
    const { released, redelivered } = await consuming.stop();
    for (const left of [queue, `${queue}.retry.500`, `DLQ.${queue}`])
      assert.deepEqual(await drainQueue(broker, left), []);
    ledger.report(t, broker);
    assert.deepEqual([ledger.lost, released, redelivered], [0, 0, 0]);
    ledger.assertRepeatedAtMost(ledger.published);
  });

  test('what callbacks forward to it is held, others go on, and it arrives when there is room', async (t) => {
    const [queue, target] = [uniqueName(t), `${uniqueName(t)}-to`];
    const [forwarded, acked] = [new Ledger(10), new Ledger(100)];
    await bound(broker, target, 2);
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      async (payload) => {
        const isForwarded = payload.headers.forward === 'yes';
        if (isForwarded) payload.publish(`/queue/${target}`, payload.body);
        if ((await payload.ack()) === 'sent' && !isForwarded) acked.record(payload);
      },
      { concurrency: 20 },
    );
    await putAll(broker, `/queue/${queue}`, forwarded.bodies(), { ...withId, forward: 'yes' });
    const { fields } = await consuming.logged('target', 'reason', 'held');
    assert.equal(fields.target, `/queue/${target}`);
    await putAll(broker, `/queue/${queue}`, acked.bodies(), withId);
    await acked.complete(COMPLETE_MS);
    await until(async () => (await queueDepth(broker, target)) === 2, COMPLETE_MS, 'two of them');
    await empty(target, forwarded);
    const count = forwarded.published + acked.published;
    const settled = () => consuming.events.filter((event) => 'outcome' in event).length;
    await until(
      () => settled() === count,
      COMPLETE_MS,
      () => `${count} settled; so far ${settled()}`,
    );
    const summary = await consuming.stop();
    for (const { body } of await drainQueue(broker, target)) forwarded.count(numberOf(body));
    for (const other of [queue, `DLQ.${queue}`]) assert.deepEqual(await drainQueue(broker, other), []);
    forwarded.report(t, broker);
    assert.equal(forwarded.lost, 0);
    forwarded.assertRepeatedAtMost(forwarded.published);
    assert.deepEqual([summary.received, summary.acked, summary.released], [count, count, 0]);
  });

  test('what comes back for its next attempt is dead-lettered, where it is bounded with reject-publish-dlx', async (t) => {
    const [queue, count] = [uniqueName(t), 10];
    const [retried, others] = [new Ledger(count), new Ledger(count)];
    let fail: () => void = () => undefined;
    const isFull = new Promise<void>((resolve) => (fail = resolve));
    const callback = async (payload: Payload) => {
      if (payload.headers.fails === 'yes') {
        await isFull;
        throw new Error('not the first time');
      }
      if ((await payload.ack()) === 'sent') others.record(payload);
    };
    const options = { concurrency: count, retries: 3, retryDelay: '500ms' };
    // It takes no others: these fill the queue.
    const failing = await startConsuming(t, broker, `/queue/${queue}`, callback, {
      ...options,
      limit: count,
    });
    await putAll(broker, `/queue/${queue}`, retried.bodies(), { ...withId, fails: 'yes' });
    await failing.received(count);
    await bound(broker, queue, count, 'reject-publish-dlx');
    await putAll(broker, `/queue/${queue}`, others.bodies(), withId);
    fail();
    assert.equal((await failing.ended).retried, count);
    await until(
      async () => (await queueDepth(broker, `DLQ.${queue}`)) === count,
      COMPLETE_MS,
      'all that came back are dead letters',
    );
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, options);
    await others.complete(COMPLETE_MS);
    await consuming.stop();
    for (const { body, headers } of await drainQueue(broker, `DLQ.${queue}`)) {
      retried.count(numberOf(body));
      assert.equal(headers['x-attempt'], '2');
    }
    for (const other of [queue, `${queue}.retry.500`]) assert.deepEqual(await drainQueue(broker, other), []);
    retried.report(t, broker);
    assert.deepEqual([retried.lost, retried.repeated, others.repeated], [0, 0, 0]);
  });
});
