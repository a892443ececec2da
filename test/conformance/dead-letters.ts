/** What cannot be processed lies in `DLQ.<name>`, whole, and the next message is processed. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { detectDialect } from '../../src/brokers/products.js';
import type { Payload } from '../../src/index.js';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { startConsuming, uniqueName, type LogLine } from '../support/consuming.js';
import { drainQueue, put } from '../support/messages.js';
import type { RawHeaders } from '../support/raw-client.js';

const withId = { 'correlation-id': 'c-1' };

interface Case {
  readonly name: string;
  readonly reason: string;
  readonly body: string | Uint8Array;
  readonly headers?: RawHeaders;
  readonly callback?: (payload: Payload) => unknown;
  readonly options?: { maxMessageBytes?: number };
}

const refuse = (payload: Payload) => payload.nack();

const cases: Case[] = [
  { name: 'nack()', reason: 'nack', body: '{"a":1}', callback: refuse },
  {
    name: 'a throw',
    reason: 'callback-failed',
    body: '{"a":1}',
    callback: () => {
      throw new Error('no');
    },
  },
  {
    name: 'a throw of undefined',
    reason: 'callback-failed',
    body: '{"a":1}',
    callback: () => {
      // eslint-disable-next-line @typescript-eslint/only-throw-error -- callbacks do such things
      throw undefined;
    },
  },
  {
    name: 'a rejected promise',
    reason: 'callback-failed',
    body: '{"a":1}',
    callback: async () => {
      await new Promise(setImmediate);
      throw new TypeError('no');
    },
  },
  {
    name: 'a return without ack() or nack()',
    reason: 'unsettled',
    body: '{"a":1}',
    callback: () => 'forgotten',
  },
  { name: 'a body that is not JSON', reason: 'malformed-body', body: '{"a":' },
  { name: 'an empty body', reason: 'malformed-body', body: '' },
  { name: 'a body with NUL bytes', reason: 'malformed-body', body: Buffer.from('{"a":\0}') },
  { name: 'a body that is not UTF-8', reason: 'malformed-body', body: Buffer.from([0x22, 0xc3, 0x22]) },
  {
    name: 'no correlation id',
    reason: 'missing-correlation-id',
    body: '1',
    headers: { 'correlation-id': undefined },
  },
  {
    name: 'a body over the limit',
    reason: 'too-large',
    body: `"${'x'.repeat(5000)}"`,
    options: { maxMessageBytes: 4096 },
  },
];

/** So many headers of its own can a message have on this broker, beside those that every message has. */
function mostHeaders({ name, version }: BrokerUnderTest): number {
  return name === 'rabbitmq'
    ? Math.min(994, detectDialect(`RabbitMQ/${version}`, 'auto').mostHeaders - 2)
    : 994;
}

export function deadLetterBehaviours(broker: BrokerUnderTest): void {
  for (const { name, reason, body, headers, callback, options } of cases) {
    it(
      `${name} dead-letters the message and the next one is processed`,
      reason === 'too-large' ? needs(broker, 'nackKeeps') : {},
      async (t) => {
        const queue = uniqueName(t);
        const isGood = (payload: Payload) => payload.headers.good === 'yes';
        const consuming = await startConsuming(
          t,
          broker,
          `/queue/${queue}`,
          (payload) => (isGood(payload) ? payload.ack() : callback?.(payload)),
          options,
        );
        await put(broker, `/queue/${queue}`, body, { ...withId, tenant: '7', ...headers });
        await put(broker, `/queue/${queue}`, '1', { ...withId, good: 'yes' });
        const line: LogLine = await consuming.logged('reason', 'deadLetterQueue');
        assert.equal(line.level, 'error');
        assert.equal(line.fields.reason, reason);
        assert.equal(typeof line.fields.messageId, 'string');
        const processed = await consuming.received(callback === undefined ? 1 : 2);
        assert.ok(isGood(processed.at(-1)!));
        const summary = await consuming.stop();
        assert.deepEqual([summary.acked, summary.deadLettered], [1, 1]);
        const [dead, ...more] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
        assert.equal(more.length, 0);
        assert.deepEqual(dead!.body, Buffer.from(body));
        assert.equal(dead!.headers.tenant, '7');
        assert.equal((await drainQueue(broker, queue)).length, 0);
      },
    );
  }

  it('a message that is not persistent is dead-lettered too', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/${queue}`, { n: 1 }, { ...withId, persistent: undefined, tenant: '7' });
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, refuse);
    await consuming.received(1);
    assert.equal((await consuming.stop()).deadLettered, 1);
    const [dead, ...more] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.equal(more.length, 0);
    assert.deepEqual([dead!.body.toString(), dead!.headers.tenant], ['{"n":1}', '7']);
  });

  it('a message with as many headers as the broker takes is dead-lettered though a copy has more', async (t) => {
    const queue = uniqueName(t);
    const many = Object.fromEntries(
      Array.from({ length: mostHeaders(broker) }, (_, n) => [`h-${n}`, String(n)]),
    );
    await put(broker, `/queue/${queue}`, { n: 1 }, { ...withId, ...many, persistent: undefined });
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, refuse);
    await consuming.received(1);
    const { deadLettered, released } = await consuming.stop();
    assert.deepEqual([deadLettered, released], [1, 0]);
    const [dead, ...more] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.equal(more.length, 0);
    assert.deepEqual([dead!.body.toString(), dead!.headers['correlation-id']], ['{"n":1}', 'c-1']);
  });

  it('a message refused by the consumer of a dead-letter queue goes to the next one', async (t) => {
    const queue = uniqueName(t);
    const first = await startConsuming(t, broker, `/queue/${queue}`, refuse);
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    await first.received(1);
    await first.stop();
    const second = await startConsuming(t, broker, `/queue/DLQ.${queue}`, refuse);
    await second.received(1);
    assert.equal((await second.stop()).deadLettered, 1);
    const [dead] = await drainQueue(broker, `DLQ.DLQ.${queue}`, { atLeast: 1 });
    assert.equal(dead!.body.toString(), '{"n":1}');
    assert.equal((await drainQueue(broker, `DLQ.${queue}`)).length, 0);
  });

  it('a start does not touch what lies in the dead-letter queue', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/DLQ.${queue}`, { n: 1 }, withId);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, refuse);
    await consuming.stop();
    const [dead] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.notEqual(dead!.headers.redelivered, 'true');
  });
}
