/** `healthy()` beside a callback: what it needs is away, and no message pays for that. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { consume } from '../../src/index.js';
import { brokersUnderTest, needs, type BrokerUnderTest } from '../support/brokers.js';
import { bodiesIn, putAll } from '../support/messages.js';
import { pagesOf } from '../support/probes.js';
import { childrenOf, run } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { until } from '../support/until.js';
import { at, fixture, startPubsub, stopPubsub, temporaryFolder, unique } from './commands.js';

const SOON_MS = 30_000;
const ignore = () => undefined;
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore, isLevelEnabled: () => false };
const headers = { 'correlation-id': 'c' };

for (const broker of brokersUnderTest()) {
  describe(`healthy(): ${broker.name}`, () => {
    const start = async (
      flags: readonly string[],
      env: Record<string, string> = {},
      through: Pick<BrokerUnderTest, 'env'> = broker,
    ) => {
      const queue = unique('healthy');
      const needed = join(temporaryFolder(), 'needed');
      const bodies = Array.from({ length: 10 }, (_, n) => String(n));
      await putAll(broker, `/queue/${queue}`, bodies, headers);
      const consumer = await startPubsub(through, queue, fixture('healthy.mjs#needy'), {
        ...{
          flags: [...flags, '--health-port', '0'],
          env: { NEEDED: needed, STOMP_LOG_LEVEL: 'debug', ...env },
        },
      });
      const get = await pagesOf(consumer);
      const paused = () =>
        until(async () => (await get('/ready')).report.state === 'paused', SOON_MS, 'paused');
      await paused();
      await consumer.says('dead-lettered', 4);
      const ready = () => until(async () => (await get('/ready')).status === 200, SOON_MS, 'ready again');
      return { queue, bodies, consumer, get, paused, ready, provide: () => writeFileSync(needed, '') };
    };

    for (const flags of [[], ['--inline'], ['--concurrency', '3']])
      it(`while it says no nothing is started, and no attempt used up (${flags.join(' ') || 'a worker'})`, async () => {
        const { queue, bodies, consumer, get, provide, ready } = await start(flags);
        const { status, report } = await get('/ready');
        assert.deepEqual([status, report.reasons], [503, ['paused: healthy() says no']]);
        assert.equal((await get('/live')).status, 200);
        assert.equal((await bodiesIn(broker, `DLQ.${queue}`, 4)).length, 4);
        provide();
        await ready();
        await consumer.says('settled', bodies.length);
        const { acked, deadLettered, redelivered } = await stopPubsub(consumer);
        assert.deepEqual([acked, deadLettered, redelivered], [bodies.length - 4, 4, 0]);
        assert.equal(consumer.said('subscribed').length, 1);
      });

    for (const flags of [[], ['--inline'], ['--concurrency', '3']])
      it(`a stop is not held up, and what waits goes back (${flags.join(' ') || 'a worker'})`, async () => {
        const { queue, consumer } = await start(flags);
        const { acked, deadLettered } = await stopPubsub(consumer);
        assert.deepEqual([acked, deadLettered], [0, 4]);
        assert.equal((await bodiesIn(broker, queue, 6)).length, 6);
      });

    it('it outlives the worker that was asked, and no message pays for that', async () => {
      const { queue, bodies, consumer, get, paused, ready, provide } = await start(['--concurrency', '3']);
      const lost = childrenOf(consumer.pid);
      for (const pid of lost) process.kill(pid, 'SIGKILL');
      await until(
        async () =>
          !childrenOf(consumer.pid).some((pid) => lost.includes(pid)) &&
          (await get('/ready')).report.reasons?.join() === 'paused: healthy() says no',
        SOON_MS,
        'another worker, and the pause goes on',
      );
      await paused();
      provide();
      await ready();
      await consumer.says('settled', bodies.length);
      const { acked, deadLettered, redelivered } = await stopPubsub(consumer);
      assert.deepEqual([acked, deadLettered, redelivered], [bodies.length - 4, 4, 0]);
      const told = consumer.logLines.filter((line) => 'throws' in line || 'pausedMs' in line);
      assert.equal(told.length, 2, 'one pause');
      assert.equal((await bodiesIn(broker, queue)).length, 0);
    });

    it(
      'it outlives its connection: what comes again on the next one is not started either',
      needs(broker, 'returnsWhatWasCut'),
      async () => {
        await using proxy = await startProxy(broker);
        // An ACK that is lost brings a dead letter's message again: the broker must have answered behind the last.
        let acks = 0;
        let question: string | undefined;
        let isAnswered = false;
        proxy.onFrame((_direction, { command, headers: { receipt, 'receipt-id': answered } }) => {
          if (command === 'ACK') acks++;
          if (command === 'ABORT' && acks === 4) question ??= receipt;
          if (command === 'RECEIPT' && question !== undefined) isAnswered ||= answered === question;
        });
        const through = { env: { ...broker.env, ...at(proxy.port) } };
        const env = { STOMP_WAIT_TO_CONNECT: '0.5' };
        const { queue, bodies, consumer, paused, ready, provide } = await start(
          ['--concurrency', '3', '--canary-interval', '1'],
          env,
          through,
        );
        await until(() => isAnswered, SOON_MS, 'the ACKs are with the broker');
        proxy.cut();
        await consumer.says('subscribed', 2);
        await paused();
        assert.equal(consumer.said('dead-lettered').length, 4);
        provide();
        await ready();
        const ends = () => consumer.said('settled').filter(({ outcome }) => outcome === 'acked').length;
        await until(() => ends() === bodies.length - 4, SOON_MS, 'the rest');
        const { acked, deadLettered } = await stopPubsub(consumer);
        assert.deepEqual([acked, deadLettered], [bodies.length - 4, 4]);
        assert.equal((await bodiesIn(broker, queue)).length, 0);
        assert.equal((await bodiesIn(broker, `DLQ.${queue}`, 4)).length, 4);
      },
    );

    it('of several consumers in a process the others go on, in the same worker', async () => {
      const [away, there] = [unique('healthy'), unique('others')];
      const folder = temporaryFolder();
      const [needed, file] = [join(folder, 'needed'), join(folder, 'health')];
      const consumers = {
        away: { destination: away, callback: fixture('healthy.mjs#needy') },
        there: { destination: there, callback: fixture('plain.js#ack') },
      };
      writeFileSync(
        join(folder, 'pubsub.config.json'),
        JSON.stringify({ defaults: { healthPort: 0, healthFile: file }, consumers }),
      );
      await putAll(broker, `/queue/${away}`, ['1', '2', '3', '4', '5', '6'], headers);
      const env = { ...broker.env, NEEDED: needed, STOMP_LOG_LEVEL: 'debug' };
      const running = run('pubsub', ['run'], { cwd: folder, env });
      const get = await pagesOf(running);
      type Reports = Record<string, { status: string; state: string; reasons: string[] }>;
      const reports = async () => (await get('/ready')).report.consumers as Reports;
      await until(async () => (await reports()).away?.state === 'paused', SOON_MS, 'one is paused');
      await until(async () => (await reports()).there?.status === 'ok', SOON_MS, 'the other is ready');
      assert.deepEqual([(await get('/ready')).status, (await get('/live')).status], [503, 200]);
      assert.deepEqual((await reports()).away?.reasons, ['paused: healthy() says no']);
      await until(() => existsSync(file) && !existsSync(`${file}.ready`), SOON_MS, 'the health file');
      assert.equal(childrenOf(running.pid).length, 1);
      await putAll(broker, `/queue/${there}`, ['1', '2', '3'], headers);
      const acked = (name: string) =>
        running.logLines.filter(({ consumer, outcome }) => consumer === name && outcome === 'acked').length;
      await until(() => acked('there') === 3, SOON_MS, 'what the other consumes');
      assert.deepEqual([(await reports()).away?.state, acked('away')], ['paused', 0]);
      writeFileSync(needed, '');
      await until(async () => (await get('/ready')).status === 200, SOON_MS, 'all of them ready');
      await until(() => existsSync(`${file}.ready`), SOON_MS, 'the file of those that are ready');
      await until(() => acked('away') === 2, SOON_MS, 'the rest');
      running.signal('SIGTERM');
      assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
      assert.equal((await bodiesIn(broker, `DLQ.${away}`, 4)).length, 4);
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
