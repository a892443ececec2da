/**
 * Moving and redriving through connections that are cut, and killed, at each step: between a message's delivery, the SEND
 * of its copy, the receipt, the ACK and its receipt. Nothing is lost, and repeats stay within what was under way.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { IDLE, operate, resultOf, startOperator } from '../e2e/operator.js';
import { DEADLINE_MS, temporaryFolder, unique } from '../e2e/commands.js';
import { brokersUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { canCount, declaringHeaders, drainQueue, putAll, queueDepth } from '../support/messages.js';
import { type Direction, type Proxy, startProxy } from '../support/proxy.js';
import { connectRaw } from '../support/raw-client.js';
import { until } from '../support/until.js';

/** Put in before each fault. */
const EACH = 30;
const WINDOW = 10;

/** In the login, the first messages, the middle and near the end of what each of the connections carries. */
const offsets: Readonly<Record<Direction, readonly number[]>> = {
  toServer: [60, 1_500, 4_000],
  toClient: [80, 900, 5_000],
};
const faults = (['toServer', 'toClient'] as const).flatMap((direction) =>
  offsets[direction].map((bytes) => ({ direction, bytes })),
);

const behind = (broker: BrokerUnderTest, { host, port }: Proxy) => ({
  ...broker.env,
  STOMP_SERVER_HOST: host,
  STOMP_SERVER_PORT: String(port),
});

interface Operation {
  /** Puts in as many more, numbered on. */
  readonly put: (count: number) => Promise<void>;
  readonly from: string;
  readonly to: string;
  readonly args: readonly string[];
  /** The connections that a fault may meet: one proxy, or one for each side. */
  readonly proxies: readonly Proxy[];
  readonly env: Readonly<Record<string, string>>;
}

async function moving(t: TestContext, broker: BrokerUnderTest): Promise<Operation> {
  const [from, to] = [unique('move-fault'), unique('moved-fault')];
  const [source, target] = [await startProxy(broker), await startProxy(broker)];
  t.after(() => Promise.all([source.close(), target.close()]));
  const args = ['move-messages', from, to, source.host, String(source.port)];
  return {
    put: putter(broker, from),
    from,
    to,
    args,
    proxies: [source, target],
    env: behind(broker, target),
  };
}

async function redriving(t: TestContext, broker: BrokerUnderTest): Promise<Operation> {
  const to = unique('redrive-fault');
  const proxy = await startProxy(broker);
  t.after(() => proxy.close());
  const from = `DLQ.${to}`;
  const put = putter(broker, from, { 'tshoot-destination': `/queue/${to}` });
  return { put, from, to, args: ['redrive', to], proxies: [proxy], env: behind(broker, proxy) };
}

function putter(broker: BrokerUnderTest, queue: string, headers = {}): Operation['put'] {
  let next = 0;
  return (count) => {
    const bodies = Array.from({ length: count }, () => next++);
    return putAll(broker, `/queue/${queue}`, bodies, { 'correlation-id': 'c', ...headers });
  };
}

