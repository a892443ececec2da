/**
 * Queues that others declared, by users who may not configure: every kind of queue through everything that is done with
 * one, and what is said when something is missing. `npm test foreign | grep -o '| .* |'` prints the matrix.
 */
import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import type { Payload } from '../../src/index.js';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { launchConsuming, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { asUserWho, declareByOperator, declareForeign, type Arguments } from '../support/foreign.js';
import { bodiesIn } from '../support/messages.js';
import { startProxy } from '../support/proxy.js';
import { at, complaint, fixture, publish, pubsub, startPubsub, stopPubsub, unique } from './commands.js';
import { IDLE, operate, startOperator } from './operator.js';

/** What each broker can be told to have: a queue with these arguments. */
const kinds: readonly (readonly [kind: string, given: Arguments])[] = [
  ['plain', {}],
  ['TTL', { 'x-message-ttl': 600_000 }],
  ['max-length', { 'x-max-length': 100 }],
  ['priority', { 'x-max-priority': 5 }],
  ['quorum', { 'x-queue-type': 'quorum' }],
  ['max-length, reject-publish', { 'x-max-length': 100, 'x-overflow': 'reject-publish' }],
  ['single active consumer', { 'x-single-active-consumer': true }],
  ['lazy', { 'x-queue-mode': 'lazy' }],
  ['quorum, delivery limit', { 'x-queue-type': 'quorum', 'x-delivery-limit': 3 }],
  ['stream', { 'x-queue-type': 'stream' }],
];
/** Those that its frames can declare. */
const BY_FRAMES = 5;

const withQueueArguments = brokersUnderTest().filter(({ capabilities }) => capabilities.queueArguments);

for (const broker of withQueueArguments) {
  describe(`foreign queues: ${broker.name} ${broker.version}`, { concurrency: 2 }, () => {
    const own = broker.ctl === undefined ? kinds.slice(0, BY_FRAMES) : kinds;
    const prefix = unique('foreign');
    const nameOf = (kind: string) => `${prefix}-${kind.replace(/[^a-z]+/gi, '-')}`;
    /** For a user who may declare nothing but delay queues. */
    let user = broker;
    before(async () => {
      const queues = own.flatMap(([kind, given]) => [
        [nameOf(kind), given] as const,
        [`DLQ.${nameOf(kind)}`, {}] as const,
      ]);
      if (broker.ctl !== undefined) {
        await declareByOperator(broker, Object.fromEntries(queues));
        user = await asUserWho(broker, { configure: '\\.retry\\.\\d+$', write: '.*', read: '.*' });
        return;
      }
      for (const [queue, given] of queues) {
        const texts = Object.entries(given).map(([name, value]) => [name, String(value)]);
        await declareForeign(broker, queue, Object.fromEntries(texts) as Record<string, string>);
      }
    });

    for (const [kind, given] of own) {
      it(`${kind}: consume, retry, dead-letter, peek, redrive`, async (t) => {
        const done = await throughEverything(t, user, nameOf(kind), given['x-queue-type'] === 'stream');
        t.diagnostic(`| ${broker.name} ${broker.version} | ${kind} | ${done.join(' | ')} |`);
      });
    }
  });
}

/** Of a command that ends when it has had so many. */
const LATEST = ['--idle', '20'];

const throws = () => {
  throw new Error('no');
};

/** Each step asserts what it is named after; resolves with their names. */
async function throughEverything(
  t: TestContext,
  broker: BrokerUnderTest,
  queue: string,
  isStream: boolean,
): Promise<string[]> {
  const asItIs = { declare: false } as const;
  const first = isStream ? ['--subscribe-header', 'x-stream-offset=first'] : [];
  const publisher = publisherTo(t, broker, asItIs);
  for (const body of ['good', 'bad']) await publisher.send(`/queue/${queue}`, body);
  const steps = ['publish'];

  const peeking = startOperator(broker, ['peek', queue, ...first, '--count', '2', ...LATEST]);
  assert.equal((await peeking.exit()).code, 0, peeking.stderr);
  const shown = peeking.stdout.trim().split('\n');
  assert.deepEqual(
    shown.map((line) => (JSON.parse(line) as { body: string }).body),
    ['"good"', '"bad"'],
  );
  steps.push('peek');

  let isCured = false;
  const retrying = { retries: 1, retryDelay: '50ms' };
  const options = {
    ...asItIs,
    ...(isStream ? { subscribeHeaders: { 'x-stream-offset': 'first' } } : retrying),
  };
  const callback = (payload: Payload) => {
    if (payload.body === 'bad' && !isCured) throw new Error('not yet');
    return payload.ack();
  };
  if (isStream) {
    const { ended } = launchConsuming(t, broker, queue, callback, { ...options, ...retrying });
    await assert.rejects(ended, {
      code: 'invalid-setting',
      message: /drops what is to come back to a stream/,
    });
  }
  const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, options);
  await consuming.settled('acked');
  steps.push('consume');
  await consuming.settled('dead-lettered');
  if (!isStream) {
    assert.deepEqual(
      consuming.payloads.map(({ body, headers }) => [body, headers['x-attempt']]),
      [
        ['good', undefined],
        ['bad', undefined],
        ['bad', '2'],
      ],
    );
  }
  steps.push(isStream ? 'no retry' : 'retry');
  const dead = startOperator(broker, ['peek', `DLQ.${queue}`, '--count', '1', ...LATEST]);
  assert.equal((await dead.exit()).code, 0, dead.stderr);
  assert.match(dead.stdout, /^\{.*"x-failure-reason":"callback-failed".*\}\n/);
  steps.push('dead-letter');

  isCured = true;
  const { redriven } = await operate(broker, ['redrive', queue, '--no-declare', '--count', '1']);
  assert.equal(redriven, 1);
  await consuming.settled('acked');
  const { acked, deadLettered, retried } = await consuming.stop();
  const expected = { acked: 2, deadLettered: 1, retried: isStream ? 0 : 1 };
  assert.deepEqual({ acked, deadLettered, retried }, expected);
  assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`), []);
  if (!isStream) assert.deepEqual(await bodiesIn(broker, queue), []);
  return [...steps, 'redrive'];
}

for (const broker of withQueueArguments.filter(({ ctl }) => ctl !== undefined)) {
  describe(`users who may not configure: ${broker.name} ${broker.version}`, { concurrency: 2 }, () => {
    const ack = fixture('plain.js#ack');

    it('consume, dead-letter, publish, move and redrive with --no-declare, and nothing without', async (t) => {
      const user = await asUserWho(broker, { configure: '^$', write: '.*', read: '.*' });
      const [queue, other] = [uniqueName(t), `${uniqueName(t)}-other`];
      await declareByOperator(broker, {
        [queue]: { 'x-single-active-consumer': true },
        [`DLQ.${queue}`]: { 'x-max-length': 1000 },
        [other]: {},
      });
      const bare = pubsub(user, queue, ack);
      assert.equal((await bare.exit()).code, 4);
      assert.match(bare.stderr, /permission named .*used without configure by --no-declare\)\n$/);
      const refusedPublish = await publish(user, [queue, '1']);
      assert.equal(refusedPublish.code, 4);
      assert.match(complaint(refusedPublish.stderr), /--no-declare\); 0 confirmed, 1 refused$/);

      const env = { STOMP_DECLARE: 'false' };
      assert.equal((await publish(user, [queue, '"a"'], { env })).code, 0);
      assert.equal((await publish(user, [`/amq/queue/${queue}`, '"b"'])).code, 0);
      const consumer = await startPubsub(user, `/amq/queue/${queue}`, fixture('retry.mjs#secondTime'));
      await consumer.says('dead-lettered', 2);
      assert.equal((await stopPubsub(consumer)).deadLettered, 2);
      const result = await operate(user, ['redrive', queue, ...IDLE], { env });
      assert.equal(result.redriven, 2);
      const moved = await operate(user, ['move-messages', queue, other, '--no-declare', '--count', '1']);
      assert.equal(moved.moved, 1);
      assert.equal((await operate(user, ['ack-all-messages', queue, '--yes', ...IDLE])).acked, 1);
      assert.deepEqual(await bodiesIn(broker, other), ['"a"']);
    });

    it('are told at the start why they cannot retry, and what a dead-letter queue needs', async (t) => {
      const queue = uniqueName(t);
      await declareByOperator(broker, { [queue]: {}, [`DLQ.${queue}`]: {} });
      const user = await asUserWho(broker, { configure: '^$', write: '.*', read: `^${queue}$` });
      const start = (flags: string[]) => pubsub(user, queue, ack, { flags: ['--no-declare', ...flags] });
      const retrying = start(['--retries', '1']);
      assert.equal((await retrying.exit()).code, 4);
      assert.match(retrying.stderr, /cannot declare .*\.retry\.5000.*STOMP_RETRIES=0 does without\n$/);
      const unreadable = start([]);
      assert.equal((await unreadable.exit()).code, 4);
      assert.match(
        unreadable.stderr,
        new RegExp(`the queue DLQ\\.${queue} must be there and readable.*ACCESS_REFUSED`),
      );
    });

    it('and may not read either, publish nothing of which nobody can tell whether it arrives', async (t) => {
      const queue = uniqueName(t);
      await declareByOperator(broker, { [queue]: {} });
      const user = await asUserWho(broker, { configure: '^$', write: '.*', read: '^$' });
      const { code, stderr } = await publish(user, [queue, '1', '--no-declare']);
      assert.equal(code, 4);
      assert.match(complaint(stderr), /must be there and readable.*ACCESS_REFUSED/);
      assert.deepEqual(await bodiesIn(broker, queue), []);
    });
  });

  describe(`kinds of queues: ${broker.name} ${broker.version}`, { concurrency: 2 }, () => {
    it('a stream is consumed on from where a connection was lost', async (t) => {
      const queue = uniqueName(t);
      await declareByOperator(broker, { [queue]: { 'x-queue-type': 'stream' }, [`DLQ.${queue}`]: {} });
      const publisher = publisherTo(t, broker, { declare: false });
      for (const n of [1, 2, 3]) await publisher.send(queue, n);
      await using proxy = await startProxy(broker);
      const consuming = await startConsuming(t, broker, `/amq/queue/${queue}`, (payload) => payload.ack(), {
        host: proxy.host,
        port: proxy.port,
        subscribeHeaders: { 'x-stream-offset': 'offset=1' },
      });
      for (let acks = 0; acks < 2; acks++) await consuming.settled('acked');
      proxy.cut();
      await consuming.turned('lost');
      await publisher.send(queue, 4);
      await consuming.received(3);
      const { acked } = await consuming.stop();
      assert.equal(acked, 3);
      assert.deepEqual(
        consuming.payloads.map(({ body }) => body),
        [2, 3, 4],
      );
    });

    it('what a callback throws at is dead-lettered where it could not come back to its stream', async (t) => {
      const queue = uniqueName(t);
      await declareByOperator(broker, { [queue]: { 'x-queue-type': 'stream' }, [`DLQ.${queue}`]: {} });
      const options = { declare: false, retries: 1, retryDelay: '50ms' };
      const consuming = await startConsuming(t, broker, queue, throws, options);
      await publisherTo(t, broker, { declare: false }).send(queue, 1);
      await consuming.settled('dead-lettered');
      assert.equal((await consuming.stop()).received, 1);
      assert.ok(consuming.log.some(({ message }) => message.includes('x-stream-offset=first')));
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`, 1), ['1']);
    });

    it('of two consumers of a queue with a single active one the other goes on', async (t) => {
      const queue = uniqueName(t);
      await declareByOperator(broker, {
        [queue]: { 'x-single-active-consumer': true },
        [`DLQ.${queue}`]: {},
      });
      const start = () =>
        startConsuming(t, broker, `/amq/queue/${queue}`, (payload) => payload.ack(), { concurrency: 5 });
      const [active, waiting] = [await start(), await start()];
      const publisher = publisherTo(t, broker, { declare: false });
      for (const n of [1, 2, 3, 4]) await publisher.send(queue, n);
      await active.received(4);
      assert.equal(waiting.payloads.length, 0);
      await active.stop();
      await publisher.send(queue, 5);
      await waiting.received(1);
      await waiting.stop();
    });

    it('a mismatch ends with the option that helps', async (t) => {
      const queue = uniqueName(t);
      await declareByOperator(broker, { [queue]: { 'x-message-ttl': 60_000 } });
      const { code, stderr } = await publish(broker, [queue, '1']);
      assert.equal(code, 4);
      assert.match(
        complaint(stderr),
        /^message refused: .*--queue-argument x-message-ttl=60000, or use it as it is: --no-declare\); 0 confirmed, 1 refused$/,
      );
    });
  });
}

