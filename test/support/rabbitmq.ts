/**
 * A private RabbitMQ node, or a cluster. Hides what keeps it private: node names, ports, cookie, configuration and epmd are
 * its own, so that it neither meets nor disturbs another node of the machine.
 */
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { BrokerUnderTest } from './brokers.js';
import { oddLogin } from './odd-login.js';
import { type OwnBroker, startOwn } from './own-broker.js';
import { hasLimits, rabbitmqPrograms } from './rabbitmq-programs.js';
import { freePorts, privateDirectory, ServerProcess } from './server-process.js';

/** Characters that mean something in a STOMP header: a passcode must arrive as it is. */
const USER = 'app';
const PASSCODE = ':=123';
const CTL_DEADLINE_MS = 300_000;
const CTL_LOOK_MS = 60_000;

/** Why this machine cannot start one and what to type, or undefined when it can. */
export function rabbitmqMissing(): string | undefined {
  return rabbitmqPrograms().missing();
}

/** Resolves when one can be started. */
export async function fetchRabbitmq(): Promise<void> {
  await rabbitmqPrograms().fetch();
}

/** Lines of rabbitmq.conf by which frames may be as large on RabbitMQ 4, where 4 MB are the limit, as on 3.10. */
export function largeFrames(): string[] {
  return hasLimits() ? ['stomp.max_frame_size = 201326592'] : [];
}

/** A cluster: three nodes and what they share. */
export interface RabbitmqCluster extends AsyncDisposable {
  readonly nodes: readonly OwnBroker[];
  /** The node that leads a quorum queue now, as one that runs sees it. */
  leaderOf(queue: string, seenBy: OwnBroker): Promise<OwnBroker>;
}

interface NodeOptions {
  /** Lines of rabbitmq.conf beside the standard ones. */
  readonly config?: readonly string[];
  /** All of advanced.config: Erlang terms, for what rabbitmq.conf has no line for. */
  readonly advanced?: string;
  /** Of a cluster that this node is one of: nodes of one cookie that find each other by one epmd. */
  readonly cluster?: { readonly cookie: string; readonly epmdPort: number };
}

/** Starts a node with STOMP on a free port; resolves when it answers a CONNECT. Rejects with the tail of its log. */
export function startRabbitmq({
  config = [],
  advanced = '[].',
  cluster,
}: NodeOptions = {}): Promise<OwnBroker> {
  return startOwn(async () => {
    const programs = rabbitmqPrograms();
    await programs.fetch();
    const directory = privateDirectory('rabbitmq');
    const [port, distPort, ownEpmdPort] = (await freePorts(3)) as [number, number, number];
    const env = environment(directory, distPort, cluster?.epmdPort ?? ownEpmdPort);
    writeFiles(directory, port, cluster?.cookie ?? newCookie(), config);
    writeFileSync(join(directory, 'advanced.config'), `${advanced}\n`);
    return {
      facts: {
        name: 'rabbitmq',
        host: '127.0.0.1',
        port,
        user: USER,
        password: PASSCODE,
        vhost: '/',
        ctlEnv: env,
      },
      makeServer: (isReady) =>
        new ServerProcess(
          'RabbitMQ',
          directory,
          {
            // A daemon of its own in the same process group, or the node starts one that outlives it.
            ...programs.run('/bin/sh', [
              '-c',
              cluster === undefined ? `${ownEpmd}; exec "$3"` : 'exec "$3"',
              'sh',
              programs.epmd,
              String(ownEpmdPort),
              programs.server,
            ]),
            env: {
              ...env,
              RABBITMQ_DIST_PORT: String(distPort),
              // The start script becomes the node instead of its parent.
              RUNNING_UNDER_SYSTEMD: 'true',
              RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
            },
          },
          isReady,
        ),
    };
  });
}

/** Starts a cluster of three nodes; resolves when all of them answer. Stops them all when disposed of. */
export async function startRabbitmqCluster(): Promise<RabbitmqCluster> {
  const programs = rabbitmqPrograms();
  await programs.fetch();
  const directory = privateDirectory('epmd');
  const [epmdPort] = (await freePorts(1)) as [number];
  const args = ['-port', String(epmdPort), '-address', '127.0.0.1'];
  const daemon = new ServerProcess(
    'epmd',
    directory,
    { ...programs.run(programs.epmd, args), env: { PATH: process.env.PATH ?? '/usr/bin:/bin' } },
    () => answers(epmdPort),
  );
  const nodes: OwnBroker[] = [];
  const stop = async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await daemon.stop();
  };
  try {
    await daemon.up();
    const cluster = { cookie: newCookie(), epmdPort };
    const first = await startRabbitmq({ cluster });
    nodes.push(first);
    const config = [
      'cluster_formation.peer_discovery_backend = classic_config',
      `cluster_formation.classic_config.nodes.1 = ${nameOf(first)}`,
    ];
    const join = () => startRabbitmq({ cluster, config });
    const joined = await Promise.allSettled([join(), join()]);
    nodes.push(...joined.filter((result) => result.status === 'fulfilled').map(({ value }) => value));
    const failure = joined.find((result) => result.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
  } catch (error) {
    await stop();
    throw error;
  }
  const leaderOf = async (queue: string, seenBy: OwnBroker) => {
    const queues = await seenBy.ctl!('list_queues', '--no-table-headers', 'name', 'leader');
    const line = queues.split('\n').find((text) => text.startsWith(`${queue}\t`));
    const leader = nodes.find((node) => line?.endsWith(`\t${nameOf(node)}`));
    if (leader === undefined) throw new Error(`no leader of ${queue} in ${queues}`);
    return leader;
  };
  return { nodes, leaderOf, [Symbol.asyncDispose]: stop };
}

