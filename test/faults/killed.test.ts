/** Messages that take the whole consumer down: counted, run alone, dead-lettered in the end; nobody else is. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { brokersUnderTest, brokerUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue, put, putAll } from '../support/messages.js';
import { packageRoot, run } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { until } from '../support/until.js';

const id = { 'correlation-id': 'c' };
const LIMIT = 3;
/** A consumer that starts, is killed, and whose workers are gone, on a loaded machine. */
const DEADLINE_MS = 60_000;
const callback = join(packageRoot, 'test/fixtures/callbacks/killer.mjs#act');
const innocents = ['first', 'second', 'third'];

interface Entry {
  readonly moment: 'begun' | 'acked';
  readonly body: string;
  readonly consumer: number;
  readonly deliveries: string | null;
}

/** What callbacks have noted, and a consumer that keeps it. */
function openScene(t: TestContext, broker: BrokerUnderTest) {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-killed-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const queue = uniqueName(t);
  const [ledger, gate] = [join(folder, 'ledger'), join(folder, 'gate')];
  const entries = (moment?: Entry['moment'], body?: string): Entry[] =>
    (existsSync(ledger) ? readFileSync(ledger, 'utf8') : '')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Entry)
      .filter((entry) => (moment ?? entry.moment) === entry.moment && (body ?? entry.body) === entry.body);
  const start = (flags: readonly string[] = []) =>
    run('pubsub', [`/queue/${queue}`, callback, '--max-deliveries', String(LIMIT), ...flags], {
      env: { ...broker.env, LEDGER: ledger, GATE: gate },
    });
  return { queue, entries, start, openGate: () => writeFileSync(gate, '') };
}

/** Nothing else was in flight in the consumer while it ran this. */
function assertRanAlone(entries: readonly Entry[], alone: Entry): void {
  const at = entries.indexOf(alone);
  const own = (list: readonly Entry[]) => list.filter(({ consumer }) => consumer === alone.consumer);
  const open = own(entries.slice(0, at)).reduce((sum, { moment }) => sum + (moment === 'begun' ? 1 : -1), 0);
  assert.equal(open, 0, `in flight before ${JSON.stringify(alone)} in ${JSON.stringify(entries)}`);
  const next = own(entries.slice(at + 1))[0];
  assert.ok(next === undefined || next.moment === 'acked', `beside ${JSON.stringify(alone)}`);
}

const queueTypes = (broker: BrokerUnderTest) =>
  broker.name === 'rabbitmq' ? (['classic', 'quorum'] as const) : (['classic'] as const);

