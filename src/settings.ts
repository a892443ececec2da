/**
 * The one table of settings. Each row gives the flag, the variable, how its text is read, the default and the help
 * line; the commands' flags, `--help`, the README's table and .env.example are rendered from it. Precedence: flag (or
 * library option) > environment > .env > default. Alone in reading process.env.
 */
import * as dotenv from 'dotenv';
import { PubsubError, reasonOf } from './errors.js';

export type SettingGroup = 'Connection' | 'TLS' | 'Consuming' | 'Publishing' | 'Logging';

export interface Setting<T> {
  readonly group: SettingGroup;
  /** The environment variable. */
  readonly variable: string;
  /** Long flag with its placeholder, or undefined where only the variable exists. */
  readonly flag: string | undefined;
  readonly commands: readonly ('pubsub' | 'publish')[];
  readonly default: T;
  readonly help: string;
  readonly isBoolean: boolean;
  /** Reads the text of a flag or variable; throws an Error that says what is expected. */
  readonly parse: (text: string) => T;
}

type Row = Pick<Setting<unknown>, 'group' | 'variable' | 'help'> & {
  readonly flag?: string;
  readonly commands?: Setting<unknown>['commands'];
};

const setting = <T>(row: Row, fallback: T, parse: (text: string) => T, isBoolean = false): Setting<T> => ({
  flag: undefined,
  commands: ['pubsub', 'publish'],
  ...row,
  default: fallback,
  isBoolean,
  parse,
});

function parseText(text: string): string {
  if (/[\r\n\0]/.test(text)) throw new Error('text without line breaks or NUL bytes expected');
  return text;
}

const text = (row: Row, fallback: string) => setting(row, fallback, parseText);
const optionalText = (row: Row) => setting<string | undefined>(row, undefined, parseText);

function parseNumber(text: string, min: number, max: number, pattern: RegExp, kind: string): number {
  const value = Number(text);
  if (!pattern.test(text.trim()) || value < min || value > max) {
    throw new Error(`${kind} from ${min} to ${max} expected`);
  }
  return value;
}

const parseInteger = (min: number, max: number) => (text: string) =>
  parseNumber(text, min, max, /^\d+$/, 'a whole number');
const integer = (row: Row, fallback: number, min: number, max: number) =>
  setting(row, fallback, parseInteger(min, max));
const optionalInteger = (row: Row, min: number, max: number) =>
  setting<number | undefined>(row, undefined, parseInteger(min, max));
const seconds = (row: Row, fallback: number, min: number) =>
  setting(row, fallback, (text) => parseNumber(text, min, 86_400, /^\d+(\.\d+)?$/, 'seconds'));

const truths: Record<string, boolean> = {
  ...Object.fromEntries(['true', '1', 't', 'y', 'yes', 'on'].map((word) => [word, true])),
  ...Object.fromEntries(['false', '0', 'f', 'n', 'no', 'off'].map((word) => [word, false])),
};

function boolean(row: Row, fallback: boolean): Setting<boolean> {
  const parse = (text: string): boolean => {
    const value = truths[text.trim().toLowerCase()];
    if (value === undefined) throw new Error('true or false expected');
    return value;
  };
  return setting(row, fallback, parse, true);
}

function choice<const T extends string>(row: Row, fallback: T, values: readonly T[]): Setting<T> {
  const parse = (text: string): T => {
    const value = values.find((known) => known === text.trim().toLowerCase());
    if (value === undefined) throw new Error(`one of ${values.join(', ')} expected`);
    return value;
  };
  return setting(row, fallback, parse);
}

const pubsub = ['pubsub'] as const;
const publish = ['publish'] as const;

