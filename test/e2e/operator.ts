/** Running the operator's subcommands of `pubsub`, with the result each prints, and what their tests put into queues. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { BrokerUnderTest } from '../support/brokers.js';
import { declaringHeaders, putAll } from '../support/messages.js';
import { packageRoot, run, type Running, type RunOptions } from '../support/process.js';
import { withRaw, type RawHeaders } from '../support/raw-client.js';
import { within } from '../support/until.js';
import { DEADLINE_MS } from './commands.js';

/** For the tests of these commands. */
export { bodiesIn } from '../support/messages.js';

/** Far beyond what a loaded machine needs to hand out the next message; no longer, because every run ends with it. */
export const IDLE = ['--idle', '2'];

export function startOperator(
  broker: Pick<BrokerUnderTest, 'env'>,
  args: readonly string[],
  { env = {}, ...options }: RunOptions = {},
): Running {
  return run('pubsub', args, { ...options, env: { ...broker.env, ...env } });
}

/** Runs one that must end with 0, and resolves with the line it printed. */
export async function operate(...given: Parameters<typeof startOperator>): Promise<Record<string, unknown>> {
  const running = startOperator(...given);
  return resultOf(running);
}

export async function resultOf(running: Running): Promise<Record<string, unknown>> {
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  assert.match(running.stdout, /^\{.*\}\n$/);
  return JSON.parse(running.stdout) as Record<string, unknown>;
}

/** Runs one that must fail; resolves with its status and the lines that name it on stderr. */
export async function refused(
  ...given: Parameters<typeof startOperator>
): Promise<{ code: number | null; complaint: string }> {
  const running = startOperator(...given);
  const { code } = await running.exit();
  assert.equal(running.stdout, '');
  return { code, complaint: running.stderr.match(/^pubsub: error: .*$/gm)?.join('\n') ?? running.stderr };
}

/** Runs it on a terminal without colours, which `script` makes; resolves with all that this got. */
export async function onTerminal(
  { env }: Pick<BrokerUnderTest, 'env'>,
  args: string,
  bin: 'pubsub' | 'publish' = 'pubsub',
): Promise<string> {
  const command = `'${process.execPath}' '${join(packageRoot, `bin/${bin}.js`)}' ${args}`;
  const { PATH, HOME } = process.env;
  const terminal = spawn('script', ['-qec', command, '/dev/null'], {
    env: { PATH, HOME, TERM: 'xterm-256color', NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return within(text(terminal.stdout), DEADLINE_MS, `the end of ${args} on a terminal`);
}

/** Fails when a terminal got a control character but line ends and the three sequences that a line of progress is made of. */
export function assertHarmless(screen: string): void {
  // eslint-disable-next-line no-control-regex -- those are looked for
  const shown = screen.replace(/[\r\n]|\x1b\[(?:\d*G|0?K|0J)/g, '');
  assert.doesNotMatch(shown, /[\p{Cc}\p{Bidi_Control}]/u);
}

/**
 * Sends these to a queue, takes each and lets it die: they lie in its dead-letter queue when this resolves. Where a NACK destroys
 * them they are put there as the copies they would be.
 */
export async function letDie(
  broker: BrokerUnderTest,
  queue: string,
  bodies: readonly unknown[],
  headers: RawHeaders = {},
): Promise<void> {
  const destination = `/queue/${queue}`;
  const declaring = declaringHeaders(broker, destination);
  const dead = declaringHeaders(broker, `/queue/DLQ.${queue}`);
  if (!broker.capabilities.nackKeeps) {
    await putAll(broker, `/queue/DLQ.${queue}`, bodies, { ...headers, 'original-destination': destination });
    return;
  }
  await withRaw(broker, async (client) => {
    client.send('BEGIN', { transaction: 't' });
    client.send('SEND', { destination: `/queue/DLQ.${queue}`, ...dead, transaction: 't' });
    await client.receipt('ABORT', { transaction: 't' });
    for (const body of bodies) await client.put(destination, body, { ...declaring, ...headers });
    await client.subscribe(destination, declaring);
    for (let left = bodies.length; left > 0; left--)
      await client.settle('NACK', await client.next('MESSAGE'));
    await client.disconnect();
  });
}
