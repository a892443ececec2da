/** A publisher that never pauses for breath, while the queue it publishes to is deleted. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { brokerUnderTest } from '../support/brokers.js';
import { publisherTo, uniqueName } from '../support/consuming.js';
import { drainQueue } from '../support/messages.js';
import { rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { within } from '../support/until.js';

const SENDERS = 40;
/** Of each sender: these at least are sent before the deletion, and as many after the loss must have ended. */
const MESSAGES = 50;
/** For so long RabbitMQ (3.10.8) may confirm and drop what a connection sends to a queue that is there no more. */
const LOSS_MS = 5000;
const DEADLINE_MS = 60_000;
const skip = brokerUnderTest('rabbitmq') === undefined ? 'not in this run' : (rabbitmqMissing() ?? false);

describe('busy publisher', { skip }, () => {
  test('nothing is missing that is sent more than 5 s after its queue was deleted', async (t) => {
    await using broker = await startRabbitmq();
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker);
    /** When each message was sent, by its number. */
    const sentMs: number[] = [];
    const send = (): Promise<void> => {
      const n = sentMs.push(performance.now()) - 1;
      return publisher.send(`/queue/${queue}`, n);
    };
    let lossEndsMs = Infinity;
    const isSafe = (atMs: number) => atMs > lossEndsMs;
    let started: () => void = () => undefined;
    const allStarted = new Promise<void>((resolve) => (started = resolve));
    let starting = SENDERS;
    const sender = async (): Promise<void> => {
      for (let left = MESSAGES; left > 0; left--) await send();
      if (--starting === 0) started();
      for (let left = MESSAGES; left > 0;) {
        if (isSafe(performance.now())) left--;
        await send();
      }
    };
    const senders = Promise.all(Array.from({ length: SENDERS }, sender));
    await within(Promise.race([allStarted, senders]), DEADLINE_MS, 'all senders are busy');
    await broker.ctl!('delete_queue', queue);
    lossEndsMs = performance.now() + LOSS_MS;
    await within(senders, DEADLINE_MS, 'the last of the messages is confirmed');

    const messages = await drainQueue(broker, queue, { deadlineMs: DEADLINE_MS });
    const arrived = new Set(messages.map(({ body }) => Number(body.toString())));
    const due = [...sentMs.keys()].filter((n) => isSafe(sentMs[n]!));
    const missing = due.filter((n) => !arrived.has(n));
    t.diagnostic(`${sentMs.length} sent, ${due.length} of them due, ${arrived.size} arrived`);
    assert.ok(due.length >= SENDERS * MESSAGES);
    assert.equal(
      missing.length,
      0,
      `of ${due.length} messages are missing: ${missing.slice(0, 9).join(' ')} ...`,
    );
  });
});