export const settings = {
  host: text(
    { group: 'Connection', variable: 'STOMP_SERVER_HOST', flag: '--host <name>', help: 'broker host' },
    'localhost',
  ),
  port: integer(
    {
      group: 'Connection',
      variable: 'STOMP_SERVER_PORT',
      flag: '--port <number>',
      help: 'broker STOMP port',
    },
    61613,
    1,
    65_535,
  ),
  user: optionalText({
    group: 'Connection',
    variable: 'STOMP_SERVER_USER',
    flag: '--user <name>',
    help: 'login',
  }),
  password: optionalText({
    group: 'Connection',
    variable: 'STOMP_SERVER_PASSWORD',
    flag: '--password <text>',
    help: 'passcode; prefer the variable, a flag shows in the process list',
  }),
  vhost: text(
    {
      group: 'Connection',
      variable: 'STOMP_SERVER_VHOST',
      flag: '--vhost <name>',
      help: 'virtual host (RabbitMQ; others ignore it)',
    },
    '/',
  ),
  standbyHost: optionalText({
    group: 'Connection',
    variable: 'STOMP_SERVER_STANDBY_HOST',
    flag: '--standby-host <name>',
    help: 'second server, tried when the first does not answer',
  }),
  standbyPort: optionalInteger(
    {
      group: 'Connection',
      variable: 'STOMP_SERVER_STANDBY_PORT',
      flag: '--standby-port <number>',
      help: 'STOMP port of the second server',
    },
    1,
    65_535,
  ),
  broker: choice(
    {
      group: 'Connection',
      variable: 'STOMP_BROKER',
      flag: '--broker <product>',
      help: 'broker product: auto (by its server header), rabbitmq, activemq or artemis',
    },
    'auto',
    ['auto', 'rabbitmq', 'activemq', 'artemis'],
  ),
  connectTimeoutSeconds: seconds(
    {
      group: 'Connection',
      variable: 'STOMP_CONNECT_TIMEOUT',
      flag: '--connect-timeout <seconds>',
      help: 'limit for TCP, TLS and the STOMP handshake together, for each server',
    },
    10,
    0.1,
  ),
  waitToConnectSeconds: seconds(
    {
      group: 'Connection',
      variable: 'STOMP_WAIT_TO_CONNECT',
      flag: '--wait-to-connect <seconds>',
      help: 'longest wait between two attempts to connect',
      commands: pubsub,
    },
    10,
    0.1,
  ),
  outgoingHeartbeatMs: integer(
    {
      group: 'Connection',
      variable: 'STOMP_OUTGOING_HEARTBEAT',
      flag: '--outgoing-heartbeat <ms>',
      help: 'heart-beats sent at least this often, in ms; 0 for none',
    },
    10_000,
    0,
    3_600_000,
  ),
  incomingHeartbeatMs: integer(
    {
      group: 'Connection',
      variable: 'STOMP_INCOMING_HEARTBEAT',
      flag: '--incoming-heartbeat <ms>',
      help: 'heart-beats asked of the broker, in ms; 0 for none',
    },
    10_000,
    0,
    3_600_000,
  ),
  maxMessageBytes: integer(
    {
      group: 'Connection',
      variable: 'STOMP_MAX_MESSAGE_BYTES',
      flag: '--max-message-bytes <number>',
      help: 'a longer body is not read into memory: its message is dead-lettered',
      commands: pubsub,
    },
    134_217_728,
    1,
    1_073_741_824,
  ),
  useSsl: boolean(
    {
      group: 'TLS',
      variable: 'STOMP_USE_SSL',
      flag: '--ssl',
      help: 'connect with TLS, to the standby server too',
    },
    false,
  ),
  caFile: optionalText({
    group: 'TLS',
    variable: 'DEFAULT_STOMP_CA_CERTS',
    flag: '--ssl-ca <file>',
    help: 'certificate authorities to trust (PEM) instead of the usual ones',
  }),
  certFile: optionalText({
    group: 'TLS',
    variable: 'DEFAULT_STOMP_CERT_FILE',
    flag: '--ssl-cert <file>',
    help: 'client certificate (PEM)',
  }),
  keyFile: optionalText({
    group: 'TLS',
    variable: 'DEFAULT_STOMP_KEY_FILE',
    flag: '--ssl-key <file>',
    help: 'key of the client certificate (PEM)',
  }),
  sslServerName: optionalText({
    group: 'TLS',
    variable: 'STOMP_SSL_SERVER_NAME',
    flag: '--ssl-server-name <name>',
    help: 'name the certificate must carry, when it is not the host',
  }),
  sslVerify: boolean(
    {
      group: 'TLS',
      variable: 'STOMP_SSL_VERIFY',
      flag: '--ssl-verify',
      help: 'refuse a server whose certificate does not verify',
    },
    true,
  ),
  concurrency: integer(
    {
      group: 'Consuming',
      variable: 'STOMP_CONCURRENCY',
      flag: '--concurrency <number>',
      help: 'callbacks in flight at once; also the prefetch asked of the broker',
      commands: pubsub,
    },
    1,
    1,
    65_535,
  ),
  autoAck: boolean(
    {
      group: 'Consuming',
      variable: 'STOMP_AUTO_ACK',
      flag: '--auto-ack',
      help: 'a callback that returns without ack() or nack() acks its message',
      commands: pubsub,
    },
    false,
  ),
  correlationIdRequired: boolean(
    {
      group: 'Consuming',
      variable: 'STOMP_CORRELATION_ID_REQUIRED',
      flag: '--correlation-id-required',
      help: 'dead-letter a message without correlation-id; otherwise one is made up',
      commands: pubsub,
    },
    true,
  ),
  gracefulWaitSeconds: seconds(
    {
      group: 'Consuming',
      variable: 'STOMP_GRACEFUL_WAIT_SECONDS',
      flag: '--graceful-wait <seconds>',
      help: 'how long a stop waits for callbacks in flight',
      commands: pubsub,
    },
    30,
    0,
  ),
  queueName: optionalText({
    group: 'Consuming',
    variable: 'STOMP_QUEUE_NAME',
    flag: '--queue-name <name>',
    help: 'queue of this service for a /topic/ destination (RabbitMQ); default: the name of the topic',
    commands: pubsub,
  }),
  durableTopicSubscription: boolean(
    {
      group: 'Consuming',
      variable: 'STOMP_DURABLE_TOPIC_SUBSCRIPTION',
      flag: '--durable',
      help: 'durable subscription to a /topic/ (ActiveMQ; needs a client id; RabbitMQ is always durable)',
      commands: pubsub,
    },
    false,
  ),
  clientId: optionalText({
    group: 'Consuming',
    variable: 'STOMP_LISTENER_CLIENT_ID',
    flag: '--client-id <id>',
    help: 'client id; a durable subscription is kept under this and -listener',
    commands: pubsub,
  }),
  subscriptionId: optionalText({
    group: 'Consuming',
    variable: 'STOMP_SUBSCRIPTION_ID',
    flag: '--subscription-id <id>',
    help: 'start of the subscription id; every connection adds a part of its own',
    commands: pubsub,
  }),
  exclusiveQueue: boolean(
    {
      group: 'Consuming',
      variable: 'STOMP_DEFAULT_EXCLUSIVE_QUEUE',
      flag: '--exclusive',
      help: 'declare the queue for this connection only: it goes, with its messages, when the connection ends',
      commands: pubsub,
    },
    false,
  ),
  processOnBackground: boolean(
    {
      group: 'Consuming',
      variable: 'STOMP_PROCESS_MSG_ON_BACKGROUND',
      help: 'reserved for worker threads: checked and otherwise unused, callbacks run on the event loop',
      commands: pubsub,
    },
    true,
  ),
  processWorkers: optionalInteger(
    {
      group: 'Consuming',
      variable: 'STOMP_PROCESS_MSG_WORKERS',
      help: 'reserved for worker threads: checked and otherwise unused',
      commands: pubsub,
    },
    1,
    1024,
  ),
  receiptTimeoutSeconds: seconds(
    {
      group: 'Publishing',
      variable: 'STOMP_RECEIPT_TIMEOUT',
      flag: '--receipt-timeout <seconds>',
      help: 'how long the broker may take to confirm a message or a subscription',
    },
    30,
    0.1,
  ),
  publishWindow: integer(
    {
      group: 'Publishing',
      variable: 'STOMP_PUBLISH_WINDOW',
      flag: '--window <number>',
      help: 'messages sent ahead of their confirmations',
      commands: publish,
    },
    100,
    1,
    100_000,
  ),
  logLevel: choice(
    {
      group: 'Logging',
      variable: 'STOMP_LOG_LEVEL',
      flag: '--log-level <level>',
      help: 'trace, debug, info, warn, error, fatal or silent',
    },
    'info',
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
  ),
  logFormat: choice(
    {
      group: 'Logging',
      variable: 'STOMP_LOG_FORMAT',
      flag: '--log-format <format>',
      help: 'json, pretty, or auto: pretty on a terminal, else json',
    },
    'auto',
    ['auto', 'pretty', 'json'],
  ),
} satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof settings;
export type Settings = {
  readonly [Name in SettingName]: (typeof settings)[Name] extends Setting<infer T> ? T : never;
};

