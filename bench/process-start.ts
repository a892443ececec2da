/**
 * How long the commands take from their start, as a user or a container runs them, next to a Node that does nothing.
 * The first ACK is seen by a relay between the command and the broker.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../test/support/process.js';
import { type Login, publishAll, RawClient } from './raw-client.js';
import { median } from './statistics.js';
import { makeBody } from './task.js';

/** Resolves with the cells of one row for each command; `runs` of them in turn, after one that warms the caches. */
export async function measureStart(login: Login, runs: number): Promise<string[][]> {
  const queue = `bench-${randomBytes(6).toString('hex')}`;
  const body = JSON.stringify(makeBody(0));
  const cases: [name: string, run: () => Promise<number>][] = [
    ['node -e 0, whole process', () => timeToExit(['-e', '0'], login)],
    ['publish, whole process', () => timeToExit([bin('publish'), `/queue/${queue}-out`, body], login)],
    ['pubsub, start to first ack', () => timeToFirstAck(queue, 'dist/callbacks/index.js#ack', login)],
    ['pubsub, callback in TypeScript', () => timeToFirstAck(queue, 'callbacks/index.ts#ack', login)],
  ];
  const times = cases.map((): number[] => []);
  for (let turn = 0; turn <= runs; turn++) {
    for (const [index, [, run]] of cases.entries()) {
      const elapsedMs = await run();
      if (turn > 0) times[index]!.push(elapsedMs);
    }
  }
  return cases.map(([name], index) => [name, `${Math.round(median(times[index]!))} ms`]);
}

const bin = (name: string) => join(packageRoot, 'bin', `${name}.js`);

/** With nothing of the caller's settings: neither variables nor a .env file. */
function start(args: readonly string[], { host, port, user, password, vhost }: Login) {
  const { PATH, HOME } = process.env;
  const settings = {
    STOMP_SERVER_HOST: host,
    STOMP_SERVER_PORT: String(port),
    STOMP_SERVER_USER: user,
    STOMP_SERVER_PASSWORD: password,
    STOMP_SERVER_VHOST: vhost,
  };
  const env = { PATH, HOME, ...settings };
  return spawn(process.execPath, args, { cwd: tmpdir(), env, stdio: 'ignore' });
}

async function timeToExit(args: readonly string[], login: Login): Promise<number> {
  const startMs = performance.now();
  const [status] = (await once(start(args, login), 'exit')) as [number | null];
  if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status ?? 'a signal'}`);
  return performance.now() - startMs;
}

async function timeToFirstAck(queue: string, callback: string, login: Login): Promise<number> {
  const client = await RawClient.open(login);
  await publishAll(client, queue, { count: 1, window: 1 }, makeBody);
  await client.close();
  const relay = await startRelay(login);
  const args = [bin('pubsub'), `/queue/${queue}`, join(packageRoot, callback)];
  const startMs = performance.now();
  const child = start(args, { ...login, host: '127.0.0.1', port: relay.port });
  const exited = once(child, 'exit');
  const isAcked = await Promise.race([relay.firstAck.then(() => true), exited.then(() => false)]);
  const elapsedMs = performance.now() - startMs;
  if (!isAcked) throw new Error(`pubsub ended before its first ACK: ${args.join(' ')}`);
  child.kill();
  await exited;
  relay.close();
  return elapsedMs;
}

/** Passes connections on to the broker and tells when an ACK has gone through. */
async function startRelay({ host, port }: Login) {
  let onAck: () => void = () => undefined;
  const firstAck = new Promise<void>((resolve) => (onAck = resolve));
  const listener = createServer((downstream) => {
    const upstream = connect({ host, port, noDelay: true });
    downstream.setNoDelay(true).pipe(upstream).pipe(downstream);
    downstream.on('data', (chunk) => {
      if (chunk.includes('ACK\nid:')) onAck();
    });
    downstream.on('error', () => upstream.destroy());
    upstream.on('error', () => downstream.destroy());
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return { port: (listener.address() as AddressInfo).port, firstAck, close: () => void listener.close() };
}
