/** The files of examples/, by the commands at their head, as a user types them in a shell. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startBroker, type TestBroker } from '../../src/testing.js';
import { packageRoot, runProgram, type Exit, type Running, type RunOptions } from '../support/process.js';
import { until } from '../support/until.js';
import { DEADLINE_MS, temporaryFolder } from './commands.js';

const done: Exit = { code: 0, signal: null };

/** The commands in the opening comment of an example. */
function commandsOf(file: string): string[] {
  const source = readFileSync(join(packageRoot, 'examples', file), 'utf8');
  return [...source.matchAll(/^(?: \*|#) {5}(\S.*)$/gm)].map(([, command]) => command ?? '');
}

const type = (command: string, broker: Pick<TestBroker, 'env'>, options: RunOptions = {}): Running =>
  runProgram('/bin/sh', ['-c', command], { ...options, env: { ...broker.env, ...options.env } });

/** Types a command that must end well. */
async function typed(...given: Parameters<typeof type>): Promise<Running> {
  const running = type(...given);
  assert.deepEqual(await running.exit(), done, `${running.stderr}${running.stdout}`);
  return running;
}

/** Ctrl-C: a terminal tells all that runs in it. */
async function interrupt(running: Running): Promise<void> {
  process.kill(-running.pid, 'SIGINT');
  await running.exit();
}

const bodiesIn = (broker: TestBroker, queue: string) => broker.messages(queue).map(({ body }) => body);

describe('examples:', { concurrency: 2 }, () => {
  it('a callback with setup and teardown writes its orders into its file', async () => {
    await using broker = await startBroker();
    const folder = temporaryFolder();
    const file = join(folder, 'orders.ndjson');
    const [consume = '', publish = ''] = commandsOf('orders.ts');
    const consumer = type(consume, broker, { env: { ORDERS_FILE: file } });
    await consumer.says('subscribed');
    await typed(publish, broker);
    broker.publish('/queue/orders', {}, { 'correlation-id': 'c' });
    await until(() => broker.depth('DLQ.orders') === 1, DEADLINE_MS, 'the order without an id');
    await until(() => broker.depth('orders') === 0, DEADLINE_MS, 'the other order');
    await interrupt(consumer);
    assert.match(consumer.stderr, /an order without an id/);
    assert.match(consumer.stderr, /"msg":"stopped"/);
    assert.equal(readFileSync(file, 'utf8'), '{"id":1,"total":9.5}\n');
  });

  it('a callback that publishes sends an invoice for its order', async () => {
    await using broker = await startBroker();
    const [consume = '', publish = '', peek = ''] = commandsOf('invoices.ts');
    const consumer = type(consume, broker);
    await consumer.says('subscribed');
    await typed(publish, broker);
    await until(() => broker.depth('invoices') === 1, DEADLINE_MS, 'the invoice');
    await interrupt(consumer);
    const { stdout } = await typed(peek, broker);
    assert.equal((JSON.parse(stdout) as { body: unknown }).body, '{"order":1,"amount":9.5}');
    assert.equal(broker.depth('orders'), 0);
  });

  it('the test of a callback passes', async () => {
    const [test = ''] = commandsOf('invoices.test.ts');
    const { stdout } = await typed(test, { env: {} });
    assert.match(stdout, /\bpass 3$/m);
    assert.match(stdout, /\bfail 0$/m);
  });

  it('a script publishes the lines of a file, and puts that aside', async () => {
    await using broker = await startBroker();
    const cwd = temporaryFolder();
    const [write = '', publish = ''] = commandsOf('publish-orders.sh').map((command) =>
      command.replaceAll('orders.ndjson', join(cwd, 'orders.ndjson')),
    );
    await typed(write, broker);
    await typed(publish, broker);
    const orders = [1, 2, 3].map((id) => ({ id, total: 9.5 }));
    assert.deepEqual(bodiesIn(broker, '/queue/orders'), orders);
    await assert.rejects(typed(publish, broker));
    assert.equal(broker.depth('orders'), orders.length);
  });

  it('a script publishes nothing of a file with a line that is not JSON, and leaves it', async () => {
    await using broker = await startBroker();
    const file = join(temporaryFolder({ 'orders.ndjson': '{"id":1}\n{"id"\n' }), 'orders.ndjson');
    const [, publish = ''] = commandsOf('publish-orders.sh');
    const script = type(publish.replace('orders.ndjson', file), broker);
    assert.deepEqual(await script.exit(), { code: 2, signal: null });
    assert.equal(broker.depth('orders'), 0);
    assert.equal(readFileSync(file, 'utf8'), '{"id":1}\n{"id"\n');
  });

  it('a program consumes until it is told to stop', async () => {
    await using broker = await startBroker();
    const [consume = '', publish = ''] = commandsOf('consumer.ts');
    const consumer = type(consume, broker);
    await consumer.says('subscribed');
    await typed(publish, broker);
    await consumer.waitFor(/"order":1,"msg":"order received"/);
    await interrupt(consumer);
    assert.equal(consumer.stdout, '1 orders processed, 0 in DLQ.orders\n');
    assert.equal(broker.depth('orders'), 0);
  });

  it('a program ends with what the broker refuses', async () => {
    await using broker = await startBroker({ user: 'app', password: 'secret' });
    const env = { STOMP_SERVER_PASSWORD: 'wrong' };
    for (const file of ['consumer.ts', 'publisher.ts']) {
      const [start = ''] = commandsOf(file);
      const program = type(start, broker, { env });
      assert.notEqual((await program.exit()).code, 0);
      assert.match(program.stderr, /^broker-refused: /m);
    }
  });

  it('a program publishes with confirmation and in a transaction', async () => {
    await using broker = await startBroker();
    const [publish = ''] = commandsOf('publisher.ts');
    const { stdout } = await typed(publish, broker);
    assert.equal(stdout, 'the broker has confirmed every order\n');
    const orders = [1, 2, 3, 4, 5].map((id) => ({ id, total: 9.5 }));
    assert.deepEqual(bodiesIn(broker, '/queue/orders'), orders);
  });
});
