/** What a callback may do to its process, and what the consumer does not feel of it. */
import assert from 'node:assert/strict';
import {
  existsSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { drainQueue, put } from '../support/messages.js';
import { packageRoot, type Running } from '../support/process.js';
import { until } from '../support/until.js';
import {
  anyBroker,
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
/** A crash with a core of memory, on a loaded machine. */
const DEADLINE_MS = 60_000;
const preload = (name: string) => pathToFileURL(join(packageRoot, 'test/fixtures', name)).href;

const memory: readonly (readonly [deed: string, reason: string])[] = [
  ['grows an array', 'out-of-memory'],
  ['fills arrays', 'out-of-memory'],
  ['parses a large text', 'out-of-memory'],
  ['fills a map', 'out-of-memory'],
  ['splits a large text', 'out-of-memory'],
  ['doubles a text', 'callback-failed'],
];
const ends: readonly (readonly [deed: string, reason: string, detail: RegExp, starts: number])[] = [
  ['ends by SIGSEGV', 'callback-crashed', /SIGSEGV/, 1],
  // Somebody else may have done that, the first time.
  ['ends by SIGKILL', 'callback-crashed', /SIGKILL/, 2],
  ['aborts', 'callback-crashed', /SIGABRT/, 1],
  ['writes to descriptors', 'callback-crashed', /came from the worker|bytes that are no frame/, 1],
];
const hostile = [
  'throws a revoked proxy',
  'throws an error whose name is a symbol',
  'throws an error whose message is an object without prototype',
  'throws an error whose stack throws',
  'throws an error whose stack is an object',
  'throws an error of 50 MB',
];

describe('a worker process', { ...skipWithout(anyBroker()), concurrency: 2 }, () => {
  const broker = anyBroker()!;
  const lines = (running: Running, text: string) => running.logLines.filter(({ msg }) => msg === text);
  const logged = (running: Running, text: string, times = 1) =>
    until(
      () => lines(running, text).length >= times,
      DEADLINE_MS,
      () => `"${text}" ${times} times in ${running.stderr.slice(-3000)}`,
    );
  const count = (running: Running, line: string) => printed(running).filter((text) => text === line).length;
  const untilPrinted = (running: Running, line: string, times = 1) =>
    until(
      () => count(running, line) >= times,
      DEADLINE_MS,
      () => `"${line}" ${times} times in ${running.stderr.slice(-3000)}`,
    );
  const send = (queue: string, body: unknown) => put(broker, queue, JSON.stringify(body), id);
  const start = (callback: string, flags: string[] = [], env = {}, nodeFlags: string[] = []) => {
    const queue = unique('isolation');
    const consumer = startPubsub(broker, queue, fixture(`hostile.mjs#${callback}`), {
      flags,
      env,
      nodeFlags,
    });
    return consumer.then((running) => ({ queue, consumer: running }));
  };
  const workersOf = (consumer: Running): number[] =>
    readFileSync(`/proc/${consumer.pid}/task/${consumer.pid}/children`, 'utf8')
      .split(' ')
      .filter((text) => text !== '')
      .map(Number);
  const isAlive = (pid: number) =>
    existsSync(`/proc/${pid}/stat`) && !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  const residentMb = (pid: number) =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

  it('large allocations of every shape: each is dead-lettered and the next message is processed', async () => {
    const { queue, consumer } = await start('act', ['--worker-heap', '64']);
    for (const [deed] of memory) {
      await send(queue, deed);
      await send(queue, 'ok');
    }
    await untilPrinted(consumer, 'started ok', memory.length);
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [memory.length, memory.length]);
    assert.deepEqual(
      lines(consumer, 'message dead-lettered').map(({ reason }) => reason),
      memory.map(([, reason]) => reason),
    );
    assert.equal(lines(consumer, 'consuming').length, 1, 'the connection was kept');
  });

  it('signals, an abort and junk on its descriptors: each costs its message alone', async () => {
    const { queue, consumer } = await start('act');
    for (const [deed] of ends) {
      await send(queue, deed);
      await send(queue, 'ok');
    }
    await untilPrinted(consumer, 'started ok', ends.length);
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [ends.length, ends.length], consumer.stderr);
    for (const [index, [deed, reason, detail, starts]] of ends.entries()) {
      const line = lines(consumer, 'message dead-lettered')[index];
      assert.equal(line?.reason, reason, deed);
      assert.match(String(line.detail), detail);
      assert.equal(count(consumer, `started ${deed}`), starts, deed);
    }
    assert.equal(lines(consumer, 'consuming').length, 1);
  });

  for (const flags of [[], ['--inline']]) {
    it(`whatever one throws is dead-lettered, its line is there and not too long ${flags.join('')}`, async () => {
      const { queue, consumer } = await start('act', flags);
      for (const deed of hostile) await send(queue, deed);
      await send(queue, 'ok');
      await untilPrinted(consumer, 'started ok');
      const { acked, deadLettered, redelivered } = await stopPubsub(consumer);
      assert.deepEqual([acked, deadLettered, redelivered], [1, hostile.length, 0]);
      const dead = lines(consumer, 'message dead-lettered');
      assert.deepEqual(
        dead.map(({ reason }) => reason),
        hostile.map(() => 'callback-failed'),
      );
      assert.ok(consumer.stderr.split('\n').every(({ length }) => length < 1_000_000));
    });
  }

  it('a callback that acks and is killed in the same moment: the ack counts', async () => {
    const { queue, consumer } = await start('ackAndDie');
    await send(queue, 'dies');
    await until(
      () => consumer.logLines.some(({ msg }) => String(msg).endsWith('another takes over')),
      DEADLINE_MS,
      'its worker has ended',
    );
    await send(queue, 'acks');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.ok(acked >= 1 && deadLettered === 0, consumer.stderr);
    assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
  });

  it('one that blocks keeps back no verdict that it, or another that came with it, has given', async () => {
    const bodies = ['acks', 'acks', 'blocks'];
    await using server = await startScriptedServer({ bodies });
    const freed = join(temporaryFolder(), 'freed');
    const consumer = await startPubsub(server, unique('isolation'), fixture('hostile.mjs#ackAndDie'), {
      flags: ['--concurrency', '3'],
      env: { FREED: freed },
    });
    await server.received('ACK', 3);
    writeFileSync(freed, '');
    const { acked } = await stopPubsub(consumer);
    assert.equal(acked, 3);
  });

  it('an innocent message beside ones that crash after their ack is not run again and again', async () => {
    const { queue, consumer } = await start('late', ['--concurrency', '4']);
    await send(queue, 1000);
    for (let n = 0; n < 8; n++) await send(queue, 'late');
    await untilPrinted(consumer, 'done 1000');
    const { deadLettered } = await stopPubsub(consumer);
    assert.equal(deadLettered, 0);
    assert.ok(count(consumer, 'started 1000') <= 3, `${count(consumer, 'started 1000')} starts`);
  });

  it('descriptors that run out are its own', async () => {
    const { queue, consumer } = await start('act');
    await send(queue, 'opens files without end');
    await send(queue, 'ok');
    await untilPrinted(consumer, 'started ok');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 1]);
  });

  it('a clock that is set back changes no time limit', async () => {
    const { queue, consumer } = await start('act', ['--timeout', '5'], {}, [
      '--import',
      preload('clock.mjs'),
    ]);
    for (const deed of ['loops for ever', 'ok']) await send(queue, deed);
    await untilPrinted(consumer, 'started ok');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [1, 1]);
  });

  it('has a folder, a stdin and a process group of its own, is preloaded, and is more expendable than the consumer', async () => {
    const { queue, consumer } = await start('act', ['--import', preload('preloaded.mjs')], {}, [
      '--inspect=0',
      '--no-deprecation',
    ]);
    for (const deed of ['changes its folder', 'reads stdin', 'tells about itself']) await send(queue, deed);
    await untilPrinted(consumer, 'stdin: ""');
    await untilPrinted(consumer, 'started tells about itself');
    const told = await until(
      () => printed(consumer).find((line) => line.startsWith('{')),
      DEADLINE_MS,
      'told',
    );
    const { execArgv, preloaded, score, group, pid } = JSON.parse(told) as {
      execArgv: string[];
      preloaded: number;
      score: number;
      group: string;
      pid: number;
    };
    assert.ok(
      execArgv.includes('--no-deprecation') && !execArgv.some((flag) => flag.startsWith('--inspect')),
    );
    assert.equal(preloaded, 1);
    assert.equal(group, String(pid));
    const own = Number(readFileSync(`/proc/${consumer.pid}/oom_score_adj`, 'utf8'));
    assert.equal(score, Math.min(1000, own + 500));
    await stopPubsub(consumer);
  });

  it('all that is printed is a line of the log with the correlation id', async () => {
    const { queue, consumer } = await start('act');
    await send(queue, 'prints in every way');
    for (const text of ['from stdout', 'from stderr', 'from the descriptor', 'from another program']) {
      await logged(consumer, text);
      assert.equal(lines(consumer, text)[0]?.correlationId, 'c-1', text);
    }
    await consumer.waitFor(/│ +a +│|│ \(index\) │/);
    await stopPubsub(consumer);
    assert.equal(consumer.stdout, '');
  });

  it('--worker-memory ends one that has grown after its message, and at once one that goes on growing', async () => {
    const { queue, consumer } = await start('act', ['--worker-memory', '200']);
    await send(queue, 'hoards memory outside of its heap');
    await logged(consumer, 'message dead-lettered');
    assert.equal(lines(consumer, 'message dead-lettered')[0]?.reason, 'out-of-memory');
    await send(queue, 'ok');
    await untilPrinted(consumer, 'started ok');
    const { acked } = await stopPubsub(consumer);
    assert.equal(acked, 1);
  });

  it('--worker-memory lets the message in flight finish', async () => {
    const { queue, consumer } = await start('act', ['--worker-memory', '280']);
    await send(queue, 'takes 250 MB and ends');
    await logged(consumer, 'a worker has reached its limit of memory or messages; another takes over');
    await send(queue, 'ok');
    await untilPrinted(consumer, 'started ok');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [2, 0]);
  });

  for (const deed of ['prints without end', 'prints bare without end']) {
    it(`one that ${deed} to a log that nobody reads: its message is dead-lettered, the consumer stays small and stops`, async () => {
      const { queue, consumer } = await start('act', ['--timeout', '1', '--concurrency', '2']);
      consumer.child.stderr.pause();
      await send(queue, deed);
      const dead = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
      assert.equal(dead.length, 1);
      assert.ok(residentMb(consumer.pid) < 250, `${residentMb(consumer.pid)} MB`);
      consumer.child.stderr.resume();
      await logged(consumer, 'log lines were dropped: nobody read the log for a while');
      const { deadLettered } = await stopPubsub(consumer);
      assert.equal(deadLettered, 1);
    });
  }

  it('one that prints without end to a reader of 5 MB a second: it alone waits, others go on, and the reader gets whole lines', async () => {
    const { queue, consumer } = await start('act', ['--timeout', '5', '--workers', '2']);
    const { stderr } = consumer.child;
    stderr.pause();
    const reading = setInterval(() => {
      if (stderr.read(250_000) === null) stderr.read();
    }, 50);
    await send(queue, 'prints without end');
    for (let n = 0; n < 5; n++) await send(queue, 'ok');
    // To look for lines in so much takes the processor that the flood needs: that is over first.
    const [first] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.equal(first?.headers['x-failure-reason'], 'timeout');
    await untilPrinted(consumer, 'started ok', 5);
    assert.ok(residentMb(consumer.pid) < 250, `${residentMb(consumer.pid)} MB`);
    clearInterval(reading);
    // What waits for its reader is read first: there may be no room for more lines before.
    let turns = 0;
    stderr.on('data', () => (turns = 0));
    stderr.resume();
    // Turns and not a time: when this process has stood still, what came meanwhile is read in the next one.
    await until(() => ++turns > 100, DEADLINE_MS, 'the end of what was printed');
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [5, 1]);
    assert.ok(consumer.stderr.split('\n').every((line) => line === '' || /^\{.*\}$/.test(line)));
    assert.equal(lines(consumer, 'consuming').length, 1, 'the connection was kept');
  });

  it('a callback file that is replaced is loaded by the next worker, and the log says which one that is', async () => {
    const source = (version: string) => `export async function act({ body, ack }) {
      console.log(body, ${JSON.stringify(version)});
      if (body === 'exits') process.exit();
      await ack();
    }`;
    const cwd = temporaryFolder({ 'replaced.mjs': source('old') });
    const file = join(cwd, 'replaced.mjs');
    const queue = unique('isolation');
    const consumer = await startPubsub(broker, queue, './replaced.mjs#act', {
      cwd,
      flags: ['--log-level', 'debug'],
    });
    const loaded = () => lines(consumer, 'a worker has loaded the callback');
    await send(queue, 'ok');
    await untilPrinted(consumer, 'ok old');
    assert.equal(loaded()[0]?.changed, statSync(file).mtime.toISOString());
    // As a deploy does it: another file under the same name.
    writeFileSync(`${file}.new`, source('new'));
    const later = new Date(Date.now() + 60_000);
    utimesSync(`${file}.new`, later, later);
    renameSync(`${file}.new`, file);
    await send(queue, 'ok');
    await untilPrinted(consumer, 'ok old', 2);
    await send(queue, 'exits');
    await send(queue, 'ok');
    await untilPrinted(consumer, 'ok new');
    assert.deepEqual([loaded()[1]?.file, loaded()[1]?.changed], [realpathSync(file), later.toISOString()]);
    assert.deepEqual([loaded()[0]?.level, loaded()[1]?.level], ['debug', 'info']);
    await stopPubsub(consumer);
  });

  it('coverage of a callback is written when its worker ends at a drain', async () => {
    const folder = temporaryFolder();
    const { queue, consumer } = await start('act', [], { NODE_V8_COVERAGE: folder });
    await send(queue, 'ok');
    await untilPrinted(consumer, 'started ok');
    await stopPubsub(consumer);
    const written = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
    assert.ok(
      written.some((text) => text.includes('callbacks/hostile.mjs')),
      readdirSync(folder).join(),
    );
  });

  it('a consumer whose log nobody reads processes messages, and stops', async () => {
    const queue = unique('isolation');
    const ledger = join(temporaryFolder(), 'ledger');
    const consumer = await startPubsub(broker, queue, fixture('ledger.mjs#record'), {
      flags: ['--log-level', 'debug'],
      env: { LEDGER: ledger },
    });
    consumer.child.stderr.pause();
    // Several times what a pipe takes. RabbitMQ 4 has room for no longer ones.
    const headers = { ...id, 'correlation-id': 'y'.repeat(255) };
    for (let n = 0; n < 400; n++) await put(broker, queue, JSON.stringify({ n }), headers);
    await until(
      () => readFileSync(ledger, 'utf8').split('\n').length === 401,
      DEADLINE_MS,
      'all are processed',
    );
    consumer.signal('SIGTERM');
    await until(() => !isAlive(consumer.pid), DEADLINE_MS, 'it has ended');
    consumer.child.stderr.resume();
    assert.deepEqual(await consumer.exit(), { code: 0, signal: null });
  });

  it('60 bodies of 5 MB at 50 in flight with a heap of 64 MB are all processed', async () => {
    const { queue, consumer } = await start('measure', ['--concurrency', '50', '--worker-heap', '64']);
    const body = Buffer.from(JSON.stringify('x'.repeat(5_000_000)));
    for (let n = 0; n < 60; n++) await put(broker, queue, body, id);
    await untilPrinted(consumer, `measured ${body.length}`, 60);
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], [60, 0]);
  });

  // Where V8 holds such a text outside of the heap, as it does on Node 24, it fits.
  it('a body of 120 MB that does not fit a small heap is dead-lettered, and the next is processed', async () => {
    await using server = await startScriptedServer({ bodies: ['x'.repeat(120_000_000), 'ok'] });
    const consumer = await startPubsub(server, unique('isolation'), fixture('hostile.mjs#measure'), {
      flags: ['--worker-heap', '48'],
    });
    await untilPrinted(consumer, 'measured 4');
    const isProcessed = printed(consumer).includes('measured 120000002');
    const reasons = lines(consumer, 'message dead-lettered').map(({ reason }) => reason);
    assert.deepEqual(reasons, isProcessed ? [] : ['out-of-memory'], consumer.stderr);
    const { acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual([acked, deadLettered], isProcessed ? [2, 0] : [1, 1]);
  });

  it('is gone within seconds when the consumer is killed, also in the middle of a loop', async () => {
    const { queue, consumer } = await start('act');
    await send(queue, 'loops for ever');
    await untilPrinted(consumer, 'started loops for ever');
    const workers = workersOf(consumer);
    assert.equal(workers.length, 1);
    consumer.signal('SIGKILL');
    await until(() => !workers.some(isAlive), 15_000, 'no worker is left');
  });

  it('a stop signal to every process at once costs no message', async () => {
    const { queue, consumer } = await start('act');
    await send(queue, 'exits on SIGTERM');
    await untilPrinted(consumer, 'ready to exit');
    for (const pid of workersOf(consumer)) process.kill(pid, 'SIGTERM');
    const { deadLettered, released } = await stopPubsub(consumer);
    assert.deepEqual([deadLettered, released], [0, 1]);
    assert.equal((await drainQueue(broker, queue, { atLeast: 1 })).length, 1);
  });

  it('a stop signal to every process while they load ends with 0', async () => {
    const cwd = temporaryFolder({
      'slow.mjs': 'console.error("loading"); await new Promise(() => setInterval(() => {}, 1000));',
    });
    const consumer = pubsub(broker, unique('isolation'), './slow.mjs', { cwd });
    await consumer.waitFor(/loading/);
    for (const pid of workersOf(consumer)) process.kill(pid, 'SIGINT');
    consumer.signal('SIGINT');
    assert.deepEqual(await consumer.exit(), { code: 0, signal: null });
  });

  it('a class is no callback', async () => {
    const consumer = pubsub(broker, unique('isolation'), fixture('hostile.mjs#Handler'));
    assert.deepEqual(await consumer.exit(), { code: 3, signal: null });
    assert.match(consumer.stderr, /hostile\.mjs#Handler is a class, not a function to call/);
  });
});
