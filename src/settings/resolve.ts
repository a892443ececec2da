/**
 * From what is given to all settings, and where each comes from: flag (or library option) > environment > .env > default.
 */
import { PubsubError, reasonOf } from '../errors.js';
import { settingNames, settings, type SettingName, type Settings } from '../settings.js';
import { contradictions } from './contradictions.js';
import { isFromDotenv } from './dotenv.js';
import { flagName, type Setting } from './kinds.js';
import { parseBrokerUrl } from './url.js';

type Environment = Readonly<Record<string, string | undefined>>;

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
    const file = isFromDotenv(row.variable) ? ' (in .env)' : '';
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
export function explain(given: Record<string, unknown>): Explained[] {
  const resolved = resolve(given);
  return settingNames.map((name) => {
    const { variable } = settings[name];
    const isGiven = (process.env[variable] ?? '') !== '';
    const fromEnvironment = isFromDotenv(variable) ? '.env' : 'environment';
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
