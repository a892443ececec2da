/**
 * The kinds of rows that the table of settings has: for each, how the text of a flag or a variable is read and what is said
 * of text that cannot be.
 */

import { withoutBrackets } from './url.js';

export type SettingGroup =
  'Connection' | 'TLS' | 'Consuming' | 'Observing' | 'Publishing' | 'Moving' | 'Logging';

/** `operator` stands for the subcommands of `pubsub` that look after queues. */
export type SettingUser = 'pubsub' | 'publish' | 'operator' | (typeof forwarders)[number];

/** Those of them that have messages under way. */
export const forwarders = ['move-messages', 'redrive', 'ack-all-messages', 'restore'] as const;

export interface Setting<T> {
  readonly group: SettingGroup;
  /** The environment variable. */
  readonly variable: string;
  /** Long flag with its placeholder, or undefined where only the variable exists. */
  readonly flag: string | undefined;
  readonly commands: readonly SettingUser[];
  readonly default: T;
  readonly help: string;
  /** Of a setting that people use every day: its line in the short --help, and perhaps a letter. */
  readonly brief?: string;
  readonly short?: string;
  /** Flags without a value that stand for one of this setting's. */
  readonly aliases?: readonly Alias[];
  readonly isBoolean: boolean;
  /** Of text that can be one of a few. */
  readonly choices?: readonly string[];
  /** The flag may be repeated. */
  readonly isList?: boolean;
  /** Of a boolean that is on by default: the flag that turns it off, when that is not `--no-...`, and what that does. */
  readonly offFlag?: string;
  readonly offHelp?: string;
  /** Reads the text of a flag or variable; throws an Error that says what is expected. */
  readonly parse: (text: string) => T;
}

export interface Alias {
  readonly flag: string;
  readonly value: string;
  readonly help: string;
  /** In the short --help, too. */
  readonly isCommon: boolean;
}

type Row<T> = [group: SettingGroup, variable: string, flag: string | undefined, fallback: T];
type Range = readonly [min: number, max: number];

export function setting<T>(
  [group, variable, flag, fallback]: Row<T>,
  help: string,
  parse: (text: string) => T,
): Setting<T> {
  const commands = groupUsers[group] ?? ['pubsub', 'publish', 'operator'];
  return { group, variable, flag, help, commands, default: fallback, isBoolean: false, parse };
}

export const groupUsers: Partial<Record<SettingGroup, readonly SettingUser[]>> = {
  Consuming: ['pubsub'],
  Observing: ['pubsub'],
  Moving: ['move-messages'],
};

export const only = <T>(commands: readonly SettingUser[], row: Setting<T>): Setting<T> => ({
  ...row,
  commands,
});

/** A setting that people use every day; `more` is its letter, and what else stands for it. */
export const common = <T>(
  brief: string,
  row: Setting<T>,
  more: Pick<Setting<T>, 'short' | 'aliases'> = {},
): Setting<T> => ({ ...row, brief, ...more });

function parseText(text: string): string {
  if (/[\r\n\0]/.test(text)) throw new Error('text without line breaks or NUL bytes expected');
  return text;
}

export const text = (...[group, variable, flag, fallback, help]: [...Row<string>, help: string]) =>
  setting([group, variable, flag, fallback], help, parseText);

export const optionalText = (group: SettingGroup, variable: string, flag: string, help: string) =>
  setting<string | undefined>([group, variable, flag, undefined], help, parseText);

/** The name or address of a machine; IPv6 with or without brackets. */
const parseHost = (host: string): string => withoutBrackets(parseText(host.trim()));

export const host = (...[group, variable, flag, fallback, help]: [...Row<string>, help: string]) =>
  setting([group, variable, flag, fallback], help, parseHost);

export const optionalHost = (group: SettingGroup, variable: string, flag: string, help: string) =>
  setting<string | undefined>([group, variable, flag, undefined], help, parseHost);

export const parseNumber =
  (pattern: RegExp, kind: string, [min, max]: Range) =>
  (text: string) => {
    const value = Number(text);
    if (!pattern.test(text.trim()) || value < min || value > max)
      throw new Error(`${kind} from ${min} to ${max} expected`);
    return value;
  };
const parseInteger = (range: Range) => parseNumber(/^\d+$/, 'a whole number', range);

export const integer = (
  ...[group, variable, flag, fallback, range, help]: [...Row<number>, range: Range, help: string]
) => setting([group, variable, flag, fallback], help, parseInteger(range));

