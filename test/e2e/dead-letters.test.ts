/** `pubsub dead-letters`: what it tells of a dead-letter queue, whoever filled it, and that it changes nothing. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brokersUnderTest, brokerUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { drainQueue, put, putAll, queueDepth } from '../support/messages.js';
import { setPolicy } from '../support/policies.js';
import { withRaw, type RawHeaders } from '../support/raw-client.js';
import { findProgram } from '../support/server-process.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  at,
  DEADLINE_MS,
  fixture,
  skipWithout,
  startPubsub,
  stopPubsub,
  unique,
} from './commands.js';
import {
  assertHarmless,
  bodiesIn,
  IDLE,
  letDie,
  onTerminal,
  operate,
  refused,
  startOperator,
} from './operator.js';

interface Group {
  readonly reason: string;
  readonly error?: string;
  readonly count: number;
  readonly ages: Record<string, number>;
  readonly first?: string;
  readonly last?: string;
  readonly example?: string;
}

const HOUR_MS = 3_600_000;
const ago = (ms: number) => new Date(Date.now() - ms).toISOString();

/** As the consumer writes them. */
const failed = (reason: string, agoMs: number, more: RawHeaders = {}): RawHeaders => ({
  'correlation-id': `${reason}-${agoMs}`,
  'x-failure-reason': reason,
  'x-failure-at': ago(agoMs),
  ...more,
});

const summary = async (broker: BrokerUnderTest, args: readonly string[]) =>
  (await operate(broker, ['dead-letters', ...args, ...IDLE])) as { total: number; unmatched: number } & {
    groups: Group[];
    deadLetterQueue: string;
    stopped: string;
  };

/** Lines of `--list`, or of `--show`. */
async function lines(broker: BrokerUnderTest, args: readonly string[]): Promise<Record<string, unknown>[]> {
  const running = startOperator(broker, ['dead-letters', ...args, ...IDLE]);
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  const texts = running.stdout.split('\n').slice(0, -1);
  return texts.map((text) => JSON.parse(text) as Record<string, unknown>);
}

/** Five of three kinds. */
async function fill(broker: BrokerUnderTest, queue: string): Promise<void> {
  const type = { 'x-failure-error': 'TypeError', 'x-failure-message': 'no id', tenant: '7' };
  for (const agoMs of [30 * 24 * HOUR_MS, 5 * HOUR_MS, 60_000])
    await put(broker, `/queue/DLQ.${queue}`, `{"ago":${agoMs}}`, failed('callback-failed', agoMs, type));
  await put(broker, `/queue/DLQ.${queue}`, 'no JSON', failed('malformed-body', 2 * HOUR_MS));
  await put(broker, `/queue/DLQ.${queue}`, 'by hand', { 'correlation-id': 'by-hand' });
}

