/**
 * What the operator's commands hold in memory, of queues with far more than that: many large messages, to a broker that takes
 * them, to one that takes none for longer than a heart-beat, and to a disk.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { encodeFrame } from '../../src/stomp/frames.js';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { drainQueue, putAll } from '../support/messages.js';
import type { Running } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { until } from '../support/until.js';
import { temporaryFolder, unique } from './commands.js';
import { bodiesIn, IDLE, resultOf, startOperator } from './operator.js';
import { startScriptedServer } from './scripted-server.js';

const COUNT = 220;
const MESSAGE_BYTES = 1024 * 1024;
/** Node 24 comes near 210 MB on a loaded machine; `--save` without a bound has 440 MB and more. */
const MOST_RESIDENT_KB = 300 * 1024;
const DEADLINE_MS = 120_000;
/** Messages that make up the bound. */
const HELD = 4;
const BOUND = ['--max-message-bytes', String(HELD * MESSAGE_BYTES)];
const BEATS = { STOMP_INCOMING_HEARTBEAT: '3000', STOMP_OUTGOING_HEARTBEAT: '3000' };
/** RabbitMQ ends a connection on which it has heard nothing for two intervals, and the client misses beats after two and a half. */
const STANDSTILL_MS = 9000;

const bodyOf = (n: number) => `${n}:`.padEnd(MESSAGE_BYTES, 'x');
const numberOf = (body: Buffer) => Number(body.subarray(0, body.indexOf(':')).toString());
const numbers = Array.from({ length: COUNT }, (_, n) => n);

async function fill(broker: BrokerUnderTest, queue: string): Promise<void> {
  for (let start = 0; start < COUNT; start += 20)
    await putAll(broker, queue, numbers.slice(start, start + 20).map(bodyOf), { 'correlation-id': 'c' });
}

async function numbersIn(broker: BrokerUnderTest, queue: string): Promise<number[]> {
  const messages = await drainQueue(broker, queue, { atLeast: COUNT, deadlineMs: DEADLINE_MS });
  return messages.map(({ body }) => numberOf(body));
}

/** Resolves with the highest that its resident memory ever was, in kB, as far as could be seen. */
async function peakOf(running: Running): Promise<number> {
  let peak = 0;
  const look = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
      peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? peak);
    } catch {
      // It has ended.
    }
  }, 20);
  await running.exit(DEADLINE_MS);
  clearInterval(look);
  return peak;
}

/** It ends with 0, has moved all in their order, and has never held much of it. */
async function assertMoved(
  broker: BrokerUnderTest,
  running: Running,
  from: string,
  to: string,
): Promise<void> {
  const peakKb = await peakOf(running);
  const { moved } = await resultOf(running);
  assert.equal(moved, COUNT);
  assert.ok(peakKb > 0 && peakKb < MOST_RESIDENT_KB, `${peakKb} kB at its peak`);
  assert.deepEqual(await numbersIn(broker, to), numbers);
  assert.deepEqual(await bodiesIn(broker, from), []);
}

for (const broker of brokersUnderTest()) {
  describe(`large messages: ${broker.name}`, () => {
    it('move-messages holds no more of them than --max-message-bytes, all at one time', async () => {
      const [from, to] = [unique('large'), unique('moved')];
      await fill(broker, from);
      await assertMoved(
        broker,
        startOperator(broker, ['move-messages', from, to, ...BOUND, ...IDLE]),
        from,
        to,
      );
    });

    it('move-messages waits for a target that confirms nothing for longer than heart-beats, and goes on', async (t) => {
      const from = unique('large');
      await fill(broker, from);
      const source = await startProxy(broker);
      t.after(() => source.close());
      const held: (() => void)[] = [];
      let isHolding = true;
      await using target = await startScriptedServer({
        answer: ({ command, headers: { receipt = '' } }, socket) => {
          if (command !== 'SEND' || !isHolding) return false;
          held.push(() => socket.write(encodeFrame('RECEIPT', { 'receipt-id': receipt })));
          return true;
        },
      });
      const args = ['move-messages', from, 'to', source.host, String(source.port), ...BOUND, ...IDLE];
      const moving = startOperator({ env: { ...broker.env, ...target.env, ...BEATS } }, args);
      await until(
        () => held.length >= HELD,
        DEADLINE_MS,
        () => `copies under way: ${moving.stderr}`,
      );
      const sinceMs = performance.now();
      await until(() => performance.now() - sinceMs > STANDSTILL_MS, DEADLINE_MS, 'beats are missing');
      assert.ok(held.length <= HELD + 1, `${held.length} under way`);
      isHolding = false;
      for (const confirm of held) confirm();
      const peakKb = await peakOf(moving);
      assert.equal((await resultOf(moving)).moved, COUNT);
      assert.ok(peakKb > 0 && peakKb < MOST_RESIDENT_KB, `${peakKb} kB at its peak`);
      const copies = await target.received('SEND', COUNT);
      assert.deepEqual(
        copies.map(({ body }) => numberOf(body)),
        numbers,
      );
      assert.equal(source.connections, 1);
      assert.deepEqual(await bodiesIn(broker, from), []);
    });

    it('ack-all-messages --save holds no more than that of what is not on the disk, and restore sends it', async () => {
      const [queue, again] = [unique('large'), unique('restored')];
      await fill(broker, queue);
      const file = join(temporaryFolder(), 'saved.ndjson');
      const saving = startOperator(broker, [
        'ack-all-messages',
        queue,
        '--yes',
        '--save',
        file,
        ...BOUND,
        ...IDLE,
      ]);
      const savingKb = await peakOf(saving);
      assert.equal((await resultOf(saving)).acked, COUNT);
      assert.ok(savingKb > 0 && savingKb < MOST_RESIDENT_KB, `${savingKb} kB at its peak`);
      const restoring = startOperator(broker, ['restore', file, again, ...BOUND]);
      const restoringKb = await peakOf(restoring);
      assert.equal((await resultOf(restoring)).restored, COUNT);
      assert.ok(restoringKb > 0 && restoringKb < MOST_RESIDENT_KB, `${restoringKb} kB at its peak`);
      assert.deepEqual(await numbersIn(broker, again), numbers);
    });
  });
}

it('restore has no more under way than --max-message-bytes, at a broker that takes its time to confirm', async () => {
  const saved = numbers.slice(0, 40).map((n) => JSON.stringify({ headers: {}, body: bodyOf(n) }));
  const file = join(temporaryFolder({ 'saved.ndjson': `${saved.join('\n')}\n` }), 'saved.ndjson');
  const held: (() => void)[] = [];
  let most = 0;
  const confirmAll = () => {
    for (const confirm of held.splice(0)) confirm();
  };
  await using target = await startScriptedServer({
    answer: ({ command, headers: { receipt = '' } }, socket) => {
      if (command !== 'SEND') return false;
      // Time for as many more as would come.
      if (held.length === 0) setTimeout(confirmAll, 100);
      held.push(() => socket.write(encodeFrame('RECEIPT', { 'receipt-id': receipt })));
      most = Math.max(most, held.length);
      return true;
    },
  });
  const restoring = startOperator(target, ['restore', file, 'again', ...BOUND]);
  await restoring.exit(DEADLINE_MS);
  assert.equal((await resultOf(restoring)).restored, saved.length);
  assert.ok(most <= HELD, `${most} under way`);
});
