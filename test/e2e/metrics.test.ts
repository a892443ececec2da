/** Metrics: what a scrape says is what happened, in the consumer and in its callbacks, whatever becomes of their processes. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Registry } from 'prom-client';
import { consume, type Payload, type SettledEvent } from '../../src/index.js';
import { startBroker } from '../../src/testing.js';
import { put } from '../support/messages.js';
import { pagesOf } from '../support/probes.js';
import { packageRoot, type Running } from '../support/process.js';
import { Scrape } from '../support/scrape.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  fixture,
  pubsub,
  skipWithout,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';

const SOON_MS = 30_000;
const id = { 'correlation-id': 'c-1' };
const served = ['--health-port', '0', '--metrics'];

describe('metrics', { ...skipWithout(anyBroker()), concurrency: 2 }, () => {
  const broker = anyBroker()!;
  const scraper = async (running: Running) => {
    const get = await pagesOf(running);
    return async () => new Scrape((await get('/metrics')).body);
  };

  it('after 10,000 messages with every outcome a scrape equals the summary and what was observed', async () => {
    await using own = await startBroker();
    const registry = new Registry();
    const stop = new AbortController();
    const outcomes: Record<string, number> = { acked: 0, 'dead-lettered': 0, retried: 0, released: 0 };
    const reasons: Record<string, number> = {};
    let settled = 0;
    let published = 0;
    let hasDropped = false;
    const total = 10_000;
    const callback = async (payload: Payload<{ n: number }>) => {
      const { n } = payload.body;
      if (n === 5000 && !hasDropped) {
        hasDropped = true;
        own.dropConnections();
      }
      if (n % 50 === 0) return payload.nack();
      if (n % 50 === 1) throw new Error('thrown');
      if (n % 50 === 2) return undefined;
      if (n % 50 === 3) payload.publish('/queue/elsewhere', {});
      return payload.ack();
    };
    const onSettled = ({ outcome, reason }: SettledEvent) => {
      settled++;
      outcomes[outcome]!++;
      if (outcome === 'dead-lettered') reasons[reason!] = (reasons[reason!] ?? 0) + 1;
    };
    for (let n = 0; n < total; n++) {
      const isMalformed = n % 50 === 4;
      own.publish('/queue/x', isMalformed ? 'no json' : { n }, n % 50 === 5 ? {} : id);
    }
    const done = consume({
      ...{ host: own.host, port: own.port, destination: '/queue/x', callback, metrics: registry },
      ...{ concurrency: 100, retries: 1, retryDelay: '50ms', waitToConnectSeconds: 0.2 },
      ...{ onSettled, signal: stop.signal, onPublished: () => published++ },
    });
    const left = () =>
      own.queues().filter(({ name }) => /(^|\/)x(\.retry\.\d+)?$/.test(name) && own.depth(name) > 0);
    await until(
      () => own.depth('DLQ.x') >= total / 10 && left().length === 0,
      120_000,
      () => `all messages: ${JSON.stringify([outcomes, left()])}`,
    );
    stop.abort();
    const summary = await done;
    const scrape = new Scrape(await registry.metrics());
    const counted = scrape.by('pubsub_messages_total', 'outcome');
    assert.deepEqual(counted, outcomes);
    assert.deepEqual(counted, {
      acked: summary.acked,
      'dead-lettered': summary.deadLettered,
      retried: summary.retried,
      released: summary.released,
    });
    for (const [outcome, count] of Object.entries(counted)) assert.ok(count > 0, outcome);
    assert.deepEqual(scrape.by('pubsub_dead_letters_total', 'reason'), reasons);
    assert.equal(Object.keys(reasons).length, 5, JSON.stringify(reasons));
    assert.equal(scrape.sum('pubsub_callback_duration_seconds'), settled);
    assert.equal(settled, summary.received);
    assert.equal(scrape.sum('pubsub_redelivered_total'), summary.redelivered);
    assert.equal(scrape.sum('pubsub_published_total'), published);
    assert.equal(scrape.sum('pubsub_connects_total', { result: 'connected' }), 2);
    assert.equal(scrape.sum('pubsub_messages_total', { destination: '/queue/x' }), settled);
  });

  it('after 10,000 messages a scrape of the command equals its last line, with what callbacks count in their workers', async () => {
    await using own = await startBroker();
    const ends = ['nack', 'throw', 'neither', 'publish', 'malformed'];
    for (let n = 0; n < 10_000; n++) {
      const how = ends[n % 50] ?? 'ack';
      own.publish('/queue/counted', how === 'malformed' ? 'no json' : { how }, id);
    }
    const running = await startPubsub(own, '/queue/counted', fixture('counted.mjs#byBody'), {
      flags: [
        ...[...served, '--workers', '2', '--concurrency', '8', '--canary-interval', '0.2'],
        ...['--retries', '1', '--retry-delay', '50ms'],
      ],
    });
    const scrape = await scraper(running);
    const seen = await until(
      async () => {
        const last = await scrape();
        const { acked = 0, 'dead-lettered': dead = 0 } = last.by('pubsub_messages_total', 'outcome');
        // The workers are asked before the rest is counted.
        const isAll = acked + dead === 10_000 && last.sum('orders_seen_total') === 10_000;
        return isAll && last.sum('pubsub_canary_seconds') > 0 && last;
      },
      120_000,
      'all messages',
    );
    const { acked, deadLettered, retried, released } = await stopPubsub(running);
    const counted = { acked, 'dead-lettered': deadLettered, retried, released };
    assert.deepEqual(counted, { acked: 9200, 'dead-lettered': 800, retried: 200, released: 0 });
    assert.deepEqual(seen.by('pubsub_messages_total', 'outcome'), counted);
    assert.deepEqual(seen.by('orders_seen_total', 'how'), {
      ...{ ack: 9000, nack: 200, throw: 400, neither: 200, publish: 200 },
    });
    assert.equal(seen.sum('order_size'), 10_000);
    const expected = { pubsub_workers: 2, pubsub_concurrency: 8, pubsub_connected: 1, pubsub_in_flight: 0 };
    for (const [name, value] of Object.entries(expected)) assert.equal(seen.sum(name), value, name);
    assert.deepEqual(seen.by('pubsub_published_total', 'result'), {
      ...{ confirmed: 200, refused: 0, unconfirmed: 0 },
    });
    assert.equal(seen.sum('pubsub_info', { destination: '/queue/counted' }), 1);
    assert.ok(seen.names.includes('nodejs_version_info'), "Node's own");
  });

  it('what a worker has counted outlives it, and a gauge does not', async () => {
    const queue = unique('ended');
    const running = await startPubsub(broker, queue, fixture('counted.mjs#byBody'), { flags: served });
    const scrape = await scraper(running);
    await put(broker, `/queue/${queue}`, { how: 'ack' }, id);
    const counted = (last: Scrape) => last.sum('orders_seen_total', { how: 'ack' });
    await until(async () => counted(await scrape()) === 1, SOON_MS, 'the first message');
    assert.equal((await scrape()).sum('orders_open'), 7);
    await put(broker, `/queue/${queue}`, { how: 'exit' }, id);
    const hasEnded = (last: Scrape) => last.sum('pubsub_worker_ends_total', { reason: 'callback-exited' });
    await until(async () => hasEnded(await scrape()) === 1, SOON_MS, 'the end of the worker');
    await until(async () => (await scrape()).sum('pubsub_workers') === 1, SOON_MS, 'another worker');
    const between = await scrape();
    assert.deepEqual([counted(between), between.sum('orders_open'), between.sum('order_size')], [1, 0, 1]);
    await put(broker, `/queue/${queue}`, { how: 'ack' }, id);
    await until(async () => counted(await scrape()) === 2, SOON_MS, 'the sum of both');
  });

  it('a worker that is blocked holds up no scrape, and its counters stay', async () => {
    const queue = unique('blocked');
    const running = await startPubsub(broker, queue, fixture('counted.mjs#byBody'), { flags: served });
    const scrape = await scraper(running);
    await put(broker, `/queue/${queue}`, { how: 'ack' }, id);
    await until(async () => (await scrape()).sum('orders_seen_total') === 1, SOON_MS, 'the first message');
    await put(broker, `/queue/${queue}`, { how: 'block' }, id);
    await until(async () => (await scrape()).sum('pubsub_in_flight') === 1, SOON_MS, 'the second');
    assert.equal((await scrape()).sum('orders_seen_total'), 1);
    await running.kill();
  });

  for (const flags of [[], ['--inline']])
    it(`of two copies of prom-client that of the callback is asked ${flags[0] ?? 'in workers'}`, async () => {
      const folder = temporaryFolder({ 'own.mjs': readFileSync(fixture('counted.mjs')) });
      const installed = join(packageRoot, 'node_modules');
      cpSync(join(installed, 'prom-client'), join(folder, 'node_modules/prom-client'), { recursive: true });
      for (const name of ['@opentelemetry', 'tdigest'])
        symlinkSync(join(installed, name), join(folder, 'node_modules', name));
      const queue = unique('copies');
      const running = await startPubsub(broker, queue, `${join(folder, 'own.mjs')}#byBody`, {
        flags: [...served, ...flags],
      });
      const scrape = await scraper(running);
      await put(broker, `/queue/${queue}`, { how: 'ack' }, id);
      const acked = (last: Scrape) => last.sum('pubsub_messages_total', { outcome: 'acked' });
      await until(async () => acked(await scrape()) === 1, SOON_MS, 'the message');
      // A worker may take longer to tell than a scrape waits for it.
      await until(async () => (await scrape()).sum('orders_seen_total') === 1, SOON_MS, 'what it counted');
      await stopPubsub(running);
    });

  it('inline, the metrics of the callback are in the same scrape', async () => {
    const queue = unique('inline');
    const running = await startPubsub(broker, queue, fixture('counted.mjs#byBody'), {
      flags: [...served, '--inline'],
    });
    const scrape = await scraper(running);
    await put(broker, `/queue/${queue}`, { how: 'ack' }, id);
    await until(async () => (await scrape()).sum('orders_seen_total') === 1, SOON_MS, 'the message');
    await stopPubsub(running);
  });

  it('metrics without a port to serve them are a mistake', async () => {
    const running = pubsub(broker, 'x', fixture('plain.js#ack'), { flags: ['--metrics'] });
    assert.equal((await running.exit()).code, 2);
    assert.match(running.stderr, /STOMP_METRICS: needs STOMP_HEALTH_PORT/);
  });
});
