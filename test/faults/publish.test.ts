/** Faults under `publish`: lines arrive all the same, transactions not at all, and what it says is true. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { brokersUnderTest, brokerUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, queueDepth } from '../support/messages.js';
import { run, type Running } from '../support/process.js';
import { startProxy, type Proxy } from '../support/proxy.js';
import { keepDeclarations, rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { until } from '../support/until.js';

const MESSAGES = 2000;
const WINDOW = 50;
const DEADLINE_MS = 60_000;

const inputOf = (ledger: Ledger) =>
  ledger
    .bodies()
    .map((body) => `${JSON.stringify(body)}\n`)
    .join('');
const through = ({ env }: BrokerUnderTest, { host, port }: Proxy) => ({
  ...env,
  STOMP_SERVER_HOST: host,
  STOMP_SERVER_PORT: String(port),
});

/** Runs `publish --lines` to its end with everything in the ledger. */
async function publish(ledger: Ledger, queue: string, flags: readonly string[], env: Record<string, string>) {
  const args = [`/queue/${queue}`, '--lines', '--window', String(WINDOW), ...flags];
  const running = run('publish', args, { env, input: inputOf(ledger) });
  const { code } = await running.exit(DEADLINE_MS);
  return Object.assign(running, { code });
}

/** Everything that arrived, into the ledger; each message must have come for the first time after all before it. */
async function takeAll(
  t: TestContext,
  broker: BrokerUnderTest,
  queue: string,
  ledger: Ledger,
  atLeast = MESSAGES,
) {
  const bodies = (await drainQueue(broker, `/queue/${queue}`, { atLeast })).map(({ body }) =>
    body.toString(),
  );
  const arrived = bodies.map((body) => (JSON.parse(body) as { n: number }).n);
  for (const n of arrived) ledger.count(n);
  ledger.report(t, broker);
  const first = [...new Set(arrived)];
  assert.deepEqual(
    first,
    [...first].sort((a, b) => a - b),
  );
}

const resumeLine = ({ stderr }: Running) => Number(/--resume-from (\d+)/.exec(stderr)?.[1]);
const sentOf = (running: Running) => Number(running.said('published')[0]?.sent);

for (const broker of brokersUnderTest()) {
  describe(`publishing faults: ${broker.name}`, { concurrency: 2 }, () => {
    test('lines published while connections are cut arrive, every one, in order', async (t) => {
      const [queue, ledger] = [uniqueName(t), new Ledger(MESSAGES)];
      await using proxy = await startProxy(broker);
      const cuts = 4;
      let [made, isNextDue] = [0, true];
      // In a frame that is sent, or when receipts are on their way. On RabbitMQ a connection is renewed after some seconds.
      proxy.onConnection(() => {
        if (!isNextDue || made === cuts) return;
        isNextDue = false;
        const [direction, bytes] =
          made % 2 === 0 ? (['toServer', 100_000] as const) : (['toClient', 8000] as const);
        proxy.afterBytes(direction, bytes, () => {
          [made, isNextDue] = [made + 1, true];
          proxy.cut();
        });
      });
      const running = await publish(ledger, queue, [], through(broker, proxy));
      assert.equal(running.code, 0, running.stderr);
      await takeAll(t, broker, queue, ledger);
      assert.equal(ledger.lost, 0);
      ledger.assertRepeatedAtMost(cuts * WINDOW);
      assert.equal(made, cuts);
      assert.ok(proxy.connections > cuts);
      // What was sent again is what was unconfirmed, and it is counted.
      assert.ok(sentOf(running) > MESSAGES && sentOf(running) <= MESSAGES + cuts * WINDOW, running.stderr);
    });

    test('a broker that is gone for good ends it with counts that are true, and it goes on where it stopped', async (t) => {
      const [queue, ledger] = [uniqueName(t), new Ledger(MESSAGES)];
      await using proxy = await startProxy(broker);
      proxy.onConnection((count) => void (count === 1 && proxy.refuse()));
      proxy.cutAfterBytes('toServer', 300_000);
      const stopped = await publish(ledger, queue, ['--reconnect-for', '1'], through(broker, proxy));
      assert.equal(stopped.code, 4, stopped.stderr);
      assert.match(
        stopped.stderr,
        /ECONNREFUSED.*; given up after 1 s; \d+ confirmed, \d+ unknown; go on with/,
      );
      const line = String(resumeLine(stopped));
      const resumed = await publish(ledger, queue, ['--resume-from', line], broker.env);
      assert.equal(resumed.code, 0, resumed.stderr);
      await takeAll(t, broker, queue, ledger);
      assert.equal(ledger.lost, 0);
      ledger.assertRepeatedAtMost(WINDOW);
    });

    test('a signal in the middle loses and repeats nothing, when it goes on where it stopped', async (t) => {
      const [queue, ledger] = [uniqueName(t), new Ledger(MESSAGES)];
      const args = [`/queue/${queue}`, '--lines', '--window', '2', '--log-level', 'debug'];
      const running = run('publish', args, { env: broker.env, input: null });
      // There is more to come, however much has been sent when the signal arrives.
      const lines = inputOf(ledger).split(/(?<=\n)/);
      running.child.stdin.write(lines.slice(0, MESSAGES / 2).join(''));
      await running.says('connected');
      running.signal('SIGINT');
      assert.equal((await running.exit(DEADLINE_MS)).code, 5, running.stderr);
      assert.match(running.stderr, /stopped before the end of the input; \d+ confirmed, 0 unknown/);
      const line = String(resumeLine(running));
      const resumed = await publish(ledger, queue, ['--resume-from', line], broker.env);
      assert.equal(resumed.code, 0, resumed.stderr);
      await takeAll(t, broker, queue, ledger);
      assert.deepEqual([ledger.lost, ledger.repeated], [0, 0]);
    });

    test('a connection cut in a transaction of many undoes that one, and it goes on after the last', async (t) => {
      const [queue, ledger] = [uniqueName(t), new Ledger(MESSAGES)];
      const size = 150;
      await using proxy = await startProxy(broker);
      proxy.cutAfterBytes('toServer', 300_000);
      const flags = ['--transaction-size', String(size)];
      const stopped = await publish(ledger, queue, flags, through(broker, proxy));
      assert.equal(stopped.code, 4, stopped.stderr);
      const line = resumeLine(stopped);
      assert.ok(line > 0 && line % size === 0, stopped.stderr);
      const resumed = await publish(ledger, queue, [...flags, '--resume-from', String(line)], broker.env);
      assert.equal(resumed.code, 0, resumed.stderr);
      await takeAll(t, broker, queue, ledger);
      assert.equal(ledger.lost, 0);
      // Only one that was cut when it was being committed may be there twice.
      const isUnknown = stopped.stderr.includes('may or may not have been carried out');
      assert.ok(ledger.repeated === 0 || (isUnknown && ledger.repeated === size), stopped.stderr);
    });
  });
}

