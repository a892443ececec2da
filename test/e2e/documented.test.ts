/**
 * Every command of the README and of docs/, as it is printed there, in a folder that has what it names. What cannot be typed
 * as it stands, such as the name of a host, is changed by a rule below; what is not ours is named there, too. A command that
 * is in neither is run, and fails if it does not do what it should.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { startBroker, type TestBroker } from '../../src/testing.js';
import { type Exit, packageRoot, runProgram } from '../support/process.js';
import { freePorts } from '../support/server-process.js';
import { at, temporaryFolder } from './commands.js';

const done: Exit = { code: 0, signal: null };

const textOf = (page: string): string => readFileSync(join(packageRoot, page), 'utf8');
const pages = ['README.md', ...readdirSync(join(packageRoot, 'docs')).map((name) => `docs/${name}`)];

/** What starts a line that is not a command of ours, and where it is seen to work all the same. */
const others: readonly RegExp[] = [
  /^npm (?:install|test)\b/, // a checkout: checkout.test.ts; prom-client: metrics.test.ts
  /^docker compose /,
  /^rabbitmqctl /, // unit/docs.test.ts: it is what the program says; conformance: what it does
  /^curl /, // health.test.ts, metrics.test.ts
  /^test -n /, // health.test.ts
];

/** Servers, ports and answers that only the reader has. */
function adapted(command: string, at: Addresses): string {
  const { host, port } = at.broker;
  return command
    .replace(
      /--host rabbit-\d( --standby-host rabbit-\d --standby-port \d+)?/,
      `--host ${host} --port ${port}`,
    )
    .replace('old-broker 61613', `${at.old.host} ${at.old.port}`)
    .replace(/stomp\+ssl:\/\/(\w+)@[^/]+\/\w+/, `stomp://$1@${host}:${port}/`)
    .replace('/run/secrets/', './')
    .replace('--health-port 8080', '--health-port 0')
    .replace('--port 61700', `--port ${at.free}`)
    .replace(' --host 0.0.0.0', '')
    .replace('| jq -r .body', '')
    .replace(/ack-all-messages \S+/, '$& --yes');
}

interface Addresses {
  readonly broker: TestBroker;
  readonly old: TestBroker;
  /** Of this machine: nothing listens there. */
  readonly free: number;
}

/** The lines of a page that a shell is given, without remarks; what is exported before one stands in front of it. */
function commandsOf(page: string): string[] {
  return [...textOf(page).matchAll(/^```sh\n([^]*?)^```$/gm)].flatMap(([, block = '']) => {
    const lines = block.split('\n').map((line) => line.replace(/(?:^|\s)\s*# .*$/, '').trim());
    const exported = lines.filter((line) => line.startsWith('export '));
    return lines
      .filter((line) => line !== '' && !line.startsWith('export '))
      .map((line) => [...exported, line].join('; '));
  });
}

/** The code block of a page that has this in it. */
function blockOf(page: string, mark: string): string {
  const blocks = [...textOf(page).matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, block = '']) => block);
  return blocks.find((block) => block.includes(mark)) ?? assert.fail(`${page} has no block with ${mark}`);
}

const lines = (count: number) => Array.from({ length: count }, (_, n) => `{"n":${n}}\n`).join('');

/** What the commands name. */
function files(): Record<string, string | Uint8Array> {
  const orders = blockOf('README.md', '// orders.ts');
  const night = { consumers: { orders: { destination: '/queue/orders', callback: '../orders#onOrder' } } };
  return {
    'orders.ts': orders,
    'images.ts': orders.replace('onOrder', 'resize'),
    'mails.ts': orders.replace('onOrder', 'send'),
    'callbacks/index.ts': orders.replace('onOrder', 'ack'),
    // What it would export by is not installed here: spans.test.ts.
    'tracing.mjs': '',
    'job.sh': '#!/bin/sh\n',
    'report.sh': '#!/bin/sh\n',
    'pubsub.config.ts': blockOf('docs/several-consumers.md', 'export default defineConsumers'),
    'deploy/night.json': JSON.stringify(night),
    'order.json': '{"id":1}',
    'order.json.gz': gzipSync('{"id":1}'),
    'orders.ndjson': lines(3),
    'big.ndjson': lines(12_010),
    'rows.csv': '1,a\n\n2,b\n',
    'scan.png': Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0),
    stomp: 'passcode\n',
  };
}

const removed = `${JSON.stringify({ headers: { 'correlation-id': 'c' }, body: '{"id":1}' })}\n`;

/** Commands for queues that are there already. */
const needsQueues = /peek|dead-letters|redrive|move-messages|ack-all-messages|--no-declare|\/amq\//;

function fill(broker: TestBroker): void {
  const failed = { 'x-failure-reason': 'callback-failed', 'x-failure-error': 'TimeoutError', tenant: '7' };
  for (const queue of ['orders', 'DLQ.orders', 'graveyard'])
    broker.publish(`/queue/${queue}`, { id: 1 }, { 'correlation-id': '4f1c2e', ...failed });
}

function environment(command: string, { broker, free }: Addresses): Record<string, string> {
  if (/--embedded|pubsub broker/.test(command)) return at(free);
  return command.includes('STOMP_URL=') ? {} : broker.env;
}

/** What goes on until it is told to stop. */
const isConsumer = /pubsub (?:run\b|-|\S*(?:\/|Consumer\.)|orders )/;

describe('a documented command works:', { concurrency: 2 }, () => {
  for (const page of pages)
    for (const command of commandsOf(page).filter((line) => !others.some((other) => other.test(line))))
      it(`${page}: ${command}`, async () => {
        await using broker = await startBroker();
        await using old = await startBroker();
        const [free = 0] = await freePorts(1);
        const addresses = { broker, old, free };
        if (needsQueues.test(command)) for (const each of [broker, old]) fill(each);
        const saved = command.includes('restore ') ? { 'removed.ndjson': removed } : {};
        const folder = temporaryFolder({ ...files(), ...saved });
        for (const name of ['job.sh', 'report.sh']) await chmod(join(folder, name), 0o755);
        await mkdir(join(folder, 'node_modules'));
        await symlink(packageRoot, join(folder, 'node_modules/stomp-pubsub'));
        const bin = `exec "${process.execPath}" "${packageRoot}/bin/$1.js"`;
        const typed = adapted(command, addresses).replace(/\b(?:npx )?(pubsub|publish)(?= )/, bin);
        const env = environment(command, addresses);
        const running = runProgram('/bin/sh', ['-c', typed], { cwd: folder, env });
        const isBroker = command.includes('pubsub broker');
        if (isBroker) await running.waitFor(/listens/);
        else if (isConsumer.test(command)) await running.says('subscribed');
        if (isBroker || isConsumer.test(command)) running.signal('SIGTERM');
        assert.deepEqual(await running.exit(), done, `${running.stderr}${running.stdout}`);
      });
});
