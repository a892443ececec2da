import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { addressOf } from '../../../src/embedded/destinations.js';
import { Heads } from '../../../src/embedded/heads.js';
import {
  headOf,
  type Message,
  NEVER,
  OVERHEAD_BYTES,
  sizeOf,
  storedHead,
} from '../../../src/embedded/message.js';

const rest = { sequence: 0, body: '', priority: 0, ttlMs: NEVER, delayMs: 0, expiresAt: NEVER };

function storing(heads: Heads): (headers: Record<string, string | undefined>) => Message {
  return (headers) => ({ ...rest, ...heads.store(headers), redelivered: false, deaths: undefined });
}

describe('heads of messages to one destination', () => {
  test('are what their senders wrote, whatever came before', () => {
    const name = fc.constantFrom('a', 'b', 'destination', 'content-length', 'é:', '__proto__', '1', '');
    const value = fc.constantFrom('', 'x', 'y', 'line\nbreak: \\', 'ü€', 'z'.repeat(900));
    const headers = fc.dictionary(name, fc.option(value, { nil: undefined }), { noNullPrototype: false });
    fc.assert(
      fc.property(fc.array(headers, { maxLength: 12 }), (all) => {
        const store = storing(new Heads(addressOf('', 'q')));
        const messages = all.map(store);
        const expected = all.map(storedHead);
        assert.deepEqual(messages.map(headOf), expected);
      }),
    );
  });

  test('share the lines that come again, and keep the values that are their own', () => {
    const store = storing(new Heads(addressOf('', 'q')));
    const send = (id: string, type = 'json') => store({ destination: 'q', type, id, 'content-length': id });
    const [, second, third, fourth, fifth] = [send('1'), send('2'), send('3'), send('4', 'text'), send('5')];
    assert.deepEqual(second.address.pieces, ['type:json\nid:', '']);
    assert.equal(third.address, second.address);
    assert.equal(third.head, '3\n');
    assert.deepEqual(
      [fourth, fifth].map((message) => message.head),
      ['text\n4\n', 'json\n5\n'],
    );
    assert.equal(store({ id: '6' }).head, 'id:6\n');
  });

  test('count whole, shared or not', () => {
    const store = storing(new Heads(addressOf('', 'q')));
    const sizes = ['1', '2', '3'].map((id) => sizeOf(store({ type: 'json', id })));
    const whole = OVERHEAD_BYTES + 'type:json\nid:1\n'.length;
    assert.deepEqual(sizes, [whole, whole, whole]);
  });
});
