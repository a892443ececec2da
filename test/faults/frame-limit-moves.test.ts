/**
 * Messages over the limit of a broker on every way out of a queue, and by the library: each ends at once, nothing is
 * tried for ever, and what cannot go on stays where it is. On RabbitMQ 4, which has a limit, and the embedded one.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startEmbeddedBroker } from '../../src/embedded/broker.js';
import { operate, refused } from '../e2e/operator.js';
import { temporaryFolder } from '../e2e/commands.js';
import type { PubsubError } from '../../src/index.js';
import { brokerUnderTest, describeBroker, type BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { bodiesIn, declaringHeaders, drainQueue } from '../support/messages.js';
import { run } from '../support/process.js';
import { rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { hasLimits } from '../support/rabbitmq-programs.js';
import { connectRaw, type RawClient } from '../support/raw-client.js';

const LIMIT = 10_000;
/** Less than the 60 s for which a broker that is away is tried. */
const SOON_MS = 45_000;
const long = 'x'.repeat(LIMIT);
/** The broker closes the connection that brings one, and says nothing. */
const named =
  /a message of \d{5} bytes and \d+ headers .*is over a limit of the broker.*stomp\.max_frame_size/;
const isTooLarge = (error: PubsubError) => error.code === 'message-too-large' && named.test(error.message);

interface Limited extends AsyncDisposable {
  readonly broker: BrokerUnderTest;
  /** Puts bodies into a queue past the limit, as what comes by AMQP is. */
  put(queue: string, ...bodies: string[]): Promise<void>;
}

