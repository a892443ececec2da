/** The part of `pubsub check` about the way to a broker: name, TCP, TLS, login, virtual host, version, heart-beats. */
import { isIP } from 'node:net';
import { PubsubError } from '../errors.js';
import { log } from '../log.js';
import { connectTo, serversOf, type Session } from '../sending/connect.js';
import type { Server } from '../settings/url.js';
import { addressesOf, reachTcp, reachTls } from '../sending/reach.js';
import type { Settings } from '../settings.js';
import { failed, finding, type Finding } from './check-report.js';

export interface Reached {
  readonly findings: readonly Finding[];
  /** With the first server that takes us. */
  readonly session: Session | undefined;
}

const FEW_DAYS = 14;

/** Where there is a standby, one of the two will do: what is wrong with the other is a warning. Never rejects. */
export async function checkServers(settings: Settings, signal: AbortSignal): Promise<Reached> {
  const servers = serversOf(settings);
  const all: Reached[] = [];
  for (const server of servers) {
    const { findings, session } = await checkServer(server, settings, signal);
    const name = servers.length > 1 ? `${server.host}:${server.port}` : undefined;
    all.push({ findings: findings.map((found) => ({ ...found, server: name })), session });
  }
  const [session, ...others] = all.map((one) => one.session).filter((one) => one !== undefined);
  for (const other of others) await other.close();
  const findings = all.flatMap((one) =>
    session === undefined || one.session !== undefined ? one.findings : one.findings.map(asWarning),
  );
  return { findings, session };
}

const asWarning = (found: Finding): Finding =>
  found.status === 'fail' ? { ...found, status: 'warn' } : found;

async function checkServer(server: Server, settings: Settings, signal: AbortSignal): Promise<Reached> {
  const findings: Finding[] = [];
  for (const step of stepsTo(server, settings)) {
    const found = await step();
    findings.push(found);
    if (found.status === 'fail') return { findings, session: undefined };
  }
  try {
    const session = await connectTo(server, settings, log, signal);
    return { findings: [...findings, ...describeSession(session, settings)], session };
  } catch (error) {
    return { findings: [...findings, ...describeRefusal(error, settings)], session: undefined };
  }
}

function stepsTo(server: Server, settings: Settings): (() => Promise<Finding>)[] {
  const { host, port } = server;
  const name = () =>
    finding('name', async () => ({
      status: 'ok',
      detail: `${host} is ${(await addressesOf(server)).join(', ')}`,
    }));
  const tcp = () =>
    finding('TCP', async () => {
      await reachTcp(server, settings);
      return { status: 'ok', detail: `${host}:${port} answers` };
    });
  const tls = () =>
    finding('TLS', async () => {
      const { subject, daysLeft, protocol } = await reachTls(server, settings);
      const detail = `${protocol}, the certificate of ${subject} is valid for ${daysLeft} days`;
      if (daysLeft >= FEW_DAYS) return { status: 'ok', detail };
      return { status: 'warn', code: 'broker-refused', detail, remedy: 'renew it at the broker' };
    });
  return [...(isIP(host) === 0 ? [name] : []), tcp, ...(settings.useSsl ? [tls] : [])];
}

function describeSession({ server, heartbeat, dialect }: Session, settings: Settings): Finding[] {
  return [
    loggedIn(settings),
    {
      step: 'virtual host',
      status: 'ok',
      detail: dialect.hasVirtualHosts ? settings.vhost : `${dialect.name} has none`,
    },
    versionOf(server, settings),
    heartbeats(heartbeat, settings),
  ];
}

const loggedIn = ({ user }: Settings): Finding => ({
  step: 'login',
  status: 'ok',
  detail: user === undefined ? 'without a user' : `as ${user}`,
});

function versionOf(server: string | undefined, { broker }: Settings): Finding {
  const step = 'version';
  if (server !== undefined || broker !== 'auto')
    return { step, status: 'ok', detail: `STOMP 1.2, ${server ?? broker}` };
  const detail = 'the broker does not say which product it is: it is taken for RabbitMQ';
  const remedy = 'name it by STOMP_BROKER (--broker)';
  return { step, status: 'warn', code: 'invalid-setting', detail, remedy };
}

function heartbeats(granted: string | undefined, settings: Settings): Finding {
  const step = 'heart-beats';
  const [theirs = 0, wanted = 0] = (granted ?? '0,0').split(',').map(Number);
  const { incomingHeartbeatMs: asked, outgoingHeartbeatMs: offered } = settings;
  const incomingMs = asked === 0 || theirs === 0 ? 0 : Math.max(asked, theirs);
  const outgoingMs = offered === 0 || wanted === 0 ? 0 : Math.max(offered, wanted);
  const every = (ms: number) => (ms === 0 ? 'none' : `every ${ms} ms`);
  const detail = `from the broker ${every(incomingMs)}, to it ${every(outgoingMs)}`;
  if (incomingMs > 0 && outgoingMs > 0) return { step, status: 'ok', detail };
  const remedy =
    'without them a connection that is cut is noticed late: set STOMP_INCOMING_HEARTBEAT and STOMP_OUTGOING_HEARTBEAT';
  return { step, status: 'warn', code: 'invalid-setting', detail, remedy };
}

/** Which step it is that the broker refuses at its CONNECT: those before it have passed. */
function describeRefusal(error: unknown, settings: Settings): Finding[] {
  const text = error instanceof PubsubError ? error.message : '';
  if (text.includes('Virtual host')) return [loggedIn(settings), failed('virtual host', error)];
  if (/Supported versions|Invalid Protocol version|speaks STOMP|is no STOMP/.test(text))
    return [failed('version', error)];
  return [failed('login', error)];
}
