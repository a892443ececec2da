/** Opens a session: TCP or TLS, CONNECT, up to the CONNECTED frame, within one limit for all of it; or says what it met. */
import { connect as connectTcp, type OnReadOpts } from 'node:net';
import type { Logger } from '../log.js';
import { strangerOf } from './misconnections.js';
import { endError, type EndCause } from './session-end.js';
import { Session, type Manners, type SessionOptions } from './session.js';
import type { Connect } from './wire.js';

/**
 * How long one address of a name may take before the next is tried. Node gives it 250 ms, and then takes a broker that
 * is far away for dead; a second is above every round trip on Earth.
 */
const ADDRESS_TIMEOUT_MS = 1000;

/**
 * Rejects with `broker-refused` when only a change of settings can help, else with `broker-unreachable`; and as the login and
 * the TLS options throw.
 */
export async function openSession<D extends Manners>(
  options: SessionOptions<D>,
  log: Logger,
  signal?: AbortSignal,
): Promise<Session<D>> {
  signal?.throwIfAborted();
  const { host, port } = options;
  const tls = options.tls && (await options.tls());
  const connectTls = tls && (await import('node:tls')).connect;
  signal?.throwIfAborted();
  const login = options.login();
  const tcp = {
    ...{ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 },
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: Math.ceil(Math.min(ADDRESS_TIMEOUT_MS, options.connectTimeoutMs / 2)),
  };
  const reached = { tcp: false, tls: false };
  let first: Buffer | undefined;
  let markOpened: () => void;
  const opened = new Promise<'opened'>((resolve) => (markOpened = () => resolve('opened')));
  const connect: Connect = (onread) => {
    const callback: OnReadOpts['callback'] = (bytes, memory) => {
      first ??= Buffer.from(memory.subarray(0, bytes));
      return onread.callback(bytes, memory);
    };
    const reading = { ...tcp, onread: { ...onread, callback } };
    const socket = connectTls === undefined ? connectTcp(reading) : connectTls({ ...reading, ...tls });
    return socket
      .setNoDelay(true)
      .once('connect', () => (reached.tcp = true))
      .once('secureConnect', () => (reached.tls = true))
      .once(tls === undefined ? 'connect' : 'secureConnect', () => session.handshake(login, markOpened));
  };
  const session = new Session(connect, options, log);
  const abort = () => session.abandon('stopped while connecting');
  signal?.addEventListener('abort', abort, { once: true });
  const timer = setTimeout(() => {
    const message = `no answer to CONNECT within ${options.connectTimeoutMs / 1000} s`;
    session.destroy({ kind: 'timeout', message });
  }, options.connectTimeoutMs);
  const outcome = await Promise.race([opened, session.closed]);
  clearTimeout(timer);
  signal?.removeEventListener('abort', abort);
  if (outcome === 'opened') return session;
  signal?.throwIfAborted();
  const stranger = first && strangerOf(first);
  // Who expects TLS, or does not, need not say so: it hangs up, or waits.
  const isWordless = reached.tcp && first === undefined && (tls === undefined || !reached.tls);
  const end: EndCause =
    stranger ?? (isWordless ? { advice: adviceFor(tls !== undefined), ...outcome } : outcome);
  throw endError(end, `cannot connect to ${session.address}`, 'broker-unreachable');
}

const adviceFor = (isTls: boolean): string =>
  isTls
    ? 'no TLS handshake: check STOMP_USE_SSL and the port'
    : 'no word of STOMP: check the port, and STOMP_USE_SSL if it speaks TLS';

/**
 * Another connection to the same server, for what must not share the first one. Rejects as openSession does. A client id
 * is the first one's alone.
 */
export function openBeside<D extends Manners>(
  { options }: Pick<Session<D>, 'options'>,
  log: Logger,
  signal?: AbortSignal,
): Promise<Session<D>> {
  return openSession({ ...options, clientId: undefined }, log, signal);
}