async function limitedEmbedded(): Promise<Limited> {
  const login = { user: 'app', password: 'secret' };
  const embedded = await startEmbeddedBroker({ ...login, maxFrameBytes: LIMIT });
  const { host, port } = embedded;
  const broker = describeBroker({ name: 'embedded', version: 'limited', host, port, ...login });
  return {
    broker,
    put: (queue, ...bodies) => {
      const headers = { 'correlation-id': 'c', persistent: 'true', ...declaringHeaders(broker, queue) };
      for (const body of bodies) embedded.publish(`/queue/${queue}`, body, headers);
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => embedded.close(),
  };
}

async function limitedRabbitmq(): Promise<Limited> {
  const broker = await startRabbitmq();
  // Connections that are open keep the limit they began with.
  const early: RawClient = await connectRaw(broker);
  await broker.ctl!('eval', `application:set_env(rabbitmq_stomp, max_frame_size, ${LIMIT}).`);
  return {
    broker,
    put: async (queue, ...bodies) => {
      const headers = { 'correlation-id': 'c', ...declaringHeaders(broker, queue) };
      for (const body of bodies) await early.put(`/queue/${queue}`, body, headers);
    },
    [Symbol.asyncDispose]: async () => {
      early.destroy();
      await broker.stop();
    },
  };
}

const rabbitmqSkip = () => (hasLimits() ? (rabbitmqMissing() ?? false) : 'RabbitMQ 3.10 has no limit');

for (const [name, start, skip] of [
  ['embedded', limitedEmbedded, false],
  ['rabbitmq', limitedRabbitmq, rabbitmqSkip()],
] as const) {
  const isAbsent = brokerUnderTest(name) === undefined && 'not in this run';
  describe(`a message over the limit of ${name}`, { skip: isAbsent || skip }, () => {
    let limited: Limited;
    before(async () => {
      limited = await start();
    });
    after(() => limited[Symbol.asyncDispose]());

    test('is refused by the library, and those beside it say what they were lost for', async (t) => {
      const [queue, publisher] = [uniqueName(t), publisherTo(t, limited.broker)];
      await publisher.send(`/queue/${queue}`, 'before');
      const sent = await Promise.allSettled(
        [1, long, 2].map((body) => publisher.send(`/queue/${queue}`, body)),
      );
      const errors = sent.flatMap((each) => (each.status === 'rejected' ? [each.reason as PubsubError] : []));
      assert.equal(errors.filter(isTooLarge).length, 1);
      for (const { code, message } of errors) {
        assert.ok(['not-confirmed', 'message-too-large'].includes(code), code);
        assert.match(message, named);
      }
      await publisher.send(`/queue/${queue}`, 'after');
      const bodies = await bodiesIn(limited.broker, queue);
      assert.deepEqual([bodies[0], bodies.at(-1)], ['"before"', '"after"']);
      assert.ok(bodies.every((body) => body.length < LIMIT));
    });

    test('is what check warns of, and no smaller one', async () => {
      const steps = async (bytes: number) => {
        const args = ['check', 'x', '--max-message-bytes', String(bytes)];
        const checking = run('pubsub', args, { env: limited.broker.env });
        assert.deepEqual(await checking.exit(SOON_MS), { code: 0, signal: null }, checking.stderr);
        return /"step":"frame limit","status":"(\w+)"/.exec(checking.stdout)?.[1];
      };
      assert.deepEqual([await steps(LIMIT), await steps(LIMIT / 2)], ['warn', 'ok']);
    });

    test('ends a transaction of the library at once, with nothing sent', async (t) => {
      const [queue, publisher] = [uniqueName(t), publisherTo(t, limited.broker)];
      await assert.rejects(
        publisher.transaction(async (transaction) => {
          await transaction.send(`/queue/${queue}`, 'in it');
          await transaction.send(`/queue/${queue}`, long);
          await transaction.send(`/queue/${queue}`, 'behind it');
        }),
        isTooLarge,
      );
      assert.deepEqual(await bodiesIn(limited.broker, queue), []);
    });

    test('ends publish --transaction, with nothing published', async (t) => {
      const queue = uniqueName(t);
      const args = [`/queue/${queue}`, '--lines', '--transaction'];
      const input = `1\n${JSON.stringify(long)}\n2\n`;
      const publishing = run('publish', args, { env: limited.broker.env, input });
      assert.deepEqual(await publishing.exit(SOON_MS), { code: 4, signal: null });
      assert.match(publishing.stderr, named);
      assert.match(publishing.stderr, /nothing was published/);
      assert.deepEqual(await bodiesIn(limited.broker, queue), []);
    });

    test('that would be tried again is dead-lettered, by NACK, and others are tried again', async (t) => {
      const queue = uniqueName(t);
      await limited.put(queue, long, '1');
      const consuming = await startConsuming(
        t,
        limited.broker,
        `/queue/${queue}`,
        () => {
          throw new Error('no');
        },
        { retries: 1, retryDelay: '50ms' },
      );
      await consuming.settled('dead-lettered');
      await consuming.settled('dead-lettered');
      const { deadLettered, retried } = await consuming.stop();
      assert.deepEqual([deadLettered, retried], [2, 1]);
      const dead = await drainQueue(limited.broker, `DLQ.${queue}`, { atLeast: 2 });
      assert.deepEqual(
        dead.map(({ body }) => body.length).sort((a, b) => a - b),
        [1, long.length],
      );
      assert.equal((await drainQueue(limited.broker, queue)).length, 0);
    });

    test('stays where it is when it is to be moved, or sent back, and ends that by its name', async (t) => {
      const queue = uniqueName(t);
      for (const args of [
        ['move-messages', `DLQ.${queue}`, `${queue}-to`],
        ['move-messages', `DLQ.${queue}`, `${queue}-to`, '--follow'],
        ['redrive', queue],
      ]) {
        await limited.put(`DLQ.${queue}`, '1', long, '2');
        const sinceMs = performance.now();
        // The run ends before that, for the message.
        const idle = args.includes('--follow') ? [] : ['--idle', '30'];
        const { code, complaint } = await refused(limited.broker, [...args, ...idle]);
        assert.equal(code, 4, complaint);
        assert.match(complaint, named);
        assert.match(complaint, /correlation-id c/);
        assert.ok(performance.now() - sinceMs < SOON_MS);
        assert.ok((await bodiesIn(limited.broker, `DLQ.${queue}`)).includes(long));
      }
    });

    test('that was saved is not restored, and restore says where to go on', async (t) => {
      const queue = uniqueName(t);
      const file = join(temporaryFolder(), 'saved.ndjson');
      await limited.put(queue, '1', long);
      const both = ['--count', '2', '--idle', '30'];
      await operate(limited.broker, ['ack-all-messages', queue, '--yes', '--save', file, ...both]);
      const { code, complaint } = await refused(limited.broker, ['restore', file, `/queue/${queue}`]);
      assert.equal(code, 4, complaint);
      assert.match(complaint, named);
      assert.match(complaint, /--resume-from [01]/);
    });
  });
}
