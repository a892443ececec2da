/** The context of a trace: wherever a message goes, and whatever is sent because of it, it is still there. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue, put } from '../support/messages.js';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';
const trace = {
  traceparent: `00-${traceId}-${spanId}-01`,
  tracestate: 'vendor=a:b,other=1',
  baggage: 'tenant=7,user=%20x',
};
const sent = { 'correlation-id': 'c-1', ...trace };

const traceOf = ({ headers }: { readonly headers: Readonly<Record<string, string>> }) => {
  const { traceparent, tracestate, baggage } = headers;
  return { traceparent, tracestate, baggage };
};

export function traceBehaviours(broker: BrokerUnderTest): void {
  const firstOf = async (queue: string) => (await drainQueue(broker, queue, { atLeast: 1 }))[0]!;

  it('a forward, and what a publisher sends meanwhile, are of the trace of their message', async (t) => {
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker);
    const callback = async (payload: Payload) => {
      payload.publish(`/queue/${queue}-a`, {});
      payload.publish(`/queue/${queue}-b`, {}, { headers: { ...payload.headers, tenant: '7' } });
      await publisher.send(`/queue/${queue}-c`, {});
      await payload.ack();
    };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback);
    await put(broker, `/queue/${queue}`, {}, sent);
    assert.equal((await consuming.settled()).outcome, 'acked');
    for (const next of ['a', 'b', 'c'])
      assert.deepEqual(traceOf(await firstOf(`${queue}-${next}`)), trace, next);
  });

  it('a trace that a forward names itself is its own, whole', async (t) => {
    const queue = uniqueName(t);
    const own = { traceparent: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-00` };
    const callback = (payload: Payload) => {
      payload.publish(`/queue/${queue}-a`, {}, { headers: own });
      return payload.ack();
    };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback);
    await put(broker, `/queue/${queue}`, {}, sent);
    await consuming.settled();
    const { traceparent, tracestate, baggage } = traceOf(await firstOf(`${queue}-a`));
    assert.deepEqual([traceparent, tracestate, baggage], [own.traceparent, undefined, undefined]);
  });

  it('what is published because of a message without a trace has none', async (t) => {
    const queue = uniqueName(t);
    const callback = (payload: Payload) => {
      payload.publish(`/queue/${queue}-a`, {});
      return payload.ack();
    };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback);
    await put(broker, `/queue/${queue}`, {}, { 'correlation-id': 'c-1', tracestate: 'alone=1' });
    await consuming.settled();
    assert.ok(Object.values(traceOf(await firstOf(`${queue}-a`))).every((value) => value === undefined));
  });

  it('retries and the dead letter keep it, and the log tells it', async (t) => {
    const queue = uniqueName(t);
    const options = { retries: 1, retryDelay: '200ms' };
    const fail = () => Promise.reject(new Error('no stock'));
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, fail, options);
    await put(broker, `/queue/${queue}`, {}, sent);
    await consuming.settled('dead-lettered');
    assert.equal(consuming.payloads.length, 2);
    for (const payload of consuming.payloads) assert.deepEqual(traceOf(payload), trace);
    assert.deepEqual(traceOf(await firstOf(`DLQ.${queue}`)), trace);
    const { fields } = await consuming.logged('deadLetterQueue', 'reason');
    assert.deepEqual([fields.traceId, fields.spanId], [traceId, spanId]);
  });
}