const nameOf = ({ facts }: OwnBroker): string => facts.ctlEnv?.RABBITMQ_NODENAME ?? '';
const newCookie = (): string => randomBytes(20).toString('hex').toUpperCase();

function answers(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', reject);
  });
}

/** The node starts when its epmd listens. */
const ownEpmd =
  '"$1" -port "$2" -address 127.0.0.1 & while kill -0 $! && ! "$1" -port "$2" -names >/dev/null 2>&1; do sleep 0.1; done';

/** Runs rabbitmqctl with a node's environment; resolves with its stdout, rejects with its stderr. */
export async function rabbitmqctl(env: Readonly<Record<string, string>>, args: string[]): Promise<string> {
  const programs = rabbitmqPrograms();
  const { file, args: all } = programs.run(programs.ctl, ['--quiet', ...args]);
  const ask = async (timeout: number) => {
    // Erlang that is asked to end does so with 0, as if it had nothing to tell.
    const { stdout } = await promisify(execFile)(file, all, { env, timeout, killSignal: 'SIGKILL' });
    return stdout;
  };
  // Now and then one hangs on a loaded machine (3.10.8): what only looks is asked again.
  if (args.some((word) => word.startsWith('list_')))
    return ask(CTL_LOOK_MS).catch(() => ask(CTL_DEADLINE_MS));
  return ask(CTL_DEADLINE_MS);
}

/**
 * Resolves when the queues that have been declared outlast a kill, for a broker of any product. RabbitMQ 3.10.8 confirms a
 * declaration, and messages for it, before Mnesia has written it, now and then: of 25 queues declared some ms before a kill 2
 * were gone.
 */
export async function keepDeclarations({ ctl }: BrokerUnderTest): Promise<void> {
  await ctl?.('eval', 'mnesia:sync_log().');
}

/** For the node and for rabbitmqctl alike. */
function environment(directory: string, distPort: number, epmdPort: number): Record<string, string> {
  return {
    PATH: process.env.PATH ?? '/usr/bin:/bin',
    LANG: 'C.UTF-8',
    HOME: directory,
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    // Erlang that finds no epmd starts a daemon, which outlives the test.
    ERL_FLAGS: '-start_epmd false',
    // Erlang that is stopped in its start would leave a dump in the folder of the test run.
    ERL_CRASH_DUMP_BYTES: '0',
    RABBITMQ_NODENAME: `stomp-pubsub-${distPort}@localhost`,
    RABBITMQ_MNESIA_BASE: join(directory, 'mnesia'),
    RABBITMQ_LOG_BASE: join(directory, 'log'),
    RABBITMQ_PID_FILE: join(directory, 'node.pid'),
    RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
    RABBITMQ_CONF_ENV_FILE: join(directory, 'rabbitmq-env.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(directory, 'advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
    RABBITMQ_GENERATED_CONFIG_DIR: join(directory, 'generated'),
    // Else derived from the node's port, which may lead past 65535. Below where the system takes free ports from.
    RABBITMQ_CTL_DIST_PORT_MIN: '21000',
    RABBITMQ_CTL_DIST_PORT_MAX: '21999',
  };
}

function writeFiles(directory: string, port: number, cookie: string, config: readonly string[]): void {
  const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
  write('.erlang.cookie', cookie);
  chmodSync(join(directory, '.erlang.cookie'), 0o400);
  write('enabled_plugins', '[rabbitmq_stomp].\n');
  write('rabbitmq-env.conf', '');
  write('definitions.json', JSON.stringify(definitions));
  write(
    'rabbitmq.conf',
    [
      'listeners.tcp = none',
      `stomp.listeners.tcp.1 = 127.0.0.1:${port}`,
      `load_definitions = ${join(directory, 'definitions.json')}`,
      // A full disk or little memory must not block publishers in the middle of a test.
      'disk_free_limit.absolute = 1MB',
      'vm_memory_high_watermark.absolute = 1GB',
      'log.console = true',
      'log.console.level = info',
      'log.file = false',
      ...config,
      '',
    ].join('\n'),
  );
}

const definitions = {
  users: [user(USER, PASSCODE), user('guest', 'guest'), user(oddLogin.user, oddLogin.password)],
  vhosts: [{ name: '/' }, { name: oddLogin.vhost }],
  permissions: [
    ...[USER, 'guest', oddLogin.user].map((name) => [name, '/']),
    [oddLogin.user, oddLogin.vhost],
  ].map(([name, vhost]) => ({
    user: name,
    vhost,
    configure: '.*',
    write: '.*',
    read: '.*',
  })),
};

function user(name: string, passcode: string) {
  const salt = randomBytes(4);
  const digest = createHash('sha256').update(salt).update(passcode).digest();
  return {
    name,
    password_hash: Buffer.concat([salt, digest]).toString('base64'),
    hashing_algorithm: 'rabbit_password_hashing_sha256',
    tags: ['administrator'],
  };
}
