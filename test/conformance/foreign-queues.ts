/** Queues that others declared: consumed and published to as they are, by who declares nothing. */
import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { launchConsuming, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { bodiesIn, drainQueue, put } from '../support/messages.js';
import { declareForeign, declaring } from '../support/foreign.js';
import type { RawHeaders } from '../support/raw-client.js';

const asItIs = { declare: false } as const;
const throws = () => {
  throw new Error('no');
};

export function foreignQueueBehaviours(broker: BrokerUnderTest): void {
  /** A queue of others with this argument, and a dead-letter queue of theirs. */
  const foreign = async (t: TestContext, headers: RawHeaders = { 'x-message-ttl': '600000' }) => {
    const queue = uniqueName(t);
    await declareForeign(broker, queue, headers);
    await declareForeign(broker, `DLQ.${queue}`);
    return queue;
  };
  const hasArguments = needs(broker, 'queueArguments');

  it('is consumed and dead-lettered from as it is, with --no-declare or as /amq/queue/', async (t) => {
    const queue = await foreign(t);
    for (const [destination, options] of [
      [`/queue/${queue}`, asItIs],
      [`/amq/queue/${queue}`, {}],
    ] as const) {
      const consuming = await startConsuming(t, broker, destination, throws, options);
      await publisherTo(t, broker, asItIs).send(queue, 1);
      await consuming.settled('dead-lettered');
      await consuming.stop();
      const [dead] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
      assert.equal(dead?.headers['x-failure-reason'], 'callback-failed');
      assert.equal(dead.headers['original-destination'], `/queue/${queue}`);
      assert.equal(dead.body.toString(), '1');
    }
  });

  it('dead letters go to the queue that is named', async (t) => {
    const [queue, graveyard] = [uniqueName(t), `${uniqueName(t)}-graveyard`];
    await declareForeign(broker, queue, { 'x-max-length': '100' });
    await declareForeign(broker, graveyard);
    const options = { ...asItIs, deadLetterQueue: graveyard };
    const consuming = await startConsuming(t, broker, queue, throws, options);
    await publisherTo(t, broker, asItIs).send(`/queue/${queue}`, 1);
    await consuming.settled('dead-lettered');
    await consuming.stop();
    assert.deepEqual(await bodiesIn(broker, graveyard, 1), ['1']);
  });

  it('without its dead-letter queue, or itself missing, is refused at the start', hasArguments, async (t) => {
    const queue = uniqueName(t);
    const start = () => launchConsuming(t, broker, queue, throws, asItIs).ended;
    const missing = { code: 'broker-refused', message: new RegExp(`the queue DLQ\\.${queue} must be there`) };
    await assert.rejects(start(), missing);
    await declareForeign(broker, `DLQ.${queue}`);
    await assert.rejects(start(), { code: 'broker-refused', message: /no queue .*create what is missing/ });
  });

  it('holds messages while its dead-letter queue is gone', hasArguments, async (t) => {
    const queue = uniqueName(t);
    const dead = `DLQ.${queue}`;
    await declareForeign(broker, queue);
    const owner = await declaring(broker, dead, { 'auto-delete': 'true' });
    t.after(() => owner.destroy());
    const consuming = await startConsuming(t, broker, queue, throws, asItIs);
    await owner.disconnect();
    await put(broker, `/amq/queue/${queue}`, 1);
    const { fields } = await consuming.logged('target', 'held');
    assert.match(String(fields.reason), new RegExp(`the queue ${dead} must be there and readable`));
    await declareForeign(broker, dead);
    await consuming.settled('dead-lettered');
    await consuming.stop();
    assert.deepEqual(await bodiesIn(broker, dead, 1), ['1']);
  });

  it(
    'with a dead-letter exchange of its own needs no queue for dead letters but by nack',
    hasArguments,
    async (t) => {
      const [queue, graveyard] = [uniqueName(t), `${uniqueName(t)}-graveyard`];
      await declareForeign(broker, graveyard);
      await declareForeign(broker, queue, {
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': graveyard,
      });
      const options = { ...asItIs, deadLetterBy: 'nack' } as const;
      const consuming = await startConsuming(t, broker, queue, throws, options);
      await put(broker, `/amq/queue/${queue}`, 1);
      await consuming.settled('dead-lettered');
      await consuming.stop();
      assert.deepEqual(await bodiesIn(broker, graveyard, 1), ['1']);
    },
  );

  it('is never sent a NACK that could destroy a message', hasArguments, async (t) => {
    const queue = await foreign(t);
    await put(broker, `/amq/queue/${queue}`, 'x'.repeat(200));
    const consuming = launchConsuming(t, broker, queue, throws, { ...asItIs, maxMessageBytes: 100 });
    await assert.rejects(consuming.ended, {
      code: 'message-too-large',
      message: /a NACK may destroy it: raise STOMP_MAX_MESSAGE_BYTES, or, .*--dead-letter-by nack/,
    });
    assert.equal((await drainQueue(broker, queue, { atLeast: 1 })).length, 1);
  });

  it('is retried from by a queue that is declared for that alone', async (t) => {
    const queue = await foreign(t);
    const options = { ...asItIs, retries: 1, retryDelay: '50ms' };
    const consuming = await startConsuming(t, broker, queue, throws, options);
    await publisherTo(t, broker, asItIs).send(`/queue/${queue}`, 1);
    await consuming.settled('dead-lettered');
    assert.equal((await consuming.stop()).received, 2);
    const [dead] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.equal(dead?.headers['x-failure-attempts'], '2');
  });

  it('is published to as it is, one by one and in a transaction', async (t) => {
    const queue = await foreign(t);
    const publisher = publisherTo(t, broker, asItIs);
    await publisher.send(`/queue/${queue}`, 1);
    await publisherTo(t, broker).send(`/amq/queue/${queue}`, 2);
    await publisher.transaction(async (transaction) => {
      await Promise.all([3, 4].map((n) => transaction.send(queue, n)));
    });
    const bodies = await bodiesIn(broker, queue, 4);
    assert.deepEqual(bodies, ['1', '2', '3', '4']);
  });

  it('when it is missing, nothing is published to it', hasArguments, async (t) => {
    const queue = uniqueName(t);
    const refused = {
      code: 'broker-refused',
      message: /must be there and readable, or .* confirmed and lost/,
    };
    const publisher = publisherTo(t, broker, asItIs);
    await assert.rejects(publisher.send(`/queue/${queue}`, 1), refused);
    await assert.rejects(publisherTo(t, broker).send(`/amq/queue/${queue}`, 1), refused);
    const other = await foreign(t);
    const sending = publisher.transaction(async (transaction) => {
      await transaction.send(other, 1);
      await transaction.send(queue, 2);
    });
    await assert.rejects(sending, refused);
    await declareForeign(broker, queue);
    await publisher.send(`/queue/${queue}`, 3);
    assert.deepEqual(await bodiesIn(broker, queue), ['3']);
    assert.deepEqual(await bodiesIn(broker, other), []);
  });

  it('is forwarded to as it is, and a message for one that is missing is dead-lettered', async (t) => {
    const [queue, target] = [await foreign(t), `${uniqueName(t)}-target`];
    await declareForeign(broker, target, { 'x-max-length': '10' });
    const consuming = await startConsuming(
      t,
      broker,
      queue,
      (payload) => {
        payload.publish(payload.body as string, 'forwarded');
        return payload.ack();
      },
      asItIs,
    );
    const publisher = publisherTo(t, broker, asItIs);
    await publisher.send(queue, `/queue/${target}`);
    await consuming.settled('acked');
    assert.deepEqual(await bodiesIn(broker, target, 1), ['"forwarded"']);
    if (hasArguments.skip === false) {
      await publisher.send(queue, `/queue/${target}-missing`);
      await consuming.settled('dead-lettered');
      const [dead] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
      assert.equal(dead?.headers['x-failure-reason'], 'forward-refused');
    }
    await consuming.stop();
  });

  it('is declared alike by consumer and publisher that are told its arguments', async (t) => {
    const queue = uniqueName(t);
    const options = { queueArguments: { 'x-message-ttl': '600000', 'x-max-length': '100' } };
    const consuming = await startConsuming(
      t,
      broker,
      queue,
      (payload) => {
        if (payload.body === 1) payload.publish(`/queue/${queue}`, 2);
        return payload.ack();
      },
      options,
    );
    await publisherTo(t, broker, options).send(`/queue/${queue}`, 1);
    await consuming.received(2);
    assert.equal((await consuming.stop()).acked, 2);
    if (hasArguments.skip !== false) return;
    const other = {
      code: 'broker-refused',
      message: /--queue-argument x-message-ttl=600000, or .*--no-declare\)$/,
    };
    await assert.rejects(launchConsuming(t, broker, queue, throws).ended, other);
    await assert.rejects(publisherTo(t, broker).send(`/queue/${queue}`, 1), other);
  });

  it('a queue with priorities is declared and hands out by them', hasArguments, async (t) => {
    const queue = uniqueName(t);
    const options = { queueArguments: { 'x-max-priority': '5' } };
    const publisher = publisherTo(t, broker, options);
    for (const priority of ['1', '5', '3']) {
      await publisher.send(`/queue/${queue}`, Number(priority), { headers: { priority } });
    }
    const consuming = await startConsuming(t, broker, queue, (payload) => payload.ack(), options);
    const payloads = await consuming.received(3);
    assert.deepEqual(
      payloads.map(({ body }) => body),
      [5, 3, 1],
    );
    await consuming.stop();
  });

  it('headers of a subscription that this broker has not are refused', async (t) => {
    const hasSelectors = ['activemq', 'artemis'].includes(broker.name);
    const subscribeHeaders: Record<string, string> = hasSelectors
      ? { 'x-stream-offset': 'first' }
      : { selector: 'a = 1' };
    const consuming = launchConsuming(t, broker, uniqueName(t), throws, { subscribeHeaders });
    const message = hasSelectors ? /has no x-stream-offset; it has selector/ : /has no selector; it has /;
    await assert.rejects(consuming.ended, { code: 'invalid-setting', message });
  });
}
