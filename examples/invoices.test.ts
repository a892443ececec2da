/**
 * A test of a callback: one message, through a broker in this process, as in production.
 *
 *     node --import jiti/register --test examples/invoices.test.ts
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { consumeOnce } from 'stomp-pubsub/testing';
import { onOrder } from './invoices.js';

test('an order gets its invoice', async () => {
  const { outcome, published } = await consumeOnce(onOrder, { body: { id: 1, total: 9.5 } });
  assert.equal(outcome, 'acked');
  assert.deepEqual(published, [
    { destination: '/queue/invoices', body: { order: 1, amount: 9.5 }, headers: {} },
    { destination: '/topic/VirtualTopic.billed', body: { order: 1 }, headers: { tenant: '7' } },
  ]);
});

test('an order for nothing is dead-lettered and bills nobody', async () => {
  const { outcome, published } = await consumeOnce(onOrder, { body: { id: 2, total: 0 } });
  assert.deepEqual([outcome, published], ['dead-lettered', undefined]);
});

test('what is no order at all is dead-lettered with what was thrown', async () => {
  const { outcome, error } = await consumeOnce(onOrder, { body: null });
  assert.equal(outcome, 'dead-lettered');
  assert.ok(error instanceof TypeError);
});
