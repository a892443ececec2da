import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { copyLines, copyOf } from '../../../src/sending/copies.js';
import { readHead } from '../../../src/stomp/headers.js';

const copy = (headers: Record<string, string>, body = '{}', options = {}) => {
  const frame = { command: 'MESSAGE', headers, body: Buffer.from(body) };
  return { ...readHead(`SEND\n${copyLines(frame, Infinity, {}, options)}\n`, true).headers };
};

describe('copyLines', () => {
  it('keeps what the sender gave, whatever it is called', () => {
    const headers = {
      'correlation-id': 'c',
      'content-type': 'text/plain',
      persistent: 'true',
      priority: '7',
      timestamp: '1',
      'reply-to': '/queue/answers',
      'tshoot-destination': '/queue/first',
      'x-max-retries': '3',
      'x-redrive-id': 'r',
      ['__proto__']: 'p',
    };
    assert.deepEqual(copy(headers), headers);
  });

  it('leaves out what belongs to the delivery, bounds the life of a message or declares a queue', () => {
    const names = [
      ...['message-id', 'subscription', 'ack', 'destination', 'redelivered', 'receipt', 'transaction'],
      ...['expires', 'expiration', 'originalExpiration', 'AMQ_SCHEDULED_DELAY', 'user-id', 'durable'],
      ...['x-dead-letter-exchange', 'x-dead-letter-routing-key', 'x-message-ttl', 'x-queue-type'],
    ];
    assert.deepEqual(copy(Object.fromEntries(names.map((name) => [name, '1']))), {});
  });

  it('tells of a death in a dead-letter queue only', () => {
    const headers = {
      'x-first-death-queue': 'q',
      'x-last-death-reason': 'r',
      'original-destination': '/queue/q',
    };
    assert.deepEqual(copy(headers), {});
    assert.deepEqual(copy(headers, '', { keepsDeath: true }), headers);
  });

  it('has a content-length when the message had one, counted anew, or when its body needs one', () => {
    assert.deepEqual(copy({}, 'text'), {});
    assert.deepEqual(copy({ 'content-length': '99' }, 'é'), { 'content-length': '2' });
    assert.deepEqual(copy({}, 'a\0b'), { 'content-length': '3' });
  });

  it('leaves out a header that cannot be sent', () => {
    assert.deepEqual(copy({ a: '\0', 'b\0': '1', c: '2' }), { c: '2' });
  });
});

describe('copyOf', () => {
  it('has each header once: those of the copy in the place of those of the message, whatever they are called', () => {
    const headers = {
      'x-attempt': '1',
      persistent: 'false',
      constructor: 'c',
      'x-own': 'theirs',
      ['__proto__']: 'p',
    };
    const frame = { command: 'MESSAGE', headers, body: Buffer.from('{}') };
    const { lines } = copyOf(frame, '/queue/q', { 'x-own': 'ours', 'x-attempt': '2' }, 100);
    assert.deepEqual(lines.split('\n').sort(), [
      '',
      'SEND',
      '__proto__:p',
      'constructor:c',
      'destination:/queue/q',
      'persistent:true',
      'x-attempt:2',
      'x-own:ours',
    ]);
  });
});
