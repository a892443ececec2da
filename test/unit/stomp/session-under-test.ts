/** Sessions with a scripted server, for the tests of this folder: default options and a log that can be read. */
import type { Logger } from '../../../src/log.js';
import { diagnose } from '../../../src/brokers/diagnoses.js';
import type { Dialect } from '../../../src/brokers/dialect.js';
import { detectDialect } from '../../../src/brokers/products.js';
import type { Session } from '../../../src/sending/connect.js';
import { openSession } from '../../../src/stomp/open.js';
import type { Login, SessionOptions } from '../../../src/stomp/session.js';
import { type Script, type ScriptedConnection, startScriptedServer } from '../../support/scripted-server.js';
import type { ScriptedServer, ScriptedServerOptions } from '../../support/scripted-server.js';
import { within } from '../../support/until.js';

/** Far beyond what a loaded machine needs: reached only by what will not come. */
export const DEADLINE_MS = 30_000;

export interface LogLine extends Record<string, unknown> {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
}

export class RecordedLog implements Logger {
  readonly lines: LogLine[] = [];

  debug(fields: object, message: string): void {
    this.lines.push({ ...fields, level: 'debug', message });
  }

  info(fields: object, message: string): void {
    this.lines.push({ ...fields, level: 'info', message });
  }

  warn(fields: object, message: string): void {
    this.lines.push({ ...fields, level: 'warn', message });
  }

  error(fields: object, message: string): void {
    this.lines.push({ ...fields, level: 'error', message });
  }

  isLevelEnabled(): boolean {
    return true;
  }

  /** Lines whose message matches. */
  find(pattern: RegExp): LogLine[] {
    return this.lines.filter(({ message }) => pattern.test(message));
  }
}

export type Options = Partial<SessionOptions<Dialect> & Login>;

export function optionsFor(
  { host, port }: Pick<ScriptedServer, 'host' | 'port'>,
  given: Options = {},
): SessionOptions<Dialect> {
  const { user, password, ...options } = { user: 'guest', password: 'guest', ...given };
  return {
    host,
    port,
    tls: undefined,
    vhost: '/',
    login: () => ({ user, password }),
    escapesBackslashes: true,
    clientId: undefined,
    products: { dialectOf: (server) => detectDialect(server, 'auto'), diagnose },
    outgoingHeartbeatMs: 0,
    incomingHeartbeatMs: 0,
    connectTimeoutMs: DEADLINE_MS,
    receiptTimeoutMs: DEADLINE_MS,
    maxBodyBytes: 64 * 1024 * 1024,
    ...options,
  };
}

export function open(server: ScriptedServer, options: Options = {}): Promise<Session> {
  return within(
    openSession(optionsFor(server, options), new RecordedLog()),
    DEADLINE_MS * 2,
    'openSession settles',
  );
}

/** A server with its first session and the server's end of it; disposing of it cuts the connection. */
export interface Pair extends AsyncDisposable {
  readonly server: ScriptedServer;
  readonly session: Session;
  readonly peer: ScriptedConnection;
}

/** Accepted by the script, which is `accept` and nothing else when left out: the test plays the server by `peer`. */
export async function openPair(
  options: Options = {},
  script: Script = (connection) => connection.accept().then(() => undefined),
  serverOptions: ScriptedServerOptions = {},
): Promise<Pair> {
  const server = await startScriptedServer(script, serverOptions);
  try {
    const session = await open(server, options);
    const peer = await server.connection();
    const dispose = () => {
      session.destroy({ kind: 'abandoned', message: 'the test is over' });
      return server.close();
    };
    return { server, session, peer, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** Subscribes, confirmed by the peer, and resolves with the subscription's id. */
export async function subscribe(
  { session, peer }: Pair,
  onMessage: Parameters<Session['subscribe']>[2],
): Promise<string> {
  const subscribed = session.subscribe({ destination: '/queue/orders' }, '', onMessage);
  const id = await peer.acceptSubscription();
  await within(subscribed, DEADLINE_MS, 'the subscription is confirmed');
  return id;
}

/** Proves that frames pass in both directions. */
export async function roundTrip({ session, peer }: Pair): Promise<void> {
  const sent = session.request('SEND', { destination: '/queue/orders', 'content-length': '0' });
  let frame = await peer.take();
  while (frame.command !== 'SEND') frame = await peer.take();
  peer.confirm(frame);
  await within(sent, DEADLINE_MS, 'a SEND is confirmed');
}

/** What the promise has become within this turn of the event loop; `pending` when nothing. */
export async function stateOf(promise: Promise<unknown>): Promise<'pending' | 'resolved' | 'rejected'> {
  return Promise.race([
    promise.then(
      () => 'resolved' as const,
      () => 'rejected' as const,
    ),
    turn().then(() => 'pending' as const),
  ]);
}

/** One turn of the event loop: everything that is due has run. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
