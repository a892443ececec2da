/** Every step of the tutorial as a user types it, and the queues that RabbitMQ then has. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { drainQueue } from '../support/messages.js';
import { fixture, printed, published, realBrokers, startPubsub, stopPubsub, unique } from './commands.js';

const json = '{"key":"value"}';

interface Queue {
  readonly name: string;
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly exclusive: boolean;
  readonly arguments: readonly (readonly [name: string, type: string, value: string])[];
}
interface Binding {
  readonly source_name: string;
  readonly destination_name: string;
  readonly routing_key: string;
}

for (const broker of realBrokers()) {
  describe(`the tutorial on ${broker.name}`, () => {
    const xpto = unique('xpto');
    const calopsita = unique('calopsita');
    const topic = `VirtualTopic.${unique('xpto')}`;
    const refused = unique('nack-queue');
    const failed = unique('exception-queue');

    it('a message is published to a queue and consumed with ack', async () => {
      await published(broker, [`/queue/${xpto}`, json]);
      const consumer = await startPubsub(broker, `/queue/${xpto}`, './callbacks#ack');
      await consumer.waitFor(/received \{ key: 'value' \}/);
      const summary = await stopPubsub(consumer);
      assert.deepEqual([summary.received, summary.acked], [1, 1]);
      assert.deepEqual(await drainQueue(broker, `/queue/${xpto}`), []);
      assert.deepEqual(await drainQueue(broker, `/queue/DLQ.${xpto}`), []);
    });

    it('five messages are published in a transaction', async () => {
      const input = `${json}\n`.repeat(5);
      await published(broker, [`/queue/${calopsita}`, '--lines', '--transaction'], { input });
      const messages = await drainQueue(broker, `/queue/${calopsita}`);
      assert.deepEqual(
        messages.map(({ body }) => body.toString()),
        Array<string>(5).fill(json),
      );
      assert.equal(new Set(messages.map(({ headers }) => headers['correlation-id'])).size, 5);
    });

    it('two virtual-topic consumers each get a message, and none sent before their queues were there', async () => {
      await published(broker, [`/topic/${topic}`, '{"key":"too early"}']);
      const consumers = await Promise.all(
        ['app-A', 'app-B'].map((app) => startPubsub(broker, `Consumer.${app}.${topic}`, './callbacks#ack')),
      );
      await published(broker, [`/topic/${topic}`, json]);
      await Promise.all(consumers.map((consumer) => consumer.waitFor(/"msg":"received/)));
      for (const consumer of consumers) {
        const { received, acked } = await stopPubsub(consumer);
        assert.deepEqual([received, acked], [1, 1]);
        assert.deepEqual(printed(consumer), ["received { key: 'value' }"]);
      }
    });

    it('a message sent while the virtual-topic consumer is away waits for it', async () => {
      await published(broker, [`/topic/${topic}`, '{"key":"meanwhile"}']);
      const consumer = await startPubsub(broker, `Consumer.app-A.${topic}`, './callbacks#ack');
      await consumer.waitFor(/received \{ key: 'meanwhile' \}/);
      await stopPubsub(consumer);
    });

    for (const [queue, callback, how] of [
      [refused, './callbacks#nack', 'nack'],
      [failed, fixture('tutorial.mjs#fail'), 'a throw'],
    ] as const) {
      it(`${how} puts the message into DLQ.<name>, with the headers of its sender`, async () => {
        const consumer = await startPubsub(broker, `/queue/${queue}`, callback);
        await published(broker, [`/queue/${queue}`, json, '--header', 'header-key=header-value']);
        await consumer.says('dead-lettered');
        const { received, deadLettered } = await stopPubsub(consumer);
        assert.deepEqual([received, deadLettered], [1, 1]);
        const [message, ...others] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
        assert.deepEqual(others, []);
        assert.equal(message?.body.toString(), json);
        assert.equal(message.headers['header-key'], 'header-value');
        assert.equal(message.headers['tshoot-destination'], `/queue/${queue}`);
        assert.equal(message.headers['content-type'], 'application/json;charset=utf-8');
      });
    }

    const { ctl } = broker;
    it(
      'all of that left the queues, arguments and bindings of django-stomp and no others',
      ctl ? {} : { skip: 'queues cannot be listed' },
      async () => {
        const list = async <T>(...args: string[]) =>
          JSON.parse((await ctl?.('--formatter', 'json', ...args)) ?? '') as T[];
        const queues = await list<Queue>(
          'list_queues',
          'name',
          'durable',
          'auto_delete',
          'exclusive',
          'arguments',
        );
        const bindings = await list<Binding>('list_bindings');
        const marks = [xpto, calopsita, topic, refused, failed];
        const isOurs = (name: string) => marks.some((mark) => name.includes(mark));

        const consumed = [xpto, refused, failed, `Consumer.app-A.${topic}`, `Consumer.app-B.${topic}`];
        // Nobody consumes calopsita: the publisher declared the queue, and its dead-letter queue has not been needed.
        const expected = [calopsita, ...consumed.flatMap((name) => [name, `DLQ.${name}`])].sort();
        const found = queues.filter(({ name }) => isOurs(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
        assert.deepEqual(
          // RabbitMQ 4 adds the type that a queue is of without saying so.
          found.map((queue) => ({
            ...queue,
            arguments: queue.arguments.filter(([, , value]) => value !== 'classic'),
          })),
          expected.map((name) => ({
            name,
            durable: true,
            auto_delete: false,
            exclusive: false,
            arguments: [
              ['x-dead-letter-exchange', 'longstr', ''],
              ['x-dead-letter-routing-key', 'longstr', `DLQ.${name}`],
            ],
          })),
        );

        const bound = bindings
          .filter(({ destination_name: name }) => isOurs(name))
          .map((each) => [each.source_name, each.routing_key, each.destination_name].join(' > '));
        assert.deepEqual(
          bound.sort(),
          [
            ...expected.map((name) => ` > ${name} > ${name}`),
            ...['A', 'B'].map((app) => `amq.topic > ${topic} > Consumer.app-${app}.${topic}`),
          ].sort(),
        );
      },
    );
  });
}
