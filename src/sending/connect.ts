/**
 * From settings to sessions: which servers, in which order, how long to wait between attempts. The loop that keeps a
 * consumer connected is a for-await over `sessions`.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { ConnectionOptions } from 'node:tls';
import { diagnose } from '../brokers/diagnoses.js';
import type { Dialect } from '../brokers/dialect.js';
import { detectDialect } from '../brokers/products.js';
import { PubsubError, type ErrorCode } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { parseBrokerUrl, type Server } from '../settings/url.js';
import { openSession } from '../stomp/open.js';
import { describeEnd } from '../stomp/session-end.js';
import type { SessionOptions, Session as AnySession } from '../stomp/session.js';
import { readLogin } from './login.js';

/** A connection to a broker whose product is known. */
export type Session = AnySession<Dialect>;

/** `connecting`: an attempt begins, at one server; `failed`: it has failed. `waiting`: the next one begins after that time. */
export type ConnectEvent =
  | { readonly kind: 'connecting'; readonly server: string }
  | { readonly kind: 'failed'; readonly server: string; readonly reason: string; readonly code: ErrorCode }
  | { readonly kind: 'waiting'; readonly reason: string; readonly retryInMs: number };
export type Tell = (event: ConnectEvent) => void;
const tellNobody: Tell = () => undefined;

const FIRST_DELAY_MS = 200;
/** For who does not want to wait at all: as long as stomp.py waits before it tries again. */
const SHORTEST_DELAY_MS = 100;
/** A session that lived this long was healthy: the next attempt waits no longer than the first one did. */
const HEALTHY_MS = 10_000;
/** What only a change of settings cures is retried this rarely: it floods neither the log nor the broker. */
const CONFIGURATION_DELAY_MS = 30_000;

/** Connects to the first server that answers, each tried once, in order. Rejects as openSession does. */
export async function connectOnce(
  settings: Settings,
  log: Logger,
  signal?: AbortSignal,
  tell = tellNobody,
): Promise<Session> {
  const failures: PubsubError[] = [];
  for (const server of serversOf(settings)) {
    const address = `${server.host}:${server.port}`;
    try {
      tell({ kind: 'connecting', server: address });
      const session = await connectTo(server, settings, log, signal);
      log.debug(
        { server: session.address, product: session.server, dialect: session.dialect.name },
        'connected',
      );
      return session;
    } catch (error) {
      if (!(error instanceof PubsubError)) throw error;
      failures.push(error);
      tell({ kind: 'failed', server: address, reason: error.message, code: error.code });
    }
  }
  const refused = failures.find(({ code }) => code !== 'broker-unreachable');
  throw refused ?? new PubsubError('broker-unreachable', failures.map(({ message }) => message).join('; '));
}

/** An attempt that nobody is told of. */
export interface Ahead {
  /** Resolves with its session, and tells of it; with undefined when it has failed by now. Rejects as connectOnce does. */
  take(tell: Tell): Promise<Session | undefined>;
  /** Ends it; nothing when it was taken. Resolves when a connection that is there has been closed; never rejects. */
  drop(): Promise<void>;
}

/**
 * Begins to connect while something else is waited for that may yet fail, or take its time: what went wrong meanwhile is
 * forgotten, for it may be over.
 */
export function connectAhead(settings: Settings, log: Logger, signal: AbortSignal): Ahead {
  const events: ConnectEvent[] = [];
  let tellNow: Tell = (event) => void events.push(event);
  let isFailed = false;
  let isTaken = false;
  const attempt = connectOnce(settings, log, signal, (event) => tellNow(event));
  let opened: Session | undefined;
  attempt.then(
    (session) => (opened = session),
    () => (isFailed = true),
  );
  return {
    take: async (tell) => {
      isTaken = true;
      if (isFailed) return undefined;
      tellNow = tell;
      events.forEach(tell);
      const session = await attempt;
      return session.isOpen ? session : undefined;
    },
    drop: async () => {
      if (isTaken) return;
      await opened?.close();
      attempt.then(
        (session) => session.close(),
        () => undefined,
      );
    },
  };
}

/**
 * Connects to that server alone. Rejects as openSession does. A broker that keeps to STOMP 1.2 does not un-escape CONNECT
 * (Artemis, by its source): where a backslash makes the difference between right and wrong, it is tried the other way, too.
 */
export async function connectTo(
  server: Server,
  settings: Settings,
  log: Logger,
  signal?: AbortSignal,
): Promise<Session> {
  const options = sessionOptions(settings, server);
  try {
    return await openSession(options, log, signal);
  } catch (error) {
    const isRefused = error instanceof PubsubError && error.code === 'broker-refused';
    const { user = '', password = '' } = isRefused ? options.login() : {};
    if (!isRefused || !`${user}${password}${options.vhost}`.includes('\\')) throw error;
    return await openSession({ ...options, escapesBackslashes: false }, log, signal).catch(
      (second: unknown) => {
        throw second instanceof PubsubError ? error : second;
      },
    );
  }
}

