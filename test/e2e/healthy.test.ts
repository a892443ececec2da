/** `healthy()` beside a callback: what it needs is away, and no message pays for that. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { consume } from '../../src/index.js';
import { brokersUnderTest } from '../support/brokers.js';
import { bodiesIn, putAll } from '../support/messages.js';
import { pagesOf } from '../support/probes.js';
import { until } from '../support/until.js';
import { fixture, startPubsub, stopPubsub, temporaryFolder, unique } from './commands.js';

const SOON_MS = 30_000;
const ignore = () => undefined;
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore, isLevelEnabled: () => false };
const headers = { 'correlation-id': 'c' };

for (const broker of brokersUnderTest()) {
  describe(`healthy(): ${broker.name}`, () => {
    const start = async (flags: readonly string[], env: Record<string, string> = {}) => {
      const queue = unique('healthy');
      const needed = join(temporaryFolder(), 'needed');
      const bodies = Array.from({ length: 10 }, (_, n) => String(n));
      await putAll(broker, `/queue/${queue}`, bodies, headers);
      const consumer = await startPubsub(broker, queue, fixture('healthy.mjs#needy'), {
        ...{
          flags: [...flags, '--health-port', '0'],
          env: { NEEDED: needed, STOMP_LOG_LEVEL: 'debug', ...env },
        },
      });
      const get = await pagesOf(consumer);
      const paused = () =>
        until(async () => (await get('/ready')).report.state === 'paused', SOON_MS, 'paused');
      await paused();
      return { queue, bodies, consumer, get, paused, provide: () => writeFileSync(needed, '') };
    };

    for (const flags of [[], ['--inline'], ['--concurrency', '3']])
      it(`while it says no nothing is started, and no attempt used up (${flags.join(' ') || 'a worker'})`, async () => {
        const { queue, bodies, consumer, get, provide } = await start(flags);
        const ready = await get('/ready');
        assert.deepEqual([ready.status, ready.report.reasons], [503, ['paused: healthy() says no']]);
        assert.equal((await get('/live')).status, 200);
        assert.equal((await bodiesIn(broker, `DLQ.${queue}`, 4)).length, 4);
        provide();
        await until(async () => (await get('/ready')).status === 200, SOON_MS, 'ready again');
        await consumer.says('settled', bodies.length);
        const { acked, deadLettered, redelivered } = await stopPubsub(consumer);
        assert.deepEqual([acked, deadLettered, redelivered], [bodies.length - 4, 4, 0]);
        assert.equal(consumer.said('subscribed').length, 1);
      });

    it('a stop is not held up, and what waits goes back', async () => {
      const { queue, consumer } = await start(['--concurrency', '3']);
      const { acked, deadLettered } = await stopPubsub(consumer);
      assert.deepEqual([acked, deadLettered], [0, 4]);
      assert.equal((await bodiesIn(broker, queue, 6)).length, 6);
    });

    it('what is held for STOMP_HOLD_SECONDS goes back to its queue', async () => {
      const { queue, consumer } = await start(['--concurrency', '3'], { STOMP_HOLD_SECONDS: '2' });
      assert.equal((await bodiesIn(broker, queue, 6)).length, 6);
      assert.equal(consumer.said('dead-lettered').length, 4);
      await stopPubsub(consumer);
    });

    it('a function of the library has its own', async () => {
      const queue = unique('healthy');
      await putAll(broker, `/queue/${queue}`, ['1', '2', '3', '4', '5', '6'], headers);
      const stop = new AbortController();
      let asked = 0;
      const summary = await consume({
        ...{ host: broker.host, port: broker.port, user: broker.user, password: broker.password },
        ...(broker.vhost === undefined ? {} : { vhost: broker.vhost }),
        ...{ destination: queue, signal: stop.signal, limit: 6, log: silent },
        callback: ({ ack }) => {
          if (asked < 2) throw new Error('away');
          return ack();
        },
        healthy: () => {
          asked++;
          if (asked < 2) throw new Error('not there');
        },
      });
      assert.deepEqual([summary.acked, summary.deadLettered, asked], [2, 4, 2]);
    });
  });
}
