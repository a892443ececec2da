/**
 * What all tests of the commands share: which broker serves a test that needs no particular one, a consumer started up
 * to its subscription and stopped as its operator stops it, and what its callback printed.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after } from 'node:test';
import { brokersUnderTest, brokerUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { packageRoot, run, type Running, type RunOptions } from '../support/process.js';

/** Far beyond what a loaded machine needs. */
export const DEADLINE_MS = 30_000;

/** The broker of a test that needs none in particular, or undefined: then the test skips. */
export function anyBroker(): BrokerUnderTest | undefined {
  return brokersUnderTest()[0];
}

/** The real ones that this run has. */
export function realBrokers(): BrokerUnderTest[] {
  return (['rabbitmq', 'activemq'] as const).map(brokerUnderTest).filter((broker) => broker !== undefined);
}

/** Why a test that needs a broker does not run. */
export const skipWithout = (broker: BrokerUnderTest | undefined) =>
  broker === undefined ? { skip: 'no broker in this run' } : {};

/** A name nobody else uses. */
export function unique(text: string): string {
  return `${text}-${randomUUID().slice(0, 8)}`;
}

/** The callbacks of test/fixtures/callbacks/, as an argument, from any working directory. */
export function fixture(spec: string): string {
  return join(packageRoot, 'test/fixtures/callbacks', spec);
}

/** Environment variables that lead the commands to a port of this machine with no login. */
export function at(port: number): Record<string, string> {
  return { STOMP_SERVER_HOST: '127.0.0.1', STOMP_SERVER_PORT: String(port) };
}

interface Options extends RunOptions {
  readonly flags?: readonly string[];
}

/** Runs `pubsub`, whatever becomes of it. */
export function pubsub(
  broker: Pick<BrokerUnderTest, 'env'>,
  destination: string,
  callback: string,
  { flags = [], env = {}, ...options }: Options = {},
): Running {
  return run('pubsub', [destination, callback, ...flags], { ...options, env: { ...broker.env, ...env } });
}

/** Runs `pubsub`; resolves when it is subscribed. */
export async function startPubsub(...args: Parameters<typeof pubsub>): Promise<Running> {
  const running = pubsub(...args);
  await running.says('subscribed');
  return running;
}

export interface Summary {
  readonly received: number;
  readonly redelivered: number;
  readonly acked: number;
  readonly deadLettered: number;
  readonly retried: number;
  readonly released: number;
}

/** Stops it by SIGTERM; it must end with 0. Resolves with what it says it did. */
export async function stopPubsub(running: Running): Promise<Summary> {
  running.signal('SIGTERM');
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  const line = running.said('stopped')[0];
  assert.ok(line, running.stderr);
  return line as unknown as Summary;
}

/** Runs `publish` to its end. */
export async function publish(
  broker: Pick<BrokerUnderTest, 'env'>,
  args: readonly string[],
  { env = {}, ...options }: RunOptions = {},
): Promise<Running & { readonly code: number | null }> {
  const running = run('publish', args, { ...options, env: { ...broker.env, ...env } });
  const { code } = await running.exit();
  return Object.assign(running, { code });
}

/** The last line on stderr of a `publish`, without its name. */
export function complaint(stderr: string): string {
  return (stderr.trimEnd().split('\n').at(-1) ?? '').replace(/^publish: error: /, '');
}

/** Runs `publish`, which must end with 0. */
export async function published(...args: Parameters<typeof publish>): Promise<void> {
  const { code, stderr } = await publish(...args);
  assert.equal(code, 0, stderr);
}

/** What callbacks printed with console.*, oldest first. */
export function printed(running: Running): string[] {
  return running.logLines.filter(({ source }) => source === 'console').map(({ msg }) => String(msg));
}

/** A folder with these files, removed at the end of the test (or suite) that calls this. */
export function temporaryFolder(files: Readonly<Record<string, string | Uint8Array>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-e2e-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    const file = join(folder, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  return folder;
}
