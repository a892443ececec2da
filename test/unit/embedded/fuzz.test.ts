import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { Input } from '../../../src/embedded/input.js';
import { defaultLimits } from '../../../src/embedded/limits.js';
import { Refusal } from '../../../src/embedded/refusal.js';
import { until } from '../../support/until.js';
import { brokerFor } from './support.js';

const INPUTS = 60_000;
const BROKEN_INPUTS = 100_000;
/** Inputs sent on one connection, or fewer when the broker ends it before. */
const BATCH = 200;
/** Sent without waiting for what the broker makes of them: what may end the connection last, so that all are heard. */
const BURST = { frames: 18, broken: 2 };
const CONCURRENT = 20;
const DEADLINE_MS = 30_000;
/** Of live objects afterwards: what a leak of a kilobyte per connection would pass. */
const GROWTH_BYTES = 16 * 1024 * 1024;

const names = [
  'destination',
  'id',
  'ack',
  'receipt',
  'transaction',
  'message-id',
  'content-length',
  'prefetch-count',
  'x-message-ttl',
  'x-max-length',
  'x-dead-letter-exchange',
  'x-dead-letter-routing-key',
  'x-queue-name',
  'durable',
  'auto-delete',
  'exclusive',
  'expiration',
  'priority',
  'reply-to',
  'requeue',
  'heart-beat',
  'accept-version',
  '__proto__',
  'constructor',
];
const values = [
  '/queue/a',
  'b',
  '/topic/a.b',
  '/topic/#',
  '/exchange/amq.topic/*',
  '/amq/queue/a',
  '/temp-queue/t',
  'Consumer.a.VirtualTopic.b',
  '/queue//',
  '0',
  '1',
  '-1',
  '99999999999999',
  'true',
  'False',
  'client',
  'client-individual',
  't',
  'T_1@@session-x@@1',
  'T_1@@',
  '1.2',
  '0,0',
  '1,1',
  '',
  'a:b\\c\\n\\\\',
  '\\x',
  '\u0000',
  'ü€😀',
  'hasOwnProperty',
];
const commands = [
  'SEND',
  'SUBSCRIBE',
  'UNSUBSCRIBE',
  'ACK',
  'NACK',
  'BEGIN',
  'COMMIT',
  'ABORT',
  'CONNECT',
  'STOMP',
  'DISCONNECT',
  'MESSAGE',
  'constructor',
  '',
];

const header = fc.tuple(fc.constantFrom(...names), fc.constantFrom(...values));
const nonsense = fc
  .tuple(fc.constantFrom(...commands), fc.array(header, { maxLength: 6 }), fc.string({ maxLength: 30 }))
  .map((parts) => encode(...parts));
/** Frames that a broker takes, so that the others meet queues, subscriptions and deliveries. */
const sensible = fc
  .tuple(fc.constantFrom('SEND', 'SUBSCRIBE'), fc.constantFrom('a', 'b'), fc.nat(99))
  .map(([command, destination, id]) =>
    encode(
      command,
      [
        ['destination', destination],
        ['id', String(id)],
        // Or each connection would be sent what all before it left behind.
        ['expiration', '20'],
        ['ack', id % 2 === 0 ? 'auto' : 'client'],
      ],
      '',
    ),
  );
const mutation = fc.record({ at: fc.nat(200), remove: fc.nat(3), insert: fc.uint8Array({ maxLength: 3 }) });
const mutations = fc.array(mutation, { minLength: 1, maxLength: 3 });
const POOL = 3000;

/** Endless bursts of inputs: made once and mutated anew each time, as making them costs more than the broker's answer. */
function* inputs(seed: number, burst: typeof BURST = BURST): Generator<Buffer> {
  const pool = (of: fc.Arbitrary<Buffer>) => fc.sample(of, { seed, numRuns: POOL });
  const frames = { nonsense: pool(nonsense), sensible: pool(sensible) };
  const changes = fc.sample(mutations, { seed, numRuns: POOL });
  const random = pool(fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)));
  // A linear congruential generator; its high bits are good enough to draw with.
  let state = seed >>> 0;
  const draw = <T>(from: readonly T[]): T => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return from[Math.floor((state / 2 ** 32) * from.length)]!;
  };
  const wellFormed = [...Array<'sensible'>(4).fill('sensible'), 'nonsense'] as const;
  const broken = () =>
    draw([true, true, false])
      ? mutate(draw(draw([frames.nonsense, frames.sensible])), draw(changes))
      : draw(random);
  const times = (length: number, make: () => Buffer) => Array.from({ length }, make);
  for (;;) {
    yield Buffer.concat([
      ...times(burst.frames, () => draw(frames[draw(wellFormed)])),
      ...times(burst.broken, broken),
    ]);
  }
}

