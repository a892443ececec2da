/** `pubsub redrive`: dead letters go back to where they died, all others stay where they are, and it ends. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { drainQueue, put, putAll } from '../support/messages.js';
import { packageRoot } from '../support/process.js';
import type { RawHeaders } from '../support/raw-client.js';
import { until } from '../support/until.js';
import { DEADLINE_MS, fixture, published, startPubsub, stopPubsub, unique } from './commands.js';
import { bodiesIn, IDLE, letDie, operate, refused, resultOf, startOperator } from './operator.js';

const nack = join(packageRoot, 'callbacks#nack');

/** The header by which this broker tells where a message died. */
const diedIn = ({ name }: BrokerUnderTest, queue: string): RawHeaders =>
  name === 'activemq' ? { 'original-destination': `/queue/${queue}` } : { 'x-first-death-queue': queue };

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

    it('sends each back to its own queue, by whatever tells it, and leaves the others in order', async () => {
      const [queue, other, foreign] = [unique('redrive'), unique('other'), unique('foreign')];
      const dead = `/queue/DLQ.${queue}`;
      await put(broker, dead, 'unknown 1');
      await put(broker, dead, 'to other', diedIn(broker, other));
      await put(broker, dead, 'to queue', { 'tshoot-destination': `/queue/${queue}` });
      await put(broker, dead, 'by topic', { 'tshoot-destination': '/topic/prices' });
      await put(broker, dead, 'of an earlier life', {
        ...diedIn(broker, other),
        'tshoot-destination': `/queue/${queue}`,
      });
      await put(broker, dead, 'after a retry', diedIn(broker, `${queue}.retry.5000`));
      await put(broker, dead, 'to foreign', { 'tshoot-destination': foreign });
      await put(broker, dead, 'unknown 2', { 'tshoot-destination': dead });
      const running = startOperator(broker, ['redrive', `DLQ.${queue}`, ...IDLE]);
      const result = await resultOf(running);
      assert.deepEqual(result.to, { [other]: 1, [queue]: 3, [foreign]: 1 });
      assert.deepEqual([result.redriven, result.unknown], [5, 3]);
      const reasons = running.said('message left');
      assert.equal(reasons.length, 3);
      assert.match(String(reasons[1]!.reason), /it came by the topic prices/);
      assert.deepEqual(await bodiesIn(broker, queue), ['to queue', 'of an earlier life', 'after a retry']);
      assert.deepEqual(await bodiesIn(broker, other), ['to other']);
      assert.deepEqual(await bodiesIn(broker, foreign), ['to foreign']);
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`), ['unknown 1', 'by topic', 'unknown 2']);
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
      assert.deepEqual(await bodiesIn(broker, queue), ['1', '3', '5']);
      const dryCount = await operate(broker, ['redrive', queue, '--dry-run', '--count', '2']);
      assert.deepEqual([dryCount.redriven, dryCount.stopped], [2, 'count']);
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`), ['0', '2', '4', '6', '7']);
    });

    it('reaches what lies behind hundreds that stay', async () => {
      const queue = unique('redrive');
      const count = 700;
      const others = Array.from({ length: count }, (_, n) => n);
      await putAll(broker, `/queue/DLQ.${queue}`, others, diedIn(broker, queue));
      await put(broker, `/queue/DLQ.${queue}`, 'last', { ...diedIn(broker, queue), tenant: '7' });
      const result = await operate(broker, ['redrive', queue, '--match', 'tenant=7', ...IDLE]);
      assert.deepEqual([result.redriven, result.unmatched], [1, count]);
      assert.deepEqual(await bodiesIn(broker, queue), ['last']);
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
      assert.deepEqual(await bodiesIn(broker, failing), ['{"n":1}']);
      assert.deepEqual(await bodiesIn(broker, other), []);
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
        assert.deepEqual(await bodiesIn(broker, queue), ['first', 'back']);
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
  it('refuses a --match without a value with 2', async () => {
    const { code, complaint } = await refused({ env: {} }, ['redrive', 'x', '--match', 'tenant']);
    assert.equal(code, 2);
    assert.match(complaint, /--match "tenant" is not of the form <header>=<value>/);
  });
});