/**
 * Sessions, one after the other, for as long as the signal allows: when one has ended the next is opened, after a wait
 * that grows with jitter up to `waitToConnectSeconds` and starts anew after a healthy session; at once after one that
 * its user closed. Before the first session what only a change of settings cures is thrown (`broker-refused`,
 * `invalid-setting`); later it is logged and tried again slowly. The first may have been begun before.
 */
export async function* sessions(
  settings: Settings,
  log: Logger,
  signal: AbortSignal,
  tell = tellNobody,
  ahead?: Ahead,
): AsyncGenerator<Session, void, void> {
  let hasConnected = false;
  for (let attempt = 0; !signal.aborted; attempt++) {
    const sinceMs = performance.now();
    let problem: Problem;
    try {
      const early = attempt === 0 && !hasConnected ? await ahead?.take(tell) : undefined;
      const session = early ?? (await connectOnce(settings, log, signal, tell));
      hasConnected = true;
      yield session;
      const end = await session.closed;
      if (end.kind === 'closed') {
        attempt = -1;
        continue;
      }
      problem = { reason: describeEnd(end), ...end };
      if (performance.now() - sinceMs > HEALTHY_MS) attempt = 0;
    } catch (error) {
      if (aborted(signal)) return;
      if (!(error instanceof PubsubError)) throw error;
      const isConfiguration = error.code !== 'broker-unreachable';
      const isSetting = error.code === 'invalid-setting';
      // A file that could be read at the start is about to be replaced.
      if (isConfiguration && !hasConnected && !(isSetting && attempt > 0)) throw error;
      problem = { reason: error.message, isConfiguration, isSetting };
    }
    if (aborted(signal)) return;
    await backOff(problem, backoffMs(attempt, settings.waitToConnectSeconds), { log, signal, tell });
  }
}

interface Problem {
  readonly reason: string;
  readonly isConfiguration: boolean;
  /** It is here, and not the broker's. */
  readonly isSetting?: boolean;
  /** Infinity: until the signal. */
  readonly stayAwayMs?: number | undefined;
}

/** Waits before the next session, for as long as the problem asks for, or `waitMs`. */
async function backOff(
  { reason, isConfiguration, isSetting, stayAwayMs }: Problem,
  waitMs: number,
  { log, signal, tell }: { log: Logger; signal: AbortSignal; tell: Tell },
): Promise<void> {
  const ms = stayAwayMs ?? (isConfiguration ? CONFIGURATION_DELAY_MS : waitMs);
  const fields = { reason, ...(ms === Infinity ? {} : { retryInMs: Math.round(ms) }) };
  if (stayAwayMs !== undefined) log.error(fields, 'staying away from the broker');
  else if (isSetting === true) log.error(fields, 'a setting cannot be used now; trying again slowly');
  else if (isConfiguration) log.error(fields, 'the broker refuses; trying again slowly');
  else log.warn(fields, 'no connection to the broker; trying again');
  tell({ kind: 'waiting', reason, retryInMs: ms });
  const waiting = ms === Infinity ? once(signal, 'abort') : delay(ms, undefined, { signal });
  await waiting.catch(() => undefined);
}

/** Full jitter over an exponentially growing span, so that consumers that lost one broker do not return together. */
export function backoffMs(attempt: number, longestSeconds: number): number {
  const longestMs = Math.max(longestSeconds * 1000, SHORTEST_DELAY_MS);
  const spanMs = Math.min(longestMs, FIRST_DELAY_MS * 2 ** Math.min(attempt, 20));
  return spanMs * (0.2 + 0.8 * Math.random());
}

// Read anew where it may have changed while we waited: the compiler believes an earlier check.
const aborted = (signal: AbortSignal): boolean => signal.aborted;

/** In the order in which they are tried. */
export function serversOf({ url, host, port, standbyHost, standbyPort }: Settings): readonly Server[] {
  if (url !== undefined) return parseBrokerUrl(url).servers;
  const first = { host, port };
  return standbyHost === undefined || standbyPort === undefined
    ? [first]
    : [first, { host: standbyHost, port: standbyPort }];
}

function sessionOptions(settings: Settings, server: Server): SessionOptions<Dialect> {
  return {
    ...server,
    tls: settings.useSsl ? () => readTlsOptions(settings, server.host) : undefined,
    vhost: settings.vhost,
    login: () => readLogin(settings),
    escapesBackslashes: true,
    clientId: clientIdOf(settings),
    products: { dialectOf: (name) => detectDialect(name, settings.broker), diagnose },
    outgoingHeartbeatMs: settings.outgoingHeartbeatMs,
    incomingHeartbeatMs: settings.incomingHeartbeatMs,
    connectTimeoutMs: settings.connectTimeoutSeconds * 1000,
    receiptTimeoutMs: settings.receiptTimeoutSeconds * 1000,
    maxBodyBytes: settings.maxMessageBytes,
  };
}

/** A durable subscription is found again by its client id, so that one must not change. */
function clientIdOf({ clientId, durableTopicSubscription }: Settings): string | undefined {
  return clientId !== undefined && durableTopicSubscription ? `${clientId}-listener` : undefined;
}

/** What TLS needs is loaded for who uses it. */
async function readTlsOptions(settings: Settings, host: string): Promise<ConnectionOptions> {
  const { tlsOptions } = await import('./tls.js');
  return tlsOptions(settings, host);
}
