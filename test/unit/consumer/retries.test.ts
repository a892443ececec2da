import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { withoutDelay } from '../../../src/brokers/headers.js';
import { attemptOf, retriesOf, retryCopy } from '../../../src/consumer/retries.js';
import { resolve } from '../../../src/settings/resolve.js';
import { parseDelays } from '../../../src/settings/kinds.js';
import { parseSource } from '../../../src/brokers/destinations.js';
import { detectDialect } from '../../../src/brokers/products.js';
import { type Frame, FrameDecoder, type Headers } from '../../../src/stomp/frames.js';
import type { Outgoing } from '../../../src/sending/heads.js';

const rabbitmq = detectDialect('RabbitMQ/3.10.8', 'auto');
const retries = retriesOf(parseSource('orders'), resolve({ retries: 3, retryDelay: '5s,1m' }, {}));

function message(headers: Headers = {}): Frame {
  return {
    command: 'MESSAGE',
    headers: { destination: '/queue/orders', ...headers },
    body: Buffer.from('1'),
  };
}

/** What is sent, as its receiver reads it. */
function headersOf({ lines }: Outgoing): Readonly<Headers> {
  const frames: Frame[] = [];
  const limits = { headerBytes: Infinity, bodyBytes: Infinity };
  new FrameDecoder({ strict: true, ...limits }, (frame) => frames.push(frame)).push(
    Buffer.from(`${lines}\n\0`),
  );
  return frames[0]!.headers;
}

describe('retries', () => {
  it('delays are read with their unit, which is seconds for a bare number', () => {
    assert.deepEqual(parseDelays('1ms,2.5s, 5m ,1h,5'), [1, 2500, 300_000, 3_600_000, 5000]);
    for (const text of ['', '5 s', '-1s', '5d', '0ms', '5s,', '1e3s', '169h'])
      assert.throws(() => parseDelays(text), /delays like/, text);
  });

  it('an attempt that is no number counts as the first', () => {
    assert.equal(attemptOf({ 'x-attempt': '2' }), 2);
    for (const text of ['', '0', '-1', '1.5', 'two', '99999999999999999999'])
      assert.equal(attemptOf({ 'x-attempt': text }), 1, text);
    assert.equal(attemptOf({}), 1);
  });

  it('each attempt has its delay, and the last one repeats', () => {
    const delays = [undefined, '2', '3', '900'].map((attempt) => {
      const headers = attempt === undefined ? {} : { 'x-attempt': attempt };
      return retryCopy(retries, rabbitmq, message(headers), {}).delayMs;
    });
    assert.deepEqual(delays, [5000, 60_000, 60_000, 60_000]);
  });

  it('a copy waits in the queue of its delay, counts on, and has nothing of its last wait', () => {
    const arrived = {
      ...{ 'x-attempt': '2', 'x-last-error': 'old', tenant: '7' },
      ...{ 'x-message-ttl': '5000', 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'orders' },
      ...{ 'x-first-death-queue': 'orders.retry.5000', 'message-id': 'm', subscription: 's', ack: 'a' },
    };
    const { copy } = retryCopy(retries, rabbitmq, message(arrived), { 'x-failure-error': 'TypeError' });
    assert.deepEqual(
      { ...headersOf(copy) },
      {
        tenant: '7',
        destination: '/queue/orders.retry.60000',
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': 'orders',
        'x-message-ttl': '60000',
        'x-attempt': '3',
        'x-failure-error': 'TypeError',
        persistent: 'true',
      },
    );
  });

  it('jitter spreads a delay evenly over a few, and none leaves it as it is', () => {
    const delaysOf = (retryJitter: number) =>
      retriesOf(parseSource('orders'), resolve({ retryDelay: '10s', retryJitter }, {})).delaysMs;
    assert.deepEqual(delaysOf(0), [[10_000]]);
    assert.deepEqual(delaysOf(0.2), [[8000, 9000, 10_000, 11_000, 12_000]]);
    assert.deepEqual(delaysOf(1), [[1, 5000, 10_000, 15_000, 20_000]]);
  });

  it('a callback does not see what would delay or declare something if it were sent on', () => {
    const plain = message({ 'x-message-ttl': '5' }).headers;
    assert.equal(withoutDelay(plain), plain);
    const { 'x-attempt': attempt, ...rest } = withoutDelay({
      'x-attempt': '2',
      'x-message-ttl': '5',
      scheduledJobId: 'j',
    });
    assert.deepEqual([attempt, { ...rest }], ['2', {}]);
  });
});