for (const broker of brokersUnderTest()) {
  describe(`consumers that are killed by a message: ${broker.name}`, { concurrency: 2 }, () => {
    for (const queueType of queueTypes(broker)) {
      test(
        `one that kills its consumer each time is dead-lettered, its neighbours are processed, ${queueType}`,
        needs(broker, 'returnsWhatWasCut'),
        async (t) => {
          const { queue, entries, start } = openScene(t, broker);
          const type = queueType === 'quorum' ? { 'x-queue-type': 'quorum' } : {};
          await putAll(broker, `/queue/${queue}`, ['kills', ...innocents].map(asJson), { ...id, ...type });
          const isDone = () => innocents.every((body) => entries('acked', body).length > 0);
          let kills = 0;
          for (;;) {
            const consumer = start(['--concurrency', '4', '--queue-type', queueType]);
            const ended = { yet: false };
            void consumer.exited.then(() => (ended.yet = true));
            await until(
              () => ended.yet || (isDone() && consumer.said('dead-lettered').length > 0),
              DEADLINE_MS,
              () => `its end, or that of all messages: ${JSON.stringify(entries())} ${consumer.stderr}`,
            );
            if (!ended.yet) {
              assert.equal(consumer.said('dead-lettered')[0]?.reason, 'killed');
              consumer.signal('SIGTERM');
              assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
              break;
            }
            assert.ok(++kills <= LIMIT, `${kills} kills: ${JSON.stringify(entries())}`);
          }
          const runs = entries('begun', 'kills');
          assert.equal(kills, LIMIT);
          assert.equal(runs.length, LIMIT);
          const last = runs.at(-1)!;
          assert.match(String(last.deliveries), /^2 alone \w+$/);
          const all = entries();
          for (const entry of all)
            if (entry.moment === 'begun' && entry.deliveries?.includes('alone') === true)
              assertRanAlone(all, entry);
          if (queueType === 'quorum')
            assert.equal(runs[1]?.deliveries, null, 'the broker counts, no copy is made');
          else assert.equal(runs[1]?.deliveries, '1');
          const dead = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
          assert.deepEqual(
            dead.map(({ body, headers }) => [
              body.toString(),
              headers['x-failure-reason'],
              headers['x-deliveries'],
            ]),
            [['"kills"', 'killed', undefined]],
          );
          assert.match(dead[0]?.headers['x-failure-message'] ?? '', /^delivered 3 times and never settled/);
          // A consumer that was killed between a copy and its ACK leaves both: what has been processed once may be there.
          const left = (await drainQueue(broker, queue)).map(
            ({ body }) => JSON.parse(body.toString()) as string,
          );
          assert.deepEqual(
            left.filter((body) => !innocents.includes(body)),
            [],
          );
          assert.ok(left.length <= LIMIT * innocents.length, `${left.length} are left`);
        },
      );
    }

    test('one that was delivered often without ever being started runs, alone, and is acked', async (t) => {
      const { queue, entries, start } = openScene(t, broker);
      await put(broker, `/queue/${queue}`, asJson('first'), id);
      await put(broker, `/queue/${queue}`, asJson('second'), { ...id, 'x-deliveries': '7' });
      await put(broker, `/queue/${queue}`, asJson('third'), id);
      const consumer = start(['--concurrency', '4']);
      await until(
        () => innocents.every((body) => entries('acked', body).length === 1),
        DEADLINE_MS,
        () => `${JSON.stringify(entries())} ${consumer.stderr}`,
      );
      const [alone] = entries().filter(({ body }) => body === 'second');
      assert.match(String(alone?.deliveries), /^7 alone \w+$/);
      const all = entries();
      assertRanAlone(
        all,
        all.find(({ body }) => body === 'second')!,
      );
      consumer.signal('SIGTERM');
      assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
      assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
    });

    test('a stop while one runs alone is no kill: it goes back, and runs again', async (t) => {
      const { queue, entries, start, openGate } = openScene(t, broker);
      await put(broker, `/queue/${queue}`, asJson('waits'), { ...id, 'x-deliveries': '2' });
      const stopped = start(['--graceful-wait', '0.5']);
      const begun = (times: number) =>
        until(
          () => entries('begun').length === times,
          DEADLINE_MS,
          () => `${times} starts in ${JSON.stringify(entries())} ${stopped.stderr}`,
        );
      await begun(1);
      stopped.signal('SIGTERM');
      assert.deepEqual(await stopped.exit(), { code: 5, signal: null }, stopped.stderr);
      openGate();
      const next = start();
      await begun(2);
      next.signal('SIGTERM');
      assert.deepEqual(await next.exit(), { code: 0, signal: null }, next.stderr);
      assert.equal(entries('acked').length, 1);
      assert.deepEqual(await drainQueue(broker, queue), []);
      assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
    });

    test('a connection that is lost while one runs alone is no kill: its consumer has lived on', async (t) => {
      const queue = uniqueName(t);
      await using proxy = await startProxy(broker);
      const behind = { ...broker, host: proxy.host, port: proxy.port };
      let runs = 0;
      const consuming = await startConsuming(
        t,
        behind,
        `/queue/${queue}`,
        async (payload) => {
          if (++runs === 1) {
            proxy.cut();
            await until(
              () => consuming.events.some((event) => 'kind' in event && event.kind === 'lost'),
              DEADLINE_MS,
              'the loss is noticed',
            );
          }
          await payload.ack();
        },
        { maxDeliveries: LIMIT },
      );
      await put(broker, `/queue/${queue}`, asJson('cut'), { ...id, 'x-deliveries': '2' });
      await consuming.settled('released');
      await consuming.settled('acked');
      const { deadLettered } = await consuming.stop();
      assert.equal(deadLettered, 0);
    });
  });
}

test(
  'deliveries of a topic cannot be counted on ActiveMQ: the start is refused, with what to leave out',
  { skip: brokerUnderTest('activemq') === undefined && 'needs ActiveMQ' },
  async (t) => {
    const consumer = run('pubsub', [`/topic/${uniqueName(t)}`, callback, '--max-deliveries', '3'], {
      env: brokerUnderTest('activemq')!.env,
    });
    assert.deepEqual(await consumer.exit(), { code: 4, signal: null });
    assert.match(consumer.stderr, /cannot be counted on activemq: .*leave STOMP_MAX_DELIVERIES out\n$/);
  },
);

const asJson = (value: unknown): string => JSON.stringify(value);