const skip = brokerUnderTest('rabbitmq') === undefined ? 'not in this run' : (rabbitmqMissing() ?? false);
describe('publishing faults: a RabbitMQ', { skip, concurrency: 2 }, () => {
  test('that is killed and started again in the middle gets every line', async (t) => {
    await using broker = await startRabbitmq();
    const [queue, ledger] = [uniqueName(t), new Ledger(MESSAGES)];
    const args = [`/queue/${queue}`, '--lines', '--window', String(WINDOW)];
    const running = run('publish', args, { env: broker.env, input: null });
    const lines = inputOf(ledger).split(/(?<=\n)/);
    running.child.stdin.write(lines.slice(0, MESSAGES / 2).join(''));
    await until(
      async () => (await queueDepth(broker, queue)) >= MESSAGES / 2 - WINDOW,
      DEADLINE_MS,
      'half of it in the queue',
    );
    await keepDeclarations(broker);
    running.child.stdin.end(lines.slice(MESSAGES / 2).join(''));
    await broker.down();
    await running.says('no connection');
    await broker.up();
    assert.deepEqual(await running.exit(DEADLINE_MS), { code: 0, signal: null }, running.stderr);
    await takeAll(t, broker, queue, ledger);
    assert.equal(ledger.lost, 0);
    ledger.assertRepeatedAtMost(WINDOW);
  });

  test('that is blocked by a memory alarm is said to be, given up, and published to when the alarm is over', async (t) => {
    await using broker = await startRabbitmq();
    const blocked = /no receipt for some seconds: the broker is busy, or blocked by an alarm/;
    const env = { ...broker.env, STOMP_RECEIPT_TIMEOUT: '8' };
    const [queue, ledger] = [uniqueName(t), new Ledger(MESSAGES)];
    await broker.ctl!('set_vm_memory_high_watermark', 'absolute', '1');

    // So much that the broker cannot take all of it without reading.
    const long = `"${'x'.repeat(10_000)}"\n`.repeat(2000);
    const ways = [['--window', String(WINDOW)], ['--transaction']].map(async (flags) => {
      const running = run('publish', [`/queue/${queue}-blocked`, '--lines', ...flags], { env, input: long });
      assert.equal((await running.exit(DEADLINE_MS)).code, 4, running.stderr);
      assert.match(running.stderr, blocked);
      assert.match(running.stderr, /within 8 s \(the broker may be blocked/);
      return running.stderr;
    });
    const [each, transaction] = await Promise.all(ways);
    assert.match(each!, new RegExp(`; \\d+ confirmed, ${WINDOW} unknown; go on with --resume-from \\d+\\n$`));
    assert.match(transaction!, /; nothing was published\n$/);

    const waiting = run('publish', [`/queue/${queue}`, '--lines'], {
      env: broker.env,
      input: inputOf(ledger),
    });
    await waiting.waitFor(blocked);
    await broker.ctl!('set_vm_memory_high_watermark', 'absolute', '1GB');
    assert.equal((await waiting.exit(DEADLINE_MS)).code, 0, waiting.stderr);
    await takeAll(t, broker, queue, ledger);
    assert.deepEqual([ledger.lost, ledger.repeated], [0, 0]);
  });
});
