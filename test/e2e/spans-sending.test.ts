/** Spans of what is sent and tried again: one for each message, ended once, when it is known what became of it. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import * as api from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core';
import { BasicTracerProvider, type ReadableSpan, type SpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Payload } from '../../src/index.js';
import { brokersUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { launchConsuming, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue, put } from '../support/messages.js';
import { startProxy } from '../support/proxy.js';
import { run } from '../support/process.js';
import { until } from '../support/until.js';
import { at, publish, published } from './commands.js';
import { tracedProject } from './traced.js';

const SOON_MS = 30_000;
const [traceId, spanId] = ['4'.repeat(32), '7'.repeat(16)];
const traceparent = `00-${traceId}-${spanId}-01`;
const sent = { 'correlation-id': 'c-1', traceparent, tracestate: 'vendor=1', baggage: 'tenant=7' };

/** What was begun in this process, and how often each was ended. */
const begun = new Map<ReadableSpan, number>();
const memory: SpanProcessor = {
  onStart: (span) => void begun.set(span, 0),
  onEnd: (span) => void begun.set(span, (begun.get(span) ?? 0) + 1),
  forceFlush: () => Promise.resolve(),
  shutdown: () => Promise.resolve(),
};
api.trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [memory] }));
api.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
api.propagation.setGlobalPropagator(
  new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
);

/** `send` or `process` of those with that in their name, each ended once, in the order in which they began. */
async function spansOf(of: string, count: number): Promise<ReadableSpan[]> {
  const found = () => [...begun].filter(([{ name }]) => name.includes(of));
  await until(
    () => found().length >= count && found().every(([, ends]) => ends > 0),
    SOON_MS,
    () =>
      `${count} spans of ${of} that have ended; ${JSON.stringify(found().map(([{ name }, ends]) => [name, ends]))}`,
  );
  const all = found();
  assert.deepEqual(
    all.map(([, ends]) => ends),
    Array<number>(count).fill(1),
  );
  return all.map(([span]) => span);
}

const errors = (spans: readonly ReadableSpan[]) => spans.map(({ attributes }) => attributes['error.type']);
const parents = (spans: readonly ReadableSpan[]) =>
  spans.map(({ parentSpanContext }) => parentSpanContext?.spanId);
const carried = (span: ReadableSpan) => `00-${span.spanContext().traceId}-${span.spanContext().spanId}-01`;
const traceOf = async (broker: BrokerUnderTest, queue: string, atLeast: number) =>
  (await drainQueue(broker, queue, { atLeast })).map(({ headers }) => headers.traceparent);

/** Within a span of its user's, whose id it is called with. */
const inSpan = <T>(name: string, work: (id: string) => Promise<T>): Promise<T> =>
  api.trace.getTracer('test').startActiveSpan(name, async (span) => {
    try {
      return await work(span.spanContext().spanId);
    } finally {
      span.end();
    }
  });

