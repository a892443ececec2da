import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { runInContext } from '../../../src/context.js';
import { messageEncoder, contentOf, type SendOptions } from '../../../src/sending/heads.js';
import { classic } from '../brokers/sources.js';
import { FrameDecoder, type Frame } from '../../../src/stomp/frames.js';

/** The SEND that a broker reads. */
function sent(destination: string, json: string, options?: SendOptions): Frame {
  const frames: Frame[] = [];
  const limits = { strict: true, headerBytes: 1e6, bodyBytes: 1e6 };
  const decoder = new FrameDecoder(limits, (frame) => frames.push(frame));
  const { lines, body } = messageEncoder(destination, classic, options)(json);
  decoder.push(Buffer.from(`${lines}\n${String(body)}\0`));
  assert.equal(frames.length, 1);
  return frames[0]!;
}

describe('the head of a message', () => {
  it("has django-stomp's headers, and a correlation id of its own", () => {
    const { command, headers, body } = sent('/queue/orders', '{"é":1}');
    const { 'correlation-id': id, ...rest } = headers;
    assert.equal(command, 'SEND');
    assert.deepEqual(rest, {
      destination: '/queue/orders',
      'content-type': 'application/json;charset=utf-8',
      'content-length': '8',
      'tshoot-destination': '/queue/orders',
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'DLQ.orders',
      persistent: 'true',
    });
    assert.equal(body.toString(), '{"é":1}');
    assert.notEqual(id, sent('/queue/orders', '1').headers['correlation-id']);
  });

  it('has a random UUID of its own, however many there are', () => {
    const ids = Array.from({ length: 1000 }, () => sent('a', '1').headers['correlation-id'] ?? '');
    for (const id of ids)
      assert.match(id, /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
    assert.equal(new Set(ids).size, ids.length);
    // Each digit but that of the version comes in all the forms that it has.
    const forms = Array.from({ length: 36 }, (_, place) => new Set(ids.map((id) => id[place])).size);
    const dashes = [8, 13, 18, 23];
    assert.deepEqual(
      forms,
      forms.map((_, place) => (dashes.includes(place) || place === 14 ? 1 : place === 19 ? 4 : 16)),
    );
  });

  it('has the correlation id that is given, else that among the headers, else that of the message in process', () => {
    const idOf = (options?: SendOptions) => sent('a', '1', options).headers['correlation-id'];
    const headers = { 'correlation-id': 'of the headers' };
    runInContext({ correlationId: 'in process' }, () => {
      assert.equal(idOf({ headers, correlationId: 'given' }), 'given');
      assert.equal(idOf({ headers }), 'of the headers');
      assert.equal(idOf(), 'in process');
    });
  });

  it('keeps every header of its sender whole, and lets none add another', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1 }).filter((value) => !value.includes('\0'));
    const value = fc.oneof(text, fc.constantFrom('a\nreceipt:1', 'a\r\n\r\nbody', '\\', 'a:b', ''));
    fc.assert(
      fc.property(text, value, (name, given) => {
        const own = `x-own ${name}`;
        const { headers } = sent('a', '1', { headers: { [own]: given }, correlationId: 'c' });
        assert.equal(headers[own], given);
        assert.equal(Object.keys(headers).length, Object.keys(sent('a', '1').headers).length + 1);
      }),
    );
  });

  it('is the same each time it is sent', () => {
    const { lines } = messageEncoder('a', classic)('1');
    assert.match(lines, /^correlation-id:\S+$/m);
  });

  it('leaves out what would change a queue or a connection, and keeps what only looks like it', () => {
    const dangerous = {
      ...{
        exclusive: 'true',
        'auto-delete': 'true',
        durable: 'false',
        'x-message-ttl': '1',
        'x-expires': '1',
      },
      ...{
        'x-max-length': '1',
        'x-overflow': 'reject-publish',
        'x-queue-type': 'stream',
        'x-queue-name': 'q',
      },
      ...{ 'x-single-active-consumer': 'true', ack: '1', id: '1', receipt: '1', 'user-id': 'nobody' },
      ...{
        'reply-to': '/temp-queue/answers',
        'x-attempt': '2',
        'x-last-error': 'e',
        'x-failure-reason': 'nack',
      },
    };
    const kept = { 'x-max-retries': '3', expiration: '1000', AMQ_SCHEDULED_DELAY: '5', tenant: '7' };
    const plain = sent('a', '1').headers;
    const { headers } = sent('a', '1', { headers: { ...dangerous, ...kept } });
    assert.deepEqual(Object.keys(headers).sort(), [...Object.keys(plain), ...Object.keys(kept)].sort());
    const answers = { 'reply-to': '/queue/answers' };
    assert.equal(sent('a', '1', { headers: answers }).headers['reply-to'], '/queue/answers');
  });

  it('takes what is no header for an error', () => {
    const wrong: object[] = [{ '': 'no name' }, { a: 1 }, { a: undefined }, { a: 'NUL \0' }, { 'a\0': 'b' }];
    for (const headers of wrong)
      assert.throws(() => sent('a', '1', { headers } as SendOptions), { code: 'invalid-header' });
  });

  it('does not let a destination add a header', () => {
    assert.equal(sent('a\nreceipt:1', '1').headers.receipt, undefined);
    assert.throws(() => sent('a\0', '1'), { code: 'invalid-header' });
  });
});

it('contentOf gives JSON text, and an error for what JSON cannot express', () => {
  assert.deepEqual([contentOf({ a: [1] }), contentOf(null), contentOf('')], ['{"a":[1]}', 'null', '""']);
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  for (const body of [undefined, () => undefined, 1n, circular])
    assert.throws(() => contentOf(body), { code: 'invalid-json' });
});
