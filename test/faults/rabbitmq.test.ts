import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FRESH_MS } from '../../src/sending/link.js';
import { brokerUnderTest } from '../support/brokers.js';
import type { PubsubError } from '../../src/index.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { bodiesIn, drainQueue, putAll, queueDepth } from '../support/messages.js';
import { run } from '../support/process.js';
import { rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { until } from '../support/until.js';

const COMPLETE_MS = 60_000;
const skip = brokerUnderTest('rabbitmq') === undefined ? 'not in this run' : (rabbitmqMissing() ?? false);

describe('what RabbitMQ does of its own', { skip, concurrency: 3 }, () => {
  for (const queueType of ['classic', 'quorum'] as const) {
    test(`a callback slower than RabbitMQ's consumer_timeout is named as the cause, and its message comes again, ${queueType}`, async (t) => {
      // It looks for such callbacks once in a tick, of a minute by default.
      const advanced = '[{rabbit, [{consumer_timeout, 1000}, {channel_tick_interval, 500}]}].';
      await using broker = await startRabbitmq({ advanced });
      if (queueType === 'classic' && /^4\.(?:[3-9]|\d\d)/.test(broker.version)) {
        t.skip('RabbitMQ 4.3 has no consumer_timeout for classic queues');
        return;
      }
      const queue = uniqueName(t);
      const ledger = new Ledger(1);
      let finish: () => void = () => undefined;
      const finished = new Promise<void>((resolve) => (finish = resolve));
      let calls = 0;
      const consuming = await startConsuming(
        t,
        broker,
        `/queue/${queue}`,
        async (payload) => {
          if (++calls === 1) await finished;
          if ((await payload.ack()) === 'sent') ledger.record(payload);
        },
        { queueType },
      );
      await publisherTo(t, broker, { queueType }).send(`/queue/${queue}`, { n: 0 });
      const lost = await consuming.logged('reason', 'retryInMs');
      assert.equal(lost.level, 'warn');
      assert.match(String(lost.fields.reason), /raise consumer_timeout/);
      const back = await consuming.turned('subscribed');
      finish();
      await ledger.complete(COMPLETE_MS);
      const { acked, released, redelivered } = await consuming.stop();
      // Once, but for a test that stands still for a second with the message in its hands.
      assert.ok(released >= 1 && acked === 1 + ledger.repeated, `${released} released, ${acked} acked`);
      assert.equal(redelivered, released + ledger.repeated);
      ledger.report(t, broker, back.atMs - lost.atMs);
    });
  }

  test('a dead-letter queue and the target of a forward that are deleted under a consumer are there again when needed', async (t) => {
    await using broker = await startRabbitmq();
    const queue = uniqueName(t);
    const others = [`DLQ.${queue}`, `${queue}-to`];
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, async (payload) => {
      if (payload.body === 'nack') return payload.nack();
      payload.publish(`/queue/${queue}-to`, payload.body);
      return payload.ack();
    });
    const publisher = publisherTo(t, broker);
    const sendBoth = async () => {
      for (const body of ['nack', 'forward']) await publisher.send(`/queue/${queue}`, body);
      for (const other of others)
        await until(
          async () => (await queueDepth(broker, other)) === 1,
          COMPLETE_MS,
          `a message in ${other}`,
        );
    };
    await sendBoth();
    const sinceMs = performance.now();
    for (const other of others) await broker.ctl!('delete_queue', other);
    await until(() => performance.now() - sinceMs > FRESH_MS, COMPLETE_MS, 'nothing is taken for granted');
    await sendBoth();
    await consuming.stop();
  });

  test('a queue that is deleted while a connection publishes to it is there again when needed', async (t) => {
    await using broker = await startRabbitmq();
    const name = uniqueName(t);
    const [source, moved, lines, sent] = ['source', 'moved', 'lines', 'sent'].map(
      (part) => `${name}-${part}`,
    );
    const publisher = publisherTo(t, broker);
    // There is one before somebody asks for it.
    await publisher.send(`/queue/${source}`, 0);
    await drainQueue(broker, source!, { atLeast: 1 });
    const moving = run('pubsub', ['move-messages', source!, moved!, '--follow'], { env: broker.env });
    const publishing = run('publish', [`/queue/${lines}`, '--lines'], { env: broker.env, input: null });
    t.after(() => Promise.all([moving.kill(), publishing.kill()]));
    const targets = [moved, lines, sent];
    const sendAll = async () => {
      await publisher.send(`/queue/${source}`, 1);
      await publisher.send(`/queue/${sent}`, 1);
      publishing.child.stdin.write('1\n');
      for (const queue of targets)
        await until(
          async () => (await queueDepth(broker, queue!)) === 1,
          COMPLETE_MS,
          `a message in ${queue}`,
        );
    };
    await sendAll();
    const sinceMs = performance.now();
    for (const queue of targets) await broker.ctl!('delete_queue', queue!);
    await until(() => performance.now() - sinceMs > FRESH_MS, COMPLETE_MS, 'nothing is taken for granted');
    await sendAll();
  });

  test('a transaction that fails at its COMMIT is not said to be undone: some of it was carried out', async (t) => {
    await using broker = await startRabbitmq({ advanced: '[{rabbit, [{max_message_size, 2000}]}].' });
    const queue = uniqueName(t);
    const long = JSON.stringify('x'.repeat(4000));
    const publishing = run('publish', [`/queue/${queue}`, '--lines', '--transaction'], {
      env: broker.env,
      input: `1\n2\n${long}\n4\n`,
    });
    assert.deepEqual(await publishing.exit(), { code: 4, signal: null });
    assert.match(publishing.stderr, /what came before that in the transaction may have been carried out/);
    assert.doesNotMatch(publishing.stderr, /nothing was published/);
    assert.equal(await queueDepth(broker, queue), 2);
  });

  test('what is refused beside other messages may have been one of those', async (t) => {
    await using broker = await startRabbitmq();
    const queue = `/queue/${uniqueName(t)}`;
    const publisher = publisherTo(t, broker);
    await publisher.send(queue, 0);
    const urgent = { headers: { priority: 'urgent' } };
    const results = await Promise.allSettled(
      [{}, urgent, {}].map((options, n) => publisher.send(queue, n, options)),
    );
    const reasons = results.map((result) => (result as { reason?: PubsubError }).reason);
    for (const reason of reasons.slice(1)) {
      assert.match(String(reason?.message), /may or may not/);
      assert.equal(reason?.code, 'not-confirmed');
    }
  });

  test('a destination that is refused harms no message that is sent beside it', async (t) => {
    await using broker = await startRabbitmq();
    const queue = `/queue/${uniqueName(t)}`;
    const publisher = publisherTo(t, broker);
    const results = await Promise.allSettled(
      [queue, '/exchange/nope/x', queue].map((destination) => publisher.send(destination, 1)),
    );
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    const { reason } = results[1] as { reason?: PubsubError };
    assert.equal(reason?.code, 'broker-refused');
    assert.match(reason.message, /no exchange 'nope'/);
  });

  test('what a callback publishes without permission dead-letters its message alone', async (t) => {
    await using broker = await startRabbitmq();
    const limited = { ...broker, user: 'limited', password: 'limited' };
    await broker.ctl!('add_user', limited.user, limited.password);
    await broker.ctl!('set_permissions', limited.user, '^(?!forbidden).*', '.*', '.*');
    const queue = uniqueName(t);
    const consuming = await startConsuming(t, limited, `/queue/${queue}`, async (payload) => {
      payload.publish(payload.body === 1 ? '/queue/forbidden' : `/queue/${queue}-to`, payload.body);
      await payload.ack();
    });
    const publisher = publisherTo(t, broker);
    for (const body of [1, 2]) await publisher.send(`/queue/${queue}`, body);
    await consuming.received(2);
    const { fields } = await consuming.logged('reason', 'deadLetterQueue');
    assert.equal(fields.reason, 'forward-refused');
    assert.match(String(fields.detail), /forbidden.*refused for user 'limited'/);
    const { acked, deadLettered, released } = await consuming.stop();
    assert.deepEqual([acked, deadLettered, released], [1, 1, 0]);
    assert.deepEqual(
      [await bodiesIn(broker, `${queue}-to`), await bodiesIn(broker, `DLQ.${queue}`)],
      [['2'], ['1']],
    );
  });

  test('a memory alarm stops no consumer, not even one that starts during the alarm', async (t) => {
    await using broker = await startRabbitmq();
    const queues = [uniqueName(t), uniqueName(t)] as const;
    const ledgers = [new Ledger(100), new Ledger(100)] as const;
    for (const at of [0, 1] as const) {
      await putAll(broker, `/queue/${queues[at]}`, ledgers[at].bodies(), { 'correlation-id': 'c' });
    }
    let raised: () => void = () => undefined;
    const alarm = new Promise<void>((resolve) => (raised = resolve));
    const answers = [0, 0];
    const consume = (at: 0 | 1) =>
      startConsuming(
        t,
        broker,
        `/queue/${queues[at]}`,
        async (payload) => {
          if (ledgers[at].processed === 20) await alarm;
          if ((await payload.ack()) === 'sent') ledgers[at].record(payload);
        },
        { canaryIntervalSeconds: 0.2, onRoundTrip: () => answers[at]!++ },
      );
    const first = await consume(0);
    await first.received(21);
    await broker.ctl!('set_vm_memory_high_watermark', 'absolute', '1');
    const alarms = () => broker.ctl!('eval', 'rabbit_alarm:get_alarms().');
    await until(async () => (await alarms()).includes('memory'), COMPLETE_MS, 'the memory alarm');
    raised();
    const second = await consume(1);
    const before = [...answers];
    const areAnswered = () => answers.every((count, at) => count > before[at]! + 2);
    await until(areAnswered, COMPLETE_MS, 'the broker answers both that ask');
    for (const ledger of ledgers) await ledger.complete(COMPLETE_MS);
    for (const queue of queues)
      await until(async () => (await queueDepth(broker, queue)) === 0, COMPLETE_MS, `the acks of ${queue}`);
    assert.match(await alarms(), /memory/);
    for (const consuming of [first, second])
      assert.deepEqual(
        consuming.log.filter(({ fields }) => 'retryInMs' in fields),
        [],
      );
    ledgers[0].report(t, broker);
  });

  test('during a memory alarm what callbacks publish waits, and the acks of others do not', async (t) => {
    await using broker = await startRabbitmq();
    const queue = uniqueName(t);
    const forwarded = new Ledger(5);
    const acked = new Ledger(20);
    await putAll(broker, `/queue/${queue}`, forwarded.bodies(), { 'correlation-id': 'c', forward: 'yes' });
    await putAll(broker, `/queue/${queue}`, acked.bodies(), { 'correlation-id': 'c' });
    let raised: () => void = () => undefined;
    const alarm = new Promise<void>((resolve) => (raised = resolve));
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      async (payload) => {
        await alarm;
        const isForwarded = payload.headers.forward === 'yes';
        // RabbitMQ takes one more before it reads no more.
        const isFirst = (payload.body as { n: number }).n === 0;
        if (isForwarded && !isFirst) await until(() => forwarded.processed > 0, COMPLETE_MS, 'the first');
        if (isForwarded) payload.publish(`/queue/${queue}-to`, payload.body);
        if ((await payload.ack()) === 'sent') (isForwarded ? forwarded : acked).record(payload);
      },
      { concurrency: 10 },
    );
    await consuming.received(10);
    await broker.ctl!('set_vm_memory_high_watermark', 'absolute', '1');
    const alarms = () => broker.ctl!('eval', 'rabbit_alarm:get_alarms().');
    await until(async () => (await alarms()).includes('memory'), COMPLETE_MS, 'the memory alarm');
    raised();
    await acked.complete(COMPLETE_MS);
    await until(async () => (await queueDepth(broker, queue)) <= 5, COMPLETE_MS, 'the acks');
    assert.ok(forwarded.lost > 0);
    await broker.ctl!('set_vm_memory_high_watermark', '0.4');
    await forwarded.complete(COMPLETE_MS);
    await consuming.stop();
    const numbers = (await drainQueue(broker, `${queue}-to`)).map(({ body }) => body.toString());
    assert.equal(new Set(numbers).size, 5);
    forwarded.report(t, broker);
  });
});