/** How many wait in a queue that nobody consumes from: where nobody can count without taking, by looking. */
async function depthOf(broker: BrokerUnderTest, queue: string): Promise<number> {
  if (canCount(broker)) return queueDepth(broker, queue);
  const looking = startOperator(broker, ['peek', queue, '--count', '10000', ...IDLE]);
  await looking.exit();
  return looking.stdout.split('\n').length - 1;
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** Without a fault, to the end; then each of the first so many must have arrived. */
async function finish(
  broker: BrokerUnderTest,
  { env, args, from, to }: Operation,
  count: number,
  interruptions: number,
): Promise<void> {
  await operate({ env }, [...args, '--idle', '1.5']);
  assert.equal((await drainQueue(broker, from)).length, 0);
  const arrived = (await drainQueue(broker, to, { atLeast: count })).map(({ body }) =>
    Number(body.toString()),
  );
  assert.deepEqual(
    [...new Set(arrived)].sort((a, b) => a - b),
    numbers(count),
  );
  const repeated = arrived.length - count;
  const most = interruptions * WINDOW;
  assert.ok(repeated <= most, `${repeated} repeated, at most ${most} were under way`);
}

const commands = { 'move-messages': moving, redrive: redriving };

for (const broker of brokersUnderTest()) {
  describe(`operator commands and faults: ${broker.name}`, { concurrency: 3 }, () => {
    for (const [name, prepare] of Object.entries(commands)) {
      it(`${name} loses nothing when a connection is cut, wherever that is`, async (t) => {
        const operation = await prepare(t, broker);
        let [puts, interruptions] = [0, 0];
        for (const proxy of operation.proxies) {
          for (const { direction, bytes } of faults) {
            await operation.put(EACH);
            puts += EACH;
            proxy.cutAfterBytes(direction, bytes);
            const running = startOperator(operation, [
              ...operation.args,
              '--window',
              String(WINDOW),
              ...IDLE,
            ]);
            const { code } = await running.exit();
            // Products differ in what they send: a connection may end before the fault.
            if (code === 0) continue;
            interruptions++;
            assert.equal(code, 4, running.stderr);
            assert.match(
              running.stderr,
              /^pubsub: error: .*; \d+ messages? (?:moved|sent back)(?:, up to (?:1?\d|20) more may be)?$/m,
            );
          }
        }
        const expected = operation.proxies.length * 4;
        assert.ok(interruptions >= expected, `${interruptions} faults met a run, of ${expected} at least`);
        await finish(broker, operation, puts, interruptions);
      });

      it(`${name} loses nothing when it is killed, wherever that is`, async (t) => {
        const operation = await prepare(t, broker);
        let [puts, interruptions] = [0, 0];
        for (const proxy of operation.proxies) {
          for (const { direction, bytes } of faults) {
            await operation.put(EACH);
            puts += EACH;
            const reached = new Promise<'reached'>((resolve) =>
              proxy.afterBytes(direction, bytes, () => resolve('reached')),
            );
            const running = startOperator(operation, [
              ...operation.args,
              '--window',
              String(WINDOW),
              ...IDLE,
            ]);
            if ((await Promise.race([reached, running.exited])) === 'reached') interruptions++;
            running.signal('SIGKILL');
            await running.exit();
            for (const each of operation.proxies) each.cut();
            proxy.afterBytes(direction, Infinity, () => undefined);
          }
        }
        const expected = operation.proxies.length * 4;
        assert.ok(interruptions >= expected, `${interruptions} kills met a run, of ${expected} at least`);
        await finish(broker, operation, puts, interruptions);
      });
    }

    it('ack-all-messages --save tells how many it may have removed when its connection is cut', async (t) => {
      const [queue, again] = [unique('save-fault'), unique('saved-fault')];
      const proxy = await startProxy(broker);
      t.after(() => proxy.close());
      const put = putter(broker, queue);
      const folder = temporaryFolder();
      let [puts, cuts] = [0, 0];
      for (const [run, { direction, bytes }] of faults.entries()) {
        await put(EACH);
        puts += EACH;
        proxy.cutAfterBytes(direction, bytes);
        const file = join(folder, `${run}.ndjson`);
        const args = [
          'ack-all-messages',
          queue,
          '--yes',
          '--save',
          file,
          '--window',
          String(WINDOW),
          ...IDLE,
        ];
        const before = await depthOf(broker, queue);
        const running = startOperator({ env: behind(broker, proxy) }, args);
        if ((await running.exit()).code === 4) {
          cuts++;
          const told = /; (\d+) messages? removed and saved(?:, up to (\d+) more may be)?: keep the file$/m;
          const [, removed = '', maybe = '0'] = told.exec(running.stderr) ?? [];
          assert.notEqual(removed, '', running.stderr);
          const gone = before - (await depthOf(broker, queue));
          assert.ok(
            gone >= Number(removed) && gone <= Number(removed) + Number(maybe),
            `${gone} gone: ${running.stderr}`,
          );
        }
        await operate(broker, ['restore', file, again]);
      }
      assert.ok(cuts >= 4, `${cuts} cuts met a run`);
      const kept = [...(await drainQueue(broker, queue)), ...(await drainQueue(broker, again))];
      const bodies = new Set(kept.map(({ body }) => Number(body.toString())));
      assert.deepEqual(
        [...bodies].toSorted((a, b) => a - b),
        numbers(puts),
      );
    });

    it(
      'move-messages --follow comes back after each loss of a connection',
      needs(broker, 'returnsWhatWasCut'),
      async (t) => {
        const operation = await moving(t, broker);
        const count = 200;
        await operation.put(count);
        const args = [...operation.args, '--follow', '--window', String(WINDOW), '--wait-to-connect', '0.5'];
        const [source, target] = operation.proxies as [Proxy, Proxy];
        source.cutAfterBytes('toClient', 9_000);
        target.cutAfterBytes('toClient', 3_000);
        const running = startOperator(operation, args);
        const client = await connectRaw(broker);
        t.after(() => client.destroy());
        const declaring = declaringHeaders(broker, `/queue/${operation.to}`);
        await client.subscribe(`/queue/${operation.to}`, declaring);
        const arrived = () =>
          client.frames.filter(({ command }) => command === 'MESSAGE').map(({ body }) => body.toString());
        await until(() => new Set(arrived()).size === count, 3 * DEADLINE_MS, 'all messages are moved');
        running.signal('SIGTERM');
        const result = await resultOf(running);
        assert.equal(result.stopped, 'signal');
        assert.ok(source.connections > 1 && target.connections > 1, running.stderr);
        assert.ok(arrived().length <= count + 2 * WINDOW, `${arrived().length} arrived`);
        assert.equal((await drainQueue(broker, operation.from)).length, 0);
      },
    );
  });
}