export const settingNames = Object.keys(settings) as SettingName[];

type Environment = Readonly<Record<string, string | undefined>>;

/** Adds what `.env` in the working directory defines and the environment does not. Throws `invalid-setting`. */
export function loadDotenv(): void {
  const { error } = dotenv.config({ quiet: true });
  if (error !== undefined && (error as NodeJS.ErrnoException).code !== 'ENOENT') {
    throw new PubsubError('invalid-setting', `.env cannot be read: ${reasonOf(error)}`, { cause: error });
  }
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
    const source = fromCaller === undefined ? row.variable : (flagName(row) ?? name);
    try {
      resolved[name] = value === undefined ? row.default : row.parse(asText(value));
    } catch (error) {
      const shown = name === 'password' ? 'the value given' : JSON.stringify(value);
      problems.push(`${source}: ${reasonOf(error)}, not ${shown}`);
    }
  }
  if (problems.length === 0) problems.push(...contradictions(resolved as unknown as Settings));
  if (problems.length > 0) throw new PubsubError('invalid-setting', problems.join('\n'));
  return resolved as unknown as Settings;
}

function contradictions(resolved: Settings): string[] {
  const pairs: [boolean, string][] = [
    [
      (resolved.standbyHost === undefined) !== (resolved.standbyPort === undefined),
      'STOMP_SERVER_STANDBY_HOST and STOMP_SERVER_STANDBY_PORT: set both or neither',
    ],
    [
      (resolved.certFile === undefined) !== (resolved.keyFile === undefined),
      'DEFAULT_STOMP_CERT_FILE and DEFAULT_STOMP_KEY_FILE: set both or neither',
    ],
    [
      resolved.durableTopicSubscription && resolved.clientId === undefined,
      'STOMP_DURABLE_TOPIC_SUBSCRIPTION: needs STOMP_LISTENER_CLIENT_ID, or every start would leave a subscription behind',
    ],
  ];
  return pairs.filter(([isWrong]) => isWrong).map(([, problem]) => problem);
}

