/**
 * Callbacks in worker processes: whatever one does to its worker, its message is dead-lettered with the reason, its
 * neighbours are processed all the same, and the connection is kept.
 */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { encodeFrame, type Frame } from '../../src/stomp/frames.js';
import { drainQueue, put, putAll } from '../support/messages.js';
import { pagesOf } from '../support/probes.js';
import type { Running } from '../support/process.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  DEADLINE_MS,
  fixture,
  printed,
  pubsub,
  skipWithout,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';
import { startScriptedServer } from './scripted-server.js';

const id = { 'correlation-id': 'c-1' };
/** Short limits, so that what never ends is ended soon. */
const limits = ['--timeout', '0.5'];

type Deed = readonly [deed: string, reason: string, detail: RegExp];
const ending: readonly Deed[] = [
  ['exits', 'callback-exited', /process\.exit\(7\)/],
  ['throws from a timer', 'callback-crashed', /an error escaped/],
  ['leaves a rejected promise', 'callback-crashed', /rejected and nobody awaited/],
  ['exhausts its heap', 'out-of-memory', /heap/],
  ['exhausts its heap after an await', 'out-of-memory', /heap/],
];
const endless: readonly Deed[] = [
  ['blocks', 'timeout', /time limit of 0\.5 s and blocked its worker/],
  ['blocks after an await', 'timeout', /and blocked its worker/],
  ['never returns', 'timeout', /still ran 1 s after its time limit of 0\.5 s$/],
];
/** None of these, for what takes its time to end by itself. */
const heap = ['--worker-heap', '48'];

