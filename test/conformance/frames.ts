/** Frames as they are written and read: bytes, escapes, what may stand between them. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { BrokerUnderTest } from '../support/brokers.js';
import { uniqueName } from '../support/consuming.js';
import { declaringHeaders, drainQueue, put } from '../support/messages.js';
import { connectRaw } from '../support/raw-client.js';

export function frameBehaviours(broker: BrokerUnderTest): void {
  it('a body with NUL bytes and the headers of its sender arrive whole', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const body = Buffer.from([0, 1, 2, 0, 255]);
    await put(broker, queue, body, { tenant: ' a:b\\c\n', hasOwnProperty: '1', constructor: '2' });
    const [message] = await drainQueue(broker, queue);
    assert.deepEqual(message!.body, body);
    assert.equal(message!.headers.tenant, ' a:b\\c\n');
    assert.equal(new Map(Object.entries(message!.headers)).get('hasOwnProperty'), '1');
    assert.equal(message!.headers.constructor, '2');
  });

  it('of a repeated header the first counts', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    const declaring = Object.entries(declaringHeaders(broker, queue)).map(
      ([name, value]) => `${name}:${value ?? ''}\n`,
    );
    client.write(
      `SEND\ndestination:${queue}\n${declaring.join('')}tenant:first\ntenant:second\nreceipt:r\n\nbody\0`,
    );
    await client.next('RECEIPT');
    const [message] = await drainQueue(broker, queue);
    assert.equal(message!.headers.tenant, 'first');
  });

  it('frames with CRLF, blank lines between them and split anywhere are understood', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    const declaring = Object.entries(declaringHeaders(broker, queue)).map(
      ([name, value]) => `${name}:${value ?? ''}\r\n`,
    );
    const frame = `\r\n\n\nSEND\r\ndestination:${queue}\r\n${declaring.join('')}receipt:r\r\ncontent-length:3\r\n\r\nabc\0`;
    for (const character of frame) {
      client.write(character);
      await new Promise(setImmediate);
    }
    await client.next('RECEIPT');
    assert.equal((await drainQueue(broker, queue))[0]!.body.toString(), 'abc');
  });
}