describe('what cannot be meant ends with 2 and says what to do:', () => {
  const wrong: [flags: string[], expected: RegExp][] = [
    [
      ['--queue-argument', 'x-overflow=reject-publish'],
      /x-overflow: RabbitMQ ignores this over STOMP: declare the queue yourself and use --no-declare$/m,
    ],
    [['--queue-argument', 'x-dead-letter-exchange=dlx'], /is set by this program: .*--no-declare$/m],
    [['--queue-argument', 'x-max-length=many'], /x-max-length: a whole number expected, not "many"$/m],
    [['--queue-argument', 'x-max-length'], /<name>=<value> expected, not "x-max-length"$/m],
    [['--queue-argument', 'x-queue-type=quorum', '--exclusive'], /a quorum queue cannot be exclusive$/m],
    [['--queue-argument', 'x-expires=1', '--no-declare'], /arguments are for queues that are declared$/m],
    [['--no-declare', '--exclusive'], /a queue that is not declared cannot be made exclusive$/m],
    [['--dead-letter-queue', 'graveyard'], /is for queues that others declared: add --no-declare$/m],
    [['--no-declare', '--dead-letter-queue', 'orders'], /its dead letters would come again$/m],
    [['--subscribe-header', 'prefetch-count=9'], /prefetch-count cannot be given/],
    [['--subscribe-header', 'activemq.prefetchSize=9'], /activemq\.prefetchSize cannot be given/],
    [['--subscribe-header', 'x-priority=9'], /x-priority: RabbitMQ ignores this over STOMP$/m],
    [['--subscribe-header', 'x-stream-offset=begin'], /first, last, next, offset=.* expected, not "begin"$/m],
  ];
  for (const [flags, expected] of wrong) {
    it(flags.join(' '), async () => {
      const running = pubsub({ env: at(1) }, 'orders', fixture('plain.js#ack'), { flags });
      assert.deepEqual(await running.exit(), { code: 2, signal: null }, running.stderr);
      assert.match(running.stderr, expected);
    });
  }
});
