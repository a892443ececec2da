/**
 * `publish --lines` as its users run it, from its connection to the last confirmation, against the raw client doing the
 * same in this process: every message by itself, and all in one transaction, every message of it confirmed. Beside it
 * what django-stomp sends, by the library it is built on, against the raw client doing that: one transaction and no
 * receipt for any message of it.
 */
import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../test/support/process.js';
import { consumeAll, type Login, publishAll, publishInTransaction, RawClient } from './raw-client.js';
import { describeRatios, median } from './statistics.js';
import { makeBody } from './task.js';

const WINDOW = 100;
/** A transaction takes RabbitMQ 3.10 longer for each message the more there are. */
const TIMEOUT_SECONDS = 300;
/** Debian's own, as its package python3-stomp belongs to it. */
const PYTHON = '/usr/bin/python3';

type Way = (queue: string) => Promise<Readonly<Record<string, number>>>;

/** Resolves with the cells of one row for each way, after that of the heads. */
export async function measureLongInput(login: Login, rounds: number, messages: number): Promise<string[][]> {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-bench-'));
  const file = join(folder, 'lines.ndjson');
  const lines = Array.from({ length: messages }, (_, index) => `${JSON.stringify(makeBody(index))}\n`);
  writeFileSync(file, lines.join(''));
  const publish = (queue: string, flags: string[]) => publishFile(login, queue, ['--file', file, ...flags]);
  const hasStompPy = spawnSync(PYTHON, ['-c', 'import stomp']).status === 0;
  const each: Way[] = [
    async (queue) => ({
      raw: await timeRaw(login, (client) => publishAll(client, queue, counted, makeBody)),
    }),
    async (queue) => ({ 'publish --lines': await publish(queue, ['--window', String(WINDOW)]) }),
  ];
  const together: Way[] = [
    async (queue) => ({
      raw: await timeRaw(login, (client) => transact(client, queue, true)),
    }),
    async (queue) => ({ 'publish --lines --transaction': await publish(queue, ['--transaction']) }),
  ];
  const unconfirmed: Way[] = [
    async (queue) => ({ raw: await timeRaw(login, (client) => transact(client, queue, false)) }),
    async (queue) => ({
      'the same as django-stomp sends it, unconfirmed': await publishAsDjangoStomp(login, queue, messages),
    }),
  ];
  const counted = { count: messages, window: WINDOW };
  const transact = (client: RawClient, queue: string, isConfirmed: boolean) =>
    publishInTransaction(client, queue, { count: messages, isConfirmed }, makeBody);
  try {
    const head = [`${messages.toLocaleString('en')} lines`, 'it / raw', '[messages/s]'];
    return [
      head,
      ...(await compare(login, each, rounds, messages)),
      ...(await compare(login, together, rounds, messages)),
      ...(hasStompPy ? await compare(login, unconfirmed, rounds, messages) : []),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** All ways in turn, in each round another first; the one named `raw` is what the others are divided by. */
async function compare(login: Login, ways: Way[], rounds: number, messages: number): Promise<string[][]> {
  const seconds = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < ways.length; turn++) {
      const queue = `bench-${randomBytes(6).toString('hex')}`;
      const measured = await ways[(round + turn) % ways.length]!(queue);
      for (const [name, value] of Object.entries(measured)) {
        seconds.set(name, [...(seconds.get(name) ?? []), value]);
      }
      await timeRaw(login, (client) => consumeAll(client, queue, { count: messages, prefetch: 1000 }));
    }
  }
  const raw = seconds.get('raw') ?? [];
  seconds.delete('raw');
  const rate = (values: readonly number[]) => Math.round(messages / median(values)).toLocaleString('en');
  return [...seconds].map(([name, values]) => [
    name,
    describeRatios(values.map((value, round) => raw[round]! / value)),
    `[${rate(values)} / ${rate(raw)}]`,
  ]);
}

/** Seconds from CONNECTED until `work` is done. */
async function timeRaw(login: Login, work: (client: RawClient) => Promise<void>): Promise<number> {
  const client = await RawClient.open(login);
  const startMs = performance.now();
  await work(client);
  const seconds = (performance.now() - startMs) / 1000;
  await client.close();
  return seconds;
}

/** Seconds from the start of the connection to the last confirmation, as the command says itself. */
async function publishFile(login: Login, queue: string, flags: readonly string[]): Promise<number> {
  const { host, port, user, password, vhost } = login;
  const { PATH, HOME } = process.env;
  const settings = {
    STOMP_SERVER_HOST: host,
    STOMP_SERVER_PORT: String(port),
    STOMP_SERVER_USER: user,
    STOMP_SERVER_PASSWORD: password,
    STOMP_RECEIPT_TIMEOUT: String(TIMEOUT_SECONDS),
    ...(vhost === undefined ? {} : { STOMP_SERVER_VHOST: vhost }),
  };
  const args = [join(packageRoot, 'bin/publish.js'), `/queue/${queue}`, '--lines', ...flags];
  const { stderr } = await promisify(execFile)(process.execPath, [...process.execArgv, ...args], {
    cwd: tmpdir(),
    env: { PATH, HOME, ...settings },
  });
  const durationMs = /"durationMs":(\d+)/.exec(stderr)?.[1];
  if (durationMs === undefined) throw new Error(`publish says no duration: ${stderr}`);
  return Number(durationMs) / 1000;
}

/** Seconds until the broker has read it: no receipt tells more. */
async function publishAsDjangoStomp(login: Login, queue: string, messages: number): Promise<number> {
  const file = join(packageRoot, 'bench/django-stomp-transaction.py');
  const { stdout } = await promisify(execFile)(PYTHON, [file, JSON.stringify({ login, queue, messages })]);
  return (JSON.parse(stdout) as { processedSeconds: number }).processedSeconds;
}
