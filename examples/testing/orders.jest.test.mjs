// The test of a callback with Jest: one message, through a broker in this process, as in production. Jest loads ES modules
// with a flag of Node's.
//
//     NODE_OPTIONS=--experimental-vm-modules npx jest --testMatch '**/*.jest.test.mjs'

import { expect, test } from '@jest/globals';
import { consumeOnce } from 'stomp-pubsub/testing';
import { onOrder } from './orders.mjs';

test('an order gets its invoice', async () => {
  const result = await consumeOnce(onOrder, { body: { id: 1 } });
  expect(result).toEqual({
    outcome: 'acked',
    published: [{ destination: '/queue/invoices', body: { order: 1 }, headers: {} }],
  });
});

test('an order without an id is dead-lettered', async () => {
  const { outcome, reason, error } = await consumeOnce(onOrder, { body: {} });
  expect([outcome, reason]).toEqual(['dead-lettered', 'callback-failed']);
  expect(String(error)).toMatch(/without an id/);
});
