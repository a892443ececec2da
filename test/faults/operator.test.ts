/**
 * Moving and redriving through connections that are cut, and killed, at each step: between a message's delivery, the SEND
 * of its copy, the receipt, the ACK and its receipt. Nothing is lost, and repeats stay within what was under way.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { operate, resultOf, startOperator } from '../e2e/operator.js';
import { temporaryFolder, unique } from '../e2e/commands.js';
import { brokersUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { canCount, declaringHeaders, drainQueue, putAll, queueDepth } from '../support/messages.js';
import { type Direction, type Proxy, startProxy } from '../support/proxy.js';
import { connectRaw } from '../support/raw-client.js';
import { until } from '../support/until.js';

/** Put in before each fault. */
const EACH = 30;
const WINDOW = 10;
const DEADLINE_MS = 60_000;
/** Few runs end with it; a broker may stand still for a while. */
const IDLE = ['--idle', '3'];

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

/** How many wait in a queue that nobody consumes from: where nobody can count without taking, they are put in again. */
async function depthOf(broker: BrokerUnderTest, queue: string): Promise<number> {
  if (canCount(broker)) return queueDepth(broker, queue);
  const messages = await drainQueue(broker, queue);
  for (const { body, headers } of messages)
    await putAll(broker, queue, [body], {
      'correlation-id': headers['correlation-id'],
      'tshoot-destination': headers['tshoot-destination'],
    });
  return messages.length;
}

/** What is left of a fault that was not met does not meet the next run. */
const forgetFault = (proxy: Proxy, direction: Direction) =>
  proxy.afterBytes(direction, Infinity, () => undefined);

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** Without a fault, to the end; then each of the first so many must have arrived. */
async function finish(
  broker: BrokerUnderTest,
  { env, args, from, to }: Operation,
  count: number,
  interruptions: number,
): Promise<void> {
  // Again if it was quiet for long and not empty: a broker may stand still, or notice late that a connection has ended.
  for (let tries = 0; tries === 0 || (tries < 5 && (await depthOf(broker, from)) > 0); tries++)
    await operate({ env }, [...args, ...IDLE]);
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
            const { code } = await running.exit(DEADLINE_MS);
            forgetFault(proxy, direction);
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
            forgetFault(proxy, direction);
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
        const { code } = await running.exit(DEADLINE_MS);
        forgetFault(proxy, direction);
        if (code === 4) {
          cuts++;
          const told = /; (\d+) messages? removed and saved(?:, up to (\d+) more may be)?: keep the file$/m;
          const [, removed = '', maybe = '0'] = told.exec(running.stderr) ?? [];
          assert.notEqual(removed, '', running.stderr);
          let gone = NaN;
          // The broker may notice late that the connection has ended: what was handed out is there again then.
          const isTrue = async () => {
            gone = before - (await depthOf(broker, queue));
            return gone >= Number(removed) && gone <= Number(removed) + Number(maybe);
          };
          await until(isTrue, DEADLINE_MS, () => `what it says is true; ${gone} gone: ${running.stderr}`);
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
        await until(() => new Set(arrived()).size === count, DEADLINE_MS, 'all messages are moved');
        running.signal('SIGTERM');
        const result = await resultOf(running);
        assert.equal(result.stopped, 'signal');
        assert.ok(source.connections > 1 && target.connections > 1, running.stderr);
        // What was under way at a loss may be back, and not have been moved again.
        const rest = await drainQueue(broker, operation.from);
        const all = arrived().length + rest.length;
        assert.ok(all <= count + 2 * WINDOW, `${arrived().length} arrived, ${rest.length} are left`);
      },
    );
  });
}