describe('callbacks in worker processes', { ...skipWithout(anyBroker()), concurrency: 2 }, () => {
  const broker = anyBroker()!;
  const count = (running: Running, line: string) => printed(running).filter((text) => text === line).length;
  const lines = (running: Running, text: string) => running.logLines.filter(({ msg }) => msg === text);
  const untilPrinted = (running: Running, line: string, times = 1) =>
    until(
      () => count(running, line) >= times,
      DEADLINE_MS,
      () => `"${line}" ${times} times in ${running.stderr.slice(-3000)}`,
    );
  const untilAnotherTakesOver = (running: Running) =>
    until(
      () => running.logLines.some(({ msg }) => String(msg).endsWith('another takes over')),
      DEADLINE_MS,
      () => running.stderr.slice(-3000),
    );
  const untilLogged = (running: Running, text: string, times = 1) =>
    until(
      () => lines(running, text).length >= times,
      DEADLINE_MS,
      () => `"${text}" ${times} times in ${running.stderr.slice(-3000)}`,
    );
  const dead = async (queue: string, atLeast: number) =>
    (await drainQueue(broker, `DLQ.${queue}`, { atLeast })).map(
      ({ body }) => JSON.parse(body.toString()) as unknown,
    );

  for (const [what, deeds, flags, types] of [
    ['ends', ending, heap, [undefined, 'TypeError', 'RangeError', undefined, undefined]],
    ['holds up', endless, limits, [undefined, undefined, undefined]],
  ] as const)
    it(`whatever ${what} its worker: its message is dead-lettered with the reason, the next is processed`, async () => {
      const queue = unique('workers');
      const consumer = await startPubsub(broker, queue, fixture('workers.mjs#act'), { flags });
      for (const [index, [deed, reason, detail]] of deeds.entries()) {
        await put(broker, queue, JSON.stringify(deed), { 'correlation-id': deed });
        await put(broker, queue, '"ack"', id);
        await untilPrinted(consumer, 'started ack', index + 1);
        const line = lines(consumer, 'message dead-lettered')[index];
        assert.equal(line?.reason, reason, deed);
        assert.match(String(line.detail), detail);
        assert.equal(line.correlationId, deed);
      }
      const { received, acked, deadLettered } = await stopPubsub(consumer);
      assert.deepEqual([received, acked, deadLettered], [2 * deeds.length, deeds.length, deeds.length]);
      assert.deepEqual(
        await dead(queue, deeds.length),
        deeds.map(([deed]) => deed),
      );
      assert.equal(lines(consumer, 'consuming').length, 1, 'the connection was kept');
      const errors = lines(consumer, 'message dead-lettered').map(
        ({ err }) => (err as { type?: string } | undefined)?.type,
      );
      assert.deepEqual(errors, types);
    });

  for (const [deed, reason] of [...ending, ...endless]) {
    it(`one that ${deed} among others: it alone is dead-lettered, its neighbours are run again`, async () => {
      const queue = unique('workers');
      const gate = join(temporaryFolder(), 'gate');
      const headers = { ...id, gate };
      const consumer = await startPubsub(broker, queue, fixture('workers.mjs#actWithNeighbours'), {
        flags: ['--concurrency', '4', ...(reason === 'timeout' ? ['--timeout', '4'] : heap)],
      });
      const send = (body: unknown) => put(broker, queue, JSON.stringify(body), headers);
      if (deed === 'never returns') {
        await send(deed);
        await untilPrinted(consumer, `started ${deed}`);
        // Neighbours that began with it would be over their limit too; later than at its end they would be none.
        const sinceMs = performance.now();
        await until(() => performance.now() - sinceMs > 1000, DEADLINE_MS, 'a while');
      }
      await send(0);
      await send(1);
      if (deed !== 'never returns') await send(deed);
      await send(2);
      await untilAnotherTakesOver(consumer);
      writeFileSync(gate, '');
      await untilLogged(consumer, 'message dead-lettered');
      await send(3);
      await untilPrinted(consumer, 'started 3');
      const { acked, deadLettered, released } = await stopPubsub(consumer);
      assert.deepEqual([acked, deadLettered, released], [4, 1, 0], consumer.stderr);
      assert.equal(lines(consumer, 'message dead-lettered')[0]?.reason, reason);
      assert.deepEqual(await dead(queue, 1), [deed]);
      assert.deepEqual(await drainQueue(broker, queue), []);
      for (const n of [0, 1]) assert.ok(count(consumer, `started ${n}`) >= 2, `${n} was run again`);
    });
  }

  for (const deed of ['exits', 'throws from a timer', 'leaves a rejected promise']) {
    it(`one that acks, returns and then ${deed}: nothing is dead-lettered, what was in flight is run again`, async () => {
      const queue = unique('workers');
      const folder = temporaryFolder();
      const [gate, second] = [join(folder, 'gate'), join(folder, 'second')];
      const headers = { ...id, gate, second };
      const consumer = await startPubsub(broker, queue, fixture('workers.mjs#actLate'), {
        flags: ['--concurrency', '2'],
      });
      await put(broker, queue, JSON.stringify(deed), headers);
      await put(broker, queue, '"ack"', headers);
      await untilPrinted(consumer, 'started ack');
      writeFileSync(gate, '');
      await untilLogged(
        consumer,
        'a callback ended its worker after its message was done; another takes over',
      );
      await untilPrinted(consumer, 'started ack', 2);
      writeFileSync(second, '');
      const { acked, deadLettered } = await stopPubsub(consumer);
      assert.deepEqual([acked, deadLettered], [2, 0]);
      assert.equal(count(consumer, `started ${deed}`), 1);
      assert.deepEqual(await dead(queue, 0), []);
    });
  }

  it('one that settles and ends its worker in the same moment: what it said counts', async () => {
    const queue = unique('workers');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#settleThenExit'));
    await put(broker, queue, '"ack"', id);
    await put(broker, queue, '"nack"', id);
    await untilLogged(consumer, 'the callback failed after its message was settled', 2);
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 1]);
    assert.deepEqual(await dead(queue, 1), ['nack']);
  });

  it('one that acks and then blocks its worker: the broker has the ack meanwhile, and nothing is dead-lettered', async () => {
    await using server = await startScriptedServer({ bodies: [1] });
    const freed = join(temporaryFolder(), 'freed');
    const consumer = await startPubsub(server, unique('workers'), fixture('workers.mjs#ackThenBlock'), {
      env: { FREED: freed },
    });
    const [frame] = await server.received('ACK');
    assert.equal(frame?.headers.id, 'm-0');
    writeFileSync(freed, '');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 0]);
  });

  it('one that acks and then blocks for ever: its worker is ended, and nothing is dead-lettered', async () => {
    const queue = unique('workers');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#ackThenBlock'), {
      flags: limits,
      env: { FREED: join(temporaryFolder(), 'never') },
    });
    await put(broker, queue, '1', id);
    await untilLogged(consumer, 'the callback failed after its message was settled');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 0]);
  });

  it('one that acks 70,000 times is answered each time', async () => {
    const queue = unique('workers');
    const consumer = pubsub(broker, queue, fixture('workers.mjs#ackOften'), {
      flags: ['--log-level', 'error'],
    });
    await put(broker, queue, '1', id);
    await untilPrinted(consumer, 'sent 1, refused 69999');
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), { code: 0, signal: null });
  });

  it('one that burns the processor for longer than a broker waits for heart-beats: they go out all the same', async () => {
    let isBurning = false;
    let beats = 0;
    const answer = ({ command }: Frame, socket: Socket) => {
      isBurning ||= command === 'ACK';
      if (command !== 'CONNECT') return undefined;
      socket.write(encodeFrame('CONNECTED', { version: '1.2', 'heart-beat': '0,1000' }));
      socket.on('data', (chunk: Buffer) => {
        if (isBurning && chunk.equals(Buffer.from('\n'))) beats++;
      });
      return true;
    };
    await using server = await startScriptedServer({ bodies: [1], answer });
    const freed = join(temporaryFolder(), 'freed');
    const consumer = await startPubsub(server, unique('workers'), fixture('workers.mjs#ackThenBlock'), {
      env: { FREED: freed, STOMP_OUTGOING_HEARTBEAT: '1000' },
    });
    // A broker that was promised one a second waits for two or three.
    await until(
      () => beats >= 4,
      15_000,
      () => `four beats; came: ${beats}`,
    );
    writeFileSync(freed, '');
    const { acked, redelivered } = await stopPubsub(consumer);
    assert.deepEqual([acked, redelivered], [1, 0]);
    assert.equal(lines(consumer, 'consuming').length, 1);
  });

  it('one that blocks its worker in native code: it is ended, with what it spawned, and the next message is processed', async () => {
    const queue = unique('workers');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#blockNatively'), {
      flags: limits,
    });
    await put(broker, queue, '"blocks"', id);
    await put(broker, queue, '"ack"', id);
    await untilPrinted(consumer, 'started ack');
    const line = lines(consumer, 'message dead-lettered')[0];
    assert.equal(line?.reason, 'timeout');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 1]);
    assert.deepEqual(await dead(queue, 1), ['blocks']);
  });

  it('a stop starts none of those that wait in a worker: they go back', async () => {
    const queue = unique('workers');
    // Far more than can be done before the stop.
    const bodies = Array.from({ length: 60 }, () => '0.5');
    await putAll(broker, `/queue/${queue}`, bodies, id);
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#burn'), {
      flags: ['--concurrency', '60'],
    });
    await untilPrinted(consumer, 'burnt sent');
    const { received, acked, released } = await stopPubsub(consumer);
    assert.ok(acked < 60 && acked + released === received, `${acked} acked, ${released} released`);
    assert.ok(released > 0, 'some waited');
    const left = bodies.length - acked;
    assert.equal((await drainQueue(broker, queue, { atLeast: left })).length, left);
  });

  it('a stop does not wait for another worker when the last one is lost meanwhile', async () => {
    const queue = unique('workers');
    const [crash, gate] = [join(temporaryFolder(), 'crash'), join(temporaryFolder(), 'gate')];
    const consumer = await startPubsub(broker, queue, fixture('timer-crash.mjs#ack'), {
      env: { CRASH_ONCE: crash },
    });
    await put(broker, queue, '1', { ...id, gate });
    for (const times of [1, 2, 3]) {
      await untilPrinted(consumer, 'started 1', times);
      if (times === 3) consumer.signal('SIGTERM');
      if (times === 3) await untilLogged(consumer, 'waiting for callbacks in flight');
      writeFileSync(crash, '');
    }
    const { released } = await stopPubsub(consumer);
    assert.equal(released, 1);
    assert.equal((await drainQueue(broker, queue, { atLeast: 1 })).length, 1);
  });

  for (const flags of [[], ['--inline']]) {
    it(`the time that a broker takes to confirm what one publishes is not its own ${flags.join('')}`, async () => {
      const { answer, release } = holdSends();
      await using server = await startScriptedServer({ bodies: [1], answer });
      const consumer = await startPubsub(server, unique('workers'), fixture('workers.mjs#forward'), {
        flags: ['--timeout', '2', ...flags],
      });
      await until(
        () => server.frames.some(({ headers }) => headers.destination === '/queue/out'),
        DEADLINE_MS,
        () => `what it publishes; came: ${server.commands().join(' ')}`,
      );
      const sinceMs = performance.now();
      await until(() => performance.now() - sinceMs > 4000, DEADLINE_MS, 'far more than its limit');
      release();
      await untilPrinted(consumer, 'forwarded sent');
      const { acked, deadLettered } = await stopPubsub(consumer);
      assert.deepEqual([acked, deadLettered], [1, 0], consumer.stderr);
      assert.equal(count(consumer, 'started'), 1);
    });
  }

  it('one that blocks its worker at a stop: the status is 5, and its message goes back', async () => {
    const queue = unique('workers');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#act'), {
      flags: ['--graceful-wait', '0.5'],
    });
    await put(broker, queue, '"blocks"', id);
    await untilPrinted(consumer, 'started blocks');
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), { code: 5, signal: null }, consumer.stderr);
    assert.equal((await drainQueue(broker, queue, { atLeast: 1 })).length, 1);
    assert.deepEqual(await dead(queue, 0), []);
  });

  it('one that heeds its signal at the time limit fails like any other, and keeps its worker', async () => {
    const queue = unique('workers');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#heed'), { flags: limits });
    await put(broker, queue, '1', id);
    await untilLogged(consumer, 'message dead-lettered');
    await stopPubsub(consumer);
    const line = lines(consumer, 'message dead-lettered')[0];
    assert.equal(line?.reason, 'callback-failed');
    assert.match((line.err as { message: string }).message, /the time limit of this message has passed/);
    assert.equal(lines(consumer, 'a callback ended its worker; another takes over').length, 0);
  });

  it('several that never return are dead-lettered together, each run once', async () => {
    const queue = unique('workers');
    // They wait there, so that they are started together.
    for (let n = 0; n < 4; n++) await put(broker, queue, '"never returns"', id);
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#act'), {
      flags: ['--concurrency', '4', '--timeout', '1'],
    });
    await untilLogged(consumer, 'message dead-lettered', 4);
    const { deadLettered } = await stopPubsub(consumer);
    assert.equal(deadLettered, 4);
    assert.equal(count(consumer, 'started never returns'), 4);
  });

  it('many that share one processor for longer than the limit are all processed, none of them late by itself', async () => {
    const queue = unique('workers');
    await putAll(broker, `/queue/${queue}`, Array<string>(24).fill('0.2'), id);
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#burn'), {
      flags: ['--concurrency', '24', '--timeout', '2'],
    });
    await untilPrinted(consumer, 'burnt sent', 24);
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [24, 0]);
    assert.equal(count(consumer, 'burnt sent'), 24);
  });

  it('those that wait in a worker while more comes get what was sent, short or long', async () => {
    const bodies = Array.from({ length: 80 }, (_, n) => {
      const letter = String.fromCharCode(97 + (n % 26));
      const length = n % 20 === 19 ? 100_000 : n % 2 === 0 ? 100 : 6000;
      return { n, letter, length, text: letter.repeat(length) };
    });
    await using server = await startScriptedServer({ bodies });
    const consumer = await startPubsub(server, unique('workers'), fixture('workers.mjs#compare'), {
      flags: ['--concurrency', String(bodies.length)],
    });
    await server.received('ACK', bodies.length);
    await stopPubsub(consumer);
    const told = printed(consumer).sort();
    assert.deepEqual(told, bodies.map((_, n) => `whole ${n}`).sort());
    // What cannot be read ends the worker, and is run again.
    assert.deepEqual(
      consumer.logLines.filter(({ level }) => level === 'warn'),
      [],
    );
  });

  it('one that gives the memory of its body away harms nothing, and gives away no more than that', async () => {
    const bodies = [5000, 50_000, 100_000, 5000].map((length, n) => ({ n, text: 'x'.repeat(length) }));
    const lengths = bodies.map((body) => JSON.stringify(body).length);
    await using server = await startScriptedServer({ bodies });
    const consumer = await startPubsub(server, unique('workers'), fixture('workers.mjs#giveAway'), {
      flags: ['--concurrency', '4'],
    });
    await server.received('ACK', bodies.length);
    await stopPubsub(consumer);
    const told = printed(consumer)
      .sort()
      .map((line) => line.split(' ').slice(2).map(Number));
    assert.deepEqual(
      told.map(([n, , left]) => [n, left]),
      bodies.map(({ n }) => [n, 0]),
    );
    for (const [n, given] of told) assert.ok(given! < lengths[n!]! + 1000, `${given} of ${n}`);
    assert.doesNotMatch(consumer.stderr, /"level":"(warn|error)"/);
  });

  it('a crash of code that belongs to no message dead-letters nothing', async () => {
    const queue = unique('workers');
    const [crash, gate] = [join(temporaryFolder(), 'crash'), join(temporaryFolder(), 'gate')];
    const consumer = await startPubsub(broker, queue, fixture('timer-crash.mjs#ack'), {
      env: { CRASH_ONCE: crash },
    });
    await put(broker, queue, '1', { ...id, gate });
    await untilPrinted(consumer, 'started 1');
    writeFileSync(crash, '');
    await untilLogged(consumer, 'code that belongs to no message ended its worker; another takes over');
    await untilPrinted(consumer, 'started 1', 2);
    writeFileSync(gate, '');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 0]);
    const line = consumer.logLines.find(({ msg }) => String(msg).startsWith('code that belongs'));
    assert.match((line?.err as { stack: string }).stack, /no database[^]*timer-crash/);
  });

  it('inline, one that never returns is dead-lettered at its limit and the next is processed', async () => {
    const queue = unique('workers');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#act'), {
      flags: [...limits, '--inline'],
    });
    await put(broker, queue, '"never returns"', id);
    await put(broker, queue, '"ack"', id);
    await untilPrinted(consumer, 'started ack');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 1]);
    assert.equal(lines(consumer, 'message dead-lettered')[0]?.reason, 'timeout');
  });

  it('--workers 3 runs three at once, each in a worker of its own', async () => {
    const queue = unique('workers');
    const gate = join(temporaryFolder(), 'gate');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#tellProcess'), {
      flags: ['--workers', '3'],
    });
    for (const body of ['1', '2', '3', '4']) await put(broker, queue, body, { ...id, gate });
    const told = () => printed(consumer).map((line) => /^process (\d+)/.exec(line)?.[1]);
    await until(
      () => told().length === 3,
      DEADLINE_MS,
      () => consumer.stderr,
    );
    assert.equal(new Set(told()).size, 3);
    writeFileSync(gate, '');
    const { acked } = await stopPubsub(consumer);
    assert.ok(acked >= 3);
  });

  it('console and pino lines arrive whole, in order, with the correlation id of their message', async () => {
    const queue = unique('workers');
    const consumer = await startPubsub(broker, queue, fixture('workers.mjs#talk'), {
      flags: ['--concurrency', '2'],
    });
    for (const body of ['1', '2']) await put(broker, queue, body, { 'correlation-id': `c-${body}` });
    await until(
      () => printed(consumer).filter((line) => /^x+$/.test(line)).length === 2,
      DEADLINE_MS,
      () => consumer.stderr.slice(0, 3000),
    );
    await stopPubsub(consumer);
    for (const body of [1, 2]) {
      const own = consumer.logLines.filter(({ correlationId }) => correlationId === `c-${body}`);
      const texts = own.map(({ source, msg, n }) =>
        source === 'console' ? msg : `${String(n)} ${String(msg)}`,
      );
      const expected = Array.from({ length: 50 }, (_, n) => [
        `line ${n} of ${body}`,
        `${n} from pino`,
      ]).flat();
      assert.deepEqual(texts, [...expected, 'x'.repeat(100_000)]);
    }
  });
});

