/** When a consumer is stuck by its own doing: what cannot be made to happen from outside, on a clock of the test's own. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { ConnectionEvent } from '../../../src/index.js';
import { Health } from '../../../src/observing/health.js';
import { resolve } from '../../../src/settings/resolve.js';

function healthAt(t: TestContext, given = {}) {
  let nowMs = 1_000_000;
  t.mock.method(performance, 'now', () => nowMs);
  const settings = resolve(given, {});
  const health = new Health({ destination: '/queue/x', settings, hasWorkers: true });
  const consumer = {
    inFlight: 0,
    longestRunMs: 0,
    isPaused: false,
    receivedMs: undefined,
    gatherMetrics: () => Promise.resolve(),
  };
  health.begin(consumer);
  return {
    health,
    consumer,
    turn: (event: ConnectionEvent) => void health.observer.onConnection?.(event),
    pass: (seconds: number) => (nowMs += seconds * 1000),
  };
}

describe('health', () => {
  it('an attempt to connect that neither succeeds nor fails for twice its limit is not live', (t) => {
    const { health, turn, pass } = healthAt(t, { connectTimeoutSeconds: 10 });
    turn({ kind: 'connecting', server: 'a:1' });
    pass(20);
    assert.equal(health.live().status, 'ok');
    pass(1);
    assert.deepEqual(health.live().reasons, ['no attempt to connect has begun or ended for twice its limit']);
    turn({ kind: 'failed', server: 'a:1' });
    assert.equal(health.live().status, 'ok');
  });

  it('a wait between two attempts is none, as long as was said', (t) => {
    const { health, turn, pass } = healthAt(t, { connectTimeoutSeconds: 10 });
    turn({ kind: 'waiting', retryInMs: 3_600_000 });
    pass(3600);
    assert.deepEqual([health.live().status, health.live().state], ['ok', 'waiting']);
    pass(21);
    assert.equal(health.live().status, 'failing');
    turn({ kind: 'waiting', retryInMs: Infinity });
    pass(1e9);
    assert.equal(health.live().status, 'ok');
  });

  it('a callback that is not ended at its time limit is not live; without a limit it may take for ever', (t) => {
    const limited = healthAt(t, { timeoutSeconds: 60 });
    limited.consumer.longestRunMs = 76_000;
    assert.equal(limited.health.live().status, 'ok');
    limited.consumer.longestRunMs = 76_001;
    assert.deepEqual(limited.health.live().reasons, ['a callback runs on beyond its time limit of 60 s']);
    t.mock.restoreAll();
    const free = healthAt(t, { timeoutSeconds: 0 });
    free.consumer.longestRunMs = 1e12;
    assert.equal(free.health.live().status, 'ok');
  });

  it('a stop that outlasts its graceful wait is not live', (t) => {
    const { health, turn, pass } = healthAt(t, { gracefulWaitSeconds: 30 });
    turn({ kind: 'draining' });
    pass(40);
    assert.deepEqual([health.live().status, health.ready().status], ['ok', 'failing']);
    pass(1);
    assert.deepEqual(health.live().reasons, ['the stop takes longer than its graceful wait of 30 s']);
  });

  it('it is ready while subscribed, with a worker, and answered lately', (t) => {
    const { health, turn, pass } = healthAt(t, { canaryIntervalSeconds: 30 });
    turn({ kind: 'subscribed', server: 'a:1' });
    assert.deepEqual(health.ready().reasons, ['no worker has set the callback up']);
    health.observer.onWorker?.({ kind: 'ready', pid: 7 });
    pass(60);
    assert.equal(health.ready().status, 'ok');
    pass(1);
    assert.deepEqual(health.ready().reasons, ['the broker has not answered for 61 s']);
    health.observer.onRoundTrip?.({ durationMs: 3 });
    assert.equal(health.ready().status, 'ok');
    health.observer.onWorker?.({ kind: 'ended', pid: 7, reason: 'timeout' });
    assert.equal(health.ready().status, 'failing');
  });
});
