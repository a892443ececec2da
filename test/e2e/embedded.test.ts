import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path, { join } from 'node:path';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { packageRoot, run } from '../support/process.js';
import { freePorts } from '../support/server-process.js';
import { at, temporaryFolder } from './commands.js';

const callbacks = path.resolve(import.meta.dirname, '../../../callbacks');
const SUMMARY_MS = 60_000;

/** A port nobody listens on, and the variables that lead there. */
async function place(): Promise<{ env: Record<string, string>; port: number }> {
  const [port] = (await freePorts(1)) as [number];
  return { env: at(port), port };
}

test('pubsub broker serves publish and pubsub, and tells at its end what is left', async () => {
  const { env } = await place();
  const broker = run('pubsub', ['broker'], { env });
  await broker.waitFor(/embedded broker listens/);
  const publish = run('publish', ['/queue/xpto', '{"key":"value"}'], { env });
  assert.equal((await publish.exit(SUMMARY_MS)).code, 0);
  const second = run('publish', ['/queue/other', '1'], { env });
  assert.equal((await second.exit(SUMMARY_MS)).code, 0);
  const consumer = run('pubsub', ['/queue/xpto', `${callbacks}#ack`], { env });
  await consumer.waitFor(/received \{ key: 'value' \}/);
  await broker.waitFor(/client subscribed/);
  consumer.signal('SIGTERM');
  assert.equal((await consumer.exit(SUMMARY_MS)).code, 0);
  broker.signal('SIGINT');
  assert.equal((await broker.exit(SUMMARY_MS)).code, 0);
  const summary = JSON.parse(broker.stdout) as { counters: { acked: number }; queues: object[] };
  assert.equal(summary.counters.acked, 1);
  assert.deepEqual(summary.queues, [
    { name: 'xpto', depth: 0 },
    { name: 'other', depth: 1 },
    { name: 'DLQ.xpto', depth: 0 },
  ]);
});

test('pubsub --embedded brings a broker along that publish in another process reaches', async () => {
  const { env } = await place();
  const consumer = run('pubsub', ['--embedded', '/queue/xpto', `${callbacks}#ack`], { env });
  await consumer.says('subscribed');
  assert.match(consumer.stderr, /development and tests/);
  const publish = run('publish', ['/queue/xpto', '{"key":"value"}'], { env });
  assert.equal((await publish.exit(SUMMARY_MS)).code, 0);
  await consumer.waitFor(/received \{ key: 'value' \}/);
  // The second finds the first one's broker and competes for its queue.
  const second = run('pubsub', ['--embedded', '/queue/xpto', `${callbacks}#ack`], { env });
  await second.waitFor(/a broker listens here already/);
  await second.says('subscribed');
  second.signal('SIGTERM');
  assert.equal((await second.exit(SUMMARY_MS)).code, 0);
  consumer.signal('SIGTERM');
  assert.equal((await consumer.exit(SUMMARY_MS)).code, 0);
});

test('the embedded broker asks for the credentials it was given', async () => {
  const { env } = await place();
  const broker = run('pubsub', ['broker', '--user', 'app', '--password', ':=123'], { env });
  await broker.waitFor(/embedded broker listens/);
  const good = { ...env, STOMP_SERVER_USER: 'app', STOMP_SERVER_PASSWORD: ':=123' };
  assert.equal((await run('publish', ['/queue/x', '1'], { env: good }).exit(SUMMARY_MS)).code, 0);
  const bad = run('publish', ['/queue/x', '1'], { env: { ...good, STOMP_SERVER_PASSWORD: 'no' } });
  assert.equal((await bad.exit(SUMMARY_MS)).code, 4);
  assert.match(bad.stderr, /STOMP_SERVER_PASSWORD/);
  broker.signal('SIGTERM');
  assert.equal((await broker.exit(SUMMARY_MS)).code, 0);
});

