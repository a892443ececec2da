/** Topics and virtual topics. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { BrokerUnderTest } from '../support/brokers.js';
import { DEADLINE_MS, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue } from '../support/messages.js';
import { connectRaw } from '../support/raw-client.js';
import { until } from '../support/until.js';

const ack = (payload: Payload) => payload.ack();

export function topicBehaviours(broker: BrokerUnderTest): void {
  it('whoever consumes a topic is warned that all its services share a queue, where they do', async (t) => {
    const topic = uniqueName(t);
    const warnings = async (destination: string, queueName?: string) => {
      const options = queueName === undefined ? {} : { queueName };
      const consuming = await startConsuming(t, broker, destination, ack, options);
      await consuming.stop();
      const told = consuming.log.filter(({ level, fields }) => level === 'warn' && 'queue' in fields);
      return told.map(({ message }) => message);
    };
    const shared = await warnings(`/topic/${topic}`);
    const virtual = await warnings(`/topic/VirtualTopic.${topic}`);
    if (broker.capabilities.queueArguments) {
      assert.match(shared.join(), /share one queue; --queue-name/);
      assert.match(virtual.join(), /share one queue; consume Consumer\.<app>\.VirtualTopic\./);
    } else {
      assert.deepEqual([...shared, ...virtual], []);
    }
    assert.deepEqual(await warnings(`Consumer.app.VirtualTopic.${topic}`), []);
    if (broker.capabilities.queueArguments)
      assert.deepEqual(await warnings(`/topic/${topic}`, `own.${topic}`), []);
  });

  it('every application has its own copy of what is sent to a virtual topic', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const a = await startConsuming(t, broker, `Consumer.app-A.${topic}`, ack);
    const b = await startConsuming(t, broker, `/queue/Consumer.app-B.${topic}`, ack);
    await publisherTo(t, broker).send(`/topic/${topic}`, { key: 'value' });
    for (const consuming of [a, b]) {
      const [payload] = await consuming.received(1);
      assert.deepEqual(payload!.body, { key: 'value' });
      assert.equal((await consuming.stop()).acked, 1);
    }
  });

  it('replicas of one application share its copy', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const first = await startConsuming(t, broker, `Consumer.app.${topic}`, ack);
    const second = await startConsuming(t, broker, `Consumer.app.${topic}`, ack);
    const publisher = publisherTo(t, broker);
    await Promise.all(Array.from({ length: 20 }, (_, n) => publisher.send(`/topic/${topic}`, { n })));
    const received = () => first.payloads.length + second.payloads.length;
    await until(
      () => received() === 20,
      DEADLINE_MS,
      () => `20 payloads; came: ${received()}`,
    );
    assert.equal((await first.stop()).acked + (await second.stop()).acked, 20);
  });

  it('what is sent before the queue of a virtual topic exists is not received', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const publisher = publisherTo(t, broker);
    await publisher.send(`/topic/${topic}`, 'before');
    const consuming = await startConsuming(t, broker, `Consumer.app.${topic}`, ack);
    await publisher.send(`/topic/${topic}`, 'after');
    const [payload] = await consuming.received(1);
    assert.equal(payload!.body, 'after');
    assert.equal((await consuming.stop()).received, 1);
  });

  it('what is sent while an application is away waits for it', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    await (await startConsuming(t, broker, `Consumer.app.${topic}`, ack)).stop();
    await publisherTo(t, broker).send(`/topic/${topic}`, 'meanwhile');
    const consuming = await startConsuming(t, broker, `Consumer.app.${topic}`, ack);
    const [payload] = await consuming.received(1);
    assert.equal(payload!.body, 'meanwhile');
  });

  it("a message refused by one application goes to that application's dead-letter queue alone", async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const refusing = await startConsuming(t, broker, `Consumer.app-A.${topic}`, (payload) => payload.nack());
    const other = await startConsuming(t, broker, `Consumer.app-B.${topic}`, ack);
    await publisherTo(t, broker).send(`/topic/${topic}`, 1);
    await refusing.received(1);
    await other.received(1);
    await refusing.stop();
    await other.stop();
    assert.equal((await drainQueue(broker, `DLQ.Consumer.app-A.${topic}`, { atLeast: 1 })).length, 1);
    assert.equal((await drainQueue(broker, `DLQ.Consumer.app-B.${topic}`)).length, 0);
  });

  it('a topic is consumed, and what is refused there is dead-lettered', async (t) => {
    const topic = uniqueName(t);
    const consuming = await startConsuming(t, broker, `/topic/${topic}`, (payload) =>
      payload.body === 'bad' ? payload.nack() : payload.ack(),
    );
    const publisher = publisherTo(t, broker);
    await publisher.send(`/topic/${topic}`, 'bad');
    await publisher.send(`/topic/${topic}`, 'good');
    await consuming.received(2);
    const summary = await consuming.stop();
    assert.deepEqual([summary.acked, summary.deadLettered], [1, 1]);
    const [dead, ...more] = await drainQueue(broker, `DLQ.${topic}`, { atLeast: 1 });
    assert.deepEqual([dead!.body.toString(), more.length], ['"bad"', 0]);
  });

  it('a durable topic subscription receives what was sent while it was away', async (t) => {
    const topic = uniqueName(t);
    const options = { durableTopicSubscription: true, clientId: topic, queueName: `${topic}-service` };
    await (await startConsuming(t, broker, `/topic/${topic}`, ack, options)).stop();
    await publisherTo(t, broker).send(`/topic/${topic}`, 'meanwhile');
    const consuming = await startConsuming(t, broker, `/topic/${topic}`, ack, options);
    const [payload] = await consuming.received(1);
    assert.equal(payload!.body, 'meanwhile');
  });

  it('one word of a topic is matched by *', async (t) => {
    const topic = uniqueName(t);
    const options = { queueName: `${topic}-all` };
    const consuming = await startConsuming(t, broker, `/topic/${topic}.*`, ack, options);
    const publisher = publisherTo(t, broker);
    await publisher.send(`/topic/${topic}.a.deeper`, 'not');
    await publisher.send(`/topic/${topic}.b`, 'this');
    const [payload] = await consuming.received(1);
    assert.equal(payload!.body, 'this');
    assert.equal((await consuming.stop()).received, 1);
  });

  it('a topic without subscribers takes a message and confirms it', async (t) => {
    await publisherTo(t, broker).send(`/topic/${uniqueName(t)}`, 1);
  });

  it('a raw subscriber of a topic sees the topic as destination', async (t) => {
    const topic = uniqueName(t);
    const raw = await connectRaw(broker);
    t.after(() => raw.destroy());
    await raw.subscribe(`/topic/${topic}`);
    await publisherTo(t, broker).send(`/topic/${topic}`, 1);
    const message = await raw.next('MESSAGE');
    assert.equal(message.headers.destination, `/topic/${topic}`);
    assert.equal(message.headers['tshoot-destination'], `/topic/${topic}`);
  });
}
