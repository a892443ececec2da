/**
 * The one table of settings. Each row gives the flag, the variable, how its text is read, the default and the help
 * line; the commands' flags, `--help`, the table of docs/settings.md and .env.example are rendered from it. Precedence: flag (or
 * library option) > environment > .env > default. Alone in reading process.env.
 */
import { statSync } from 'node:fs';
import { closest } from './closest.js';
import { PubsubError, reasonOf } from './errors.js';
import {
  boolean,
  choice,
  common,
  flagName,
  forwarders,
  host,
  integer,
  milliseconds,
  only,
  optionalBoolean,
  optionalHost,
  optionalInteger,
  optionalList,
  optionalSeconds,
  optionalText,
  parseDelays,
  parseNumber,
  seconds,
  setting,
  text,
  type Setting,
} from './settings/kinds.js';
import { checkQueueArgument, checkSubscriptionHeader, pairs } from './settings/pairs.js';
import { parseBrokerUrl } from './settings/url.js';

/** V8's longest string, in bytes: a body becomes one. */
const LONGEST_TEXT = 536_870_888;

// prettier-ignore
export const settings = {
  url: setting<string | undefined>(['Connection', 'STOMP_URL', '--url <url>', undefined],
    'all in one: stomp[+ssl]://user@host1:61613,host2:61613/vhost, any number of hosts, percent-encoded',
    (url) => {
      parseBrokerUrl(url);
      return url;
    }),
  host: common('broker host', host('Connection', 'STOMP_SERVER_HOST', '--host <name>', 'localhost',
    'broker host'), { short: '-H' }),
  port: common('its STOMP port', integer('Connection', 'STOMP_SERVER_PORT', '--port <number>', 61613, [1, 65_535],
    'broker STOMP port'), { short: '-p' }),
  user: { ...optionalText('Connection', 'STOMP_SERVER_USER', '--user <name>',
    'login'), short: '-u' },
  password: optionalText('Connection', 'STOMP_SERVER_PASSWORD', '--password <text>',
    'passcode; prefer the variable, a flag shows in the process list'),
  userFile: optionalText('Connection', 'STOMP_SERVER_USER_FILE', '--user-file <file>',
    'file with the login, read for every connection'),
  passwordFile: optionalText('Connection', 'STOMP_SERVER_PASSWORD_FILE', '--password-file <file>',
    'file with the passcode, read for every connection'),
  vhost: text('Connection', 'STOMP_SERVER_VHOST', '--vhost <name>', '/',
    'virtual host (RabbitMQ; others ignore it)'),
  standbyHost: optionalHost('Connection', 'STOMP_SERVER_STANDBY_HOST', '--standby-host <name>',
    'second server, tried when the first does not answer'),
  standbyPort: optionalInteger('Connection', 'STOMP_SERVER_STANDBY_PORT', '--standby-port <number>', [1, 65_535],
    'STOMP port of the second server'),
  broker: choice('Connection', 'STOMP_BROKER', '--broker <product>', 'auto', ['auto', 'rabbitmq', 'activemq', 'artemis'],
    'broker product: auto (by its server header), rabbitmq, activemq or artemis'),
  queueType: choice('Connection', 'STOMP_QUEUE_TYPE', '--queue-type <type>', 'classic', ['classic', 'quorum'],
    'type of the queues that are declared: classic or quorum (RabbitMQ; others ignore it); one for all who use a queue'),
  queueArguments: only(['pubsub', 'publish'], pairs('Connection', 'STOMP_QUEUE_ARGUMENTS', '--queue-argument <name=value>', checkQueueArgument,
    'argument of the queue that is declared, like x-message-ttl=60000; may be repeated (variable: with commas between); one set for all who use the queue')),
  declare: { ...boolean('Connection', 'STOMP_DECLARE', '--declare', true,
    'declare the queues that are used, which needs the permission to configure (RabbitMQ); otherwise they are used as they are'), offHelp: 'use queues that others declared as they are, whatever their arguments (RabbitMQ)' },
  connectTimeoutSeconds: seconds('Connection', 'STOMP_CONNECT_TIMEOUT', '--connect-timeout <seconds>', 10, [0.1, 86_400],
    'limit for TCP, TLS and the STOMP handshake together, for each server'),
  waitToConnectSeconds: only(['pubsub', 'operator'], seconds('Connection', 'STOMP_WAIT_TO_CONNECT', '--wait-to-connect <seconds>', 10, [0, 86_400],
    'longest wait between two attempts to connect; 0: hardly any')),
  outgoingHeartbeatMs: milliseconds('Connection', 'STOMP_OUTGOING_HEARTBEAT', '--outgoing-heartbeat <ms>', 10_000, [0, 3_600_000],
    'heart-beats sent at least this often, in ms; 0 for none'),
  incomingHeartbeatMs: milliseconds('Connection', 'STOMP_INCOMING_HEARTBEAT', '--incoming-heartbeat <ms>', 10_000, [0, 3_600_000],
    'heart-beats asked of the broker, in ms; 0 for none'),
  maxMessageBytes: only(['pubsub', 'operator'], integer('Connection', 'STOMP_MAX_MESSAGE_BYTES', '--max-message-bytes <number>', 134_217_728, [1, LONGEST_TEXT],
    'a longer body is not read into memory: its message is dead-lettered, or left where it is')),
  useSsl: boolean('TLS', 'STOMP_USE_SSL', '--ssl', false,
    'connect with TLS, to the standby server too'),
  caFile: optionalText('TLS', 'DEFAULT_STOMP_CA_CERTS', '--ssl-ca <file>',
    'certificate authorities to trust (PEM) instead of the usual ones'),
  certFile: optionalText('TLS', 'DEFAULT_STOMP_CERT_FILE', '--ssl-cert <file>',
    'client certificate (PEM)'),
  keyFile: optionalText('TLS', 'DEFAULT_STOMP_KEY_FILE', '--ssl-key <file>',
    'key of the client certificate (PEM)'),
  sslServerName: optionalText('TLS', 'STOMP_SSL_SERVER_NAME', '--ssl-server-name <name>',
    'name the certificate must carry, when it is not the host'),
  sslVerify: { ...boolean('TLS', 'STOMP_SSL_VERIFY', '--ssl-verify', true,
    'refuse a server whose certificate does not verify'), offHelp: 'accept a server whatever its certificate says' },
  concurrency: common('callbacks in flight at once', integer('Consuming', 'STOMP_CONCURRENCY', '--concurrency <number>', 1, [1, 65_535],
    'callbacks in flight at once, over all workers; also the prefetch; default: one for each worker'), { short: '-c' }),
  body: choice('Consuming', 'STOMP_BODY', '--body <kind>', 'json', ['json', 'text', 'bytes', 'auto'],
    'what bodies are handed to the callback as: json, text, bytes, or auto: what the content type says'),
  autoAck: common('a callback that returns acks its message', boolean('Consuming', 'STOMP_AUTO_ACK', '--auto-ack', false,
    'a callback that returns without ack() or nack() acks its message')),
  correlationIdRequired: { ...boolean('Consuming', 'STOMP_CORRELATION_ID_REQUIRED', '--correlation-id-required', true,
    'dead-letter a message without correlation-id; otherwise one is made up'), offHelp: 'process a message without correlation-id, too: one is made up' },
  renewAfterSeconds: seconds('Consuming', 'STOMP_RENEW_AFTER', '--renew-after <seconds>', 600, [0, 86_400],
    'a subscription that brought nothing for so long is made anew, on a new connection; 0 for never'),
  gracefulWaitSeconds: seconds('Consuming', 'STOMP_GRACEFUL_WAIT_SECONDS', '--graceful-wait <seconds>', 30, [0, 86_400],
    'how long a stop waits for callbacks in flight'),
  queueName: optionalText('Consuming', 'STOMP_QUEUE_NAME', '--queue-name <name>',
    'queue of this service for a /topic/ destination (RabbitMQ); default: the name of the topic'),
  durableTopicSubscription: boolean('Consuming', 'STOMP_DURABLE_TOPIC_SUBSCRIPTION', '--durable', false,
    'durable subscription to a /topic/ (ActiveMQ; needs a client id; RabbitMQ is always durable)'),
  clientId: optionalText('Consuming', 'STOMP_LISTENER_CLIENT_ID', '--client-id <id>',
    'client id; a durable subscription is kept under this and -listener'),
  subscriptionId: optionalText('Consuming', 'STOMP_SUBSCRIPTION_ID', '--subscription-id <id>',
    'start of the subscription id; every connection adds a part of its own'),
  deadLetterQueue: optionalText('Consuming', 'STOMP_DEAD_LETTER_QUEUE', '--dead-letter-queue <name>',
    'with --no-declare: where dead letters go; default: DLQ.<queue>'),
  subscribeHeaders: pairs('Consuming', 'STOMP_SUBSCRIBE_HEADERS', '--subscribe-header <name=value>', checkSubscriptionHeader,
    'header of the subscription: selector, activemq.* (ActiveMQ) or x-stream-offset (RabbitMQ); may be repeated (variable: with commas between)'),
  exclusiveQueue: boolean('Consuming', 'STOMP_DEFAULT_EXCLUSIVE_QUEUE', '--exclusive', false,
    'declare the queue for this connection only: it goes, with its messages, when the connection ends'),
  processOnBackground: { ...boolean('Consuming', 'STOMP_PROCESS_MSG_ON_BACKGROUND', undefined, true,
    'run callbacks in worker processes; else on the event loop of the connection: faster, for debuggers, and without isolation'), offFlag: '--inline',
    offHelp: 'run callbacks on the event loop of the connection: faster, for debuggers, and without isolation' },
  processWorkers: common('worker processes that callbacks run in', integer('Consuming', 'STOMP_PROCESS_MSG_WORKERS', '--workers <number>', 1, [1, 1024],
    'worker processes that callbacks run in'), { short: '-w' }),
  workerHeapMb: optionalInteger('Consuming', 'STOMP_WORKER_HEAP_MB', '--worker-heap <MB>', [16, 1_048_576],
    'heap of each worker process, in MB; default: what Node gives'),
  workerMemoryMb: optionalInteger('Consuming', 'STOMP_WORKER_MEMORY_MB', '--worker-memory <MB>', [64, 1_048_576],
    'resident memory of a worker process, in MB, beyond which another takes over; default: any'),
  workerMaxMessages: optionalInteger('Consuming', 'STOMP_WORKER_MAX_MESSAGES', '--worker-max-messages <number>', [1, 1_000_000_000],
    'messages after which another worker process takes over; default: any number'),
  imports: optionalList('Consuming', 'STOMP_WORKER_IMPORT', '--import <module>',
    'module to load in each worker process before the callback, as Node does; may be repeated (variable: with commas between)'),
  setupTimeoutSeconds: seconds('Consuming', 'STOMP_SETUP_TIMEOUT', '--setup-timeout <seconds>', 60, [0.1, 86_400],
    'limit for loading the callback and its setup() in a worker process'),
  timeoutSeconds: common('limit of each message, like 5m; 0: none', seconds('Consuming', 'STOMP_MESSAGE_TIMEOUT', '--timeout <seconds>', 1500, [0, 86_400],
    'time limit for each message, after which it is dead-lettered; 0 for none'), { short: '-t' }),
  maxDeliveries: optionalInteger('Consuming', 'STOMP_MAX_DELIVERIES', '--max-deliveries <number>', [2, 1000],
    'a message that ends its consumer, container and all, is dead-lettered after so many deliveries, the last of them alone; default: never'),
  retries: common('so often is what throws tried again', integer('Consuming', 'STOMP_RETRIES', '--retries <number>', 0, [0, 1000],
    'a callback that throws gets its message so many times again before it is dead-lettered'), { short: '-r' }),
  retryDelay: setting(['Consuming', 'STOMP_RETRY_DELAY', '--retry-delay <list>', '5s'],
    'how long a retry waits, on the broker, like 5s or 5s,30s,5m: the last one repeats',
    (delays) => {
      parseDelays(delays);
      return delays;
    }),
  retryJitter: setting(['Consuming', 'STOMP_RETRY_JITTER', '--retry-jitter <share>', 0],
    'by how much of it a delay is made shorter or longer at random, from 0 to 1, like 0.2',
    parseNumber(/^(0|1|0?\.\d+)$/, 'a number', [0, 1])),
  failureLimit: integer('Consuming', 'STOMP_FAILURE_LIMIT', '--failure-limit <number>', 0, [0, 1_000_000],
    'stop with exit 5 when so many messages in a row failed, by a throw, a nack or otherwise; 0 for never'),
  deadLetterBy: choice('Consuming', 'STOMP_DEAD_LETTER_BY', '--dead-letter-by <way>', 'copy', ['copy', 'nack'],
    'copy: a confirmed copy with the failure in its headers; nack: the broker moves the message itself, which it confirms to nobody'),
  tellsFailure: { ...boolean('Consuming', 'STOMP_FAILURE_MESSAGE', '--failure-message', true,
    'put the class and the message of an error into the headers of a dead letter'), offHelp: 'keep the class and the message of an error out of the headers of a dead letter' },
  holdSeconds: seconds('Consuming', 'STOMP_HOLD_SECONDS', undefined, 1200, [1, 86_400],
    "how long a message is held that cannot be dead-lettered, retried or forwarded, before it goes back to its queue; below the broker's consumer_timeout"),
  limit: common('end after so many messages', optionalInteger('Consuming', 'STOMP_LIMIT', '--limit <number>', [1, 1_000_000_000],
    'end when so many messages have been processed; those beyond stay in the queue; default: go on'), { short: '-n', aliases: [{ flag: '--once', value: '1', help: 'end after one message', isCommon: false }] }),
  untilIdleSeconds: common('end when nothing has come for so long', optionalSeconds('Consuming', 'STOMP_UNTIL_IDLE', '--until-idle <seconds>', [0.1, 86_400],
    'end when nothing has come for so long; default: go on')),
  timeLimitSeconds: optionalSeconds('Consuming', 'STOMP_TIME_LIMIT', '--time-limit <seconds>', [0.1, 2_000_000],
    'end after so long, up to a tenth sooner, so that consumers that were started together do not end together; default: go on'),
  canaryIntervalSeconds: seconds('Observing', 'STOMP_CANARY_INTERVAL', '--canary-interval <seconds>', 30, [0, 86_400],
    'how often the broker is asked for an answer over the connection of the consumer; without one that is dead; 0 for never'),
  healthPort: optionalInteger('Observing', 'STOMP_HEALTH_PORT', '--health-port <number>', [0, 65_535],
    'serve /live and /ready there, for probes; 0 for any free port, which the log tells'),
  healthHost: text('Observing', 'STOMP_HEALTH_HOST', '--health-host <address>', '0.0.0.0',
    'address to serve them on'),
  servesMetrics: boolean('Observing', 'STOMP_METRICS', '--metrics', false,
    'serve /metrics for Prometheus there, too; needs prom-client'),
  healthFile: optionalText('Observing', 'STOMP_HEALTH_FILE', '--health-file <path>',
    'file that is touched while the consumer is live, and <path>.ready while it is ready: for probes without HTTP'),
  traceParent: choice('Observing', 'STOMP_TRACE_PARENT', '--trace-parent <way>', 'message', ['message', 'link'],
    'with OpenTelemetry: what a message carries is the parent of its span, or the span begins a trace with a link to that'),
  receiptTimeoutSeconds: seconds('Publishing', 'STOMP_RECEIPT_TIMEOUT', '--receipt-timeout <seconds>', 30, [0.1, 86_400],
    'how long the broker may take to confirm a message or a subscription'),
  publishWindow: only(['publish', ...forwarders], integer('Publishing', 'STOMP_PUBLISH_WINDOW', '--window <number>', 100, [1, 100_000],
    'messages sent ahead of their confirmations')),
  reconnectForSeconds: only(['publish'], seconds('Publishing', 'STOMP_PUBLISH_RECONNECT_SECONDS', '--reconnect-for <seconds>', 60, [0, 86_400],
    'how long a lost broker is tried again, until a message is confirmed; 0: not at all')),
  sourceHost: optionalHost('Moving', 'STOMP_SOURCE_HOST', '--source-host <name>',
    'broker to move from; default: the one to move to. What follows defaults to the settings of that, too'),
  sourcePort: optionalInteger('Moving', 'STOMP_SOURCE_PORT', '--source-port <number>', [1, 65_535],
    'its STOMP port'),
  sourceUser: optionalText('Moving', 'STOMP_SOURCE_USER', '--source-user <name>',
    'login there'),
  sourcePassword: optionalText('Moving', 'STOMP_SOURCE_PASSWORD', '--source-password <text>',
    'passcode there; prefer the variable'),
  sourceUserFile: optionalText('Moving', 'STOMP_SOURCE_USER_FILE', '--source-user-file <file>',
    'file with the login there'),
  sourcePasswordFile: optionalText('Moving', 'STOMP_SOURCE_PASSWORD_FILE', '--source-password-file <file>',
    'file with the passcode there'),
  sourceVhost: optionalText('Moving', 'STOMP_SOURCE_VHOST', '--source-vhost <name>',
    'virtual host there'),
  sourceUseSsl: optionalBoolean('Moving', 'STOMP_SOURCE_USE_SSL', '--source-ssl',
    'connect there with TLS'),
  logLevel: { ...choice('Logging', 'STOMP_LOG_LEVEL', '--log-level <level>', 'info', ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    'trace, debug, info, warn, error, fatal or silent'), short: '-l', aliases: [{ flag: '-q, --quiet', value: 'warn', help: 'log warnings and errors only', isCommon: true }] },
  logFormat: choice('Logging', 'STOMP_LOG_FORMAT', '--log-format <format>', 'auto', ['auto', 'pretty', 'json'],
    'json, pretty, or auto: pretty on a terminal, else json'),
  color: optionalBoolean('Logging', 'STOMP_COLOR', '--color',
    'colours, also where they are not read by a person; default: on a terminal, unless NO_COLOR or FORCE_COLOR say otherwise'),
} satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof settings;
export type Settings = {
  readonly [Name in SettingName]: (typeof settings)[Name] extends Setting<infer T> ? T : never;
};
/** What the library takes as options; the log that it exports has a level of its own. */
export type LibrarySettings = Partial<Omit<Settings, 'logLevel' | 'logFormat' | 'color'>>;

