/**
 * One queue served by django-stomp and by us. django-stomp is played by a raw STOMP 1.1 client that sends its frames,
 * header for header, as seen on the wire from version 6.1.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { openPublisher } from '../../src/index.js';
import type { BrokerUnderTest } from '../support/brokers.js';
import { drainQueue } from '../support/messages.js';
import { openRaw, type RawClient, type RawHeaders } from '../support/raw-client.js';
import { until } from '../support/until.js';
import {
  DEADLINE_MS,
  fixture,
  printed,
  published,
  realBrokers,
  startPubsub,
  stopPubsub,
  unique,
} from './commands.js';
import { operate } from './operator.js';
import { startScriptedServer } from './scripted-server.js';

const lastPart = (destination: string) => destination.replace(/^.*\//, '');

/** SUBSCRIBE's headers, which django-stomp repeats on its connect frame. */
function queueHeaders(name: string): RawHeaders {
  return {
    'x-queue-name': name,
    durable: 'true',
    'auto-delete': 'false',
    exclusive: 'False',
    'prefetch-count': '1',
    'activemq.prefetchSize': '1',
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': `DLQ.${name}`,
  };
}

async function djangoConnect(broker: BrokerUnderTest, id: string, extra: RawHeaders): Promise<RawClient> {
  const client = await openRaw(broker);
  after(() => client.destroy());
  client.send('STOMP', {
    'accept-version': '1.1',
    'heart-beat': '10000,10000',
    login: broker.user,
    passcode: broker.password,
    'client-id': id,
    ...extra,
  });
  await client.next('CONNECTED');
  // As it has promised: a broker ends a connection on which it hears nothing for longer.
  const beating = setInterval(() => client.write('\n'), 5000);
  void client.closed.then(() => clearInterval(beating));
  return client;
}

/** Connects and subscribes; `name` is the queue when it is not the last part of the destination. */
async function djangoListen(broker: BrokerUnderTest, destination: string, name = lastPart(destination)) {
  const id = `${randomUUID()}-listener`;
  const client = await djangoConnect(broker, id, queueHeaders(name));
  client.send('SUBSCRIBE', { destination, id, ack: 'client', ...queueHeaders(name) });
  // Not django-stomp's: shows that the broker has taken the SUBSCRIBE, which asks for no receipt.
  await client.receipt('BEGIN', { transaction: id });
  return client;
}

async function djangoDisconnect(client: RawClient): Promise<void> {
  await client.receipt('DISCONNECT');
  client.destroy();
}

/** All connections of `manage.py pubsub <destination>`, in its order; resolves with the one that consumes. */
async function djangoPubsub(broker: BrokerUnderTest, destination: string): Promise<RawClient> {
  const name = lastPart(destination);
  await djangoDisconnect(await djangoListen(broker, `DLQ.${name}`));
  const topic = /^Consumer\.[^.]+\.(VirtualTopic\..+)$/.exec(name)?.[1];
  if (topic !== undefined) await djangoDisconnect(await djangoListen(broker, `/topic/${topic}`, name));
  return djangoListen(broker, destination);
}

function djangoSend(destination: string, body: string, headers: RawHeaders = {}): [RawHeaders, string] {
  return [
    {
      ...headers,
      'tshoot-destination': destination,
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': `DLQ.${lastPart(destination)}`,
      'correlation-id': randomUUID(),
      persistent: 'true',
      destination,
      'content-type': 'application/json;charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
    },
    body,
  ];
}

/** `publisher.send` inside of auto_open_close_connection: no receipt but that of DISCONNECT. */
async function djangoPublish(broker: BrokerUnderTest, destination: string, ...bodies: string[]) {
  const client = await djangoConnect(broker, `${randomUUID()}-publisher`, {});
  for (const body of bodies) client.send('SEND', ...djangoSend(destination, body));
  await djangoDisconnect(client);
  assert.deepEqual(client.takeArrived('ERROR'), []);
}

async function djangoReceive(client: RawClient) {
  const message = await client.next('MESSAGE', { reason: 'a message for django-stomp' });
  const { 'message-id': id, subscription } = message.headers;
  return {
    body: message.body.toString(),
    ack: () => client.send('ACK', { 'message-id': id, subscription }),
    nack: () => client.send('NACK', { 'message-id': id, subscription, requeue: 'False' }),
  };
}

function assertUndisturbed(client: RawClient): void {
  assert.equal(client.isClosed, false);
  assert.deepEqual(client.takeArrived('ERROR'), []);
}

