/** `pubsub redrive`: dead letters go back to where they died, all others stay where they are, and it ends. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { drainQueue, put, putAll } from '../support/messages.js';
import { packageRoot } from '../support/process.js';
import type { RawHeaders } from '../support/raw-client.js';
import { findProgram } from '../support/server-process.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  at,
  DEADLINE_MS,
  fixture,
  published,
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
  resultOf,
  startOperator,
} from './operator.js';

const nack = join(packageRoot, 'callbacks#nack');

/** The header by which this broker tells where a message died. */
const diedIn = ({ capabilities }: BrokerUnderTest, queue: string): RawHeaders =>
  capabilities.queueArguments
    ? { 'x-first-death-queue': queue }
    : { 'original-destination': `/queue/${queue}` };

const plain = { 'x-dead-letter-exchange': undefined, 'x-dead-letter-routing-key': undefined };

for (const broker of brokersUnderTest()) {
  describe(`redrive: ${broker.name}`, { concurrency: 4 }, () => {
    it('sends dead letters back to their queue, whole and in order, and says so', async () => {
      const queue = unique('redrive');
      const headers = { 'correlation-id': 'c-1', tenant: 'a:b', 'content-type': 'text/x-odd' };
      await letDie(broker, queue, ['{"n": 1.0}', '2', '3'], headers);
      const { seconds, ...result } = await operate(broker, ['redrive', `/queue/${queue}`, ...IDLE]);
      assert.equal(typeof seconds, 'number');
      assert.deepEqual(result, {
        command: 'redrive',
        deadLetterQueue: `DLQ.${queue}`,
        isDryRun: false,
        redriven: 3,
        to: { [queue]: 3 },
        unmatched: 0,
        unknown: 0,
        returned: 0,
        stopped: 'idle',
      });
      const back = await drainQueue(broker, queue, { atLeast: 3 });
      assert.deepEqual(
        back.map(({ body }) => body.toString()),
        ['{"n": 1.0}', '2', '3'],
      );
      for (const message of back) {
        for (const [name, value] of Object.entries(headers)) assert.equal(message.headers[name], value, name);
        assert.equal(message.headers['x-first-death-queue'], undefined);
        assert.equal(message.headers['original-destination'], undefined);
        assert.match(message.headers['x-redrive-id'] ?? '', /^[0-9a-f-]{36}$/);
      }
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`), []);
    });

    it('sends all to the queue whose dead letters it takes, whatever the messages say, but for those of a topic', async () => {
      const [queue, other] = [unique('redrive'), unique('other')];
      const dead = `/queue/DLQ.${queue}`;
      await put(broker, dead, 'by nothing');
      await put(broker, dead, 'by another queue', { ...diedIn(broker, other), 'tshoot-destination': other });
      await put(broker, dead, 'of a topic', { 'original-destination': '/topic/prices' });
      await put(broker, dead, 'to a topic', { 'tshoot-destination': '/topic/prices' });
      await put(broker, dead, 'by a list', { 'original-destination': `/queue/${other},${other}.secret` });
      await put(broker, dead, 'by a terminal', { 'x-first-death-queue': '/queue/a\x1b[2Jb' });
      const running = startOperator(broker, ['redrive', `DLQ.${queue}`, ...IDLE]);
      const result = await resultOf(running);
      assert.deepEqual(result.to, { [queue]: 5 });
      assert.deepEqual([result.redriven, result.unknown], [5, 1]);
      const reasons = running.said('message left');
      assert.deepEqual(
        reasons.map(({ reason }) => String(reason).includes('it came by the topic prices')),
        [true],
      );
      const back = ['by nothing', 'by another queue', 'to a topic', 'by a list', 'by a terminal'];
      assert.deepEqual(await bodiesIn(broker, queue), back);
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`, 1), ['of a topic']);
      for (const name of [other, `${other}.secret`]) assert.deepEqual(await bodiesIn(broker, name), []);
    });

    it('goes by headers in the dead-letter queue of all queues, and never to several queues', async () => {
      const [queue, other] = [unique('redrive'), unique('other')];
      const dead = 'ActiveMQ.DLQ';
      await drainQueue(broker, dead);
      await put(broker, dead, 'unknown');
      await put(broker, dead, 'to queue', diedIn(broker, queue));
      await put(broker, dead, 'to other', { 'tshoot-destination': `/queue/${other}` });
      await put(broker, dead, 'a list', { 'original-destination': `/queue/${queue},${other}` });
      await put(broker, dead, 'a kind', { 'original-destination': `/queue/topic://${queue}` });
      await put(broker, dead, 'a topic', { 'original-destination': '/topic/prices' });
      const result = await operate(broker, ['redrive', dead, ...IDLE]);
      assert.deepEqual(result.to, { [queue]: 1, [other]: 1 });
      assert.deepEqual([result.redriven, result.unknown], [2, 4]);
      assert.deepEqual(await bodiesIn(broker, queue, 1), ['to queue']);
      assert.deepEqual(await bodiesIn(broker, other, 1), ['to other']);
      assert.deepEqual(await bodiesIn(broker, dead, 4), ['unknown', 'a list', 'a kind', 'a topic']);
    });

    it('--from and --to name the two queues, and headers nothing', async () => {
      const [from, to] = [unique('graveyard'), unique('redrive')];
      await put(broker, from, '1', diedIn(broker, unique('other')));
      await put(broker, from, '2', { 'original-destination': '/topic/prices' });
      const route = ['redrive', '--from', from, '--to', `/queue/${to}`];
      const dry = await operate(broker, [...route, '--dry-run', ...IDLE]);
      assert.deepEqual([dry.deadLetterQueue, dry.to], [from, { [to]: 2 }]);
      const result = await operate(broker, [...route, ...IDLE]);
      assert.deepEqual([result.redriven, result.unknown], [2, 0]);
      assert.deepEqual(await bodiesIn(broker, to, 2), ['1', '2']);
      assert.deepEqual(await bodiesIn(broker, from), []);
    });

    it('sends what died twice back by one step, with where it died first', async () => {
      const queue = unique('redrive');
      await put(broker, `DLQ.DLQ.${queue}`, '1', diedIn(broker, queue));
      assert.deepEqual((await operate(broker, ['redrive', `DLQ.DLQ.${queue}`, ...IDLE])).to, {
        [`DLQ.${queue}`]: 1,
      });
      const [dead] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
      for (const [name, value] of Object.entries(diedIn(broker, queue)))
        assert.equal(dead!.headers[name], value);
    });

    it('--match, --count and --dry-run choose, and what is not chosen stays in order', async () => {
      const queue = unique('redrive');
      const dead = `/queue/DLQ.${queue}`;
      for (let n = 0; n < 8; n++)
        await put(broker, dead, n, { ...diedIn(broker, queue), tenant: String(n % 2), kind: 'a=b' });
      const match = ['--match', 'tenant=1', '--match', 'kind=a=b'];
      const dry = await operate(broker, ['redrive', queue, ...match, '--dry-run', ...IDLE]);
      assert.deepEqual([dry.isDryRun, dry.redriven, dry.unmatched], [true, 4, 4]);
      assert.deepEqual(dry.to, { [queue]: 4 });
      const none = await operate(broker, ['redrive', queue, '--match', 'kind=a', ...IDLE]);
      assert.deepEqual([none.redriven, none.unmatched], [0, 8]);
      const some = ['redrive', queue, ...match, '--count', '3', '--idle', '60'];
      const result = await operate(broker, some);
      assert.deepEqual([result.redriven, result.stopped], [3, 'count']);
      assert.deepEqual(await bodiesIn(broker, queue, 3), ['1', '3', '5']);
      const dryCount = await operate(broker, ['redrive', queue, '--dry-run', '--count', '2']);
      assert.deepEqual([dryCount.redriven, dryCount.stopped], [2, 'count']);
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`, 5), ['0', '2', '4', '6', '7']);
    });

    it('reaches what lies behind hundreds that stay', async () => {
      const queue = unique('redrive');
      const count = 700;
      const others = Array.from({ length: count }, (_, n) => n);
      await putAll(broker, `/queue/DLQ.${queue}`, others, diedIn(broker, queue));
      await put(broker, `/queue/DLQ.${queue}`, 'last', { ...diedIn(broker, queue), tenant: '7' });
      const result = await operate(broker, ['redrive', queue, '--match', 'tenant=7', ...IDLE]);
      assert.deepEqual([result.redriven, result.unmatched], [1, count]);
      assert.deepEqual(await bodiesIn(broker, queue, 1), ['last']);
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`), others.map(String));
    });

    it('sends the copy of a virtual topic back to its own queue, not to the topic', async () => {
      const topic = `VirtualTopic.${unique('redrive')}`;
      const [failing, other] = [`Consumer.a.${topic}`, `Consumer.b.${topic}`];
      const refusing = await startPubsub(broker, failing, nack);
      const acking = await startPubsub(broker, other, fixture('plain.js#ack'));
      await published(broker, [`/topic/${topic}`, '{"n":1}']);
      await refusing.says('dead-lettered');
      await acking.waitFor(/"source":"console"/);
      for (const consumer of [refusing, acking]) await stopPubsub(consumer);
      const result = await operate(broker, ['redrive', failing, ...IDLE]);
      assert.deepEqual(result.to, { [failing]: 1 });
      assert.deepEqual(await bodiesIn(broker, failing, 1), ['{"n":1}']);
      assert.deepEqual(await bodiesIn(broker, other), []);
    });

    it('sends what died of a topic back to its queue, and leaves it where a topic has none', async () => {
      const topic = unique('prices');
      const consumer = await startPubsub(broker, `/topic/${topic}`, nack);
      await published(broker, [`/topic/${topic}`, '{"n":1}']);
      await consumer.waitFor(/message dead-lettered/);
      await stopPubsub(consumer);
      const hasQueue = broker.capabilities.queueArguments;
      const result = await operate(broker, ['redrive', topic, ...IDLE]);
      assert.deepEqual([result.redriven, result.unknown], hasQueue ? [1, 0] : [0, 1]);
      const holder = hasQueue ? topic : `DLQ.${topic}`;
      const [message] = await drainQueue(broker, holder, { atLeast: 1 });
      assert.equal(message!.body.toString(), '{"n":1}');
      const told = Object.keys(message!.headers).filter((name) => name.startsWith('x-failure-'));
      assert.equal(told.length > 0, !hasQueue, told.join());
    });

    it('ends although a running consumer lets everything die again, and nothing is lost', async () => {
      const queue = unique('redrive');
      const bodies = Array.from({ length: 30 }, (_, n) => String(n));
      await letDie(broker, queue, bodies, { 'correlation-id': 'c' });
      const consumer = await startPubsub(broker, queue, nack);
      const result = await operate(broker, ['redrive', queue, '--idle', '30']);
      assert.deepEqual([result.redriven, result.stopped], [30, 'returned']);
      await until(() => consumer.said('dead-lettered').length === 30, DEADLINE_MS, 'all messages die again');
      await stopPubsub(consumer);
      const dead = await bodiesIn(broker, `DLQ.${queue}`, 30);
      assert.deepEqual(dead.toSorted(), bodies.toSorted());
    });

    if (broker.capabilities.queueArguments) {
      it('does not mind with which arguments the queues were declared', async () => {
        const queue = unique('redrive');
        await put(broker, `/queue/${queue}`, 'first', plain);
        await put(broker, `/queue/DLQ.${queue}`, 'back', { ...plain, ...diedIn(broker, queue) });
        assert.equal((await operate(broker, ['redrive', queue, ...IDLE])).redriven, 1);
        assert.deepEqual(await bodiesIn(broker, queue, 2), ['first', 'back']);
      });

      it('ends with 4 when there is no dead-letter queue', async () => {
        const { code, complaint } = await refused(broker, ['redrive', unique('missing')]);
        assert.equal(code, 4);
        assert.match(complaint, /no queue 'DLQ\.missing-/);
      });
    }
  });
}

