/** `pubsub peek`: what it shows, and that it changes nothing. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { brokersUnderTest } from '../support/brokers.js';
import { put, putAll } from '../support/messages.js';
import { packageRoot, runProgram } from '../support/process.js';
import { findProgram } from '../support/server-process.js';
import { anyBroker, fixture, skipWithout, startPubsub, stopPubsub, unique } from './commands.js';
import { bodiesIn, IDLE, onTerminal, refused, startOperator } from './operator.js';

interface Shown {
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly bodyBase64?: string;
}

/** Runs it, with 0 as its end; resolves with the lines it printed. */
async function peek(...given: Parameters<typeof startOperator>): Promise<Shown[]> {
  const running = startOperator(...given);
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  const lines = running.stdout.split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Shown);
}

for (const broker of brokersUnderTest()) {
  describe(`peek: ${broker.name}`, { concurrency: 4 }, () => {
    it('shows headers and bodies, whatever is in them, and leaves all in place, in order', async () => {
      const queue = unique('peek');
      const bodies = ['{"n": 1.0}', Buffer.from([0, 0xff]), 'no JSON', '', '5'];
      await putAll(broker, `/queue/${queue}`, bodies, { 'correlation-id': 'c:1\n', tenant: 'é' });
      for (let again = 0; again < 2; again++) {
        const shown = await peek(broker, ['peek', `/queue/${queue}`, ...IDLE]);
        assert.deepEqual(
          shown.map(({ body, bodyBase64 }) => body ?? Buffer.from(bodyBase64 ?? '', 'base64')),
          bodies,
        );
        assert.equal(shown[0]!.headers['correlation-id'], 'c:1\n');
        assert.equal(shown[0]!.headers.tenant, 'é');
      }
      const left = await bodiesIn(broker, queue);
      assert.deepEqual(
        left,
        bodies.map((body) => Buffer.from(body).toString()),
      );
    });

    it('says that what it shows could not be written', async () => {
      const queue = unique('peek');
      await put(broker, queue, '1');
      const program = [process.execPath, join(packageRoot, 'bin/pubsub.js'), 'peek', queue, ...IDLE];
      const peeking = runProgram('sh', ['-c', 'exec "$@" >/dev/full', 'sh', ...program], { env: broker.env });
      assert.deepEqual(await peeking.exit(), { code: 4, signal: null });
      assert.match(peeking.stderr, /^pubsub: error: stdout cannot be written: ENOSPC/m);
    });

    it('shows the first ten, or --count of them, without waiting for more', async () => {
      const queue = unique('peek');
      const all = Array.from({ length: 25 }, (_, n) => String(n));
      await putAll(broker, `/queue/${queue}`, all);
      const count = async (...flags: string[]) =>
        (await peek(broker, ['peek', queue, '--idle', '60', ...flags])).map(({ body }) => body);
      assert.deepEqual(await count(), all.slice(0, 10));
      assert.deepEqual(await count('--count', '20'), all.slice(0, 20));
      assert.deepEqual(await bodiesIn(broker, queue), all);
    });

    it('shows nothing of an empty queue, and ends', async () => {
      const queue = unique('peek');
      await put(broker, `/queue/${queue}`, 1);
      await bodiesIn(broker, queue);
      assert.deepEqual(await peek(broker, ['peek', queue, ...IDLE]), []);
    });

    it('takes nothing from a running consumer for good', async () => {
      const queue = unique('peek');
      const consumer = await startPubsub(broker, queue, fixture('plain.js#ack'));
      const looking = peek(broker, ['peek', queue, ...IDLE]);
      await putAll(broker, `/queue/${queue}`, [1, 2, 3], { 'correlation-id': 'c' });
      await looking;
      await consumer.waitFor(/(?:"source":"console"[^]*){3}/);
      const { acked } = await stopPubsub(consumer);
      assert.equal(acked, 3);
    });

    if (broker.capabilities.queueArguments) {
      it('ends with 4 when there is no such queue', async () => {
        const { code, complaint } = await refused(broker, ['peek', unique('missing')]);
        assert.equal(code, 4);
        assert.match(complaint, /no queue 'missing-/);
      });
    }
  });
}

describe('peek', () => {
  const broker = anyBroker();

  it('refuses more than can be held at once, with 2', async () => {
    const { code, complaint } = await refused({ env: {} }, ['peek', 'x', '--count', '65536']);
    assert.equal(code, 2);
    assert.match(complaint, /--count: a whole number from 1 to 65535 expected/);
  });

  it('may be piped into a reader that leaves', skipWithout(broker), async () => {
    const queue = unique('peek');
    await putAll(broker!, `/queue/${queue}`, ['x'.repeat(200_000), 'y'.repeat(200_000)]);
    const running = startOperator(broker!, ['peek', queue, '--count', '2']);
    running.child.stdout.destroy();
    assert.deepEqual(await running.exit(), { code: 0, signal: null });
    assert.equal(running.stderr, '');
  });

  const script = findProgram('script');
  it(
    'is readable on a terminal, which gets no control characters from a message',
    script === undefined ? { skip: 'no "script" to make a terminal with' } : skipWithout(broker),
    async () => {
      const queue = unique('peek');
      const bodies = ['{"n":1,"text":"\\u001b[2J"}', '\x1b]0;title\x07', '{"n": 12345678901234567890}'];
      await putAll(broker!, `/queue/${queue}`, bodies, { tenant: 'a\x1b[31m\u009b31m' });
      const screen = await onTerminal(broker!, `peek ${queue} --count 3`);
      assert.match(screen, /tenant: a\\u001b\[31m\\u009b31m\r\n/);
      assert.match(screen, /\{\r\n {2}"n": 1,\r\n {2}"text": "\\u001b\[2J"\r\n\}/);
      assert.match(screen, /\\u001b\]0;title\\u0007/);
      assert.match(screen, /\{"n": 12345678901234567890\}/);
      assert.match(screen, /3 messages shown/);
    },
  );
});
