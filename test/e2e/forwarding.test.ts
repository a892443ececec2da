/** Callbacks that publish, run by the command: in a worker and on the event loop of the connection. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brokersUnderTest } from '../support/brokers.js';
import { drainQueue, put } from '../support/messages.js';
import { fixture, printed, startPubsub, stopPubsub, unique, type Summary } from './commands.js';

const withId = { 'correlation-id': 'c-1' };

for (const broker of brokersUnderTest()) {
  describe(`payload.publish on ${broker.name}`, { concurrency: 3 }, () => {
    for (const [where, flags] of [
      ['in a worker', []],
      ['inline', ['--inline']],
    ] as const) {
      /** One message for this callback; resolves with what it printed and what became of all. */
      const process = async (callback: string, extra: readonly string[] = []) => {
        const queue = unique('forward');
        const target = `${queue}-to`;
        const running = await startPubsub(broker, `/queue/${queue}`, fixture(`forward.mjs#${callback}`), {
          flags: [...flags, ...extra, '--log-level', 'debug'],
          env: { TARGET: `/queue/${target}` },
        });
        await put(broker, `/queue/${queue}`, { n: 1 }, withId);
        await running.says('settled');
        const summary: Summary = await stopPubsub(running);
        const forwarded = await drainQueue(broker, target);
        return { running, summary, forwarded, queue };
      };

      it(`sends with the ack, ${where}`, async () => {
        const { running, summary, forwarded } = await process('forward');
        assert.deepEqual(printed(running), ['sent']);
        assert.equal(summary.acked, 1);
        assert.deepEqual(
          forwarded.map(({ body, headers }) => [body.toString(), headers['correlation-id']]),
          [['{"n":1}', 'c-1']],
        );
      });

      it(`sends with the ack that --auto-ack gives, ${where}`, async () => {
        const { summary, forwarded } = await process('publish', ['--auto-ack']);
        assert.equal(summary.acked, 1);
        assert.equal(forwarded.length, 1);
      });

      it(`dead-letters a message when the broker takes not what was published, ${where}`, async () => {
        const { running, summary, forwarded, queue } = await process('unreadable');
        assert.equal(printed(running).at(-1), 'dead-lettered');
        assert.equal(summary.deadLettered, 1);
        assert.deepEqual(forwarded, []);
        assert.ok(running.logLines.some(({ reason }) => reason === 'forward-refused'));
        assert.equal((await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 })).length, 1);
      });

      it(`throws at once what is wrong with a call, ${where}`, async () => {
        const { running, forwarded } = await process('wrong');
        assert.deepEqual(printed(running), ['PubsubError invalid-json', 'PubsubError invalid-usage']);
        assert.deepEqual(forwarded, []);
      });
    }
  });
}