for (const broker of brokersUnderTest()) {
  describe(`spans of what is sent: ${broker.name}`, { concurrency: 3 }, () => {
    it('send() has one for each message, below its caller, and the message carries it', async (t) => {
      const queue = uniqueName(t);
      const publisher = publisherTo(t, broker);
      const caller = await inSpan('caller', async (id) => {
        await Promise.all([1, 2].map((n) => publisher.send(`/queue/${queue}`, n)));
        await publisher.sendJson(`/queue/${queue}`, '3');
        return id;
      });
      const spans = await spansOf(queue, 3);
      assert.deepEqual(parents(spans), [caller, caller, caller]);
      assert.deepEqual(errors(spans), [undefined, undefined, undefined]);
      assert.deepEqual(await traceOf(broker, queue, 3), spans.map(carried));
    });

    it('that of a message that is refused, or is never sent, ends with why', async (t) => {
      const queue = uniqueName(t);
      const publisher = publisherTo(t, broker);
      const { refusedDestination } = broker;
      await assert.rejects(publisher.send(refusedDestination, 1, { headers: sent }), {
        code: 'broker-refused',
      });
      await assert.rejects(publisher.send(`/queue/${queue}`, 1, { signal: AbortSignal.abort() }));
      await publisher.close();
      await assert.rejects(publisher.send(`/queue/${queue}`, 1), { code: 'invalid-usage' });
      const mine = [...begun.keys()].filter(
        ({ name, parentSpanContext }) =>
          name === `send ${refusedDestination}` && parentSpanContext?.spanId === spanId,
      );
      assert.deepEqual(errors(mine).slice(0, 1), ['broker-refused']);
      const never = await spansOf(queue, 2);
      assert.ok(
        never.every(({ status }) => status.code === api.SpanStatusCode.ERROR),
        JSON.stringify(errors(never)),
      );
      assert.equal(errors(never)[1], 'invalid-usage');
    });

    it('those of a transaction end with its COMMIT', async (t) => {
      const queue = uniqueName(t);
      const publisher = publisherTo(t, broker);
      const isOver = () => [...begun].filter(([{ name }]) => name.includes(queue)).map(([, ends]) => ends);
      const caller = await inSpan('caller', (id) =>
        publisher.transaction(async (transaction) => {
          await transaction.send(`/queue/${queue}`, 1);
          await transaction.sendJson(`/queue/${queue}`, '2');
          assert.deepEqual(isOver(), [0, 0]);
          return id;
        }),
      );
      const spans = await spansOf(queue, 2);
      assert.deepEqual(
        [parents(spans), errors(spans)],
        [
          [caller, caller],
          [undefined, undefined],
        ],
      );
      assert.deepEqual(await traceOf(broker, queue, 2), spans.map(carried));
    });

    it('those of a transaction that is not carried out end with why, whatever was thrown', async (t) => {
      const queue = uniqueName(t);
      const publisher = publisherTo(t, broker);
      const nasty = new Proxy(new Error('nasty'), {
        getPrototypeOf: () => {
          throw new Error('not to be looked at');
        },
      });
      for (const thrown of [new RangeError('no'), nasty])
        await publisher
          .transaction(async (transaction) => {
            await transaction.send(`/queue/${queue}`, 1);
            throw thrown;
          })
          .then(
            () => assert.fail('it was carried out'),
            (error: unknown) => assert.ok(error === thrown, 'what was thrown is what it rejects with'),
          );
      let late: (() => Promise<void>) | undefined;
      await publisher.transaction((transaction) => {
        late = () => transaction.send(`/queue/${queue}`, 1);
        return Promise.resolve();
      });
      await assert.rejects(late!(), { code: 'invalid-usage' });
      const spans = await spansOf(queue, 3);
      assert.deepEqual(errors(spans), ['unknown', 'unknown', 'invalid-usage']);
    });

    it('those of a transaction that the broker refuses end with that', async (t) => {
      const queue = uniqueName(t);
      const publisher = publisherTo(t, broker);
      const refused = publisher.transaction(async (transaction) => {
        await transaction.send(`/queue/${queue}`, 1);
        await transaction.send(broker.refusedDestination, 1);
      });
      await assert.rejects(refused);
      const [type] = errors(await spansOf(queue, 1));
      assert.match(String(type), /^(?:broker-refused|not-confirmed)$/);
    });

    const documents = ['{"n":1}', '{"n":2}', '{"n":3}'];
    const ways = [
      ['one', []],
      ['lines', ['--lines']],
      ['transaction', ['--lines', '--transaction']],
      ['transactions', ['--lines', '--transaction-size', '2']],
    ] as const;
    it('publish has one for each document, however they are sent', async () => {
      const traced = tracedProject({});
      for (const [way, flags] of ways) {
        const queue = `/queue/spans-${way}-${process.pid}-${broker.name}`;
        const count = way === 'one' ? 1 : documents.length;
        const input = documents.slice(0, count).map((document) => `${document}\n`);
        await published(broker, [queue, ...flags], { ...traced.options, input: input.join('') });
        const spans = traced.named(`send ${queue}`);
        assert.deepEqual(
          spans.map(({ status }) => status.code),
          input.map(() => 0),
          way,
        );
        const ids = spans.map((span) => `00-${span.traceId}-${span.spanId}-01`);
        assert.deepEqual((await traceOf(broker, queue, count)).toSorted(), ids.toSorted(), way);
      }
    });

    it('publish that is refused ends them with why', async () => {
      const traced = tracedProject({});
      const { refusedDestination: refused } = broker;
      for (const flags of [[], ['--lines'], ['--lines', '--transaction']]) {
        const input = { ...traced.options, input: '{"n":1}\n' };
        const { code, stderr } = await publish(broker, [refused, ...flags], input);
        assert.equal(code, 4, stderr);
      }
      const types = traced.named(`send ${refused}`).map(({ attributes }) => attributes['error.type']);
      assert.equal(types.length, 3);
      for (const type of types) assert.match(String(type), /^(?:broker-refused|not-confirmed)$/);
    });

    it('a line that is sent again over another connection has one, ended once', async () => {
      const traced = tracedProject({});
      const queue = `/queue/spans-again-${process.pid}-${broker.name}`;
      await using proxy = await startProxy(broker);
      const total = 60;
      const lines = Array.from({ length: total }, (_, n) => `{"n":${n},"text":"${'x'.repeat(200)}"}\n`);
      proxy.onConnection((count) => {
        if (count === 1) proxy.cutAfterBytes('toClient', 1500);
      });
      const publishing = run('publish', [queue, '--lines', '--window', '20'], {
        ...traced.options,
        env: { ...broker.env, ...at(proxy.port), ...traced.env },
        input: lines.join(''),
      });
      assert.equal((await publishing.exit()).code, 0, publishing.stderr);
      assert.ok(proxy.connections > 1);
      const spans = traced.named(`send ${queue}`);
      assert.deepEqual([spans.length, new Set(spans.map((span) => span.spanId)).size], [total, total]);
      assert.ok(spans.every(({ status }) => status.code === 0));
      const ids = new Set(spans.map((span) => `00-${span.traceId}-${span.spanId}-01`));
      const came = await traceOf(broker, queue, total);
      assert.deepEqual(new Set(came), ids);
    });

    it('one whose confirmation is lost with its connection ends with that', async (t) => {
      const queue = uniqueName(t);
      await using proxy = await startProxy(broker);
      const publisher = publisherTo(t, { ...broker, host: proxy.host, port: proxy.port });
      await publisher.send(`/queue/${queue}`, 1);
      const receipt = proxy.frame('toClient', ({ command }) => command === 'RECEIPT', { isHeld: true });
      const sending = publisher.send(`/queue/${queue}`, 2);
      sending.catch(() => undefined);
      await receipt;
      proxy.cut();
      proxy.resume();
      await assert.rejects(sending, { code: 'not-confirmed' });
      assert.deepEqual(errors(await spansOf(queue, 2)), [undefined, 'not-confirmed']);
    });
  });

  describe(`spans of attempts: ${broker.name}`, { concurrency: 3 }, () => {
    const fail = () => {
      throw new RangeError('no stock');
    };
    const consumedOnce = (
      t: TestContext,
      queue: string,
      ...given: Parameters<typeof startConsuming> extends [unknown, unknown, unknown, ...infer Rest]
        ? Rest
        : never
    ) => startConsuming(t, broker, `/queue/${queue}`, ...given);

    it('a retry by a copy is an attempt of the same parent, and the copy is no message that is sent', async (t) => {
      const queue = uniqueName(t);
      const consuming = await consumedOnce(t, queue, fail, { retries: 2, retryDelay: '200ms' });
      await put(broker, `/queue/${queue}`, {}, sent);
      await consuming.settled('dead-lettered');
      await consuming.stop();
      const spans = await spansOf(queue, 3);
      assert.deepEqual(parents(spans), [spanId, spanId, spanId]);
      assert.deepEqual(errors(spans), ['RangeError', 'RangeError', 'RangeError']);
      assert.deepEqual(await traceOf(broker, `DLQ.${queue}`, 1), [traceparent]);
    });

    it(
      'a dead letter by NACK keeps the context, and its attempt says why',
      needs(broker, 'nackKeeps'),
      async (t) => {
        const queue = uniqueName(t);
        const consuming = await consumedOnce(t, queue, fail, { deadLetterBy: 'nack' });
        await put(broker, `/queue/${queue}`, {}, sent);
        await consuming.settled('dead-lettered');
        await consuming.stop();
        const spans = await spansOf(queue, 1);
        assert.deepEqual([parents(spans), errors(spans)], [[spanId], ['RangeError']]);
        assert.deepEqual(await traceOf(broker, `DLQ.${queue}`, 1), [traceparent]);
      },
    );

    it('what a callback sends by a publisher is below its attempt, and the attempt below what sent its message', async (t) => {
      const queue = uniqueName(t);
      const publisher = publisherTo(t, broker);
      const consuming = await consumedOnce(t, queue, async (payload) => {
        await publisher.send(`/queue/${queue}-next`, 1);
        await publisher.transaction((transaction) => transaction.send(`/queue/${queue}-next`, 2));
        await payload.ack();
      });
      await publisher.send(`/queue/${queue}`, 1);
      await consuming.settled('acked');
      await consuming.stop();
      const [first, attempt, ...sends] = await spansOf(queue, 4);
      const { traceId: one } = first!.spanContext();
      const parent = attempt!.spanContext().spanId;
      assert.deepEqual(parents([attempt!, ...sends]), [first!.spanContext().spanId, parent, parent]);
      assert.ok([attempt!, ...sends].every((span) => span.spanContext().traceId === one));
      assert.deepEqual(await traceOf(broker, `${queue}-next`, 2), sends.map(carried));
    });

    it('a forward that is refused has a span that ended with why', async (t) => {
      const queue = uniqueName(t);
      const callback = async (payload: Payload) => {
        payload.publish(broker.refusedDestination, {}, { headers: { of: queue } });
        await payload.ack();
      };
      const consuming = await consumedOnce(t, queue, callback);
      await put(broker, `/queue/${queue}`, {}, sent);
      await consuming.settled();
      await consuming.stop();
      const [attempt] = await spansOf(`process ${queue}`, 1);
      const below = () =>
        [...begun].find(
          ([{ parentSpanContext: parent }]) => parent?.spanId === attempt!.spanContext().spanId,
        );
      const [forward, ends] = await until(
        () => (below()?.[1] ?? 0) > 0 && below(),
        SOON_MS,
        'the end of the span of the forward',
      );
      assert.equal(ends, 1);
      assert.equal(forward.status.code, api.SpanStatusCode.ERROR);
    });

    it(
      'after a lost connection the attempt that comes again has its own, and each forward one that ended once',
      needs(broker, 'returnsWhatWasCut'),
      async (t) => {
        const queue = uniqueName(t);
        await using proxy = await startProxy(broker);
        const through = { ...broker, host: proxy.host, port: proxy.port };
        let calls = 0;
        const consuming = launchConsuming(t, through, `/queue/${queue}`, async (payload) => {
          payload.publish(`/queue/${queue}-next`, {});
          if (++calls === 1) {
            proxy.cut();
            await consuming.turned('lost');
          }
          await payload.ack();
        });
        await consuming.turned('subscribed');
        await put(broker, `/queue/${queue}`, {}, sent);
        await consuming.settled('acked');
        await consuming.stop();
        const attempts = await spansOf(`process ${queue}`, 2);
        assert.deepEqual(parents(attempts), [spanId, spanId]);
        const forwards = await spansOf(`send /queue/${queue}-next`, 2);
        assert.deepEqual(
          parents(forwards),
          attempts.map((attempt) => attempt.spanContext().spanId),
        );
        assert.deepEqual(errors(forwards), ['connection-lost', undefined]);
        const [forward] = await drainQueue(broker, `${queue}-next`, { atLeast: 1 });
        const { headers } = forward!;
        assert.deepEqual(
          [headers.traceparent, headers.tracestate, headers.baggage],
          [carried(forwards[1]!), 'vendor=1', 'tenant=7'],
        );
      },
    );
  });
}
