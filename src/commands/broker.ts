/** The embedded broker as a user meets it: `pubsub broker`, and the one that `pubsub --embedded` brings along. */
import { connect } from 'node:net';
import { startEmbeddedBroker, type BrokerEvent, type EmbeddedBroker } from '../embedded/broker.js';
import { PubsubError, reasonOf } from '../errors.js';
import { log } from '../log.js';
import type { Settings } from '../settings.js';
import { readLogin } from '../sending/login.js';
import { withoutBrackets } from '../settings/url.js';
import { start } from './start.js';

const NOT_KEPT = 'in memory only: for development and tests; messages are gone when this process ends';
/** Loopback answers at once or not at all. */
const PROBE_MS = 1000;

/** The command: listens until the first signal, then prints what is in each queue. Rejects with `invalid-usage`. */
export async function broker(flags: Record<string, unknown>): Promise<void> {
  const { host = '127.0.0.1', ...given } = flags;
  const { settings, listen } = await start(given);
  const { drain } = listen(0);
  const embedded = await listenAt(withoutBrackets(host as string), settings);
  log.info({ host: embedded.host, port: embedded.port }, `embedded broker listens; ${NOT_KEPT}`);
  if (!drain.aborted) await new Promise((stop) => drain.addEventListener('abort', stop, { once: true }));
  const summary = {
    counters: embedded.counters,
    queues: embedded.queues().map(({ name, depth }) => ({ name, depth })),
  };
  process.stdout.write(process.stdout.isTTY ? renderSummary(summary) : `${JSON.stringify(summary)}\n`);
  await embedded.close();
}

/**
 * Starts a broker where the settings point to, unless something listens there, which is used then: undefined. Rejects
 * with `invalid-usage` when the settings point to another machine.
 */
export async function startBeside(settings: Settings): Promise<EmbeddedBroker | undefined> {
  const { host, port } = settings;
  if (!/^(?:localhost|127(?:\.\d+){3}|::1)$/.test(host)) {
    throw new PubsubError(
      'invalid-usage',
      `--embedded serves this machine only, and STOMP_SERVER_HOST is ${host}`,
    );
  }
  if (settings.useSsl)
    throw new PubsubError('invalid-usage', '--embedded speaks no TLS: leave STOMP_USE_SSL away');
  if (await isListening(host, port)) {
    log.info({ host, port }, 'a broker listens here already: no embedded one is started');
    return undefined;
  }
  const embedded = await listenAt(host, settings);
  log.warn({ host, port }, `embedded broker started; ${NOT_KEPT}`);
  return embedded;
}

async function listenAt(host: string, { port, ...settings }: Settings): Promise<EmbeddedBroker> {
  const { user, password } = readLogin(settings);
  if ((user === undefined) !== (password === undefined)) {
    const given = user === undefined ? 'a password and no user' : 'a user and no password';
    throw new PubsubError('invalid-usage', `the embedded broker is given ${given}; give both or neither`);
  }
  const credentials = user === undefined || password === undefined ? {} : { user, password };
  try {
    return await startEmbeddedBroker({ host, port, ...credentials, onEvent: logEvent });
  } catch (error) {
    if (error instanceof PubsubError) throw error;
    const remedy = 'stop what listens there or give another --port';
    throw new PubsubError(
      'invalid-usage',
      `the embedded broker cannot listen: ${reasonOf(error)}; ${remedy}`,
      {
        cause: error,
      },
    );
  }
}

function logEvent({ kind, ...fields }: BrokerEvent): void {
  if (kind === 'error' || kind === 'dropped') log.warn(fields, `embedded broker: ${kind}`);
  else if (kind === 'dead-lettered') log.info(fields, 'embedded broker: message dead-lettered');
  else log.info(fields, `embedded broker: client ${kind}`);
}

function isListening(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: PROBE_MS });
    const finish = (isUp: boolean) => {
      socket.destroy();
      resolve(isUp);
    };
    socket
      .once('connect', () => finish(true))
      .once('error', () => finish(false))
      .once('timeout', () => finish(true));
  });
}

interface Summary {
  readonly counters: Readonly<Record<string, number>> | object;
  readonly queues: readonly { readonly name: string; readonly depth: number }[];
}

function renderSummary({ counters, queues }: Summary): string {
  const counts = Object.entries(counters)
    .filter(([, count]) => count !== 0)
    .map(([name, count]) => `${String(count)} ${name}`);
  return `\n${counts.join(', ') || 'nothing was sent'}\n${renderDepths(queues)}`;
}

/** The queues and how many messages lie in each, as lines of text. */
export function renderDepths(queues: Summary['queues']): string {
  const width = Math.max(5, ...queues.map(({ name }) => name.length));
  return queues
    .toSorted((a, b) => a.name.localeCompare(b.name))
    .map(({ name, depth }) => `  ${name.padEnd(width)}  ${depth}\n`)
    .join('');
}