describe('redrive', () => {
  const usage: [what: string, args: string[], expected: RegExp][] = [
    [
      'a --match without a value',
      ['x', '--match', 'tenant'],
      /--match "tenant" is not of the form <header>=<value>/,
    ],
    ['no queue at all', [], /give a destination, or both --from <queue> and --to <queue>/],
    ['--from without --to', ['--from', 'x'], /both --from <queue> and --to <queue>/],
    ['a destination with --to', ['x', '--to', 'y'], /give a destination, or both/],
    ['a queue onto itself', ['--from', 'x', '--to', '/queue/x'], /--from and --to are one queue, x/],
    ['a topic as --to', ['--from', 'x', '--to', '/topic/y'], /a topic holds no messages/],
    ['a limit that is none', ['x', '--delivery-limit', 'none'], /--delivery-limit: a whole number/],
  ];
  for (const [what, args, expected] of usage) {
    it(`refuses ${what} with 2`, async () => {
      const { code, complaint } = await refused({ env: at(1) }, ['redrive', ...args]);
      assert.equal(code, 2);
      assert.match(complaint, expected);
    });
  }

  const script = findProgram('script');
  const broker = anyBroker();
  it(
    'prints no control characters of a message on a terminal',
    script === undefined ? { skip: 'no "script" to make a terminal with' } : skipWithout(broker),
    async () => {
      const dead = 'ActiveMQ.DLQ';
      const queue = unique('redrive');
      await put(broker!, dead, '1', { 'tshoot-destination': `${queue}\u202e` });
      await put(broker!, dead, '2', { 'tshoot-destination': '/topic/a\x1b[2J\u009b31mb' });
      const screen = await onTerminal(broker!, `redrive ${dead} --dry-run --idle 1`);
      assert.match(screen, new RegExp(`1 to ${queue}\\\\u202e`));
      assert.match(screen, /left where it is/);
      assert.match(screen, /topic a\\+u001b\[2J\\+u009b31mb/);
      assertHarmless(screen);
      await drainQueue(broker!, dead);
    },
  );
});
