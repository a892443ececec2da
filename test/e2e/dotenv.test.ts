/** What a `.env` may set: for the commands, for their callbacks, and for nobody. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startBroker } from '../../src/testing.js';
import type { Running } from '../support/process.js';
import { until } from '../support/until.js';
import {
  DEADLINE_MS,
  fixture,
  printed,
  publish,
  startPubsub,
  stopPubsub,
  temporaryFolder,
} from './commands.js';

const names = ['DATABASE_URL', 'PATH', 'STOMP_CONCURRENCY', 'NODE_OPTIONS', 'LD_PRELOAD'] as const;
const refused = ['NODE_OPTIONS', 'NODE_TLS_REJECT_UNAUTHORIZED', 'LD_PRELOAD'];
const dotenv = [
  'DATABASE_URL=postgres://here',
  'PATH=/nowhere',
  'STOMP_CONCURRENCY=7',
  'NODE_OPTIONS=--no-such-flag',
  'NODE_TLS_REJECT_UNAUTHORIZED=0',
  'LD_PRELOAD=/no/such.so',
].join('\n');

const warned = ({ logLines }: Running) =>
  logLines.filter((line) => line.level === 'warn' && 'variable' in line).map(({ variable }) => variable);

describe('a .env', () => {
  for (const flags of [[], ['--inline']]) {
    it(`gives callbacks what it holds, but what loads other code or trusts anybody ${flags.join('')}`, async () => {
      await using broker = await startBroker();
      broker.publish('/queue/x', names, { 'correlation-id': 'c' });
      const cwd = temporaryFolder({ '.env': dotenv });
      const consumer = await startPubsub(broker, 'x', fixture('environment.mjs#print'), { cwd, flags });
      await until(
        () => printed(consumer)[0],
        DEADLINE_MS,
        () => consumer.stderr,
      );
      assert.deepEqual(JSON.parse(printed(consumer)[0]!), {
        DATABASE_URL: 'postgres://here',
        // The environment wins.
        PATH: process.env.PATH,
        STOMP_CONCURRENCY: '7',
        NODE_OPTIONS: null,
        LD_PRELOAD: null,
      });
      assert.deepEqual(warned(consumer), refused);
      assert.equal(consumer.said('subscribed')[0]?.concurrency, 7);
      await stopPubsub(consumer);
    });
  }

  it('changes nothing of publish but its settings, and what it refuses is told', async () => {
    await using broker = await startBroker();
    const cwd = temporaryFolder({ '.env': `${dotenv}\nSTOMP_SERVER_PORT=${broker.port}` });
    const env = { STOMP_SERVER_HOST: broker.host };
    const published = await publish({ env }, ['/queue/x', '1'], { cwd });
    assert.equal(published.code, 0, published.stderr);
    assert.equal(broker.depth('x'), 1);
    assert.deepEqual(warned(published), refused);
  });
});