for (const broker of realBrokers()) {
  describe(`beside django-stomp on ${broker.name}`, () => {
    for (const kind of ['queue', 'virtual topic'] as const) {
      const make = () => {
        const name = unique('interop');
        return kind === 'queue'
          ? { source: `/queue/${name}`, target: `/queue/${name}`, queue: name }
          : {
              source: `Consumer.app.VirtualTopic.${name}`,
              target: `/topic/VirtualTopic.${name}`,
              queue: `Consumer.app.VirtualTopic.${name}`,
            };
      };

      it(`${kind}: django-stomp was there first, and we consume what it publishes and dead-letter into its queue`, async () => {
        const { source, target, queue } = make();
        const django = await djangoPubsub(broker, source);
        await djangoPublish(broker, target, '{"n":1}');
        const first = await djangoReceive(django);
        assert.equal(first.body, '{"n":1}');
        first.ack();
        await djangoDisconnect(django);
        assertNoErrors(django);

        const ours = await startPubsub(broker, source, fixture('interop.mjs#consume'));
        await djangoPublish(broker, target, '{"n":2}', '{"n":3,"refuse":true}');
        await ours.waitFor(/refused 3/);
        const { received, acked, deadLettered } = await stopPubsub(ours);
        assert.deepEqual([received, acked, deadLettered], [2, 1, 1]);
        const dead = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
        assert.deepEqual(
          dead.map(({ body }) => body.toString()),
          ['{"n":3,"refuse":true}'],
        );
      });

      it(`${kind}: we were there first, and django-stomp consumes what we publish and dead-letters into our queue`, async () => {
        const { source, target, queue } = make();
        await stopPubsub(await startPubsub(broker, source, fixture('interop.mjs#consume')));
        await published(broker, [target, '--lines'], { input: '{"n":1}\n{"n":2}\n' });
        const django = await djangoPubsub(broker, source);
        const first = await djangoReceive(django);
        assert.equal(first.body, '{"n":1}');
        first.ack();
        const second = await djangoReceive(django);
        assert.equal(second.body, '{"n":2}');
        second.nack();
        assertUndisturbed(django);
        await djangoDisconnect(django);
        const dead = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
        assert.deepEqual(
          dead.map(({ body }) => body.toString()),
          ['{"n":2}'],
        );
      });

      it(`${kind}: django-stomp gets messages that wait for our retry, and settles them as any other`, async () => {
        const { source, target, queue } = make();
        // It leaves to others what comes again before it has ended.
        const flags = ['--retries', '3', '--retry-delay', '300ms', '--limit', '2'];
        const ours = await startPubsub(broker, source, fixture('retry.mjs#secondTime'), { flags });
        await djangoPublish(broker, target, '{"n":1}', '{"n":2}');
        assert.deepEqual(await ours.exit(), { code: 0, signal: null }, ours.stderr);
        assert.equal(ours.said('to be tried again').length, 2);
        const django = await djangoPubsub(broker, source);
        const first = await djangoReceive(django);
        first.ack();
        const second = await djangoReceive(django);
        second.nack();
        assertUndisturbed(django);
        await djangoDisconnect(django);
        assert.deepEqual([first.body, second.body], ['{"n":1}', '{"n":2}']);
        const [dead, ...more] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
        assert.deepEqual([dead!.body.toString(), more.length], ['{"n":2}', 0]);
        assert.deepEqual(await drainQueue(broker, queue), []);
      });

      for (const tool of ['redrive', 'move-messages']) {
        it(`${kind}: django-stomp's dead letters and ours lie in one queue, and ${tool} takes both`, async () => {
          const { source, target, queue } = make();
          const ours = await startPubsub(broker, source, fixture('interop.mjs#consume'));
          await djangoPublish(broker, target, '{"n":1,"refuse":true}');
          await ours.waitFor(/refused 1/);
          await stopPubsub(ours);
          const django = await djangoPubsub(broker, source);
          await djangoPublish(broker, target, '{"n":2}');
          (await djangoReceive(django)).nack();
          await djangoDisconnect(django);
          assertNoErrors(django);

          const to = tool === 'redrive' ? queue : `${queue}-to`;
          const args = tool === 'redrive' ? [queue] : [`DLQ.${queue}`, `/queue/${to}`];
          const { redriven, moved } = await operate(broker, [tool, ...args, '--count', '2', '--idle', '10']);
          assert.equal(redriven ?? moved, 2);
          const back = await drainQueue(broker, to, { atLeast: 2 });
          const bodies = back.map(({ body }) => body.toString()).sort();
          assert.deepEqual(bodies, ['{"n":1,"refuse":true}', '{"n":2}']);
          for (const { headers } of back) {
            const failure = Object.keys(headers).filter((name) => name.startsWith('x-failure-'));
            assert.deepEqual(failure, []);
            assert.equal(headers['tshoot-destination'], target);
          }
          assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
        });
      }

      it(`${kind}: both consume at the same time and share the messages of both publishers`, async () => {
        const { source, target } = make();
        const django = await djangoPubsub(broker, source);
        const ours = await startPubsub(broker, source, fixture('interop.mjs#consume'));
        const held = djangoReceive(django);
        await djangoPublish(broker, target, '{"n":1}', '{"n":2}');
        await published(broker, [target, '--lines'], { input: '{"n":3}\n{"n":4}\n' });
        // django-stomp holds its one message, so all others are ours.
        const theirs = await held;
        await until(
          () => printed(ours).length === 3,
          DEADLINE_MS,
          () => `three messages here; came: ${printed(ours).join(', ')}`,
        );
        theirs.ack();
        assertUndisturbed(django);
        await djangoDisconnect(django);
        const { received, acked } = await stopPubsub(ours);
        assert.deepEqual([received, acked], [3, 3]);
        const all = [theirs.body, ...printed(ours).map((line) => line.replace('consumed ', ''))];
        const numbers = all.map((text) =>
          text.startsWith('{') ? (JSON.parse(text) as { n: number }).n : Number(text),
        );
        assert.deepEqual(numbers.sort(), [1, 2, 3, 4]);
        assert.deepEqual(await drainQueue(broker, source), []);
      });
    }

    it('both consume the dead-letter queue of a queue by its bare name, in either order', async () => {
      const name = unique('interop');
      await stopPubsub(await startPubsub(broker, `DLQ.${name}`, fixture('interop.mjs#consume')));
      const django = await djangoPubsub(broker, `DLQ.${name}`);
      await djangoDisconnect(django);
      assertNoErrors(django);
      const ours = await startPubsub(broker, `/queue/DLQ.${name}`, fixture('interop.mjs#consume'));
      await stopPubsub(ours);
    });
  });
}

