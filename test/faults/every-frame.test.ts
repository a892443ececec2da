/**
 * Each frame of the way of a message in turn, in both directions: the connections are cut before it arrives, or right behind
 * it, or the consumer is told to stop when it passes. Wherever that is, no message is lost.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { consume, log, type Payload } from '../../src/index.js';
import { brokersUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, settingsOf } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, putAll } from '../support/messages.js';
import { startProxy, type Direction, type Proxy } from '../support/proxy.js';
import { until } from '../support/until.js';

const MESSAGES = 2;
/** Each connection that ends is told. */
log.level = 'silent';

interface Way {
  readonly name: string;
  readonly call: (payload: Payload, target: string) => unknown;
  readonly retries?: number;
  /** Where it ends, for a queue of that name; what is acked without a copy ends in the callback. */
  readonly end?: (queue: string) => string;
}

const fail = () => {
  throw new Error('no');
};
const toDeadLetters = (queue: string) => `DLQ.${queue}`;
const ways: readonly Way[] = [
  { name: 'ack', call: (payload) => payload.ack() },
  { name: 'nack', call: (payload) => payload.nack(), end: toDeadLetters },
  { name: 'throw', call: fail, end: toDeadLetters },
  { name: 'retry', call: fail, retries: 1, end: toDeadLetters },
  {
    name: 'forward',
    call: (payload, target) => {
      payload.publish(`/queue/${target}`, payload.body);
      return payload.ack();
    },
    end: (queue) => `${queue}-next`,
  },
];

type Harm = (proxy: Proxy, stop: () => void) => void;
const harms: readonly [name: string, harm: Harm][] = [
  ['cut before', (proxy) => proxy.cut()],
  // It has been passed on by then.
  ['cut behind', (proxy) => void setImmediate(() => proxy.cut())],
  ['stopped at', (_proxy, stop) => stop()],
];

/** Does harm at that frame, counted from 1; resolves with whether so many came, when every message has been found again. */
async function runWithHarm(
  broker: BrokerUnderTest,
  { call, retries = 0, end }: Way,
  harm: Harm,
  direction: Direction,
  nth: number,
): Promise<boolean> {
  const queue = `every-frame-${randomUUID().slice(0, 8)}`;
  const ledger = new Ledger(MESSAGES);
  await putAll(broker, `/queue/${queue}`, ledger.bodies(), { 'correlation-id': 'c' });
  await using proxy = await startProxy(broker);
  const stop = new AbortController();
  let frames = 0;
  proxy.onFrame((of) => {
    if (of === direction && ++frames === nth) harm(proxy, () => stop.abort());
  });
  await consume({
    ...settingsOf({ ...broker, host: proxy.host, port: proxy.port }),
    ...{ destination: `/queue/${queue}`, concurrency: 1 + (nth % 3), retries, retryDelay: '50ms' },
    ...{ untilIdleSeconds: 0.5, signal: stop.signal },
    callback: async (payload) => {
      await call(payload, `${queue}-next`);
      if (end === undefined) ledger.record(payload);
    },
  });
  await proxy.close();
  const places = [queue, ...(end === undefined ? [] : [end(queue)])];
  const find = async () => {
    for (const place of places)
      for (const { body } of await drainQueue(broker, place))
        ledger.count((JSON.parse(body.toString()) as { n: number }).n);
    return ledger.lost === 0;
  };
  // What waits to be tried again comes back.
  await until(
    find,
    DEADLINE_MS,
    () => `${ledger.lost} of ${MESSAGES} messages: ${queue}, frame ${nth} ${direction}`,
  );
  return frames >= nth;
}

for (const broker of brokersUnderTest()) {
  describe(`every frame: ${broker.name}`, { concurrency: 4 }, () => {
    for (const way of ways) {
      for (const [name, harm] of harms) {
        test(`${way.name}, ${name} it`, needs(broker, 'returnsWhatWasCut'), async () => {
          const sweep = async (direction: Direction) => {
            let nth = 1;
            while (await runWithHarm(broker, way, harm, direction, nth)) nth++;
            return nth - 1;
          };
          const [sent, received] = await Promise.all([sweep('toServer'), sweep('toClient')]);
          // CONNECT, SUBSCRIBE, an ACK each; CONNECTED, a MESSAGE each.
          assert.ok(sent >= 2 + MESSAGES && received >= 1 + MESSAGES, `${sent} and ${received} frames`);
        });
      }
    }
  });
}