export const settingNames = Object.keys(settings) as SettingName[];

type Environment = Readonly<Record<string, string | undefined>>;

/** What `.env` may set for this program itself. */
const ownVariables = /^(?:DEFAULT_)?STOMP_|^(?:LOG|LOG_LEVEL|LOG_FORMAT|NO_COLOR|FORCE_COLOR)$/;
/** What would make a process load other code, or trust anybody: never for one that we start because a file says so. */
const refusedVariables = /^(?:NODE_OPTIONS|NODE_TLS_REJECT_UNAUTHORIZED|(?:LD|DYLD)_.*)$/;
const ofCallbacks: Record<string, string> = {};
/** Variables that have their value from `.env`. */
const fromDotenv = new Set<string>();

/**
 * Adds what `.env` in the working directory defines for this program and the environment does not; what else it defines
 * is kept for the callbacks. Returns the variables that are left out because a file must not set them. Rejects
 * with `invalid-setting`.
 */
export async function loadDotenv(): Promise<readonly string[]> {
  // Variables of dotenv's own name another file.
  const isNamed = (process.env.DOTENV_PATH ?? process.env.DOTENV_CONFIG_PATH) !== undefined;
  if (!isNamed && isMissing('.env')) return [];
  const found: Record<string, string> = {};
  const { config } = await import('dotenv');
  const { error } = config({ quiet: true, processEnv: found });
  if (error !== undefined && (error as NodeJS.ErrnoException).code !== 'ENOENT') {
    throw new PubsubError('invalid-setting', `.env cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  const [refused, taken] = [[] as string[], [] as string[]];
  for (const name of Object.keys(found)) (refusedVariables.test(name) ? refused : taken).push(name);
  for (const name of taken) {
    if (process.env[name] === undefined) fromDotenv.add(name);
    const environment = ownVariables.test(name) ? process.env : ofCallbacks;
    environment[name] = process.env[name] ?? found[name] ?? '';
  }
  return refused;
}

/** False, too, where nobody may look. */
function isMissing(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

/** What `.env` holds for the callbacks: for the environment of a process that they run in. */
export function callbackVariables(): Readonly<Record<string, string>> {
  return ofCallbacks;
}

/** Gives the callbacks of this process what `.env` holds for them. */
export function admitCallbackVariables(): void {
  Object.assign(process.env, ofCallbacks);
}

const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

/**
 * All settings, from what is given (texts of flags or typed library options), then the environment, then defaults. An
 * empty variable counts as unset. Throws one `invalid-setting` that lists every bad value.
 */
export function resolve(
  given: Partial<Settings> | Record<string, unknown>,
  env: Environment = process.env,
): Settings {
  const problems: string[] = [];
  const resolved: Record<string, unknown> = {};
  for (const name of settingNames) {
    const row: Setting<unknown> = settings[name];
    const fromCaller = (given as Record<string, unknown>)[name];
    const value = fromCaller ?? (env[row.variable] === '' ? undefined : env[row.variable]);
    const file = fromDotenv.has(row.variable) ? ' (in .env)' : '';
    const source = fromCaller === undefined ? `${row.variable}${file}` : (flagName(row) ?? name);
    try {
      resolved[name] = value === undefined ? row.default : row.parse(asText(value));
    } catch (error) {
      const isSecret = name === 'url' || name.toLowerCase().endsWith('password');
      const shown = isSecret ? 'the value given' : JSON.stringify(value);
      // Of a list the reason names what is wrong in it.
      problems.push(`${source}: ${reasonOf(error)}${row.isList === true ? '' : `, not ${shown}`}`);
    }
  }
  const { concurrency } = settings;
  const isGiven = (given as Record<string, unknown>).concurrency ?? env[concurrency.variable];
  if (isGiven === undefined || isGiven === '') {
    const { processOnBackground, processWorkers } = resolved as unknown as Settings;
    resolved.concurrency = processOnBackground ? processWorkers : 1;
  }
  // A prefetch beyond the limit would only be given back.
  const { concurrency: wanted, limit } = resolved as unknown as Settings;
  if (limit !== undefined) resolved.concurrency = Math.min(wanted, limit);
  if (problems.length === 0) {
    const all = resolved as unknown as Settings;
    const rankOf = (name: SettingName) =>
      (given as Record<string, unknown>)[name] !== undefined
        ? 2
        : (env[settings[name].variable] ?? '') === ''
          ? 0
          : 1;
    problems.push(...spreadUrl(all, rankOf), ...takeQueueType(all));
    const isPlainOnPurpose = (given as Record<string, unknown>).useSsl === false;
    problems.push(...contradictions(all, isPlainOnPurpose));
  }
  if (problems.length > 0) throw new PubsubError('invalid-setting', problems.join('\n'));
  return resolved as unknown as Settings;
}

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

/**
 * What a URL says, in the settings of its parts, and what contradicts it. A part that is given from nearer (a flag before a
 * variable) wins; given from as near, it is a contradiction. `rankOf` says from how near a setting is given.
 */
function spreadUrl(resolved: Mutable<Settings>, rankOf: (name: SettingName) => number): string[] {
  if (resolved.url === undefined) return [];
  const { servers, useSsl, user, password, vhost } = parseBrokerUrl(resolved.url);
  const own = rankOf('url');
  const problems: string[] = [];
  /** Does the URL say it? `rivals` are the settings that say it, too. */
  const isFromUrl = (...rivals: SettingName[]): boolean => {
    const nearest = Math.max(...rivals.map(rankOf));
    const rival = rivals.find((name) => rankOf(name) === nearest);
    if (nearest === own && rival !== undefined)
      problems.push(
        `STOMP_URL and ${settings[rival].variable}: both are given, and the URL has it already; unset one of them`,
      );
    return nearest < own;
  };
  if (user !== undefined && isFromUrl('user', 'userFile')) resolved.user = user;
  if (password !== undefined && isFromUrl('password', 'passwordFile')) resolved.password = password;
  if (vhost !== undefined && isFromUrl('vhost')) resolved.vhost = vhost;
  if (useSsl === true && !resolved.useSsl && isFromUrl('useSsl')) resolved.useSsl = true;
  if (isFromUrl('host', 'port', 'standbyHost', 'standbyPort')) {
    const [first] = servers;
    if (first !== undefined) Object.assign(resolved, first);
  } else {
    if (problems.length === 0 && rankOf('host') <= own)
      problems.push('STOMP_URL: another port needs another host (--host), too');
    resolved.url = undefined;
  }
  return problems;
}

/** A setting as it takes effect: a secret is masked. */
export interface Explained {
  readonly variable: string;
  readonly value: unknown;
  readonly origin: 'flag' | 'environment' | '.env' | 'default';
}

/** All settings with where each comes from. Throws as `resolve` does. */
export function explain(given: Record<string, unknown>, env: Environment = process.env): Explained[] {
  const resolved = resolve(given, env);
  return settingNames.map((name) => {
    const { variable } = settings[name];
    const isGiven = (env[variable] ?? '') !== '';
    const fromEnvironment = fromDotenv.has(variable) ? '.env' : 'environment';
    const origin = given[name] !== undefined ? 'flag' : isGiven ? fromEnvironment : 'default';
    return { variable, value: masked(name, resolved[name]), origin };
  });
}

const MASK = '********';
const masked = (name: string, value: unknown): unknown => {
  if (typeof value !== 'string') return value;
  return /password$/i.test(name) ? MASK : value.replace(/(:\/\/[^/@:]*:)[^/@]*@/g, `$1${MASK}@`);
};

/** `x-queue-type` is another name for a setting. Returns what contradicts that. */
function takeQueueType(resolved: Mutable<Settings>): string[] {
  const { queueArguments, queueType } = resolved;
  const { 'x-queue-type': type, ...others } = queueArguments;
  if (type === undefined) return [];
  if (type === 'classic' && queueType === 'quorum')
    return ['STOMP_QUEUE_TYPE and STOMP_QUEUE_ARGUMENTS: they name two types of queue'];
  Object.assign(resolved, { queueType: type, queueArguments: others });
  return [];
}

/** Settings that were changed and change nothing, and why. */
export function ineffective({
  processOnBackground,
  processWorkers,
  retries,
  retryDelay,
}: Settings): string[] {
  const { processWorkers: workers, retryDelay: delay } = settings;
  return [
    ...(!processOnBackground && processWorkers !== workers.default
      ? [`${workers.variable} without worker processes (${settings.processOnBackground.variable}=false)`]
      : []),
    ...(retries === 0 && retryDelay !== delay.default
      ? [`${delay.variable} without ${settings.retries.variable}`]
      : []),
  ];
}

function contradictions(resolved: Settings, isPlainOnPurpose: boolean): string[] {
  const { caFile, certFile, keyFile, useSsl, sourceUseSsl } = resolved;
  const hasTlsFiles = caFile !== undefined || certFile !== undefined || keyFile !== undefined;
  const pairs: [boolean, string][] = [
    [
      (resolved.standbyHost === undefined) !== (resolved.standbyPort === undefined),
      'STOMP_SERVER_STANDBY_HOST and STOMP_SERVER_STANDBY_PORT: set both or neither',
    ],
    [
      (resolved.sourceHost === undefined) !== (resolved.sourcePort === undefined),
      'STOMP_SOURCE_HOST and STOMP_SOURCE_PORT: set both or neither',
    ],
    [
      hasTlsFiles && !useSsl && sourceUseSsl !== true && !isPlainOnPurpose,
      'DEFAULT_STOMP_CA_CERTS, DEFAULT_STOMP_CERT_FILE, DEFAULT_STOMP_KEY_FILE: given without TLS, and nothing is sent in clear ' +
        'text then; set STOMP_USE_SSL=true, or leave them away (--no-ssl for one command)',
    ],
    ...(
      [
        ['user', 'userFile'],
        ['password', 'passwordFile'],
        ['sourceUser', 'sourceUserFile'],
        ['sourcePassword', 'sourcePasswordFile'],
      ] as const
    ).map(([value, file]): [boolean, string] => [
      resolved[value] !== undefined && resolved[file] !== undefined,
      `${settings[value].variable} and ${settings[file].variable}: give one of them`,
    ]),
    [
      (resolved.certFile === undefined) !== (resolved.keyFile === undefined),
      'DEFAULT_STOMP_CERT_FILE and DEFAULT_STOMP_KEY_FILE: set both or neither',
    ],
    [
      resolved.servesMetrics && resolved.healthPort === undefined,
      'STOMP_METRICS: needs STOMP_HEALTH_PORT, the port that they are served on',
    ],
    [
      resolved.queueType === 'quorum' && resolved.exclusiveQueue,
      'STOMP_QUEUE_TYPE and STOMP_DEFAULT_EXCLUSIVE_QUEUE: a quorum queue cannot be exclusive',
    ],
    [
      resolved.retries > 0 && resolved.exclusiveQueue,
      'STOMP_RETRIES and STOMP_DEFAULT_EXCLUSIVE_QUEUE: an exclusive queue may be gone when a message comes back',
    ],
    [
      resolved.maxDeliveries !== undefined && resolved.exclusiveQueue,
      'STOMP_MAX_DELIVERIES and STOMP_DEFAULT_EXCLUSIVE_QUEUE: an exclusive queue is gone when its consumer is',
    ],
    [
      resolved.retries > 0 && resolved.subscribeHeaders['x-stream-offset'] !== undefined,
      'STOMP_RETRIES and x-stream-offset: RabbitMQ drops what is to come back to a stream',
    ],
    [
      !resolved.declare && resolved.exclusiveQueue,
      'STOMP_DECLARE=false and STOMP_DEFAULT_EXCLUSIVE_QUEUE: a queue that is not declared cannot be made exclusive',
    ],
    [
      !resolved.declare && Object.keys(resolved.queueArguments).length > 0,
      'STOMP_DECLARE=false and STOMP_QUEUE_ARGUMENTS: arguments are for queues that are declared',
    ],
    [
      resolved.durableTopicSubscription && resolved.clientId === undefined,
      'STOMP_DURABLE_TOPIC_SUBSCRIPTION: needs STOMP_LISTENER_CLIENT_ID, or every start would leave a subscription behind',
    ],
  ];
  return pairs.filter(([isWrong]) => isWrong).map(([, problem]) => problem);
}

/** Of django-stomp, and without a meaning here: Node picks the version of TLS, and has no key with a passphrase. */
const ignoredVariables = [
  'DEFAULT_STOMP_CERT_VALIDATOR',
  'DEFAULT_STOMP_SSL_VERSION',
  'DEFAULT_STOMP_SSL_PASSWORD',
];

/** STOMP_* and DEFAULT_STOMP_* variables that are set and not in the table, and why they change nothing. */
export function uselessVariables(
  env: Environment = process.env,
): { variable: string; isIgnored: boolean; meant: string | undefined }[] {
  const known = settingNames.map((name) => settings[name].variable);
  return Object.keys(env)
    .filter((variable) => /^(?:DEFAULT_)?STOMP_/.test(variable) && !known.includes(variable))
    .map((variable) => ({
      variable,
      isIgnored: ignoredVariables.includes(variable),
      meant: closest(variable, known),
    }));
}

/** Options of the library that are given and not in the table: probably misspelt, and the compiler was not asked. */
export function unknownOptions(given: object): { option: string; meant: string | undefined }[] {
  return Object.keys(given)
    .filter((option) => !(option in settings))
    .map((option) => ({ option, meant: closest(option, settingNames) }));
}

/** The environment for programs that are not ours: without secrets, and without the headers of somebody else's message. */
export function environmentForPrograms(
  env: Environment = { ...ofCallbacks, ...process.env },
): Record<string, string> {
  const hidden = /^(?:DEFAULT_)?STOMP_(HEADER_|.*(PASSWORD|URL)$)/;
  const shown = Object.entries(env).filter(([name]) => !hidden.test(name));
  return Object.fromEntries(shown) as Record<string, string>;
}

/** The format of the log, as far as it can be told when not all settings are known. */
export function logFormatMeant(given: unknown, env: Environment = process.env): Settings['logFormat'] {
  const { parse, variable, default: fallback } = settings.logFormat;
  try {
    return parse(typeof given === 'string' ? given : (env[variable] ?? fallback));
  } catch {
    return fallback;
  }
}

/** Are colours written there? As asked for; else as NO_COLOR says, then FORCE_COLOR; else on a terminal that has them. */
export function hasColors(
  stream: NodeJS.WriteStream,
  asked?: boolean,
  { NO_COLOR, FORCE_COLOR }: Environment = process.env,
): boolean {
  if (asked !== undefined) return asked;
  if (NO_COLOR !== undefined && NO_COLOR !== '') return false;
  if (FORCE_COLOR !== undefined) return !['0', 'false'].includes(FORCE_COLOR);
  // It heeds TERM=dumb.
  return stream.isTTY && stream.hasColors();
}

/** Did npx, npm exec or an npm script start this process? */
export function isBehindNpm(env: Environment = process.env): boolean {
  return env.npm_command !== undefined;
}
