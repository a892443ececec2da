/** How a consumer ends: by each signal, idle or with callbacks in flight, in time or not; and what does not end it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { bodiesIn, put, putAll } from '../support/messages.js';
import { startProxy } from '../support/proxy.js';
import type { Running } from '../support/process.js';
import { freePorts } from '../support/server-process.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  at,
  DEADLINE_MS,
  fixture,
  pubsub,
  skipWithout,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';
import { startScriptedServer } from './scripted-server.js';

const signals = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const;
const id = { 'correlation-id': 'c-1' };
const zero = { code: 0, signal: null };

/** A second signal counts only after a while, because the first may come twice: so it is sent until it does. */
async function signalUntilGone(running: Running, signal: NodeJS.Signals): Promise<void> {
  let isGone = false;
  void running.exited.then(() => (isGone = true));
  await until(
    () => {
      if (!isGone) running.signal(signal);
      return isGone;
    },
    DEADLINE_MS,
    () => `its end after more signals: ${running.stderr}`,
  );
}

describe('stopping', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;
  /** `open` lets its callbacks go on. */
  const held = async (queue: string, flags: string[] = []) => {
    const gate = join(temporaryFolder(), 'gate');
    const env = { GATE: gate };
    const consumer = await startPubsub(broker, queue, fixture('stop.mjs#held'), { flags, env });
    return Object.assign(consumer, { open: () => writeFileSync(gate, '') });
  };
  const half = { STOMP_GRACEFUL_WAIT_SECONDS: '0.5' };
  /** With a message that is still being processed; the status is 5. */
  const stopAtDeadline = async (callback: string, flags: string[] = []) => {
    const queue = `/queue/${unique('stop')}`;
    await put(broker, queue, '1', id);
    const consumer = await startPubsub(broker, queue, fixture(`stop.mjs#${callback}`), { flags, env: half });
    await consumer.waitFor(/"msg":"started 1"/);
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), { code: 5, signal: null }, consumer.stderr);
    return { consumer, queue };
  };

  for (const signal of signals) {
    it(`${signal} ends an idle consumer with 0`, async () => {
      const idle = await startPubsub(broker, `/queue/${unique('stop')}`, fixture('stop.mjs#held'));
      idle.signal(signal);
      assert.deepEqual(await idle.exit(), zero, idle.stderr);
      assert.equal(idle.said('stopped')[0]?.received, 0);
    });

    it(`${signal} lets the callback in flight ack, starts no other and ends with 0; the rest stays in the queue`, async () => {
      const queue = `/queue/${unique('stop')}`;
      await putAll(broker, queue, ['1', '2', '3'], id);
      const consumer = await held(queue);
      await consumer.waitFor(/"msg":"started 1"/);
      consumer.signal(signal);
      await consumer.says('waiting for callbacks');
      consumer.open();
      assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
      assert.match(consumer.stderr, /"msg":"settled 1 sent"/);
      assert.doesNotMatch(consumer.stderr, /started [23]/);
      const summary = consumer.said('stopped')[0];
      assert.deepEqual([summary?.received, summary?.acked], [1, 1]);
      assert.deepEqual(await bodiesIn(broker, queue, 2), ['2', '3']);
    });

    it(`a second ${signal} ends at once with 128 + its number, and the message goes back`, async () => {
      const queue = `/queue/${unique('stop')}`;
      await put(broker, queue, '1', id);
      const consumer = await held(queue);
      await consumer.waitFor(/"msg":"started 1"/);
      consumer.signal('SIGTERM');
      await consumer.says('stopping');
      await signalUntilGone(consumer, signal);
      assert.deepEqual(await consumer.exit(), { code: 128 + constants.signals[signal], signal: null });
      assert.doesNotMatch(consumer.stderr, /"msg":"settled/);
      assert.deepEqual(await bodiesIn(broker, queue, 1), ['1']);
    });
  }

  it('the same signal twice at once, as from a terminal and npm, is one request', async () => {
    let isAtOnce = false;
    // Where this process is held up between the two, the second one counts.
    for (let tries = 0; !isAtOnce && tries < 10; tries++) {
      const queue = `/queue/${unique('stop')}`;
      await put(broker, queue, '1', id);
      const consumer = await held(queue);
      await consumer.waitFor(/"msg":"started 1"/);
      const sinceMs = performance.now();
      consumer.signal('SIGINT');
      await consumer.says('stopping');
      consumer.signal('SIGINT');
      isAtOnce = performance.now() - sinceMs < 400;
      consumer.open();
      const exit = await consumer.exit();
      if (!isAtOnce) continue;
      assert.deepEqual(exit, zero, consumer.stderr);
      assert.deepEqual(await bodiesIn(broker, queue, 0), []);
    }
    assert.ok(isAtOnce, 'this machine takes too long for two signals');
  });

  for (const inline of [[], ['--inline']]) {
    const where = inline.length === 0 ? 'in a worker' : 'inline';

    it(`all of several callbacks in flight finish and ack, ${where}`, async () => {
      const queue = `/queue/${unique('stop')}`;
      await putAll(broker, queue, ['1', '2', '3', '4'], id);
      const consumer = await held(queue, ['--concurrency', '3', ...inline]);
      await consumer.waitFor(/"msg":"started 3"/);
      consumer.signal('SIGTERM');
      await consumer.says('waiting for callbacks');
      consumer.open();
      assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
      assert.deepEqual(await bodiesIn(broker, queue, 1), ['4']);
    });

    it(`a stuck callback is told at the deadline, the status is 5 and the message goes back, ${where}`, async () => {
      let isTold = false;
      // A worker that does not come to the processor at that moment is ended without a word.
      for (let tries = 0; !isTold && tries < (inline.length === 0 ? 4 : 1); tries++) {
        const { consumer, queue } = await stopAtDeadline('stuck', inline);
        isTold = (consumer.stdout + consumer.stderr).includes('told to stop');
        assert.match(
          consumer.stderr.trimEnd().split('\n').at(-1) ?? '',
          /^pubsub: error: .*STOMP_GRACEFUL_WAIT_SECONDS.*1 message/,
        );
        assert.deepEqual(await bodiesIn(broker, queue, 1), ['1']);
      }
      assert.ok(isTold);
    });
  }

  it('a callback that blocks its worker cannot hold the process: the status is 5 and the message goes back', async () => {
    const { queue } = await stopAtDeadline('blocking');
    assert.deepEqual(await bodiesIn(broker, queue, 1), ['1']);
  });

  it('a teardown() that does not end is ended at the deadline; all messages are done, so the status is 0', async () => {
    const cwd = temporaryFolder({
      'slow.mjs': `export const ack = (payload) => payload.ack();
        export const teardown = () => new Promise(() => setInterval(() => undefined, 1000));`,
    });
    const consumer = await startPubsub(broker, `/queue/${unique('stop')}`, './slow.mjs#ack', {
      cwd,
      env: half,
    });
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
  });

  it('a consumer whose log and stdout nobody reads any more goes on, and ends with 0', async () => {
    const queue = `/queue/${unique('stop')}`;
    const file = join(temporaryFolder(), 'processed');
    const consumer = await startPubsub(broker, queue, fixture('stop.mjs#talkative'));
    consumer.child.stderr.destroy();
    consumer.child.stdout.destroy();
    for (let count = 1; count <= 3; count++) {
      await put(broker, queue, JSON.stringify(file), id);
      await until(
        () => existsSync(file) && readFileSync(file, 'utf8') === 'processed\n'.repeat(count),
        DEADLINE_MS,
        () => `message ${count} processed`,
      );
    }
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), zero);
    assert.deepEqual(await bodiesIn(broker, queue, 0), []);
  });

  it('the end of stdin does not end a consumer', async () => {
    const queue = `/queue/${unique('stop')}`;
    const file = join(temporaryFolder(), 'processed');
    const consumer = await startPubsub(broker, queue, fixture('stop.mjs#talkative'), { input: null });
    consumer.child.stdin.end();
    await put(broker, queue, JSON.stringify(file), id);
    await until(
      () => existsSync(file),
      DEADLINE_MS,
      () => consumer.stderr,
    );
    const { acked } = await stopPubsub(consumer);
    assert.equal(acked, 1);
  });

  it('a broker that does not answer any more cannot hold a consumer that has nothing in flight', async () => {
    await using proxy = await startProxy(broker);
    const consumer = await startPubsub(broker, `/queue/${unique('stop')}`, fixture('stop.mjs#held'), {
      env: at(proxy.port),
    });
    proxy.stall();
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
  });

  it('an ack that the broker does not confirm ends, at the deadline, with 5: the message goes back', async () => {
    const queue = `/queue/${unique('stop')}`;
    const release = join(temporaryFolder(), 'release');
    await put(broker, queue, JSON.stringify(release), id);
    await using proxy = await startProxy(broker);
    const consumer = await startPubsub(broker, queue, fixture('stop.mjs#untilFile'), {
      env: { ...at(proxy.port), STOMP_GRACEFUL_WAIT_SECONDS: '5' },
    });
    await consumer.waitFor(/"msg":"started"/);
    proxy.stall();
    consumer.signal('SIGTERM');
    await consumer.says('waiting for callbacks');
    writeFileSync(release, '');
    assert.deepEqual(await consumer.exit(), { code: 5, signal: null }, consumer.stderr);
    assert.match(consumer.stderr, /"msg":"settled sent"/);
    proxy.cut();
    assert.deepEqual(await bodiesIn(broker, queue, 1), [JSON.stringify(release)]);
  });

  it('a consumer that waits to connect again, after its broker went away, ends with 0', async () => {
    await using proxy = await startProxy(broker);
    const consumer = await startPubsub(broker, `/queue/${unique('stop')}`, fixture('stop.mjs#held'), {
      env: at(proxy.port),
    });
    await proxy.close();
    await consumer.says('no connection');
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
  });
});

