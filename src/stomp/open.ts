/** Opens a session: TCP or TLS, CONNECT, up to the CONNECTED frame, within one limit for all of it. */
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Logger } from '../log.js';
import { endError } from './session-end.js';
import { Session, type SessionOptions } from './session.js';

/**
 * How long one address of a name may take before the next is tried. Node gives it 250 ms, and then takes a broker that
 * is far away for dead; a second is above every round trip on Earth.
 */
const ADDRESS_TIMEOUT_MS = 1000;

/** Rejects with `broker-refused` when only a change of settings can help, else with `broker-unreachable`. */
export async function openSession<D>(
  options: SessionOptions<D>,
  log: Logger,
  signal?: AbortSignal,
): Promise<Session<D>> {
  signal?.throwIfAborted();
  const { host, port, tls } = options;
  const tcp = {
    ...{ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 },
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: Math.ceil(Math.min(ADDRESS_TIMEOUT_MS, options.connectTimeoutMs / 2)),
  };
  const socket = tls === undefined ? connectTcp(tcp) : connectTls({ ...tcp, ...tls }).setNoDelay(true);
  const reached = { tcp: false, tls: false };
  socket.once('connect', () => (reached.tcp = true)).once('secureConnect', () => (reached.tls = true));
  const session = new Session(socket, options, log);
  const abort = () => session.abandon('stopped while connecting');
  signal?.addEventListener('abort', abort, { once: true });
  const timer = setTimeout(() => {
    const message = `no answer to CONNECT within ${options.connectTimeoutMs / 1000} s`;
    session.destroy({ kind: 'timeout', message });
  }, options.connectTimeoutMs);
  const opened = new Promise<'opened'>((resolve) => {
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () =>
      session.handshake(() => resolve('opened')),
    );
  });
  const outcome = await Promise.race([opened, session.closed]);
  clearTimeout(timer);
  signal?.removeEventListener('abort', abort);
  if (outcome === 'opened') return session;
  signal?.throwIfAborted();
  // A server without TLS on this port does not say so: it hangs up, or waits.
  const advice = 'no TLS handshake: check STOMP_USE_SSL and the port';
  const end = tls !== undefined && reached.tcp && !reached.tls ? { advice, ...outcome } : outcome;
  throw endError(end, `cannot connect to ${host}:${port}`, 'broker-unreachable');
}

/**
 * Another connection to the same server, for what must not share the first one. Rejects as openSession does. A client id
 * is the first one's alone.
 */
export function openBeside<D>(
  { options }: Session<D>,
  log: Logger,
  signal?: AbortSignal,
): Promise<Session<D>> {
  return openSession({ ...options, clientId: undefined }, log, signal);
}
