/** The context of a trace, through worker processes, their log and the commands of an operator. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { drainQueue, put } from '../support/messages.js';
import { run } from '../support/process.js';
import { until } from '../support/until.js';
import { anyBroker, fixture, skipWithout, startPubsub, stopPubsub, unique } from './commands.js';

const SOON_MS = 20_000;
const [traceId, spanId] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
const traceparent = `00-${traceId}-${spanId}-01`;
const sent = { 'correlation-id': 'c-1', traceparent, tracestate: 'vendor=1' };

describe('the context of a trace', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;
  const operate = async (...args: string[]) => {
    const running = run('pubsub', args, { env: broker.env });
    assert.equal((await running.exit()).code, 0, running.stderr);
  };

  it('is in the lines of a callback in a worker, and with what it publishes', async () => {
    const queue = unique('worker');
    const running = await startPubsub(broker, queue, fixture('traced.mjs#forward'));
    await put(broker, `/queue/${queue}`, { to: `/queue/${queue}-next` }, sent);
    const lines = () => running.logLines.filter(({ msg }) => msg === 'forwarding');
    await until(() => lines().length === 1, SOON_MS, 'the line of the callback');
    assert.deepEqual([lines()[0]?.traceId, lines()[0]?.spanId], [traceId, spanId]);
    await stopPubsub(running);
    const [next] = await drainQueue(broker, `${queue}-next`, { atLeast: 1 });
    assert.deepEqual([next?.headers.traceparent, next?.headers.tracestate], [traceparent, 'vendor=1']);
  });

  it('outlives redrive and move-messages', async () => {
    const queue = unique('operated');
    const running = await startPubsub(broker, queue, fixture('traced.mjs#refuse'));
    await put(broker, `/queue/${queue}`, {}, sent);
    await running.says('dead-lettered');
    await stopPubsub(running);
    await operate('redrive', queue, '--count', '1');
    await operate('move-messages', queue, `${queue}-moved`, '--count', '1');
    const [moved] = await drainQueue(broker, `${queue}-moved`, { atLeast: 1 });
    assert.equal(moved?.headers.traceparent, traceparent);
  });
});
