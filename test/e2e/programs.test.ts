/** A program in the place of a callback: what it is told, what its end means, and that no end of it costs a message. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startBroker } from '../../src/testing.js';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { bodiesIn, drainQueue, put, putAll } from '../support/messages.js';
import { run, type Running } from '../support/process.js';
import { until } from '../support/until.js';
import { anyBroker, at, DEADLINE_MS, skipWithout, stopPubsub, temporaryFolder, unique } from './commands.js';

const id = { 'correlation-id': 'c-1' };

/** An executable file of the shell. */
function program(text: string, name = 'job.sh'): string {
  const file = join(temporaryFolder({ [name]: `#!/bin/sh\n${text}\n` }), name);
  chmodSync(file, 0o755);
  return file;
}

interface Options {
  readonly flags?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

function launch(
  broker: Pick<BrokerUnderTest, 'env'>,
  queue: string,
  file: string,
  { flags = [], args = [], env = {} }: Options = {},
): Running {
  return run('pubsub', [queue, ...flags, '--', file, ...args], { env: { ...broker.env, ...env } });
}

async function start(...args: Parameters<typeof launch>): Promise<Running> {
  const running = launch(...args);
  await running.says('subscribed');
  return running;
}

for (const broker of brokersUnderTest()) {
  describe(`a program as the callback: ${broker.name}`, () => {
    it('0 acks, 65 dead-letters with the last words, everything else is tried again first', async () => {
      const name = unique('program');
      const file = program(
        'read -r status; echo "working on $status"; echo "bad: $status" >&2; exit "$status"',
      );
      await putAll(broker, `/queue/${name}`, ['0', '65', '75', '3'], id);
      const flags = ['--retries', '1', '--retry-delay', '1s'];
      const consumer = await start(broker, `/queue/${name}`, file, { flags });
      const letters = await drainQueue(broker, `/queue/DLQ.${name}`, { atLeast: 3 });
      const told = letters.map(({ headers, body }) => [
        body.toString(),
        headers['x-failure-reason'],
        headers['x-failure-message'],
        headers['x-failure-attempts'],
        headers['x-failure-callback'],
      ]);
      assert.deepEqual(told.sort(), [
        ['3', 'callback-failed', 'job.sh ended with status 3: bad: 3', '2', 'job.sh'],
        ['65', 'nack', 'job.sh ended with status 65: bad: 65', '1', 'job.sh'],
        ['75', 'callback-failed', 'job.sh ended with status 75: bad: 75', '2', 'job.sh'],
      ]);
      const { acked, deadLettered } = await stopPubsub(consumer);
      assert.deepEqual([acked, deadLettered], [1, 3]);
      const lines = consumer.logLines.filter(({ msg }) => msg === 'bad: 65' || msg === 'working on 65');
      const sources = lines.map(({ source, level, correlationId }) => [source, level, correlationId]);
      assert.deepEqual(sources.sort(), [
        ['stderr', 'warn', 'c-1'],
        ['stdout', 'info', 'c-1'],
      ]);
    });
  });
}

describe('a program as the callback', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;

  it('gets the bytes of the body, its arguments and the headers, and no secret', async () => {
    const queue = `/queue/${unique('program')}`;
    const folder = temporaryFolder();
    const file = program('cat > "$1/body"; env > "$1/env"; mv "$1/env" "$1/done"');
    const body = Uint8Array.from({ length: 300_000 }, (_, n) => n % 256);
    const headers = { ...id, 'x-tenant': 'a b\nc', 'x-attempt': '3', long: 'x'.repeat(9000) };
    await put(broker, queue, body, headers);
    const secrets = { STOMP_SOURCE_PASSWORD: 'secret-1', DEFAULT_STOMP_SSL_PASSWORD: 'secret-2' };
    const env = { ...secrets, STOMP_HEADER_OF_ANOTHER: 'x', OWN: 'kept' };
    const consumer = await start(broker, queue, file, { args: [folder], env });
    await until(() => existsSync(join(folder, 'done')), DEADLINE_MS, 'the program ran');
    assert.deepEqual(new Uint8Array(readFileSync(join(folder, 'body'))), body);
    const told = readFileSync(join(folder, 'done'), 'utf8');
    for (const line of [
      'STOMP_HEADER_X_TENANT=a b\nc\n',
      `STOMP_HEADER_LONG=${'x'.repeat(9000)}\n`,
      'STOMP_CORRELATION_ID=c-1\n',
      'STOMP_ATTEMPT=3\n',
      'OWN=kept\n',
    ])
      assert.ok(told.includes(line), line.slice(0, 80));
    assert.doesNotMatch(told, /PASSWORD|secret-|OF_ANOTHER/);
    assert.equal((await stopPubsub(consumer)).acked, 1);
  });

  it('is not told of what is too long, and the log has the name of that alone', async () => {
    await using embedded = await startBroker();
    const baggage = `k=${'x'.repeat(40_000)}`;
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    embedded.publish('/queue/long', {}, { ...id, baggage, traceparent });
    const consumer = await start(embedded, '/queue/long', program('echo "<$BAGGAGE$STOMP_HEADER_BAGGAGE>"'));
    await consumer.waitFor(/"msg":"<>"/);
    assert.equal((await stopPubsub(consumer)).acked, 1);
    const lines = consumer.logLines.filter(({ msg }) => String(msg).startsWith('headers that are too long'));
    const told = lines.map(({ headers, correlationId, traceId }) => [headers, correlationId, traceId]);
    assert.deepEqual(told, [[['baggage'], 'c-1', 'a'.repeat(32)]]);
    assert.doesNotMatch(consumer.stderr, /xxx/);
  });

  it('need not read its input', async () => {
    const queue = `/queue/${unique('program')}`;
    await put(broker, queue, 'x'.repeat(1_000_000), id);
    const consumer = await start(broker, queue, program('echo done'));
    await consumer.waitFor(/"msg":"done"/);
    assert.equal((await stopPubsub(consumer)).acked, 1);
  });

  it('is ended at its time limit, with what it started', async () => {
    const name = unique('program');
    const pids = join(temporaryFolder(), 'pids');
    const file = program(`trap '' TERM; sleep 600 & echo "$! $$" > ${pids}; wait; sleep 600`);
    const consumer = await start(broker, `/queue/${name}`, file, { flags: ['--timeout', '0.5'] });
    // The limit may be over before it has started anything: then it is another one's turn.
    const started = await until(
      async () => {
        await put(broker, `/queue/${name}`, '1', id);
        const [letter] = await drainQueue(broker, `/queue/DLQ.${name}`, { atLeast: 1 });
        assert.equal(letter?.headers['x-failure-reason'], 'timeout');
        return /^(\d+) (\d+)\n$/.exec(readFileSync(pids, 'utf8'))?.slice(1);
      },
      DEADLINE_MS,
      'a program that is ended when it has started another',
    );
    const isAlive = (pid: string) => existsSync(`/proc/${pid}`) && !isZombie(pid);
    await until(() => !started.some(isAlive), DEADLINE_MS, 'the end of what it started');
    await stopPubsub(consumer);
  });

  it('finishes before a stop, which starts no other', async () => {
    const queue = `/queue/${unique('program')}`;
    const folder = temporaryFolder();
    const file = program('echo started; while [ ! -e "$1/gate" ]; do sleep 0.1; done');
    await putAll(broker, queue, ['1', '2'], id);
    const consumer = await start(broker, queue, file, { args: [folder] });
    await consumer.waitFor(/"msg":"started"/);
    consumer.signal('SIGTERM');
    await consumer.says('waiting for callbacks');
    writeFileSync(join(folder, 'gate'), '');
    assert.equal((await stopPubsub(consumer)).acked, 1);
    assert.deepEqual(await bodiesIn(broker, queue, 1), ['2']);
  });

  for (const [how, end] of [
    ['dies by it', 'kill -TERM $$; sleep 600'],
    ['ends by a trap', 'exit 143'],
  ])
    it(`that takes the stop for its own and ${how} costs no message`, async () => {
      const name = unique('program');
      const folder = temporaryFolder();
      const file = program(`echo started; while [ ! -e "$1/gate" ]; do sleep 0.1; done; ${end}`);
      await put(broker, `/queue/${name}`, '1', id);
      const consumer = await start(broker, `/queue/${name}`, file, { args: [folder] });
      await consumer.waitFor(/"msg":"started"/);
      consumer.signal('SIGTERM');
      await consumer.says('waiting for callbacks');
      writeFileSync(join(folder, 'gate'), '');
      assert.equal((await stopPubsub(consumer)).released, 1);
      assert.deepEqual(await bodiesIn(broker, `/queue/${name}`, 1), ['1']);
      assert.deepEqual(await bodiesIn(broker, `/queue/DLQ.${name}`), []);
    });

  it('that outlasts the graceful wait is ended and its message goes back: 5', async () => {
    const queue = `/queue/${unique('program')}`;
    const pids = join(temporaryFolder(), 'pid');
    await put(broker, queue, '1', id);
    const file = program(`echo $$ > ${pids}; echo started; sleep 600`);
    const consumer = await start(broker, queue, file, { flags: ['--graceful-wait', '0.5'] });
    await consumer.waitFor(/"msg":"started"/);
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), { code: 5, signal: null }, consumer.stderr);
    assert.match(consumer.stderr, /"received":1,.*"acked":0,.*"msg":"stopped"/);
    const pid = readFileSync(pids, 'utf8').trim();
    await until(() => !existsSync(`/proc/${pid}`) || isZombie(pid), DEADLINE_MS, 'its end');
    assert.deepEqual(await bodiesIn(broker, queue, 1), ['1']);
  });

  it('that is gone when a message comes ends the consumer, with the message in its queue: 3', async () => {
    const queue = `/queue/${unique('program')}`;
    const file = program('exit 0');
    const consumer = await start(broker, queue, file);
    renameSync(file, `${file}.gone`);
    await put(broker, queue, '1', id);
    assert.deepEqual(await consumer.exit(), { code: 3, signal: null }, consumer.stderr);
    assert.match(consumer.stderr, /job\.sh cannot be started/);
    assert.deepEqual(await bodiesIn(broker, queue, 1), ['1']);
  });

  it('is killed with its consumer at each step, and nothing is lost', async () => {
    const name = unique('program');
    const folder = temporaryFolder();
    const steps = ['before', 'reading', 'after'];
    const file = program(`
      step=$(cat "$1/step")
      wait_at() { if [ "$step" = "$1" ]; then echo "at $1"; exec sleep 60; fi; }
      wait_at before
      body=$(cat)
      wait_at reading
      echo "$body" >> "$1/ledger"
      wait_at after`);
    await put(broker, `/queue/${name}`, '"one"', id);
    for (const step of steps) {
      writeFileSync(join(folder, 'step'), step);
      const consumer = await start(broker, `/queue/${name}`, file, { args: [folder] });
      await consumer.waitFor(new RegExp(`"msg":"at ${step}"`));
      consumer.signal('SIGKILL');
      await consumer.exit();
    }
    writeFileSync(join(folder, 'step'), 'none');
    const last = await start(broker, `/queue/${name}`, file, { args: [folder] });
    const ledger = join(folder, 'ledger');
    const lines = () => readFileSync(ledger, 'utf8').trim().split('\n');
    await until(() => lines().length === 2, DEADLINE_MS, 'the last attempt');
    assert.equal((await stopPubsub(last)).acked, 1);
    assert.deepEqual(await bodiesIn(broker, `/queue/${name}`), []);
  });
});

describe('a program that cannot be one', () => {
  const nobody = { env: at(1) };
  const refused = async (file: string, code: number, message: RegExp) => {
    const consumer = launch(nobody, '/queue/x', file);
    assert.deepEqual(await consumer.exit(), { code, signal: null }, consumer.stderr);
    assert.match(consumer.stderr, message);
  };

  it('is not there', () => refused('./nothing.sh', 3, /there is no program \.\/nothing\.sh/));
  it('is not in PATH', () => refused('no-such-program', 3, /in PATH; write a path like/));
  it('is not executable', () => {
    const file = join(temporaryFolder({ 'job.sh': 'exit 0' }), 'job.sh');
    return refused(file, 3, /is not executable: chmod \+x/);
  });

  it('is given beside a callback', async () => {
    const consumer = run('pubsub', ['/queue/x', './callbacks#ack', '--', 'true'], nobody);
    assert.equal((await consumer.exit()).code, 2);
    assert.match(consumer.stderr, /either the callback .* or the program true/);
  });
});

function isZombie(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(' Z ');
  } catch {
    return true;
  }
}
