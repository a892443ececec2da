/** Publishing, confirmed; transactions, all or nothing. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue } from '../support/messages.js';

export function publishingBehaviours(broker: BrokerUnderTest): void {
  it('a message carries the standard headers', async (t) => {
    const queue = uniqueName(t);
    await publisherTo(t, broker).send(`/queue/${queue}`, { key: 'vælue' });
    const [message] = await drainQueue(broker, queue);
    assert.equal(message!.body.toString(), '{"key":"vælue"}');
    const { headers } = message!;
    assert.equal(headers['content-type'], 'application/json;charset=utf-8');
    assert.equal(headers['content-length'], '16');
    assert.equal(headers.persistent, 'true');
    assert.equal(headers['tshoot-destination'], `/queue/${queue}`);
    assert.equal(headers['x-dead-letter-exchange'], '');
    assert.equal(headers['x-dead-letter-routing-key'], `DLQ.${queue}`);
    assert.match(headers['correlation-id'] ?? '', /^[0-9a-f-]{36}$/);
  });

  it('own headers arrive, whatever is in them; reserved and standard ones are not overridden', async (t) => {
    const queue = uniqueName(t);
    await publisherTo(t, broker).send(`/queue/${queue}`, 1, {
      headers: {
        tenant: 'a:b\nc\\d',
        'na:me': 'é',
        'message-id': 'x',
        transaction: 'x',
        receipt: 'x',
        ack: 'x',
        subscription: 'x',
        redelivered: 'true',
        'content-type': 'text/plain',
        'content-length': '99',
        'tshoot-destination': 'x',
        'x-dead-letter-routing-key': 'x',
        'correlation-id': 'mine',
      },
    });
    const [message] = await drainQueue(broker, queue);
    const { headers } = message!;
    assert.equal(headers.tenant, 'a:b\nc\\d');
    assert.equal(headers['na:me'], 'é');
    assert.equal(headers['content-type'], 'application/json;charset=utf-8');
    assert.equal(headers['content-length'], '1');
    assert.equal(headers['tshoot-destination'], `/queue/${queue}`);
    assert.equal(headers['x-dead-letter-routing-key'], `DLQ.${queue}`);
    assert.equal(headers['correlation-id'], 'mine');
    assert.equal(headers.transaction, undefined);
    assert.notEqual(headers.redelivered, 'true');
  });

  it('a bare name is that of a queue, for a publisher and for a callback', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(t, broker, queue, async (payload) => {
      if (payload.body === 'first') payload.publish(queue, 'second');
      await payload.ack();
    });
    await publisherTo(t, broker).send(queue, 'first');
    const [first, second] = await consuming.received(2);
    assert.deepEqual([first?.body, second?.body], ['first', 'second']);
    assert.equal(second?.headers['tshoot-destination'], queue);
  });

  it('messages of one publisher keep their order', async (t) => {
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker, { publishWindow: 10 });
    await Promise.all(Array.from({ length: 100 }, (_, n) => publisher.send(`/queue/${queue}`, n)));
    const bodies = (await drainQueue(broker, queue)).map(({ body }) => Number(body.toString()));
    assert.deepEqual(bodies, [...Array(100).keys()]);
  });

  it('JSON text goes out as it stands', async (t) => {
    const queue = uniqueName(t);
    await publisherTo(t, broker).sendJson(`/queue/${queue}`, '{"n": 12345678901234567890}');
    const [message] = await drainQueue(broker, queue);
    assert.equal(message!.body.toString(), '{"n": 12345678901234567890}');
  });

  it('a body of a megabyte arrives whole', async (t) => {
    const queue = uniqueName(t);
    const body = { text: 'é'.repeat(500_000) };
    await publisherTo(t, broker).send(`/queue/${queue}`, body);
    const [message] = await drainQueue(broker, queue);
    assert.deepEqual(JSON.parse(message!.body.toString()), body);
  });

  it('a transaction sends all', async (t) => {
    const queue = uniqueName(t);
    const result = await publisherTo(t, broker).transaction(async (transaction) => {
      for (let n = 0; n < 5; n++) await transaction.send(`/queue/${queue}`, { n });
      return 'done';
    });
    assert.equal(result, 'done');
    assert.equal((await drainQueue(broker, queue)).length, 5);
  });

  it('a transaction over several destinations sends to all', async (t) => {
    const queue = uniqueName(t);
    await publisherTo(t, broker).transaction(async (transaction) => {
      await transaction.send(`/queue/${queue}-a`, 1);
      await transaction.send(`/queue/${queue}-b`, 2);
    });
    assert.equal((await drainQueue(broker, `${queue}-a`)).length, 1);
    assert.equal((await drainQueue(broker, `${queue}-b`)).length, 1);
  });

  it('a transaction whose work throws sends nothing and gives the error on', async (t) => {
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker);
    const failed = publisher.transaction(async (transaction) => {
      await transaction.send(`/queue/${queue}`, 1);
      throw new RangeError('no');
    });
    await assert.rejects(failed, RangeError);
    assert.equal((await drainQueue(broker, queue)).length, 0);
    await publisher.send(`/queue/${queue}`, 'the publisher is still good');
    assert.equal((await drainQueue(broker, queue)).length, 1);
  });

  it('a body that JSON cannot express fails its transaction and nothing is sent', async (t) => {
    const queue = uniqueName(t);
    const failed = publisherTo(t, broker).transaction(async (transaction) => {
      await transaction.send(`/queue/${queue}`, 1);
      await transaction.send(`/queue/${queue}`, 10n);
    });
    await assert.rejects(failed, { code: 'invalid-json' });
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('two transactions of one publisher do not mix', async (t) => {
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker);
    const outer = publisher.transaction(async (first) => {
      await first.send(`/queue/${queue}`, 'first');
      await publisher.transaction(async (second) => {
        await second.send(`/queue/${queue}`, 'second');
      });
      throw new Error('the first is aborted');
    });
    await assert.rejects(outer, /the first is aborted/);
    const bodies = (await drainQueue(broker, queue)).map(({ body }) => body.toString());
    assert.deepEqual(bodies, ['"second"']);
  });

  it('a message sent outside while a transaction is open is sent at once', async (t) => {
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker);
    await publisher.transaction(async (transaction) => {
      await transaction.send(`/queue/${queue}`, 'inside');
      await publisher.send(`/queue/${queue}`, 'outside');
    });
    const bodies = (await drainQueue(broker, queue)).map(({ body }) => body.toString());
    assert.deepEqual(bodies, ['"outside"', '"inside"']);
  });

  it('a publisher whose connection was lost connects again for the next message', async (t) => {
    const queue = uniqueName(t);
    const { startProxy } = await import('../support/proxy.js');
    const proxy = await startProxy(broker);
    t.after(() => proxy.close());
    const publisher = publisherTo(t, { ...broker, host: proxy.host, port: proxy.port });
    await publisher.send(`/queue/${queue}`, 1);
    proxy.stall('toServer');
    const lost = publisher.send(`/queue/${queue}`, 2);
    await new Promise(setImmediate);
    proxy.cut();
    await assert.rejects(lost, { code: 'not-confirmed' });
    proxy.resume();
    await publisher.send(`/queue/${queue}`, 3);
    const bodies = (await drainQueue(broker, queue)).map(({ body }) => body.toString());
    assert.deepEqual(bodies, ['1', '3']);
  });

  it('a transaction whose connection is lost before COMMIT sends nothing', async (t) => {
    const queue = uniqueName(t);
    const { startProxy } = await import('../support/proxy.js');
    const proxy = await startProxy(broker);
    t.after(() => proxy.close());
    const publisher = publisherTo(t, { ...broker, host: proxy.host, port: proxy.port });
    const lost = publisher.transaction(async (transaction) => {
      await transaction.send(`/queue/${queue}`, 1);
      proxy.cut();
      for (;;) {
        await transaction.send(`/queue/${queue}`, 2);
        await new Promise(setImmediate);
      }
    });
    await assert.rejects(lost, { code: 'connection-lost' });
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('a wrong password is refused as such', async (t) => {
    const publisher = publisherTo(t, { ...broker, password: 'wrong' });
    await assert.rejects(publisher.send('/queue/x', 1), {
      code: 'broker-refused',
      message: /STOMP_SERVER_PASSWORD/,
    });
  });

  it('a send that a transaction did not wait for is refused', async (t) => {
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker);
    const late = await publisher.transaction(async (transaction) => {
      await transaction.send(`/queue/${queue}`, 1);
      return transaction;
    });
    await assert.rejects(late.send(`/queue/${queue}`, 2), { code: 'invalid-usage', message: /await every/ });
    assert.equal((await drainQueue(broker, queue)).length, 1);
  });

  it('close waits for what is unconfirmed, however often it is called', async (t) => {
    const publisher = publisherTo(t, broker);
    const sent = publisher.send(`/queue/${uniqueName(t)}`, 1);
    await Promise.all([publisher.close(), publisher.close(), sent]);
  });

  it('a closed publisher refuses to send', async (t) => {
    const publisher = publisherTo(t, broker);
    await publisher.close();
    await assert.rejects(publisher.send('/queue/x', 1), { code: 'invalid-usage' });
  });
}