/** Names and values are as they go over the wire: what is escaped here is meant to be. */
function encode(command: string, headers: [string, string][], body: string): Buffer {
  const lines = headers.map(([name, value]) => `${name}:${value}\n`);
  return Buffer.from(`${command}\n${lines.join('')}\n${body}\0`);
}

function mutate(bytes: Buffer, changes: { at: number; remove: number; insert: Uint8Array }[]): Buffer {
  let mutated = bytes;
  for (const { at, remove, insert } of changes) {
    const place = at % (mutated.length + 1);
    mutated = Buffer.concat([mutated.subarray(0, place), insert, mutated.subarray(place + remove)]);
  }
  return mutated;
}

test('sixty thousand inputs of nonsense harm nobody else and leave nothing behind', async (context) => {
  const { broker, connect: connectGood } = await brokerFor(context);
  const good = await connectGood();
  await good.subscribe('good');
  // Or the first nonsense to declare them makes every sensible frame a mismatch.
  for (const queue of ['a', 'b']) broker.publish(queue, '', { expiration: '0' });
  const seed = Math.floor(Math.random() * 2 ** 32);
  context.diagnostic(`seed ${seed}`);
  const source = inputs(seed);
  // It makes them at the first draw.
  source.next();
  const before = liveBytes();
  let sent = 0;
  let connections = 0;
  const worker = async (): Promise<void> => {
    while (sent < INPUTS) sent += await feed(broker.port, source, connections++ % 10 !== 0);
  };
  await Promise.all(Array.from({ length: CONCURRENT }, worker));

  await good.put('good', 'still here');
  assert.equal((await good.next('MESSAGE')).body.toString(), 'still here');
  await until(
    () => broker.connections === 1,
    DEADLINE_MS,
    () => `${broker.connections} connections are left`,
  );
  const growth = liveBytes() - before;
  context.diagnostic(`${broker.counters.published} messages, ${growth} bytes more`);
  assert.ok(growth < GROWTH_BYTES, `${growth} bytes more are in use`);
  assert.ok(broker.counters.published > 10_000, `${broker.counters.published} inputs were messages`);
  assert.ok(broker.counters.delivered > 100, `${broker.counters.delivered} were delivered`);
});

test('a hundred thousand broken inputs are refused or understood, split anywhere', (context) => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  context.diagnostic(`seed ${seed}`);
  const source = inputs(seed, { frames: 0, broken: 1 });
  let heard = 0;
  let refused = 0;
  let input = newInput();
  function newInput(): Input {
    const made = new Input(defaultLimits, {}, () => heard++);
    made.loggedIn('1.2');
    return made;
  }
  for (let count = 0; count < BROKEN_INPUTS; count++) {
    const bytes = source.next().value as Buffer;
    const split = count % (bytes.length + 1);
    try {
      input.push(bytes.subarray(0, split));
      input.push(bytes.subarray(split));
    } catch (error) {
      assert.ok(error instanceof Refusal && error.isFatal, String(error));
      refused++;
      input = newInput();
    }
  }
  context.diagnostic(`${heard} frames, ${refused} refused`);
  assert.ok(heard > 10_000 && refused > 10_000, `${heard} frames, ${refused} refused`);
});

/** Sends a batch, or until the broker ends the connection; resolves with how many it was sent when that is closed. */
function feed(port: number, source: Generator<Buffer>, isLoggedIn: boolean): Promise<number> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    let sent = 0;
    const sendNext = (): void => {
      if (socket.destroyed || socket.writableEnded) return;
      if (sent >= BATCH) {
        if (isLoggedIn) socket.end();
        else socket.destroy();
        return;
      }
      sent += BURST.frames + BURST.broken;
      socket.write(source.next().value as Buffer);
      setImmediate(sendNext);
    };
    socket.on('connect', () => {
      if (isLoggedIn) socket.write('CONNECT\naccept-version:1.2\n\n\0');
      sendNext();
    });
    socket.on('error', () => socket.destroy());
    socket.on('end', () => socket.end());
    socket.on('close', () => resolve(sent));
    socket.resume();
  });
}

function liveBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let times = 0; times < 3; times++) collect();
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
}
