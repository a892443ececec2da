/** What one large message takes of memory, in all processes of a consumer together. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startEmbeddedBroker } from '../../src/embedded/broker.js';
import { describeBroker } from '../support/brokers.js';
import { put } from '../support/messages.js';
import { pubsub, stopPubsub, temporaryFolder } from './commands.js';

const login = { user: 'app', password: 'secret' };
const BODY_BYTES = 64 * 1024 * 1024;
const DEADLINE_MS = 60_000;
const callback = `export default async (payload) => {
  await payload.ack();
  console.log('it had ' + payload.body.text.length);
};
`;

/**
 * The bytes, its text and what is parsed of that are three; in a process of its own the consumer has the bytes, too. The rest is
 * for chunks that were read and are not collected yet.
 */
const cases = [
  { where: 'on the event loop of the connection', flags: ['--inline'], most: 4 },
  { where: 'in a worker process', flags: [], most: 6 },
];

describe(
  'a large body',
  { skip: process.platform !== 'linux' && 'only Linux tells the peak of a process' },
  () => {
    for (const { where, flags, most } of cases) {
      it(`takes at most ${most} times its size of memory, with the callback ${where}`, async (t) => {
        const embedded = await startEmbeddedBroker({ ...login, limits: { bodyBytes: 2 * BODY_BYTES } });
        t.after(() => embedded.close());
        const { host, port } = embedded;
        const broker = describeBroker({ name: 'embedded', version: 'large', host, port, ...login });
        const file = join(temporaryFolder({ 'callback.mjs': callback }), 'callback.mjs');
        const limit = ['--max-message-bytes', String(2 * BODY_BYTES)];
        const running = pubsub(broker, '/queue/large', file, { flags: [...limit, ...flags] });
        const send = (bytes: number) =>
          put(broker, '/queue/large', JSON.stringify({ text: 'x'.repeat(bytes) }), { 'correlation-id': 'c' });
        await send(1);
        await running.waitFor(/it had 1\b/, DEADLINE_MS);
        const processes = [running.pid, ...childrenOf(running.pid)];
        const before = processes.map((pid) => statusOf(pid, 'VmRSS'));
        await send(BODY_BYTES);
        await running.waitFor(new RegExp(`it had ${BODY_BYTES}`), DEADLINE_MS);
        const grown = processes.map((pid, index) => statusOf(pid, 'VmHWM') - before[index]!);
        await stopPubsub(running);
        const times = grown.reduce((sum, bytes) => sum + bytes, 0) / BODY_BYTES;
        t.diagnostic(`${times.toFixed(2)} times its size`);
        assert.ok(
          times <= most,
          `${grown.join(' and ')} bytes more, which is ${times.toFixed(2)} times its size`,
        );
      });
    }
  },
);

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number);
}

/** In bytes. */
function statusOf(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
}