export const optionalInteger = (
  group: SettingGroup,
  variable: string,
  flag: string | undefined,
  range: Range,
  help: string,
) => setting<number | undefined>([group, variable, flag, undefined], help, parseInteger(range));

export const seconds = (
  ...[group, variable, flag, fallback, range, help]: [...Row<number>, range: Range, help: string]
) => setting([group, variable, flag, fallback], help, parseSeconds(range));

export const milliseconds = (
  ...[group, variable, flag, fallback, range, help]: [...Row<number>, range: Range, help: string]
) => setting([group, variable, flag, fallback], help, parseTime('ms', 'milliseconds', range));

const unitMs: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** In ms, of text like `500ms`, `5s`, `1.5h` or `2d`, or of a bare number in the unit given; NaN for any other. */
export function durationMs(text: string, bare = ''): number {
  const [, number, unit = bare] = /^\s*(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)?\s*$/.exec(text) ?? [];
  return Math.round(Number(number) * (unitMs[unit] ?? NaN));
}

const parseTime =
  (unit: 'ms' | 's', name: string, [min, max]: Range) =>
  (text: string): number => {
    const value = durationMs(text, unit) / (unitMs[unit] ?? 1);
    if (value >= min && value <= max) return value;
    throw new Error(`${name} from ${min} to ${max}, or a time like 90s or 5m, expected`);
  };

/** Reads a time like `90s`, `5m` or a bare number of seconds; throws an Error that says what is expected. */
export const parseSeconds = (range: Range) => parseTime('s', 'seconds', range);

export const optionalSeconds = (
  group: SettingGroup,
  variable: string,
  flag: string,
  range: Range,
  help: string,
): Setting<number | undefined> => ({
  ...seconds(group, variable, flag, range[0], range, help),
  default: undefined,
});

const truths: Record<string, boolean> = {
  ...Object.fromEntries(['true', '1', 't', 'y', 'yes', 'on'].map((word) => [word, true])),
  ...Object.fromEntries(['false', '0', 'f', 'n', 'no', 'off'].map((word) => [word, false])),
};

const LONGEST_RETRY_DELAY_MS = 7 * 24 * 3_600_000;

/** The delays, in ms, of text like `5s,30s,5m`; a bare number is seconds. Throws an Error that says what is expected. */
export function parseDelays(text: string): number[] {
  return text.split(',').map((part) => {
    const ms = part.trimEnd().endsWith('d') ? NaN : durationMs(part, 's');
    if (!(ms >= 1 && ms <= LONGEST_RETRY_DELAY_MS))
      throw new Error('delays like 500ms, 5s, 5m or 1h, up to 168h, with commas between expected');
    return ms;
  });
}

const parseList = (text: string): readonly string[] =>
  text.startsWith('[') ? (JSON.parse(text) as string[]) : text.split(',').map((part) => part.trim());

/** Repeated flags come as an array; a variable has commas. */
export const optionalList = (group: SettingGroup, variable: string, flag: string, help: string) => ({
  ...setting<readonly string[] | undefined>([group, variable, flag, undefined], help, parseList),
  isList: true,
});

export function boolean(
  ...[group, variable, flag, fallback, help]: [...Row<boolean>, help: string]
): Setting<boolean> {
  const parse = (text: string): boolean => {
    const value = truths[text.trim().toLowerCase()];
    if (value === undefined) throw new Error('true or false expected');
    return value;
  };
  return { ...setting([group, variable, flag, fallback], help, parse), isBoolean: true };
}

export const optionalBoolean = (
  group: SettingGroup,
  variable: string,
  flag: string,
  help: string,
): Setting<boolean | undefined> => ({ ...boolean(group, variable, flag, false, help), default: undefined });

export function choice<const T extends string>(
  ...[group, variable, flag, fallback, values, help]: [...Row<T>, values: readonly T[], help: string]
): Setting<T> {
  const parse = (text: string): T => {
    const value = values.find((known) => known === text.trim().toLowerCase());
    if (value === undefined) throw new Error(`one of ${values.join(', ')} expected`);
    return value;
  };
  return { ...setting([group, variable, flag, fallback], help, parse), choices: values };
}

/** `--host` of `--host <name>`; a boolean that is on by default is turned off by `--no-<name>`. */
export function flagName({ flag }: Pick<Setting<unknown>, 'flag'>): string | undefined {
  return flag?.split(' ')[0];
}
