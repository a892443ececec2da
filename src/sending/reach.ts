/**
 * The way to a server in steps, as connect.ts goes it at once, so that it can be told which of them fails: its name, the TCP
 * connection, TLS.
 */
import { once } from 'node:events';
import { lookup } from 'node:dns/promises';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { PubsubError } from '../errors.js';
import type { Settings } from '../settings.js';
import { endError, transportEnd } from '../stomp/session-end.js';
import type { Server } from '../settings/url.js';
import { tlsOptions } from './tls.js';

/** The addresses of its name. Rejects with `broker-unreachable`. */
export async function addressesOf({ host }: Server): Promise<string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch (error) {
    throw endError(transportEnd(error as Error), `no address of ${host}`, 'broker-unreachable');
  }
}

/** Rejects with `broker-unreachable` unless somebody listens there. */
export async function reachTcp(server: Server, settings: Settings): Promise<void> {
  const socket = connectTcp({ ...server, autoSelectFamily: true });
  await connected(socket, 'connect', server, settings);
  socket.destroy();
}

export interface Certificate {
  /** Whom it names. */
  readonly subject: string;
  readonly daysLeft: number;
  readonly protocol: string;
}

/** The server's certificate. Rejects with `broker-refused`, `broker-unreachable` or `invalid-setting`. */
export async function reachTls(server: Server, settings: Settings): Promise<Certificate> {
  // Of several addresses each is tried, as for TCP; Node's types do not know that option here.
  const tcp = { ...server, autoSelectFamily: true };
  const socket: TLSSocket = connectTls({ ...tcp, ...tlsOptions(settings, server.host) });
  await connected(socket, 'secureConnect', server, settings);
  const { subject, valid_to: validTo } = socket.getPeerCertificate();
  const protocol = socket.getProtocol() ?? 'TLS';
  socket.destroy();
  const daysLeft = Math.floor((Date.parse(validTo) - Date.now()) / 86_400_000);
  return { subject: [subject.CN].flat()[0] ?? server.host, daysLeft, protocol };
}

async function connected(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  { host, port }: Server,
  { connectTimeoutSeconds }: Settings,
): Promise<void> {
  const what = `cannot connect to ${host}:${port}`;
  socket.setNoDelay(true).on('error', () => undefined);
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), connectTimeoutSeconds * 1000);
  // Whoever speaks no TLS may hang up without an error.
  const hungUp = once(socket, 'close', { signal: late.signal }).then(() => {
    throw new PubsubError('broker-unreachable', `${what}: the server ended the connection`);
  });
  try {
    await Promise.race([once(socket, event, { signal: late.signal }), hungUp]);
  } catch (error) {
    socket.destroy();
    if (error instanceof PubsubError) throw withTlsAdvice(error, event);
    const limit = `no answer within ${connectTimeoutSeconds} s (STOMP_CONNECT_TIMEOUT)`;
    const end = late.signal.aborted
      ? { kind: 'timeout' as const, message: limit }
      : transportEnd(error as Error);
    throw withTlsAdvice(endError(end, what, 'broker-unreachable'), event);
  } finally {
    clearTimeout(timer);
    hungUp.catch(() => undefined);
  }
}

function withTlsAdvice(error: PubsubError, event: string): PubsubError {
  if (event === 'connect' || error.message.includes('STOMP_USE_SSL')) return error;
  const advice = 'no TLS handshake: check STOMP_USE_SSL and the port';
  return new PubsubError(error.code, `${error.message} (${advice})`, { cause: error });
}
