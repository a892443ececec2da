/** What a callback publishes with payload.publish goes with the ack of its message, and with nothing else. */
import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { BrokerUnderTest } from '../support/brokers.js';
import { startConsuming, uniqueName, type Consuming } from '../support/consuming.js';
import { drainQueue, put } from '../support/messages.js';

const withId = { 'correlation-id': 'c-1' };

interface Scene {
  readonly from: string;
  readonly to: string;
  readonly consuming: Consuming;
}

/** A consumer of the queue `from` whose callback may publish to the queue `to`. */
async function scene(
  t: TestContext,
  broker: BrokerUnderTest,
  callback: (payload: Payload, to: string) => unknown,
  options: Parameters<typeof startConsuming>[4] = {},
): Promise<Scene> {
  const from = uniqueName(t);
  const to = `${from}-to`;
  const toQueue = `/queue/${to}`;
  const consuming = await startConsuming(
    t,
    broker,
    `/queue/${from}`,
    (payload) => callback(payload, toQueue),
    options,
  );
  return { from, to, consuming };
}

const texts = (messages: readonly { body: Buffer }[]) => messages.map(({ body }) => body.toString());

export function forwardingBehaviours(broker: BrokerUnderTest): void {
  it('messages published before the ack are sent with it, in order, with the correlation id', async (t) => {
    const settlements: unknown[] = [];
    const { from, to, consuming } = await scene(t, broker, async (payload, target) => {
      payload.publish(target, { n: 1 }, { headers: { tenant: '7' } });
      payload.publish(target, { n: 2 }, { headers: { 'correlation-id': 'own' } });
      payload.publish(target, { n: 3 });
      settlements.push(await payload.ack());
    });
    await put(broker, `/queue/${from}`, '{}', withId);
    await put(broker, `/queue/${from}`, '{}', withId);
    await consuming.received(2);
    assert.equal((await consuming.stop()).acked, 2);
    assert.deepEqual(settlements, ['sent', 'sent']);
    const messages = await drainQueue(broker, to);
    assert.deepEqual(texts(messages), ['{"n":1}', '{"n":2}', '{"n":3}', '{"n":1}', '{"n":2}', '{"n":3}']);
    const [first, second] = messages;
    assert.equal(first!.headers.tenant, '7');
    assert.equal(first!.headers.persistent, 'true');
    assert.equal(first!.headers['tshoot-destination'], `/queue/${to}`);
    assert.deepEqual(
      [first, second].map((message) => message!.headers['correlation-id']),
      ['c-1', 'own'],
    );
    assert.deepEqual(await drainQueue(broker, from), []);
  });

  it('the message leaves its queue only when what was published is there', async (t) => {
    const { from, to, consuming } = await scene(t, broker, async (payload, target) => {
      payload.publish(target, 1);
      assert.equal(await payload.ack(), 'sent');
      assert.deepEqual(texts(await drainQueue(broker, target)), ['1']);
    });
    await put(broker, `/queue/${from}`, '{}', withId);
    await consuming.settled();
    assert.equal((await consuming.stop()).acked, 1);
    assert.deepEqual(await drainQueue(broker, to), []);
  });

  it('--auto-ack acks what was published too', async (t) => {
    const publish = (payload: Payload, target: string) => payload.publish(target, 1);
    const { from, to, consuming } = await scene(t, broker, publish, { autoAck: true });
    await put(broker, `/queue/${from}`, '{}', withId);
    await consuming.received(1);
    assert.equal((await consuming.stop()).acked, 1);
    assert.deepEqual(texts(await drainQueue(broker, to)), ['1']);
  });

  const discarding: Record<string, (payload: Payload) => unknown> = {
    'nack()': (payload) => payload.nack(),
    'a throw': () => {
      throw new Error('no');
    },
    'a return without an ack': () => undefined,
  };
  for (const [name, end] of Object.entries(discarding)) {
    it(`${name} discards what was published`, async (t) => {
      const { from, to, consuming } = await scene(t, broker, (payload, target) => {
        payload.publish(target, 1);
        return end(payload);
      });
      await put(broker, `/queue/${from}`, '{}', withId);
      await consuming.settled('dead-lettered');
      assert.equal((await consuming.stop()).deadLettered, 1);
      assert.deepEqual(await drainQueue(broker, to), []);
      assert.equal((await drainQueue(broker, `DLQ.${from}`, { atLeast: 1 })).length, 1);
    });
  }

  it('what the broker refuses dead-letters the message, says why, and holds up nobody else', async (t) => {
    const settlements: unknown[] = [];
    const { from, to, consuming } = await scene(
      t,
      broker,
      async (payload, target) => {
        const isBad = (payload.body as { bad?: boolean }).bad === true;
        payload.publish(isBad ? broker.refusedDestination : target, payload.body);
        settlements.push(await payload.ack());
      },
      { concurrency: 5 },
    );
    const bodies = [1, 2, 3, 4, 5, 6].map((n) => ({ n, ...(n === 3 ? { bad: true } : {}) }));
    for (const body of bodies) await put(broker, `/queue/${from}`, body, withId);
    await consuming.received(6);
    const line = await consuming.logged('reason', 'deadLetterQueue');
    assert.equal(line.fields.reason, 'forward-refused');
    assert.match(String(line.fields.detail), /the broker says/);
    const { acked, deadLettered, released } = await consuming.stop();
    assert.deepEqual([acked, deadLettered, released], [5, 1, 0]);
    assert.deepEqual(settlements.sort(), ['dead-lettered', 'sent', 'sent', 'sent', 'sent', 'sent']);
    const forwarded = (await drainQueue(broker, to)).map(
      ({ body }) => (JSON.parse(String(body)) as { n: number }).n,
    );
    assert.deepEqual([...new Set(forwarded)].sort(), [1, 2, 4, 5, 6]);
    assert.deepEqual(texts(await drainQueue(broker, `DLQ.${from}`, { atLeast: 1 })), ['{"n":3,"bad":true}']);
    assert.deepEqual(await drainQueue(broker, from), []);
  });

  it('what no broker can read is refused too, when it comes to that alone', async (t) => {
    const { from, to, consuming } = await scene(
      t,
      broker,
      async (payload, target) => {
        const isBad = (payload.body as { n: number }).n === 2;
        payload.publish(target, payload.body, isBad ? { headers: { priority: 'urgent' } } : {});
        await payload.ack();
      },
      { concurrency: 3 },
    );
    for (const n of [1, 2, 3]) await put(broker, `/queue/${from}`, { n }, withId);
    assert.equal((await consuming.settled('dead-lettered')).reason, 'forward-refused');
    assert.equal((await consuming.stop()).deadLettered, 1);
    assert.deepEqual(texts(await drainQueue(broker, `DLQ.${from}`, { atLeast: 1 })), ['{"n":2}']);
    const left = [...texts(await drainQueue(broker, to)), ...texts(await drainQueue(broker, from))];
    assert.deepEqual([...new Set(left)].sort(), ['{"n":1}', '{"n":3}']);
  });

  it(
    'a target that exists with other arguments is a refusal',
    { skip: !broker.capabilities.queueArguments && 'queues have no arguments' },
    async (t) => {
      const { from, to, consuming } = await scene(t, broker, async (payload, target) => {
        payload.publish(target, 1);
        assert.equal(await payload.ack(), 'dead-lettered');
      });
      await put(broker, `/queue/${to}`, '0', { 'x-dead-letter-routing-key': 'elsewhere' });
      await put(broker, `/queue/${from}`, '{}', withId);
      const { fields } = await consuming.logged('reason', 'detail');
      assert.match(String(fields.detail), /inequivalent arg 'x-dead-letter-routing-key'/);
      assert.equal((await consuming.stop()).deadLettered, 1);
      assert.deepEqual(texts(await drainQueue(broker, to)), ['0']);
    },
  );

  it('a message that cannot be sent is refused at once, and can be mended', async (t) => {
    const codes: unknown[] = [];
    const { from, to, consuming } = await scene(t, broker, async (payload, target) => {
      const attempt = (...args: Parameters<Payload['publish']>) => {
        try {
          payload.publish(...args);
        } catch (error) {
          codes.push((error as { code?: unknown }).code);
        }
      };
      attempt('', 1);
      attempt(target, undefined);
      attempt(target, 1, { headers: { a: '\0' } });
      attempt(target, 'good');
      await payload.ack();
      attempt(target, 'late');
    });
    await put(broker, `/queue/${from}`, '{}', withId);
    await consuming.received(1);
    await consuming.stop();
    assert.deepEqual(codes, ['invalid-destination', 'invalid-json', 'invalid-header', 'invalid-usage']);
    assert.deepEqual(texts(await drainQueue(broker, to)), ['"good"']);
  });

  it('a stop waits until what was published is confirmed', async (t) => {
    let stop: () => unknown = () => undefined;
    const { from, to, consuming } = await scene(t, broker, (payload, target) => {
      for (let n = 0; n < 50; n++) payload.publish(target, n);
      stop();
      void payload.ack();
    });
    let stopped: ReturnType<Consuming['stop']> | undefined;
    stop = () => (stopped = consuming.stop());
    await put(broker, `/queue/${from}`, '{}', withId);
    await consuming.received(1);
    assert.equal((await stopped)?.acked, 1);
    assert.equal((await drainQueue(broker, to)).length, 50);
    assert.deepEqual(await drainQueue(broker, from), []);
  });
}
