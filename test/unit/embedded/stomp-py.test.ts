import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { join } from 'node:path';
import { packageRoot } from '../../support/process.js';
import { brokerFor } from './support.js';

/** Debian's own, as its package python3-stomp belongs to it. */
const PYTHON = '/usr/bin/python3';
const DEADLINE_MS = 120_000;

const probe = spawnSync(PYTHON, ['-c', 'import stomp']);
const skip = probe.status === 0 ? false : 'no stomp.py on this machine: apt-get install python3-stomp';

const checks = [
  'send_and_subscribe',
  'ack_modes',
  'nack',
  'transactions',
  'special_characters',
  'heartbeats',
  'threads',
];
/** STOMP 1.0 has no heart-beats and stomp.py no NACK for it. */
const absent = new Set(['1.0 heartbeats', '1.0 nack']);

describe('stomp.py', { skip, concurrency: 4 }, () => {
  for (const version of ['1.0', '1.1', '1.2']) {
    for (const check of checks.filter((name) => !absent.has(`${version} ${name}`))) {
      test(`STOMP ${version}: ${check.replaceAll('_', ' ')}`, async (context) => {
        const { broker } = await brokerFor(context);
        const script = join(packageRoot, 'test/fixtures/stomp-py/checks.py');
        const [error, output] = await new Promise<[Error | null, string]>((resolve) => {
          const args = [script, String(broker.port), version, check];
          execFile(PYTHON, args, { timeout: DEADLINE_MS }, (failure, stdout, stderr) =>
            resolve([failure, stdout + stderr]),
          );
        });
        assert.equal(error, null, output);
        assert.equal(
          broker.queues().reduce((sum, { depth }) => sum + depth, 0),
          0,
          'every message was consumed',
        );
      });
    }
  }
});
