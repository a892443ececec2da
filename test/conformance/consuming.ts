/** Consuming: what a callback is given, when, and what its ack does. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { correlationId, type Payload } from '../../src/index.js';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue, put, putAll } from '../support/messages.js';
import { connectRaw } from '../support/raw-client.js';
import { until } from '../support/until.js';

const withId = { 'correlation-id': 'c-1' };
const ack = (payload: Payload) => payload.ack();

export function consumingBehaviours(broker: BrokerUnderTest): void {
  it('a callback gets the parsed body, the headers and the raw bytes', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/${queue}`, '{"key":"vælue"}', { ...withId, tenant: '7:a\nb' });
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, ack);
    const [payload] = await consuming.received(1);
    assert.deepEqual(payload!.body, { key: 'vælue' });
    assert.equal(payload!.headers.tenant, '7:a\nb');
    assert.equal(payload!.headers['correlation-id'], 'c-1');
    assert.equal(Buffer.from(payload!.raw).toString(), '{"key":"vælue"}');
    assert.equal(payload!.signal.aborted, false);
  });

  it('an acked message is gone', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, ack);
    await consuming.received(1);
    assert.deepEqual(await consuming.stop(), {
      received: 1,
      redelivered: 0,
      acked: 1,
      deadLettered: 0,
      retried: 0,
      released: 0,
    });
    assert.equal((await drainQueue(broker, queue)).length, 0);
    assert.equal((await drainQueue(broker, `DLQ.${queue}`)).length, 0);
  });

  it('a bare name is the same queue', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    const consuming = await startConsuming(t, broker, queue, ack);
    await consuming.received(1);
  });

  it('messages come in the order of their sending', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, ack);
    await putAll(
      broker,
      `/queue/${queue}`,
      Array.from({ length: 50 }, (_, n) => ({ n })),
      withId,
    );
    const payloads = await consuming.received(50);
    assert.deepEqual(
      payloads.map(({ body }) => (body as { n: number }).n),
      [...Array(50).keys()],
    );
  });

  it('one callback runs at a time by default', async (t) => {
    const queue = uniqueName(t);
    let running = 0;
    let most = 0;
    await putAll(broker, `/queue/${queue}`, [1, 2, 3, 4, 5], withId);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, async (payload) => {
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
      await payload.ack();
    });
    await consuming.received(5);
    assert.equal(most, 1);
  });

  it('--concurrency runs so many callbacks at once and no more', async (t) => {
    const queue = uniqueName(t);
    await putAll(broker, `/queue/${queue}`, [...Array(10).keys()], withId);
    const releases: (() => void)[] = [];
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      async (payload) => {
        await new Promise<void>((resolve) => releases.push(resolve));
        await payload.ack();
      },
      { concurrency: 3 },
    );
    await consuming.received(3);
    // A fourth would have been delivered before this round trip on the same broker is over.
    await put(broker, `/queue/${queue}-other`, 1);
    assert.equal(consuming.payloads.length, 3);
    for (let done = 1; done <= 10; done++) {
      await consuming.received(Math.min(10, done + 2));
      releases[done - 1]!();
    }
    assert.equal((await consuming.stop()).acked, 10);
  });

  it('a callback that acks early keeps its place until it returns', async (t) => {
    const queue = uniqueName(t);
    await putAll(broker, `/queue/${queue}`, [1, 2, 3, 4, 5, 6], withId);
    let running = 0;
    let most = 0;
    const releases: (() => void)[] = [];
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      async (payload) => {
        most = Math.max(most, ++running);
        await payload.ack();
        await new Promise<void>((resolve) => releases.push(resolve));
        running--;
      },
      { concurrency: 2 },
    );
    for (let done = 1; done <= 6; done++) {
      await consuming.received(Math.min(6, done + 1));
      // The broker has had the acks and may deliver as many again.
      await put(broker, `/queue/${queue}-other`, 1);
      assert.equal(consuming.payloads.length, Math.min(6, done + 1));
      releases[done - 1]!();
    }
    assert.deepEqual([(await consuming.stop()).acked, most], [6, 2]);
  });

  it('a message may be acked long after others that came later', async (t) => {
    const queue = uniqueName(t);
    await putAll(broker, `/queue/${queue}`, ['"slow"', '"fast"', '"fast"'], withId);
    let release: () => void = () => undefined;
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      async (payload) => {
        if (payload.body === 'slow') await new Promise<void>((resolve) => (release = resolve));
        await payload.ack();
      },
      { concurrency: 2 },
    );
    await consuming.received(3);
    release();
    assert.equal((await consuming.stop()).acked, 3);
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('two consumers share a queue and no message is delivered to both', async (t) => {
    const queue = uniqueName(t);
    const first = await startConsuming(t, broker, `/queue/${queue}`, ack);
    const second = await startConsuming(t, broker, `/queue/${queue}`, ack);
    await putAll(broker, `/queue/${queue}`, [...Array(40).keys()], withId);
    const received = () => first.payloads.length + second.payloads.length;
    await until(
      () => received() === 40,
      DEADLINE_MS,
      () => `40 payloads; came: ${received()}`,
    );
    const [a, b] = [await first.stop(), await second.stop()];
    assert.equal(a.acked + b.acked, 40);
    assert.ok(a.acked > 0 && b.acked > 0);
  });

  it('a message without correlation id gets one when none is required', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/${queue}`, 1);
    let seen: string | undefined;
    const callback = async (payload: Payload) => {
      await new Promise(setImmediate);
      seen = correlationId();
      await payload.ack();
    };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, {
      correlationIdRequired: false,
    });
    await consuming.received(1);
    await consuming.stop();
    assert.match(seen ?? '', /^[0-9a-f-]{36}$/);
  });

  it('what a callback publishes carries the correlation id of its message', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/${queue}`, 1, { 'correlation-id': 'the-one' });
    const publisher = publisherTo(t, broker);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, async (payload) => {
      await publisher.send(`/queue/${queue}-next`, { from: payload.body });
      await payload.ack();
    });
    await consuming.received(1);
    await consuming.stop();
    const [next] = await drainQueue(broker, `${queue}-next`);
    assert.equal(next!.headers['correlation-id'], 'the-one');
  });

  it('a second ack is refused and logged', async (t) => {
    const queue = uniqueName(t);
    await put(broker, `/queue/${queue}`, 1, withId);
    const settlements: unknown[] = [];
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, async (payload) => {
      settlements.push(await payload.ack(), await payload.ack(), await payload.nack());
    });
    await consuming.received(1);
    assert.equal((await consuming.stop()).acked, 1);
    assert.deepEqual(settlements, ['sent', 'already-settled', 'already-settled']);
    const warned = consuming.log.filter(({ level, fields }) => level === 'warn' && 'state' in fields);
    assert.equal(warned.length, 2);
  });

  it('a callback that fails after its ack changes nothing', async (t) => {
    const queue = uniqueName(t);
    await putAll(broker, `/queue/${queue}`, [1, 2], withId);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, async (payload) => {
      await payload.ack();
      throw new Error('too late');
    });
    await consuming.received(2);
    assert.equal((await consuming.stop()).acked, 2);
    assert.equal((await drainQueue(broker, `DLQ.${queue}`)).length, 0);
  });

  it('with --auto-ack a callback that returns acks', async (t) => {
    const queue = uniqueName(t);
    await putAll(broker, `/queue/${queue}`, [1, 2], withId);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, () => undefined, { autoAck: true });
    await consuming.received(2);
    assert.equal((await consuming.stop()).acked, 2);
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('what was prefetched and not started goes back, in order', async (t) => {
    const queue = uniqueName(t);
    await putAll(broker, `/queue/${queue}`, [0, 1, 2, 3, 4], withId);
    let release: () => void = () => undefined;
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, async (payload) => {
      await new Promise<void>((resolve) => (release = resolve));
      await payload.ack();
    });
    await consuming.received(1);
    const stopped = consuming.stop();
    release();
    assert.equal((await stopped).acked, 1);
    const rest = await drainQueue(broker, queue);
    assert.deepEqual(
      rest.map(({ body }) => Number(body.toString())),
      [1, 2, 3, 4],
    );
  });

  it(
    'a consumer whose connection is lost is back, and its message comes again',
    needs(broker, 'returnsWhatWasCut'),
    async (t) => {
      const queue = uniqueName(t);
      const { startProxy } = await import('../support/proxy.js');
      const proxy = await startProxy(broker);
      t.after(() => proxy.close());
      await put(broker, `/queue/${queue}`, 1, withId);
      const settlements: unknown[] = [];
      let release: () => void = () => undefined;
      const wait = new Promise<void>((resolve) => (release = resolve));
      let calls = 0;
      const consuming = await startConsuming(
        t,
        { ...broker, host: proxy.host, port: proxy.port },
        `/queue/${queue}`,
        async (payload) => {
          if (++calls === 1) await wait;
          settlements.push(await payload.ack());
        },
      );
      await consuming.received(1);
      proxy.cut();
      await consuming.turned('lost');
      release();
      await consuming.received(2);
      const summary = await consuming.stop();
      assert.deepEqual(settlements, ['connection-lost', 'sent']);
      assert.deepEqual([summary.acked, summary.released], [1, 1]);
      assert.equal((await drainQueue(broker, queue)).length, 0);
    },
  );

  it('the subscription asks for client-individual acknowledgement with a bounded prefetch', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, () => new Promise(() => undefined), {
      gracefulWaitSeconds: 0,
    });
    await putAll(broker, `/queue/${queue}`, [1, 2, 3], withId);
    await consuming.received(1);
    const other = await connectRaw(broker);
    t.after(() => other.destroy());
    await other.subscribe(
      `/queue/${queue}`,
      broker.capabilities.queueArguments
        ? { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': `DLQ.${queue}` }
        : {},
    );
    // The other two are free for another consumer; the first is held.
    const bodies = [await other.next('MESSAGE'), await other.next('MESSAGE')].map(({ body }) =>
      body.toString(),
    );
    assert.deepEqual(bodies, ['2', '3']);
    await assert.rejects(consuming.stop(), { code: 'deadline-passed' });
    if (broker.capabilities.returnsWhatWasCut)
      assert.equal((await other.next('MESSAGE')).body.toString(), '1');
  });
}