/** STOMP_* variables that are set and not in the table: probably misspelt. */
export function unknownVariables(env: Environment = process.env): string[] {
  const known = new Set(settingNames.map((name) => settings[name].variable));
  return Object.keys(env).filter((variable) => variable.startsWith('STOMP_') && !known.has(variable));
}

/** `--host` of `--host <name>`; a boolean that is on by default is turned off by `--no-<name>`. */
export function flagName({ flag }: Pick<Setting<unknown>, 'flag'>): string | undefined {
  return flag?.split(' ')[0];
}

const shown = (value: unknown): string => (value === undefined ? '' : asText(value));

/** The settings as tables in Markdown, one for each group. */
export function renderMarkdown(): string {
  const groups = [...new Set(settingNames.map((name) => settings[name].group))];
  return groups
    .map((group) => {
      const rows = settingNames
        .map((name): Setting<unknown> => settings[name])
        .filter((row) => row.group === group)
        .map((row) => {
          const only =
            row.commands.length === 1 && group !== 'Consuming' ? ` (\`${row.commands.join()}\` only)` : '';
          const flag = row.isBoolean && row.default === true ? row.flag?.replace('--', '--no-') : row.flag;
          const fallback = row.default === undefined ? '' : `\`${shown(row.default)}\``;
          return `| \`${row.variable}\` | ${flag === undefined ? '' : `\`${flag}\``} | ${fallback} | ${row.help}${only} |`;
        });
      return `**${group}**\n\n| Variable | Flag | Default | Meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`;
    })
    .join('\n');
}

/** The settings as .env.example: every variable commented out with its default. */
export function renderDotenv(): string {
  const lines = settingNames
    .map((name): Setting<unknown> => settings[name])
    .map((row) => `# ${row.help}\n# ${row.variable}=${shown(row.default)}\n`);
  return `# Copy to .env and uncomment what differs. Flags and the environment win over this file.\n\n${lines.join('\n')}`;
}
