// The test of a callback with Node's own test runner: one message, through a broker in this process, as in production.
//
//     node --test orders.node.test.mjs

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { consumeOnce } from 'stomp-pubsub/testing';
import { onOrder } from './orders.mjs';

test('an order gets its invoice', async () => {
  const result = await consumeOnce(onOrder, { body: { id: 1 } });
  assert.deepEqual(result, {
    outcome: 'acked',
    published: [{ destination: '/queue/invoices', body: { order: 1 }, headers: {} }],
  });
});

test('an order without an id is dead-lettered', async () => {
  const { outcome, reason, error } = await consumeOnce(onOrder, { body: {} });
  assert.deepEqual([outcome, reason], ['dead-lettered', 'callback-failed']);
  assert.match(String(error), /without an id/);
});