function assertNoErrors(client: RawClient): void {
  assert.deepEqual(client.takeArrived('ERROR'), []);
}

describe('the frames of our publisher', () => {
  for (const destination of ['/queue/xpto', '/topic/VirtualTopic.xpto', 'xpto']) {
    it(`SEND to ${destination} has the headers of django-stomp and a receipt, none else`, async () => {
      await using server = await startScriptedServer();
      const own = { 'header-key': 'header-value' };
      await published(server, [destination, '{"key":"é"}', '--header', 'header-key=header-value']);
      const [frame] = await server.received('SEND');
      const { receipt, 'correlation-id': id, ...headers } = frame?.headers ?? {};
      const [theirs, body] = djangoSend(destination, '{"key":"é"}', own);
      const { 'correlation-id': theirId, ...expected } = theirs;
      assert.deepEqual({ ...headers }, { ...expected });
      assert.ok(receipt);
      const uuid = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;
      assert.match(id ?? '', uuid);
      assert.match(theirId ?? '', uuid);
      assert.equal(frame?.body.toString(), body);
    });
  }

  it('reserved headers of the user are removed, the standard ones win', async () => {
    await using server = await startScriptedServer();
    const reserved = [
      ...['message-id', 'transaction', 'redelivered', 'subscription', 'destination', 'content-length'],
      ...['content-type', 'receipt', 'ack', 'persistent', 'tshoot-destination'],
      ...['x-dead-letter-routing-key', 'x-dead-letter-exchange'],
    ];
    const { STOMP_SERVER_HOST: host = '', STOMP_SERVER_PORT: port } = server.env;
    const publisher = openPublisher({ host, port: Number(port) });
    await publisher.send('/queue/xpto', 1, {
      headers: Object.fromEntries(reserved.map((name) => [name, 'mine'])),
    });
    await publisher.close();
    const [frame] = await server.received('SEND');
    const { receipt, 'correlation-id': id, ...headers } = frame?.headers ?? {};
    const { 'correlation-id': theirId, ...expected } = djangoSend('/queue/xpto', '1')[0];
    assert.deepEqual({ ...headers }, expected);
    assert.notEqual(receipt, 'mine');
    assert.equal(id?.length, theirId?.length);
  });
});
