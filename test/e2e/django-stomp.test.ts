/** One broker served by django-stomp itself, from PyPI, and by us: each consumes what the other publishes, refuses and moves. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { django, djangoStompMissing } from '../support/django-stomp.js';
import { drainQueue } from '../support/messages.js';
import type { Running } from '../support/process.js';
import { until } from '../support/until.js';
import { fixture, published, startPubsub, stopPubsub, temporaryFolder, unique } from './commands.js';
import { operate } from './operator.js';

/** Python, Django and three connections, one after the other, on a busy machine. */
const DEADLINE_MS = 60_000;
const SHARED = 1000;
/** Of a message that only finds out whether somebody listens. */
const PROBE = -1;

const numbers = (first: number, count: number) => Array.from({ length: count }, (_, at) => first + at);
const lines = (all: readonly number[]) => all.map((n) => `${JSON.stringify({ n })}\n`).join('');

class Ledger {
  readonly file = join(temporaryFolder(), 'ledger');

  get all(): number[] {
    if (!existsSync(this.file)) return [];
    return readFileSync(this.file, 'utf8')
      .trimEnd()
      .split('\n')
      .filter(Boolean)
      .map(Number)
      .filter((n) => n !== PROBE);
  }

  /** Resolves when it has these, none twice. */
  async has(expected: readonly number[], ...others: Ledger[]): Promise<void> {
    const together = () => [this, ...others].flatMap(({ all }) => all);
    await until(
      () => together().length >= expected.length,
      DEADLINE_MS,
      () => `${expected.length} calls; there were ${together().length}`,
    );
    assert.deepEqual(
      together().sort((a, b) => a - b),
      expected,
    );
  }
}

function listen(broker: BrokerUnderTest, destination: string, callback: string, ledger: Ledger): Running {
  return django(broker, ['pubsub', destination, `callbacks.${callback}`], ledger.file);
}

/** When it has finished what it had. 6.1 then connects once more, for ever. */
async function ended(running: Running): Promise<void> {
  running.signal('SIGTERM');
  await running.waitFor(/Gracefully shutdown successfully/, DEADLINE_MS);
  await running.kill();
}

async function publishDjango(
  broker: BrokerUnderTest,
  destination: string,
  first: number,
  count: number,
  ...flags: string[]
) {
  const args = ['publish.py', destination, String(first), String(count), ...flags];
  const running = django(broker, args);
  assert.deepEqual(await running.exit(DEADLINE_MS), { code: 0, signal: null }, running.stderr);
}

const publishOurs = (
  broker: BrokerUnderTest,
  destination: string,
  first: number,
  count: number,
  ...flags: string[]
) => published(broker, [destination, '--lines', ...flags], { input: lines(numbers(first, count)) });

const ours = (broker: BrokerUnderTest, destination: string, ledger: Ledger) =>
  startPubsub(broker, destination, fixture('ledger.mjs#record'), { env: { LEDGER: ledger.file } });

const missing = djangoStompMissing();

