/** `pubsub move-messages`: every byte and header that should arrive, nothing lost, nothing moved for ever. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { encodeFrame, type Frame } from '../../src/stomp/frames.js';
import { brokersUnderTest } from '../support/brokers.js';
import { declaringHeaders, drainQueue, put, putAll } from '../support/messages.js';
import { connectRaw, withRaw } from '../support/raw-client.js';
import { until } from '../support/until.js';
import { anyBroker, at, DEADLINE_MS, skipWithout, unique } from './commands.js';
import { bodiesIn, IDLE, letDie, operate, refused, resultOf, startOperator } from './operator.js';
import { startScriptedServer } from './scripted-server.js';

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
const texts = (count: number) => numbers(count).map(String);

for (const broker of brokersUnderTest()) {
  describe(`move-messages: ${broker.name}`, { concurrency: 4 }, () => {
    it('moves all messages in order, ends when the source is quiet, and says so', async () => {
      const [from, to] = [unique('move'), unique('moved')];
      await putAll(broker, from, numbers(250), { 'correlation-id': 'c' });
      const result = await operate(broker, ['move-messages', `/queue/${from}`, `/queue/${to}`, ...IDLE]);
      const { seconds, ...rest } = result;
      assert.equal(typeof seconds, 'number');
      assert.deepEqual(rest, {
        command: 'move-messages',
        source: `/queue/${from}`,
        target: `/queue/${to}`,
        isDryRun: false,
        moved: 250,
        left: 0,
        stopped: 'idle',
      });
      assert.deepEqual(await bodiesIn(broker, to, 250), texts(250));
      assert.deepEqual(await bodiesIn(broker, from), []);
    });

    it('keeps bodies byte for byte and the headers of the sender, without those of the way', async () => {
      const [from, to] = [unique('move'), unique('moved')];
      const bodies = [Buffer.from('{"n": 1.0}\n'), Buffer.from([0, 255, 10, 0]), Buffer.alloc(0)];
      const headers = {
        'correlation-id': 'c-1',
        'content-type': 'text/x-odd',
        'tshoot-destination': '/queue/first',
        tenant: 'a:b\nc\\d',
        'reply-to': '/queue/answers',
        priority: '7',
        'x-max-retries': '3',
      };
      await withRaw(broker, async (client) => {
        for (const body of bodies)
          await client.put(`/queue/${from}`, body, { ...declaringHeaders(broker, from), ...headers });
      });
      await operate(broker, ['move-messages', from, to, ...IDLE]);
      const moved = await drainQueue(broker, to, { atLeast: 3 });
      assert.deepEqual(
        moved.map(({ body }) => body),
        bodies,
      );
      for (const message of moved) {
        for (const [name, value] of Object.entries(headers)) assert.equal(message.headers[name], value, name);
        assert.equal(message.headers.persistent, 'true');
        assert.equal(message.headers['x-dead-letter-routing-key'], `DLQ.${to}`);
        assert.equal(message.headers.destination, `/queue/${to}`);
      }
    });

    it('does not let what the source says of queues and of deaths travel on', async () => {
      const [from, to] = [unique('move'), unique('moved')];
      await letDie(broker, from, ['"dead"'], { 'correlation-id': 'c' });
      await operate(broker, ['move-messages', `DLQ.${from}`, to, ...IDLE]);
      await withRaw(broker, async (client) => {
        await client.subscribe(`/queue/${to}`, declaringHeaders(broker, to));
        const { headers } = await client.next('MESSAGE');
        for (const name of ['x-first-death-queue', 'x-first-death-reason', 'original-destination'])
          assert.equal(headers[name], undefined, name);
        assert.equal(headers['x-dead-letter-routing-key'], `DLQ.${to}`);
      });
    });

    it('keeps where a message died on its way to another dead-letter queue', async () => {
      const [from, to] = [unique('move'), unique('DLQ.archive')];
      await letDie(broker, from, [1], { 'correlation-id': 'c' });
      await operate(broker, ['move-messages', `DLQ.${from}`, to, ...IDLE]);
      const [{ headers }] = (await drainQueue(broker, to, { atLeast: 1 })) as [Frame];
      const told = headers['x-first-death-queue'] ?? headers['original-destination'];
      assert.equal(told?.replace('/queue/', ''), from);
    });

    it('--count moves the first so many, without waiting for more', async () => {
      const [from, to] = [unique('move'), unique('moved')];
      await putAll(broker, from, numbers(9));
      const result = await operate(broker, ['move-messages', from, to, '--count', '4', '--idle', '60']);
      assert.deepEqual([result.moved, result.stopped], [4, 'count']);
      assert.deepEqual(await bodiesIn(broker, to, 4), texts(4));
      assert.deepEqual(await bodiesIn(broker, from, 5), ['4', '5', '6', '7', '8']);
    });

    it('--follow moves what comes later too, until a signal, and ends with 0 and the count', async () => {
      const [from, to] = [unique('move'), unique('moved')];
      await putAll(broker, from, [0]);
      const running = startOperator(broker, ['move_messages', from, to, '--follow']);
      const client = await connectRaw(broker);
      const arrived = () => client.frames.filter(({ command }) => command === 'MESSAGE').length;
      try {
        await client.subscribe(`/queue/${to}`, declaringHeaders(broker, to));
        await until(() => arrived() === 1, DEADLINE_MS, 'the first message is moved');
        await putAll(broker, from, [1, 2]);
        await until(() => arrived() === 3, DEADLINE_MS, 'the later ones are moved');
        running.signal('SIGTERM');
        const result = await resultOf(running);
        assert.deepEqual([result.moved, result.stopped], [3, 'signal']);
      } finally {
        client.destroy();
      }
      // They go back when the broker notices the end of the connection.
      assert.deepEqual(await bodiesIn(broker, to, 3), texts(3));
    });

    it('leaves a message that is too large to be read, and tells', async () => {
      const [from, to] = [unique('move'), unique('moved')];
      await putAll(broker, from, ['1', 'x'.repeat(5000), '2']);
      const running = startOperator(broker, [
        ...['move-messages', from, to, ...IDLE],
        ...['--max-message-bytes', '4096'],
      ]);
      const result = await resultOf(running);
      assert.deepEqual([result.moved, result.left], [2, 1]);
      assert.match(running.stderr, /left where it is/);
      assert.deepEqual(await bodiesIn(broker, to, 2), ['1', '2']);
      assert.deepEqual(await bodiesIn(broker, from, 1), ['x'.repeat(5000)]);
    });

    if (broker.capabilities.queueArguments) {
      it('takes from a queue that does not exist nothing but an error', async () => {
        const to = unique('moved');
        const { code, complaint } = await refused(broker, ['move-messages', unique('missing'), to]);
        assert.equal(code, 4);
        assert.match(complaint, /NOT_FOUND.*0 messages moved/);
      });

      it('finds source and target whatever arguments they were declared with, and declares a missing target', async () => {
        const [from, to] = [unique('plain'), unique('plain')];
        const plain = { 'x-dead-letter-exchange': undefined, 'x-dead-letter-routing-key': undefined };
        await put(broker, `/queue/${from}`, 1, plain);
        await put(broker, `/queue/${to}`, 0, plain);
        await operate(broker, ['move-messages', from, to, ...IDLE]);
        assert.deepEqual(await bodiesIn(broker, to, 2), ['0', '1']);
        await put(broker, `/queue/${from}`, 2, plain);
        const missing = unique('missing');
        // By that name nothing is declared, and what is sent there would be confirmed and lost.
        const { code } = await refused(broker, ['move-messages', from, `/amq/queue/${missing}`, ...IDLE]);
        assert.equal(code, 4);
        await operate(broker, ['move-messages', from, missing, ...IDLE]);
        assert.deepEqual(await bodiesIn(broker, missing, 1), ['2']);
      });
    }
  });
}

describe('move-messages', { concurrency: 4 }, () => {
  it('moves between two brokers, by arguments and by flags', async (t) => {
    const all = brokersUnderTest();
    if (all.length < 2) {
      t.skip('one broker in this run');
      return;
    }
    for (const [index, target] of all.entries()) {
      const source = all[(index + 1) % all.length]!;
      const [from, to] = [unique('move'), unique('moved')];
      await put(source, from, { n: index }, { 'correlation-id': `c${index}`, tenant: 'é:7' });
      const place = [source.host, String(source.port)];
      const login = { STOMP_SOURCE_USER: source.user, STOMP_SOURCE_PASSWORD: source.password };
      const args =
        index === 0
          ? ['move-messages', from, to, ...place]
          : ['move-messages', from, to, '--source-host', place[0]!, '--source-port', place[1]!];
      const result = await operate(target, [...args, ...IDLE], { env: login });
      assert.equal(result.moved, 1);
      const [message] = await drainQueue(target, to, { atLeast: 1 });
      assert.equal(message!.body.toString(), `{"n":${index}}`);
      assert.equal(message!.headers['correlation-id'], `c${index}`);
      assert.equal(message!.headers.tenant, 'é:7');
    }
  });

  const usage: [what: string, args: string[], expected: RegExp][] = [
    ['a source host without a port', ['a', 'b', 'broker'], /source host needs a source port/],
    ['a source port that is none', ['a', 'b', 'broker', 'stomp'], /--source-port: a whole number/],
    ['a queue onto itself', ['/queue/a', '/amq/queue/a'], /would never end: they are one queue/],
    ['a queue onto itself by another name of its host', ['a', 'a', 'localhost', 'PORT'], /would never end/],
    [
      'the queue of a virtual topic to that topic',
      ['Consumer.x.VirtualTopic.t', '/topic/VirtualTopic.t'],
      /the topic feeds that queue/,
    ],
    ['a topic as source', ['/topic/a', 'b'], /a topic holds no messages/],
    ['an empty target', ['a', '/queue/'], /the name is empty/],
    ['--count 0', ['a', 'b', '--count', '0'], /--count: a whole number from 1 expected, not "0"/],
    ['--idle never', ['a', 'b', '--idle', 'never'], /--idle: seconds from 0.1 .* expected, not "never"/],
    ['--idle with --follow', ['a', 'b', '--idle', '3', '--follow'], /--idle or --follow, not both/],
  ];
  for (const [what, args, expected] of usage) {
    it(`refuses ${what} with 2, and without a connection`, async () => {
      await using server = await startScriptedServer();
      const own = args.map((arg) => (arg === 'PORT' ? (server.env.STOMP_SERVER_PORT ?? '') : arg));
      const { code, complaint } = await refused(server, ['move-messages', ...own]);
      assert.equal(code, 2, complaint);
      assert.match(complaint, expected);
      assert.equal(server.connections, 0);
    });
  }

  it('ends with 4 when no broker listens', async () => {
    const { code, complaint } = await refused({ env: at(1) }, ['move-messages', 'a', 'b']);
    assert.equal(code, 4);
    assert.match(complaint, /ECONNREFUSED.*; 0 messages moved/);
  });

  it('takes flags of connections before and after its name', skipWithout(anyBroker()), async () => {
    const broker = anyBroker()!;
    const [from, to] = [unique('move'), unique('moved')];
    await putAll(broker, from, [1]);
    const { user, password, host, port } = broker;
    const before = ['--user', user, '--password', password, '--host', 'nowhere.invalid'];
    const args = [...before, 'move-messages', from, to, '--host', host, '--port', String(port), ...IDLE];
    assert.equal((await operate({ env: {} }, args)).moved, 1);
  });
});

it('a stop waits no longer for a confirmation than the graceful wait', async () => {
  const answer = ({ command, headers }: Frame): boolean =>
    command === 'SEND' && headers['correlation-id'] !== undefined;
  await using server = await startScriptedServer({ bodies: [1], answer });
  const moving = startOperator(server, ['move-messages', 'a', 'b'], {
    env: { STOMP_GRACEFUL_WAIT_SECONDS: '0.5' },
  });
  await until(
    () => server.frames.some((frame) => answer(frame)),
    DEADLINE_MS,
    () => `the copy; came: ${server.commands().join(' ')}`,
  );
  moving.signal('SIGTERM');
  assert.deepEqual(await moving.exit(), { code: 5, signal: null }, moving.stderr);
  assert.match(moving.stderr, /within 0\.5 s \(STOMP_GRACEFUL_WAIT_SECONDS\); 0 messages moved/);
});

it('time for which it stood still is no silence of its queue', async () => {
  const deliver = (n: number, { subscription, socket }: { subscription: string; socket: Socket }) =>
    socket.write(encodeFrame('MESSAGE', { subscription, 'message-id': `m-${n}`, ack: `m-${n}` }, `${n}`));
  let source: { subscription: string; socket: Socket } | undefined;
  const answer = ({ command, headers }: Frame, socket: Socket): undefined => {
    // The other subscription looks whether the target is there.
    if (command !== 'SUBSCRIBE' || source !== undefined) return;
    source = { subscription: headers.id ?? '', socket };
    deliver(1, source);
  };
  await using server = await startScriptedServer({ answer });
  const moving = startOperator(server, ['move-messages', 'a', 'b', '--idle', '3']);
  await server.received('ACK');
  moving.signal('SIGSTOP');
  const sinceMs = performance.now();
  await until(() => performance.now() - sinceMs > 3200, DEADLINE_MS, 'more than the silence that ends it');
  deliver(2, source!);
  moving.signal('SIGCONT');
  await server.received('ACK', 2);
  moving.signal('SIGTERM');
  const { moved, stopped } = await resultOf(moving);
  assert.deepEqual([moved, stopped], [2, 'signal']);
});