describe('stopping a consumer that has not subscribed yet', () => {
  it('it finds no broker: it ends with 0', async () => {
    const [port] = await freePorts(1);
    const consumer = pubsub({ env: at(port!) }, 'xpto', fixture('stop.mjs#held'));
    await consumer.says('no connection');
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
  });

  const unanswered: Record<string, [command: string, count: number]> = {
    CONNECT: ['CONNECT', 1],
    'the declaration of its dead-letter queue': ['SUBSCRIBE', 1],
    SUBSCRIBE: ['SUBSCRIBE', 2],
  };
  for (const [what, [command, count]] of Object.entries(unanswered)) {
    it(`the broker does not answer to ${what}: it ends with 0`, async () => {
      let came = 0;
      await using server = await startScriptedServer({
        answer: (frame) => frame.command === command && ++came === count,
      });
      const consumer = pubsub(server, 'xpto', fixture('stop.mjs#held'));
      await server.received(command, count);
      consumer.signal('SIGTERM');
      assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
    });
  }

  it('its module does not finish loading: it ends with 0', async () => {
    const cwd = temporaryFolder({
      'slow.mjs': 'console.error("loading"); await new Promise(() => setInterval(() => {}, 1000));',
    });
    const consumer = pubsub({ env: at(1) }, 'xpto', './slow.mjs', { cwd });
    await consumer.waitFor(/loading/);
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(DEADLINE_MS), zero, consumer.stderr);
  });
});
