import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { resolve } from '../../src/settings/resolve.js';

describe('settings', () => {
  it('that are times take units, and a bare number is in the unit that the variable has always had', () => {
    const env = {
      STOMP_MESSAGE_TIMEOUT: '5m',
      STOMP_GRACEFUL_WAIT_SECONDS: '90',
      STOMP_HOLD_SECONDS: '0.5h',
      STOMP_CONNECT_TIMEOUT: '1500ms',
      STOMP_OUTGOING_HEARTBEAT: '5000',
      STOMP_INCOMING_HEARTBEAT: '2s',
      STOMP_UNTIL_IDLE: ' 5s ',
    };
    const settings = resolve({ timeLimitSeconds: '1h' }, env);
    assert.deepEqual(
      [
        settings.timeoutSeconds,
        settings.gracefulWaitSeconds,
        settings.holdSeconds,
        settings.connectTimeoutSeconds,
      ],
      [300, 90, 1800, 1.5],
    );
    assert.deepEqual([settings.outgoingHeartbeatMs, settings.incomingHeartbeatMs], [5000, 2000]);
    assert.deepEqual([settings.untilIdleSeconds, settings.timeLimitSeconds], [5, 3600]);
  });

  it('that are no times, or beyond their range, are refused with what is expected', () => {
    for (const text of ['soon', '5d', '-1s', '1e3', '25h', '5 s'])
      assert.throws(
        () => resolve({ gracefulWaitSeconds: text }, {}),
        new RegExp(
          `--graceful-wait: seconds from 0 to 86400, or a time like 90s or 5m, expected, not "${text}"`,
        ),
      );
  });

  it('ask for no larger prefetch than the limit', () => {
    assert.equal(resolve({ limit: '3', concurrency: '20' }, {}).concurrency, 3);
    assert.equal(resolve({ limit: 30, processWorkers: 4 }, {}).concurrency, 4);
  });
});