for (const broker of brokersUnderTest()) {
  describe(`dead-letters: ${broker.name}`, { concurrency: 4 }, () => {
    it('counts all by reason, error and age, and leaves them in order', async () => {
      const queue = unique('dead');
      await fill(broker, queue);
      const result = await summary(broker, [queue]);
      assert.deepEqual(
        [result.deadLetterQueue, result.total, result.unmatched, result.stopped],
        [`DLQ.${queue}`, 5, 0, 'idle'],
      );
      const [first, ...others] = result.groups;
      const { first: from, last: to, ...rest } = first!;
      assert.deepEqual(rest, {
        reason: 'callback-failed',
        error: 'TypeError',
        count: 3,
        ages: { older: 1, day: 1, hour: 1 },
        example: 'callback-failed-60000',
      });
      assert.ok(Date.parse(to!) - Date.parse(from!) > 29 * 24 * HOUR_MS, `${from} ${to}`);
      assert.deepEqual(
        others.map(({ reason, count, ages, last }) => [reason, count, ages, last !== undefined]),
        [
          ['malformed-body', 1, { day: 1 }, true],
          ['unknown', 1, { unknown: 1 }, false],
        ],
      );
      assert.equal((await bodiesIn(broker, `DLQ.${queue}`, 5)).at(-1), 'by hand');
    });

    it('counts what a consumer dead-lettered by its reason and error class', async () => {
      const queue = unique('dead');
      const consumer = await startPubsub(broker, queue, fixture('failing.mjs#always'));
      await putAll(broker, `/queue/${queue}`, [1, 2], { 'correlation-id': 'c' });
      await consumer.says('dead-lettered', 2);
      await stopPubsub(consumer);
      const { groups } = await summary(broker, ['--from', `DLQ.${queue}`]);
      assert.deepEqual(
        groups.map(({ reason, error, count, ages, example }) => [reason, error, count, ages, example]),
        [['callback-failed', 'RangeError', 2, { hour: 2 }, 'c']],
      );
    });

    it('--list and its filters choose, --show shows one whole', async () => {
      const queue = unique('dead');
      await fill(broker, queue);
      const chosen = async (...args: string[]) =>
        (await lines(broker, [queue, '--list', ...args])).map(({ id }) => String(id).replace(/\d+$/, ''));
      assert.equal((await chosen()).length, 5);
      assert.deepEqual(await chosen('--reason', 'malformed-body'), ['malformed-body-']);
      assert.equal((await chosen('--error', 'TypeError', '--match', 'tenant=7')).length, 3);
      assert.equal((await chosen('--since', '6h', '--error', 'TypeError')).length, 2);
      assert.deepEqual(await chosen('--since', '3h', '--until', '1h'), ['malformed-body-']);
      assert.equal((await chosen('--until', ago(24 * HOUR_MS))).length, 1);
      assert.equal((await chosen('--count', '2')).length, 2);
      const [row] = await lines(broker, [queue, '--list', '--error', 'TypeError', '--since', '1h']);
      const { at: when, ...rest } = row!;
      assert.ok(Date.now() - Date.parse(String(when)) < HOUR_MS);
      const expected = { reason: 'callback-failed', error: 'TypeError', message: 'no id' };
      assert.deepEqual(rest, { id: 'callback-failed-60000', ...expected });
      const [shown] = await lines(broker, [queue, '--show', 'callback-failed-60000']);
      assert.equal(shown!.body, '{"ago":60000}');
      assert.equal((shown!.headers as Record<string, string>).tenant, '7');
      const { code, complaint } = await refused(broker, ['dead-letters', queue, '--show', 'nobody', ...IDLE]);
      assert.equal(code, 2);
      assert.match(complaint, /none of the 5 messages in DLQ\.dead-\S+ has the id "nobody"/);
      assert.equal((await bodiesIn(broker, `DLQ.${queue}`, 5)).length, 5);
    });

    it('reaches all of many', async () => {
      const queue = unique('dead');
      const bodies = Array.from({ length: 1200 }, (_, n) => n);
      await putAll(broker, `/queue/DLQ.${queue}`, bodies, failed('nack', 1000));
      assert.equal((await summary(broker, [queue])).total, 1200);
    });

    it('names what other clients rejected', needs(broker, 'nackKeeps'), async () => {
      const queue = unique('dead');
      await letDie(broker, queue, ['1', '2'], { 'correlation-id': 'c' });
      const { groups } = await summary(broker, [queue]);
      assert.deepEqual(
        groups.map(({ reason, count, ages }) => [reason, count, ages]),
        [['rejected (other client)', 2, { unknown: 2 }]],
      );
      assert.equal((await summary(broker, [queue, '--reason', 'rejected'])).total, 2);
      assert.equal((await summary(broker, [queue, '--since', '1h'])).total, 0);
    });

    it('the commands that take messages take the same filters, and a dry run changes nothing', async () => {
      const [queue, parked] = [unique('dead'), unique('parked')];
      await fill(broker, queue);
      const dead = `DLQ.${queue}`;
      const chosen = ['--error', 'TypeError', '--since', '6h', ...IDLE];
      const move = ['move-messages', dead, parked, ...chosen];
      const dry = await operate(broker, [...move, '--dry-run']);
      assert.deepEqual([dry.moved, dry.left, dry.isDryRun], [2, 3, true]);
      const remove = ['ack-all-messages', dead, '--reason', 'malformed-body', ...IDLE];
      const dryRemove = await operate(broker, [...remove, '--dry-run', '--save', '/nowhere/to/be/made']);
      assert.deepEqual([dryRemove.acked, dryRemove.left], [1, 4]);
      assert.equal((await operate(broker, [...move, '--count', '1'])).moved, 1);
      const moved = await operate(broker, move);
      assert.deepEqual([moved.moved, moved.left, moved.isDryRun], [1, 3, false]);
      assert.deepEqual(await bodiesIn(broker, parked), ['{"ago":18000000}', '{"ago":60000}']);
      assert.equal((await operate(broker, [...remove, '--yes'])).acked, 1);
      const back = await operate(broker, ['redrive', queue, '--until', '7d', ...IDLE]);
      assert.deepEqual([back.redriven, back.unmatched], [1, 1]);
      assert.deepEqual(await bodiesIn(broker, dead, 1), ['by hand']);
    });

    const paced: [name: string, args: (queue: string) => string[], done: string][] = [
      ['redrive', (queue) => ['redrive', queue], 'redriven'],
      ['ack-all-messages', (queue) => ['ack-all-messages', `DLQ.${queue}`, '--yes'], 'acked'],
    ];
    for (const [name, args, done] of paced)
      it(`${name} goes at a --rate, too`, async () => {
        const queue = unique('dead');
        await putAll(broker, `/queue/DLQ.${queue}`, [1, 2, 3, 4], failed('nack', 1000));
        const chosen = ['--reason', 'nack', '--rate', '5/s', '--count', '3'];
        const result = await operate(broker, [...args(queue), ...chosen]);
        assert.equal(result[done], 3);
        assert.ok((result.seconds as number) > 0.38, String(result.seconds));
        assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`, 1), ['4']);
      });

    it('--rate spreads what is done, and a stop waits for no more than what has begun', async () => {
      const [queue, parked] = [unique('dead'), unique('parked')];
      await putAll(broker, `/queue/${queue}`, [1, 2, 3, 4, 5, 6]);
      const result = await operate(broker, ['move-messages', queue, parked, '--rate', '5/s', '--count', '3']);
      assert.equal(result.moved, 3);
      assert.ok((result.seconds as number) > 0.38, String(result.seconds));
      assert.deepEqual(await bodiesIn(broker, parked), ['1', '2', '3']);
      const slow = startOperator(broker, ['move-messages', queue, parked, '--rate', '1/m']);
      await until(
        async () => (await drainQueue(broker, parked)).length > 0 || undefined,
        DEADLINE_MS,
        'the fourth message',
      );
      slow.signal('SIGTERM');
      assert.deepEqual(await slow.exit(), { code: 0, signal: null }, slow.stderr);
      assert.match(slow.stdout, /"moved":1,.*"stopped":"signal"/);
      assert.deepEqual(await bodiesIn(broker, queue, 2), ['5', '6']);
    });
  });
}

describe('dead-letters', () => {
  const rabbitmq = brokerUnderTest('rabbitmq');
  const noCtl = rabbitmq?.ctl === undefined ? { skip: 'no RabbitMQ of our own in this run' } : {};

  for (const type of ['classic', 'quorum'] as const)
    it(`names what RabbitMQ and others let die in a ${type} queue`, noCtl, async (t) => {
      const broker = rabbitmq!;
      const queue = unique('dead');
      const destination = `/queue/${queue}`;
      const ofType = type === 'quorum' ? { 'x-queue-type': type } : {};
      /** Takes the one message and NACKs it, or leaves with its connection. */
      const take = (isNacked: boolean) =>
        withRaw(broker, async (client) => {
          await client.subscribe(`/amq/queue/${queue}`);
          const message = await client.next('MESSAGE');
          if (isNacked) await client.settle('NACK', message);
        });
      await put(broker, `/queue/DLQ.${queue}`, 'by hand');
      await put(broker, destination, 'expires', { ...ofType, expiration: '1', 'correlation-id': 'e' });
      const untilDead = (count: number) =>
        until(
          async () => (await queueDepth(broker, `DLQ.${queue}`)) === count,
          2 * DEADLINE_MS,
          `${count} dead letters`,
        );
      await untilDead(2);
      await put(broker, destination, 'rejected', { ...ofType, 'correlation-id': 'r' });
      await take(true);
      await untilDead(3);
      t.after(() => broker.ctl!('clear_policy', queue));
      if (type === 'quorum') {
        await setPolicy(broker, queue, `^${queue}$`, { 'delivery-limit': 1 });
        await put(broker, destination, 'returned', { ...ofType, 'correlation-id': 'd' });
        for (let returns = 0; returns < 2; returns++) await take(false);
        await untilDead(4);
      }
      await setPolicy(broker, queue, `^${queue}$`, { 'max-length': 1 });
      await putAll(broker, destination, [1, 2], { ...ofType, 'correlation-id': 'm' });
      const reasons = [
        ...(type === 'quorum' ? ['delivery_limit 1'] : []),
        ...['expired 1', 'maxlen 1', 'rejected (other client) 1', 'unknown 1'],
      ];
      let told: string[] = [];
      const isTold = async () => {
        const { groups } = await summary(broker, [queue]);
        told = groups.map(({ reason, count }) => `${reason} ${count}`).toSorted();
        return told.join() === reasons.join();
      };
      await until(isTold, 2 * DEADLINE_MS, () => `${reasons.join()}, not ${told.join()}`);
      for (const reason of ['rejected', ...(type === 'quorum' ? ['delivery_limit'] : ['maxlen'])])
        assert.equal((await summary(broker, [queue, '--reason', reason])).total, 1, reason);
    });

  const activemq = brokerUnderTest('activemq');
  it('tells when a message expired on ActiveMQ', skipWithout(activemq), async () => {
    const queue = unique('dead');
    await put(activemq!, `/queue/${queue}`, '1', { expires: String(Date.now() + 1) });
    const { groups } = await until(
      async () => {
        // Whoever subscribes makes it look.
        await drainQueue(activemq!, queue);
        const found = await summary(activemq!, [queue]);
        return found.total === 1 ? found : undefined;
      },
      DEADLINE_MS,
      'a message that has expired',
    );
    assert.deepEqual([groups[0]!.reason, groups[0]!.ages], ['expired', { hour: 1 }]);
  });

  const usage: [what: string, args: string[], expected: RegExp][] = [
    ['no queue', ['dead-letters'], /give a queue, or --from <queue>/],
    ['two queues', ['dead-letters', 'x', '--from', 'y'], /give a queue, or --from/],
    ['--list with --show', ['dead-letters', 'x', '--list', '--show', '1'], /give --list or --show, not both/],
    ['a time that is none', ['redrive', 'x', '--since', 'soon'], /--since: a duration like 30m, 1h or 2d/],
    ['an end before its beginning', ['redrive', 'x', '--since', '1h', '--until', '2h'], /must be earlier/],
    ['a rate that is none', ['redrive', 'x', '--rate', '0/s'], /--rate: a number for each second/],
    ['filters for ever', ['move-messages', 'x', 'y', '--follow', '--reason', 'nack'], /so no --follow/],
  ];
  for (const [what, args, expected] of usage) {
    it(`refuses ${what} with 2`, async () => {
      const { code, complaint } = await refused({ env: at(1) }, args);
      assert.equal(code, 2);
      assert.match(complaint, expected);
    });
  }

  const broker = anyBroker();
  it(
    'is a table on a terminal, which gets no control characters from a message',
    findProgram('script') === undefined
      ? { skip: 'no "script" to make a terminal with' }
      : skipWithout(broker),
    async () => {
      const queue = unique('dead');
      const evil = { 'x-failure-error': 'Type\x1b[2JError', 'x-failure-message': 'a\u202eb' };
      await put(broker!, `/queue/DLQ.${queue}`, '1', failed('callback-failed', 60_000, evil));
      await put(broker!, `/queue/DLQ.${queue}`, '2');
      const table = await onTerminal(broker!, `dead-letters ${queue} --idle 1`);
      assert.match(table, /COUNT {2}REASON {11}ERROR +FIRST {21}LAST {22}AGES +EXAMPLE\r$/m);
      assert.match(table, /^1 {6}callback-failed {2}Type\\u001b\[2JError {2}\d{4}-.*Z {2}1 <1h +callback-f/m);
      assert.match(table, /^1 {6}unknown {10}- .* 1 of unknown age {2}\S+\r$/m);
      assert.match(table, /2 messages, 0 unmatched/);
      const list = await onTerminal(broker!, `dead-letters ${queue} --list --idle 1`);
      assert.match(list, /AT .* REASON .* ERROR .* ID .* ATTEMPTS .* MESSAGE\r$/m);
      assert.match(list, /callback-failed-60000 {2,}- {9}a\\u202eb\r$/m);
      for (const screen of [table, list]) assertHarmless(screen);
    },
  );
});
