/** `--failure-limit`: a callback that fails at every message does not empty its queue. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brokersUnderTest } from '../support/brokers.js';
import { bodiesIn, putAll } from '../support/messages.js';
import { fixture, pubsub, startPubsub, stopPubsub, unique } from './commands.js';

const headers = { 'correlation-id': 'c' };

for (const broker of brokersUnderTest()) {
  describe(`a failure limit: ${broker.name}`, () => {
    it('stops the consumer with 5 and leaves the rest in its queue', async () => {
      const queue = unique('limit');
      const bodies = Array.from({ length: 10 }, (_, n) => String(n));
      await putAll(broker, `/queue/${queue}`, bodies, headers);
      const consumer = pubsub(broker, queue, fixture('failing.mjs#always'), {
        flags: ['--failure-limit', '3'],
      });
      assert.deepEqual(await consumer.exit(), { code: 5, signal: null }, consumer.stderr);
      assert.match(
        consumer.stderr,
        /3 messages in a row failed \(STOMP_FAILURE_LIMIT\), the last one by callback-failed/,
      );
      assert.match(consumer.stderr, /"deadLettered":3,.*"msg":"stopped"/);
      assert.deepEqual(await bodiesIn(broker, `DLQ.${queue}`, 3), bodies.slice(0, 3));
      assert.deepEqual((await bodiesIn(broker, queue, 7)).toSorted(), bodies.slice(3));
    });

    it('begins anew with each ack, and counts what is nacked', async () => {
      const queue = unique('limit');
      const [ok, nack, thrown] = [{ ok: true }, { nack: true }, { ok: false }];
      const fine = [ok, thrown, nack, ok, nack, thrown];
      await putAll(broker, `/queue/${queue}`, fine, headers);
      const flags = ['--failure-limit', '3', '--inline'];
      const consumer = await startPubsub(broker, queue, fixture('failing.mjs#asTold'), { flags });
      await consumer.says('dead-lettered', 4);
      const { acked } = await stopPubsub(consumer);
      assert.equal(acked, 2);
      await putAll(broker, `/queue/${queue}`, [nack, thrown, nack, ok], headers);
      const failing = pubsub(broker, queue, fixture('failing.mjs#asTold'), { flags });
      assert.equal((await failing.exit()).code, 5, failing.stderr);
      assert.deepEqual(await bodiesIn(broker, queue, 1), [JSON.stringify(ok)]);
    });
  });
}
