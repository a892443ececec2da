/** Observing: what `onSettled` and `onConnection` tell, for every way in which an attempt and a connection can end. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { ConnectionEvent, Payload, PublishedEvent, SettledEvent } from '../../src/index.js';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { launchConsuming, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue, put } from '../support/messages.js';
import { startProxy } from '../support/proxy.js';

const withId = { 'correlation-id': 'c-1' };
const ack = (payload: Payload) => payload.ack();
const throwUnreadable = () => {
  const get = () => {
    throw new Error('a stack that throws');
  };
  throw Object.defineProperty(new Error('its stack is not to be read'), 'stack', { get });
};

export function observingBehaviours(broker: BrokerUnderTest): void {
  const error = new Error('no stock');
  const ends: [what: string, callback: (payload: Payload) => unknown, expected: Partial<SettledEvent>][] = [
    ['an ack', ack, { outcome: 'acked' }],
    ['a nack', (payload) => payload.nack(), { outcome: 'dead-lettered', reason: 'nack' }],
    [
      'a throw',
      () => {
        throw error;
      },
      { outcome: 'dead-lettered', reason: 'callback-failed', error },
    ],
    ['neither', () => undefined, { outcome: 'dead-lettered', reason: 'unsettled' }],
  ];
  for (const [what, callback, expected] of ends) {
    it(`${what} is told with what came of it`, async (t) => {
      const queue = uniqueName(t);
      const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback);
      await put(broker, `/queue/${queue}`, { n: 1 }, { ...withId, tenant: '7' });
      const { durationMs, headers, atMs, ...told } = await consuming.settled();
      assert.deepEqual(told, { ...expected, attempt: 1 });
      assert.ok(durationMs >= 0 && durationMs < atMs, String(durationMs));
      assert.deepEqual([headers['correlation-id'], headers.tenant], ['c-1', '7']);
    });
  }

  it('a message that is never handed to the callback is told, too', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, ack);
    await put(broker, `/queue/${queue}`, 'no json', withId);
    const { outcome, reason } = await consuming.settled();
    assert.deepEqual([outcome, reason], ['dead-lettered', 'malformed-body']);
    assert.equal(consuming.payloads.length, 0);
  });

  it('each attempt is told by its number, and with a duration of its own', async (t) => {
    const queue = uniqueName(t);
    const options = { retries: 1, retryDelay: '300ms' };
    const fail = () => Promise.reject(error);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, fail, options);
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    const first = await consuming.settled();
    const second = await consuming.settled();
    const facts = ({ outcome, reason, attempt, error: thrown }: SettledEvent) => [
      ...[outcome, reason, attempt],
      thrown === error,
    ];
    assert.deepEqual(facts(first), ['retried', 'callback-failed', 1, true]);
    assert.deepEqual(facts(second), ['dead-lettered', 'callback-failed', 2, true]);
    assert.ok(second.durationMs < second.atMs - first.atMs, 'the wait before an attempt is none of it');
  });

  it('what an observer is told of can be looked at, whatever was thrown', async (t) => {
    const queue = uniqueName(t);
    const options = { retries: 1, retryDelay: '100ms' };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, throwUnreadable, options);
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    for (const outcome of ['retried', 'dead-lettered']) {
      const settled = await consuming.settled();
      assert.equal(settled.outcome, outcome);
      const { message, stack } = settled.error as Error;
      assert.match(message, /its stack is not to be read/);
      assert.equal(typeof stack, 'string');
    }
  });

  it(
    'a message whose connection is lost is told as released, and again when it is acked',
    needs(broker, 'returnsWhatWasCut'),
    async (t) => {
      const queue = uniqueName(t);
      await using proxy = await startProxy(broker);
      let calls = 0;
      const callback = async (payload: Payload) => {
        if (++calls === 1) {
          proxy.cut();
          await consuming.turned('lost');
        }
        await payload.ack();
      };
      const through = { ...broker, host: proxy.host, port: proxy.port };
      const consuming = await startConsuming(t, through, `/queue/${queue}`, callback);
      await put(broker, `/queue/${queue}`, { n: 1 }, withId);
      const { outcome, reason } = await consuming.settled();
      assert.deepEqual([outcome, reason], ['released', 'connection-lost']);
      assert.equal((await consuming.settled()).outcome, 'acked');
    },
  );

  it('a message whose callback outlasts a stop is told as released, once', async (t) => {
    const queue = uniqueName(t);
    let finish: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (finish = resolve));
    const callback = () => held;
    const options = { gracefulWaitSeconds: 0 };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, options);
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    await consuming.received(1);
    await assert.rejects(consuming.stop(), { code: 'deadline-passed' });
    finish();
    const { outcome, reason } = await consuming.settled();
    assert.deepEqual([outcome, reason], ['released', 'stopped']);
    if (broker.capabilities.returnsWhatWasCut)
      assert.equal((await drainQueue(broker, queue, { atLeast: 1 })).length, 1);
    assert.equal(consuming.events.filter((event) => 'outcome' in event).length, 1);
  });

  it('every turn of the connection is told, with the server and why it was lost', async (t) => {
    const queue = uniqueName(t);
    await using proxy = await startProxy(broker);
    const through = { ...broker, host: proxy.host, port: proxy.port };
    const consuming = await startConsuming(t, through, `/queue/${queue}`, ack);
    proxy.cut();
    await consuming.turned('subscribed');
    await consuming.stop();
    const turns = consuming.events.filter(
      (event): event is ConnectionEvent & { atMs: number } => 'kind' in event,
    );
    assert.deepEqual(
      turns.map(({ kind }) => kind),
      [
        ...['connecting', 'connected', 'subscribed', 'lost', 'waiting'],
        ...['connecting', 'connected', 'subscribed', 'draining'],
      ],
    );
    for (const { kind, server } of turns)
      if (kind !== 'waiting') assert.equal(server, `${proxy.host}:${proxy.port}`);
    assert.match(turns[1]!.broker ?? '', /./);
    assert.match(turns[3]!.reason ?? '', /./);
    assert.equal(turns[4]!.reason, turns[3]!.reason);
    assert.ok(turns[4]!.retryInMs! > 0);
  });

  it('an attempt to connect that fails is told with the reason', async (t) => {
    await using proxy = await startProxy(broker);
    await proxy.refuse();
    const through = { ...broker, host: proxy.host, port: proxy.port };
    const consuming = launchConsuming(t, through, `/queue/${uniqueName(t)}`, ack);
    const { server, reason, code } = await consuming.turned('failed');
    assert.deepEqual([server, code], [`${proxy.host}:${proxy.port}`, 'broker-unreachable']);
    assert.match(reason ?? '', /ECONNREFUSED/);
    await consuming.turned('waiting');
    await proxy.accept();
    await consuming.turned('subscribed');
  });

  it('messages that come, those that come again, and what is published are told', async (t) => {
    const queue = uniqueName(t);
    const received: boolean[] = [];
    const published: PublishedEvent[] = [];
    const callback = async (payload: Payload) => {
      payload.publish(`/queue/${queue}-next`, {});
      await payload.ack();
    };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, {
      onReceived: ({ isRedelivered }) => received.push(isRedelivered),
      onPublished: (event) => published.push(event),
    });
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    await consuming.settled();
    assert.deepEqual(received, [false]);
    assert.deepEqual(published, [{ destination: `/queue/${queue}-next`, result: 'confirmed' }]);
  });

  it('an observer that fails is told of in the log, and harms nothing', async (t) => {
    const queue = uniqueName(t);
    const options = {
      onSettled: () => Promise.reject(error),
      onConnection: () => {
        throw error;
      },
    };
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, ack, options);
    await put(broker, `/queue/${queue}`, { n: 1 }, withId);
    await consuming.settled();
    assert.equal((await consuming.stop()).acked, 1);
    const told = consuming.log.filter(({ level, fields }) => level === 'error' && fields.err === error);
    // connecting, connected, subscribed, the message, draining
    assert.equal(told.length, 5);
  });
}