/** Holds the confirmation of what is sent to /queue/out. */
function holdSends() {
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const answer = ({ command, headers }: Frame, socket: Socket): boolean => {
    if (command !== 'SEND' || headers.destination !== '/queue/out') return false;
    const receipt = encodeFrame('RECEIPT', { 'receipt-id': headers.receipt ?? '' });
    void released.then(() => socket.write(receipt));
    return true;
  };
  return { answer, release: () => release() };
}

describe('setup and teardown beside a callback', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;
  const times = (running: Running, text: string) => running.stderr.split(text).length - 1;

  for (const [name, flags, workers] of [
    ['in one worker', [], 1],
    ['in three workers', ['--workers', '3'], 3],
    ['inline', ['--inline'], 1],
  ] as const) {
    it(`${name}: setup is awaited before the first message, teardown after the last, once each`, async () => {
      const queue = unique('lifecycle');
      const consumer = await startPubsub(broker, queue, fixture('lifecycle.mjs#ack'), { flags });
      await put(broker, queue, '1', id);
      await consumer.waitFor(/"msg":"called true"/);
      assert.equal(times(consumer, 'torn down'), 0);
      // What the others say may come a moment later.
      await until(() => times(consumer, 'set up') === workers, DEADLINE_MS, 'all are set up');
      await stopPubsub(consumer);
      assert.deepEqual([times(consumer, 'set up'), times(consumer, 'torn down')], [workers, workers]);
    });

    it(`${name}: a setup that fails is status 3 and one line; nothing was consumed`, async () => {
      const file = join(temporaryFolder({ fails: '' }), 'fails');
      const consumer = pubsub(broker, unique('lifecycle'), fixture('lifecycle.mjs#ack'), {
        flags: [...flags],
        env: { SETUP_FAILS: file },
      });
      assert.deepEqual(await consumer.exit(), { code: 3, signal: null });
      assert.match(
        consumer.stderr,
        /^pubsub: error: setup\(\) of \S+lifecycle\.mjs failed: no database at \S+lifecycle\.mjs:11:\d+\n$/,
      );
    });
  }

  it('a setup that does not end within --setup-timeout is status 3', async () => {
    const consumer = pubsub(broker, unique('lifecycle'), fixture('lifecycle.mjs#ack'), {
      flags: ['--setup-timeout', '2'],
      env: { SETUP_HANGS: '1' },
    });
    assert.deepEqual(await consumer.exit(), { code: 3, signal: null });
    assert.match(
      consumer.stderr,
      /^pubsub: error: \S+lifecycle\.mjs#ack does not load: .*setup\(\).*2 s \(STOMP_SETUP_TIMEOUT\)\n$/,
    );
  });

  it('a teardown that fails is logged, and the status is 0', async () => {
    const env = { TEARDOWN_FAILS: '1' };
    const consumer = await startPubsub(broker, unique('lifecycle'), fixture('lifecycle.mjs#ack'), { env });
    await stopPubsub(consumer);
    assert.ok(consumer.logLines.some(({ msg }) => msg === 'teardown() failed'));
  });

  /** The first message has ended its only worker, and while the file is there no other can be set up for the second. */
  const startStranded = async (settings: Record<string, string> = {}) => {
    const queue = unique('lifecycle');
    const file = join(temporaryFolder(), 'fails');
    const consumer = await startPubsub(broker, queue, fixture('lifecycle.mjs#exits'), {
      env: { SETUP_FAILS: file, ...settings },
    });
    writeFileSync(file, '');
    await put(broker, queue, '1', id);
    await put(broker, queue, '2', id);
    await consumer.waitFor(/"msg":"a worker cannot start; trying again"/);
    await consumer.says('dead-lettered');
    return { queue, consumer, letStart: () => rmSync(file) };
  };

  it('a stop while no worker can be set up gives back what waits for one', async () => {
    const { queue, consumer } = await startStranded({ STOMP_HEALTH_PORT: '0' });
    const get = await pagesOf(consumer);
    await until(async () => (await get('/ready')).report.inFlight === 1, DEADLINE_MS, 'the second has come');
    const { deadLettered, released } = await stopPubsub(consumer);
    assert.deepEqual([deadLettered, released], [1, 1]);
    const left = await drainQueue(broker, queue, { atLeast: 1 });
    assert.deepEqual(
      left.map(({ body }) => body.toString()),
      ['2'],
    );
  });

  it('a setup that fails in a new worker is tried again until it succeeds, and messages wait', async () => {
    const { consumer, letStart } = await startStranded();
    letStart();
    const deadLettered = () => consumer.logLines.filter(({ msg }) => msg === 'message dead-lettered').length;
    await until(
      () => deadLettered() === 2,
      DEADLINE_MS,
      () => consumer.stderr,
    );
    await stopPubsub(consumer);
    assert.equal(consumer.logLines.filter(({ msg }) => msg === 'consuming').length, 1);
  });

  it('messages that no worker comes for are not held for ever: they go back, and the consumer stays away for a while', async () => {
    const { consumer, letStart } = await startStranded({ STOMP_HOLD_SECONDS: '1' });
    await until(
      () => consumer.logLines.some(({ reason }) => /STOMP_HOLD_SECONDS.* go back/.test(String(reason))),
      DEADLINE_MS,
      () => consumer.stderr,
    );
    letStart();
    await until(
      () => consumer.said('dead-lettered').length === 2,
      DEADLINE_MS,
      () => consumer.stderr,
    );
    await stopPubsub(consumer);
  });
});