for (const broker of brokersUnderTest().filter(({ capabilities }) => capabilities.takesStomp)) {
  describe(`django-stomp on ${broker.name}`, { skip: missing ?? false, concurrency: 2 }, () => {
    it('shares a queue with us: of 1,000 messages from both publishers none is left, and none comes twice', async () => {
      const queue = unique('shared');
      const [theirs, mine] = [new Ledger(), new Ledger()];
      const listener = listen(broker, `/queue/${queue}`, 'record', theirs);
      // It takes its time to start, in which the other would take all.
      await publishOurs(broker, `/queue/${queue}`, PROBE, 1);
      await until(
        () => existsSync(theirs.file),
        DEADLINE_MS,
        () => `its first message; ${listener.stderr}`,
      );
      const consumer = await ours(broker, `/queue/${queue}`, mine);
      await Promise.all([
        publishDjango(broker, `/queue/${queue}`, 0, SHARED / 2),
        publishOurs(broker, `/queue/${queue}`, SHARED / 2, SHARED / 2),
      ]);
      await theirs.has(numbers(0, SHARED), mine);
      assert.ok(theirs.all.length > 0 && mine.all.length > 0, 'both had some');
      await Promise.all([stopPubsub(consumer), ended(listener)]);
      assert.deepEqual(await drainQueue(broker, queue), []);
      assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
    });

    it('gets what we send to a virtual topic, and we get what it sends', async () => {
      const topic = `VirtualTopic.${unique('topic')}`;
      const [theirs, mine] = [new Ledger(), new Ledger()];
      const consumer = await ours(broker, `Consumer.ours.${topic}`, mine);
      const listener = listen(broker, `Consumer.theirs.${topic}`, 'record', theirs);
      // Its queue collects from its first subscription on, which it tells nobody.
      await until(
        async () => {
          await published(broker, [`/topic/${topic}`, JSON.stringify({ n: PROBE })]);
          return existsSync(theirs.file);
        },
        DEADLINE_MS,
        () => `its first message; ${listener.stderr}`,
      );
      await publishDjango(broker, `/topic/${topic}`, 0, 3);
      await publishOurs(broker, `/topic/${topic}`, 3, 3);
      await Promise.all([theirs.has(numbers(0, 6)), mine.has(numbers(0, 6))]);
      await Promise.all([stopPubsub(consumer), ended(listener)]);
    });

    it('dead-letters what it refuses and what fails in it, and redrive sends that back to it', async () => {
      for (const callback of ['refuse', 'fail']) {
        const queue = unique(callback);
        const [refused, done] = [new Ledger(), new Ledger()];
        const listener = listen(broker, `/queue/${queue}`, callback, refused);
        await publishOurs(broker, `/queue/${queue}`, 0, 2);
        await refused.has([0, 1]);
        await ended(listener);
        let back = 0;
        await until(
          async () => {
            const { redriven } = await operate(broker, ['redrive', queue, '--idle', '1']);
            back += Number(redriven);
            return back >= 2;
          },
          DEADLINE_MS,
          () => `two dead letters that go back; ${back} did`,
        );
        const again = listen(broker, `/queue/${queue}`, 'record', done);
        await done.has([0, 1]);
        await ended(again);
      }
    });

    it('moves what lies in a dead-letter queue of ours by its move_messages', async () => {
      const queue = unique('moved');
      const consumer = await startPubsub(broker, `/queue/${queue}`, './callbacks#nack');
      await publishDjango(broker, `/queue/${queue}`, 0, 2);
      await consumer.says('dead-lettered', 2);
      await stopPubsub(consumer);
      const moving = django(broker, ['move_messages', `DLQ.${queue}`, `/queue/${queue}`]);
      const bodies: string[] = [];
      await until(
        async () => {
          bodies.push(...(await drainQueue(broker, queue)).map(({ body }) => body.toString()));
          return bodies.length >= 2;
        },
        DEADLINE_MS,
        () => `two moved messages; ${moving.stderr}`,
      );
      await ended(moving);
      assert.deepEqual(bodies.sort(), ['{"n": 0}', '{"n": 1}']);
    });

    it('sends transactions that we consume, and consumes ours', async () => {
      const [from, to] = [unique('theirs'), unique('ours')];
      const [theirs, mine] = [new Ledger(), new Ledger()];
      await publishDjango(broker, `/queue/${from}`, 0, 5, 'transaction');
      await publishOurs(broker, `/queue/${to}`, 5, 5, '--transaction');
      const consumer = await ours(broker, `/queue/${from}`, mine);
      const listener = listen(broker, `/queue/${to}`, 'record', theirs);
      await Promise.all([mine.has(numbers(0, 5)), theirs.has(numbers(5, 5))]);
      await Promise.all([stopPubsub(consumer), ended(listener)]);
    });
  });
}