test('an embedded broker that others could reach, or that cannot listen, is refused', async (t) => {
  const { env, port } = await place();
  const open = run('pubsub', ['broker', '--host', '0.0.0.0'], { env });
  assert.equal((await open.exit(SUMMARY_MS)).code, 2);
  assert.match(open.stderr, /--user and --password/);
  const elsewhere = run('pubsub', ['--embedded', 'x', `${callbacks}#ack`], {
    env: { ...env, STOMP_SERVER_HOST: 'broker.example' },
  });
  assert.equal((await elsewhere.exit(SUMMARY_MS)).code, 2);
  assert.match(elsewhere.stderr, /this machine only/);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  t.after(() => server.close());
  const taken = run('pubsub', ['broker'], { env });
  assert.equal((await taken.exit(SUMMARY_MS)).code, 2);
  assert.match(taken.stderr, /EADDRINUSE.*--port/);
});

test('the demo comes out right, whatever broker the environment names', async () => {
  const demo = run('pubsub', ['demo'], {
    env: { STOMP_SERVER_HOST: 'broker.example', STOMP_USE_SSL: 'true' },
  });
  assert.equal((await demo.exit(SUMMARY_MS)).code, 0);
  assert.match(demo.stdout, /DLQ\.nack-queue +1\n/);
  assert.match(demo.stdout, /DLQ\.exception-queue +1\n/);
  assert.match(demo.stdout, /calopsita +5\n/);
  assert.match(demo.stdout, /app-A.* received \{"key":"value"\}/);
  assert.match(demo.stdout, /app-B.* received \{"key":"value"\}/);
  for (const app of ['app-A', 'app-B'])
    assert.match(demo.stdout, new RegExp(`${app}\\.VirtualTopic\\.xpto stopped: 1 acked`));
  assert.doesNotMatch(demo.stdout, / 0\n/);
  assert.equal(stripVTControlCharacters(demo.stdout), demo.stdout);
  assert.equal(demo.stderr, '');
});

test('the recording of the demo is what it prints, in colour, in any order', async () => {
  const demo = run('pubsub', ['demo'], { env: { FORCE_COLOR: '1' } });
  assert.equal((await demo.exit(SUMMARY_MS)).code, 0);
  const plain = stripVTControlCharacters(demo.stdout);
  assert.notEqual(plain, demo.stdout);
  const svg = readFileSync(join(packageRoot, 'docs/demo.svg'), 'utf8');
  const entities: Record<string, string> = { '&lt;': '<', '&gt;': '>', '&amp;': '&' };
  const drawn = [...svg.matchAll(/<text [^>]*>(.*)<\/text>/g)].map(([, line = '']) =>
    line.replace(/<[^>]*>/g, '').replace(/&\w+;/g, (entity) => entities[entity] ?? entity),
  );
  const shown = drawn.slice(1).filter((line) => line !== '');
  const printed = plain.split('\n').filter((line) => line !== '');
  assert.deepEqual(shown.toSorted(), printed.toSorted(), 'npm run record renews it');
});

test('a .env in the working directory is where --embedded listens', async () => {
  const { port } = await place();
  const cwd = temporaryFolder({ '.env': `STOMP_SERVER_HOST=127.0.0.1\nSTOMP_SERVER_PORT=${port}\n` });
  const consumer = run('pubsub', ['--embedded', 'xpto', `${callbacks}#ack`], { cwd });
  await consumer.says('subscribed');
  assert.equal((await run('publish', ['xpto', '1'], { cwd }).exit(SUMMARY_MS)).code, 0);
  await consumer.waitFor(/received 1/);
  consumer.signal('SIGTERM');
  assert.equal((await consumer.exit(SUMMARY_MS)).code, 0);
});

test('pubsub broker with a user and no password is refused, and does not let everybody in', async () => {
  const { env } = await place();
  const broker = run('pubsub', ['broker', '--user', 'app'], { env });
  assert.equal((await broker.exit(SUMMARY_MS)).code, 2);
  assert.match(broker.stderr, /^pubsub: error: [^\n]*a user and no password; give both or neither\n$/);
});
