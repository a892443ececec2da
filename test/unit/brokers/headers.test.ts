import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isCopied, isSendable, withoutDelay } from '../../../src/brokers/headers.js';

describe('a header', () => {
  it('of a sender is sent and copied', () => {
    for (const name of [
      'tenant',
      'correlation-id',
      'persistent',
      'priority',
      '__proto__',
      'hasOwnProperty',
    ]) {
      assert.equal(isSendable(name, 'x'), true, name);
      assert.equal(isCopied(name, 'x', false), true, name);
    }
  });

  it('of a delivery, or by which a queue is declared, is neither sent nor copied', () => {
    for (const name of [
      'message-id',
      'ack',
      'receipt',
      'transaction',
      'durable',
      'user-id',
      'x-queue-type',
    ]) {
      assert.equal(isSendable(name, 'x'), false, name);
      assert.equal(isCopied(name, 'x', true), false, name);
    }
  });

  it('that tells of a death is kept by a copy for a dead-letter queue alone, and given by nobody', () => {
    for (const name of ['x-failure-reason', 'x-failure-anything']) {
      assert.equal(isSendable(name, 'x'), false, name);
      assert.deepEqual([isCopied(name, 'x', true), isCopied(name, 'x', false)], [true, false], name);
    }
    for (const name of ['x-first-death-queue', 'original-destination'])
      assert.deepEqual([isCopied(name, 'x', true), isCopied(name, 'x', false)], [true, false], name);
  });

  it('that limits a message in time is not copied', () => {
    for (const name of ['expires', 'AMQ_SCHEDULED_DELAY', 'x-message-ttl'])
      assert.equal(isCopied(name, '1', true), false, name);
  });

  it('with a NUL byte is not copied: the message is worth more', () => {
    assert.deepEqual([isCopied('a\0', 'x', true), isCopied('a', 'x\0', true)], [false, false]);
  });

  it('for answers is sent unless it would subscribe the connection that sends', () => {
    assert.equal(isSendable('reply-to', '/queue/answers'), true);
    assert.equal(isSendable('reply-to', '/temp-queue/answers'), false);
  });
});

describe('withoutDelay', () => {
  it('takes away what a delayed message came back by, and nothing of one that was not', () => {
    const headers = { 'x-message-ttl': '5', scheduledJobId: '7', tenant: '7' };
    assert.equal(withoutDelay(headers), headers);
    assert.deepEqual(
      { ...withoutDelay({ ...headers, 'x-attempt': '2' }) },
      { tenant: '7', 'x-attempt': '2' },
    );
  });
});
