import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openPublisher, type Payload } from 'stomp-pubsub';
import { consumeOnce, startBroker } from 'stomp-pubsub/testing';
import { until } from '../support/until.js';

test('consumeOnce tells that a callback acked', async () => {
  const seen: unknown[] = [];
  const callback = async (payload: Payload<{ id: number }>) => {
    seen.push(payload.body.id, payload.headers.tenant);
    await payload.ack();
  };
  const headers = { tenant: '7', 'correlation-id': 'c' };
  assert.deepEqual(await consumeOnce(callback, { body: { id: 1 }, headers }), { outcome: 'acked' });
  assert.deepEqual(seen, [1, '7']);
});

test('consumeOnce tells why a message was dead-lettered', async () => {
  const error = new Error('no stock');
  const failed = await consumeOnce(
    () => {
      throw error;
    },
    { body: {} },
  );
  assert.deepEqual(failed, { outcome: 'dead-lettered', reason: 'callback-failed', error });
  const refused = await consumeOnce((payload) => payload.nack(), { body: {} });
  assert.deepEqual(refused, { outcome: 'dead-lettered', reason: 'nack' });
  const forgotten = await consumeOnce(() => undefined, { body: {} });
  assert.deepEqual(forgotten, { outcome: 'dead-lettered', reason: 'unsettled' });
  const malformed = await consumeOnce((payload) => payload.ack(), { body: '{' });
  assert.deepEqual(malformed, { outcome: 'dead-lettered', reason: 'malformed-body' });
  const unnamed = await consumeOnce((payload) => payload.ack(), { body: 1, headers: {} });
  assert.deepEqual(unnamed, { outcome: 'dead-lettered', reason: 'missing-correlation-id' });
});

test('consumeOnce tells what was published with the ack, to whatever destination', async () => {
  const outcome = await consumeOnce(
    async ({ publish, body, ack }) => {
      publish('/queue/invoices', body);
      publish('/topic/VirtualTopic.orders', { at: new Date(0) }, { headers: { tenant: '7' } });
      await ack();
    },
    { body: { id: 1 } },
  );
  assert.deepEqual(outcome, {
    outcome: 'acked',
    published: [
      { destination: '/queue/invoices', body: { id: 1 }, headers: {} },
      {
        destination: '/topic/VirtualTopic.orders',
        body: { at: '1970-01-01T00:00:00.000Z' },
        headers: { tenant: '7' },
      },
    ],
  });
  const refused = await consumeOnce(
    (payload) => {
      payload.publish('/queue/invoices', 1);
      return payload.nack();
    },
    { body: 1 },
  );
  assert.deepEqual(refused, { outcome: 'dead-lettered', reason: 'nack' });
});

test('consumeOnce with retries goes through every attempt', async () => {
  const settings = { retries: 2, retryDelay: '20ms' };
  let calls = 0;
  const callback = async (payload: Payload) => {
    payload.publish('/queue/x', ++calls);
    if (calls < 3) throw new Error('not yet');
    await payload.ack();
  };
  const { outcome, published } = await consumeOnce(callback, { body: 1, settings });
  assert.deepEqual([outcome, calls, published?.map(({ body }) => body)], ['acked', 3, [3]]);
});

test('consumeOnce gives a callback its signal', async () => {
  let isAborted: boolean | undefined;
  const callback = (payload: Payload) => {
    isAborted = payload.signal.aborted;
    return payload.ack();
  };
  assert.deepEqual(await consumeOnce(callback, { body: 1 }), { outcome: 'acked' });
  assert.equal(isAborted, false);
});

test('consumeOnce takes settings', async () => {
  const outcome = await consumeOnce(() => undefined, { body: {}, settings: { autoAck: true } });
  assert.deepEqual(outcome, { outcome: 'acked' });
});

test('startBroker shows what is in its queues', async () => {
  const broker = await startBroker();
  assert.match(broker.url, /^stomp:\/\/127\.0\.0\.1:\d+$/);
  assert.equal(broker.depth('/queue/xpto'), 0);
  broker.publish('/queue/xpto', { n: 1 }, { tenant: '7' });
  broker.publish('/queue/xpto', 'text');
  assert.equal(broker.depth('/queue/xpto'), 2);
  const [first, second] = broker.messages('xpto');
  assert.deepEqual([first!.body, first!.headers.tenant], [{ n: 1 }, '7']);
  assert.equal(second!.body, 'text');
  await broker.close();
});

test('startBroker serves a publisher by its env, and can break every connection', async (t) => {
  await using broker = await startBroker({ user: 'app', password: ':=123' });
  Object.assign(process.env, broker.env);
  t.after(() => {
    for (const variable of Object.keys(broker.env)) Reflect.deleteProperty(process.env, variable);
  });
  const publisher = openPublisher();
  await publisher.send('/queue/xpto', 1);
  broker.dropConnections();
  await until(
    async () => {
      await publisher.send('/queue/xpto', 2);
      return true;
    },
    30_000,
    'the publisher to connect again',
  );
  await publisher.close();
  assert.equal(broker.messages('xpto').at(-1)!.body, 2);
});

test('a port that is taken is refused', async () => {
  await using broker = await startBroker();
  await assert.rejects(startBroker({ port: broker.port }), { code: 'EADDRINUSE' });
});
