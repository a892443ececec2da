/** `retries`: what a callback throws at comes again after a delay, on the broker, and then lies in the dead-letter queue. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue, put } from '../support/messages.js';

const withId = { 'correlation-id': 'c-1' };
const attemptOf = ({ headers }: Payload) => headers['x-attempt'] ?? '1';

/** Throws at its first `failures` calls for a message, then acks. */
function failing(failures: number): (payload: Payload) => unknown {
  return (payload) => {
    if (Number(attemptOf(payload)) <= failures) throw new RangeError(`not yet\nat "${attemptOf(payload)}"`);
    return payload.ack();
  };
}

export function retryBehaviours(broker: BrokerUnderTest): void {
  it('a throw brings the message again, whole, after each delay, until it succeeds', async (t) => {
    const queue = uniqueName(t);
    const times: number[] = [];
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      (payload) => {
        times.push(performance.now());
        return failing(3)(payload);
      },
      { retries: 5, retryDelay: '150ms,300ms' },
    );
    const body = Buffer.from('{"ä": 1.50}');
    await put(broker, `/queue/${queue}`, body, { ...withId, tenant: 'a:b', 'x-mine': '\\' });
    await consuming.settled('retried');
    await consuming.received(4);
    const { acked, retried, deadLettered, released } = await consuming.stop();
    assert.deepEqual(
      { acked, retried, deadLettered, released },
      { acked: 1, retried: 3, deadLettered: 0, released: 0 },
    );
    assert.deepEqual(consuming.payloads.map(attemptOf), ['1', '2', '3', '4']);
    for (const { headers, raw } of consuming.payloads) {
      assert.deepEqual(Buffer.from(raw), body);
      assert.deepEqual([headers['correlation-id'], headers.tenant, headers['x-mine']], ['c-1', 'a:b', '\\']);
      assert.match(headers['content-type'] ?? '', /json/);
    }
    const waits = times.slice(1).map((atMs, index) => atMs - times[index]!);
    // Of a clock of the broker's own.
    for (const [index, leastMs] of [150, 300, 300].entries())
      assert.ok(waits[index]! > leastMs - 50, String(waits));
    const told = consuming.log.filter(({ fields }) => 'delayMs' in fields);
    assert.deepEqual(
      told.map(({ fields: { attempt, of, delayMs } }) => ({ attempt, of, delayMs })),
      [
        { attempt: 1, of: 6, delayMs: 150 },
        { attempt: 2, of: 6, delayMs: 300 },
        { attempt: 3, of: 6, delayMs: 300 },
      ],
    );
    assert.deepEqual(await drainQueue(broker, queue), []);
    assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
  });

  it('after the last attempt it is dead-lettered, with the number of attempts and the last error', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, failing(9), {
      retries: 2,
      retryDelay: '50ms',
    });
    await put(broker, `/queue/${queue}`, '{"n":1}', { ...withId, tenant: '7' });
    const { fields } = await consuming.logged('reason', 'deadLetterQueue');
    assert.deepEqual([fields.reason, fields.attempt, fields.of], ['callback-failed', 3, 3]);
    const { deadLettered, retried } = await consuming.stop();
    assert.deepEqual([deadLettered, retried], [1, 2]);
    const [dead, ...more] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.equal(more.length, 0);
    assert.equal(dead!.body.toString(), '{"n":1}');
    const {
      tenant,
      'x-failure-attempts': attempts,
      'x-failure-error': error,
      'x-failure-message': what,
      'original-destination': origin,
    } = dead!.headers;
    assert.deepEqual([tenant, attempts, error, what], ['7', '3', 'RangeError', 'not yet at "3"']);
    assert.equal(origin, `/queue/${queue}`);
    assert.deepEqual(await drainQueue(broker, queue), []);
  });

  it('what a throw cannot be about is dead-lettered at once', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      (payload) => (payload.body === 'nack' ? payload.nack() : undefined),
      { retries: 5, retryDelay: '50ms' },
    );
    await put(broker, `/queue/${queue}`, '"nack"', withId);
    await put(broker, `/queue/${queue}`, '"unsettled"', withId);
    await put(broker, `/queue/${queue}`, '{"malformed', withId);
    const reasons = [];
    for (let n = 0; n < 3; n++) reasons.push((await consuming.settled('dead-lettered')).reason);
    assert.deepEqual(reasons, ['nack', 'unsettled', 'malformed-body']);
    assert.equal((await consuming.stop()).retried, 0);
    assert.equal((await drainQueue(broker, `DLQ.${queue}`, { atLeast: 3 })).length, 3);
  });

  it('nack() of a message that came again dead-letters it at once', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      (payload) => {
        if (attemptOf(payload) === '1') throw new Error('no');
        return payload.nack();
      },
      { retries: 5, retryDelay: '50ms' },
    );
    await put(broker, `/queue/${queue}`, '1', withId);
    assert.equal((await consuming.settled('dead-lettered')).reason, 'nack');
    await consuming.stop();
    assert.equal((await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 })).length, 1);
  });

  it('a message that waits for its retry waits on the broker: another consumer gets it', async (t) => {
    const queue = uniqueName(t);
    // Stopped at once: it is not to be there any more when the message comes.
    const options = { retries: 1, retryDelay: '300ms', onSettled: () => void first.stop() };
    const first = await startConsuming(t, broker, `/queue/${queue}`, failing(1), options);
    await put(broker, `/queue/${queue}`, '1', withId);
    const { retried, acked } = await first.ended;
    assert.deepEqual({ retried, acked }, { retried: 1, acked: 0 });
    const second = await startConsuming(t, broker, `/queue/${queue}`, failing(1));
    const [payload] = await second.received(1);
    assert.equal(attemptOf(payload!), '2');
    assert.equal((await second.stop()).acked, 1);
  });

  it('a retry in a virtual topic is of one application alone', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const options = { retries: 1, retryDelay: '50ms' };
    const failed = await startConsuming(t, broker, `Consumer.a.${topic}`, failing(1), options);
    const other = await startConsuming(t, broker, `Consumer.b.${topic}`, failing(0), options);
    await publisherTo(t, broker).send(`/topic/${topic}`, { n: 1 });
    await Promise.all([failed.received(2), other.received(1)]);
    assert.equal((await failed.stop()).acked, 1);
    assert.equal((await other.stop()).received, 1);
    for (const app of ['a', 'b']) {
      assert.deepEqual(await drainQueue(broker, `Consumer.${app}.${topic}`), []);
      assert.deepEqual(await drainQueue(broker, `DLQ.Consumer.${app}.${topic}`), []);
    }
  });

  it('what a failed attempt published is discarded, and its headers can be sent on', async (t) => {
    const queue = uniqueName(t);
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      (payload) => {
        payload.publish(`/queue/${queue}-to`, payload.body, { headers: payload.headers });
        return failing(1)(payload);
      },
      { retries: 1, retryDelay: '50ms' },
    );
    await put(broker, `/queue/${queue}`, '1', { ...withId, tenant: '7' });
    await consuming.received(2);
    assert.equal((await consuming.stop()).acked, 1);
    const [sent, ...more] = await drainQueue(broker, `${queue}-to`, { atLeast: 1 });
    assert.equal(more.length, 0);
    assert.deepEqual([sent!.headers.tenant, sent!.headers['x-attempt']], ['7', undefined]);
  });

  it(
    'messages of a quorum queue are retried',
    { skip: !broker.capabilities.queueArguments && 'queues have no types' },
    async (t) => {
      const queue = uniqueName(t);
      const options = { retries: 1, retryDelay: '50ms', queueType: 'quorum' as const };
      const consuming = await startConsuming(t, broker, `/queue/${queue}`, failing(2), options);
      await publisherTo(t, broker, { queueType: 'quorum' }).send(`/queue/${queue}`, 1);
      await consuming.settled('dead-lettered');
      const { retried, deadLettered } = await consuming.stop();
      assert.deepEqual([retried, deadLettered], [1, 1]);
      const [dead] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
      assert.equal(dead!.headers['x-failure-attempts'], '2');
    },
  );

  it(
    'a topic of which a copy cannot come back to one subscriber is refused at the start',
    { skip: broker.capabilities.queueArguments && 'its subscription is a queue' },
    async (t) => {
      const starting = startConsuming(t, broker, `/topic/${uniqueName(t)}`, failing(1), { retries: 1 });
      await assert.rejects(starting, {
        code: 'broker-refused',
        message: /cannot be retried on (?:activemq|artemis)/,
      });
    },
  );

  it(
    'a topic with a queue of its own is retried by that',
    { skip: !broker.capabilities.queueArguments && 'its subscription is no queue' },
    async (t) => {
      const topic = uniqueName(t);
      const options = { retries: 1, retryDelay: '50ms', queueName: `${topic}-mine` };
      const consuming = await startConsuming(t, broker, `/topic/${topic}`, failing(1), options);
      const other = await startConsuming(t, broker, `/topic/${topic}`, failing(0), {
        queueName: `${topic}-other`,
      });
      await publisherTo(t, broker).send(`/topic/${topic}`, 1);
      await Promise.all([consuming.received(2), other.received(1)]);
      assert.equal((await consuming.stop()).acked, 1);
      assert.equal((await other.stop()).received, 1);
    },
  );
}
