/**
 * Several consumers by one file: what it may say, and the settings of each that come of it. All that is wrong with any of
 * them is told at once.
 */
import { parseSource, type Source } from './brokers/destinations.js';
import { sourceOf } from './consumer/source.js';
import { PubsubError } from './errors.js';
import type { LibrarySettings, Settings } from './settings.js';
import { unknownOptions } from './settings/environment.js';
import { resolve } from './settings/resolve.js';

export interface ConsumerDefinition extends LibrarySettings {
  /** `/queue/<name>`, `<name>`, `/topic/<name>` or `Consumer.<app>.VirtualTopic.<topic>` */
  readonly destination: string;
  /** `<module>#<export>`, its path relative to the file that defines it; or a program and its arguments. */
  readonly callback: string | readonly [string, ...string[]];
}

export interface ConsumersConfig {
  /** For every consumer that does not say otherwise. */
  readonly defaults?: LibrarySettings;
  /** By names of your choice, which the log and `--only` use. */
  readonly consumers: Readonly<Record<string, ConsumerDefinition>>;
}

/** What is given, with its type checked: for the default export of `pubsub.config.ts`. */
export function defineConsumers(config: ConsumersConfig): ConsumersConfig {
  return config;
}

/** A consumer that can be started. */
export interface DefinedConsumer {
  readonly name: string;
  readonly source: Source;
  readonly settings: Settings;
  readonly callback: ConsumerDefinition['callback'];
}

/**
 * The consumers of a configuration, those named in `only` alone where there is one. What `given` says goes before the
 * configuration, and that before the environment. Throws one `invalid-setting` that lists all that is wrong.
 */
export function resolveConsumers(
  config: unknown,
  { only, given = {} }: { readonly only?: readonly string[] | undefined; readonly given?: object },
): DefinedConsumer[] {
  const { defaults = {}, consumers } = checkShape(config);
  const names = Object.keys(consumers);
  const problems = (only ?? [])
    .filter((name) => !names.includes(name))
    .map((name) => `--only: there is no consumer ${JSON.stringify(name)}; there are ${names.join(', ')}`);
  const defined = names
    .filter((name) => only === undefined || only.includes(name))
    .flatMap((name) => {
      try {
        return [resolveConsumer(name, consumers[name], defaults, given)];
      } catch (error) {
        if (!(error instanceof PubsubError)) throw error;
        problems.push(...error.message.split('\n').map((problem) => `${name}: ${problem}`));
        return [];
      }
    });
  if (problems.length > 0) throw new PubsubError('invalid-setting', problems.join('\n'));
  return defined;
}

function checkShape(config: unknown): ConsumersConfig {
  const { defaults, consumers } = isObject(config) ? config : {};
  if (
    isObject(consumers) &&
    Object.keys(consumers).length > 0 &&
    (defaults === undefined || isObject(defaults))
  )
    return config as ConsumersConfig;
  throw new PubsubError(
    'invalid-setting',
    'no consumers are defined: export { consumers: { orders: { destination, callback } } }, and defaults if you like',
  );
}

function resolveConsumer(
  name: string,
  definition: unknown,
  defaults: object,
  given: object,
): DefinedConsumer {
  const { destination, callback, ...own } = (
    isObject(definition) ? definition : {}
  ) as Partial<ConsumerDefinition>;
  const problems = [
    ...(typeof destination === 'string' ? [] : ['destination: a string expected']),
    ...(isCallback(callback) ? [] : ['callback: "module#export" or a list of texts expected']),
    ...unknownOptions({ ...defaults, ...own }).map(
      ({ option, meant }) =>
        `${option}: there is no such setting${meant === undefined ? '' : `; did you mean ${meant}?`}`,
    ),
  ];
  const attempt = <T>(work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof PubsubError)) throw error;
      problems.push(error.message);
      return undefined;
    }
  };
  const settings = attempt(() => resolve({ ...defaults, ...own, ...given }));
  const source = attempt(() =>
    settings === undefined ? parseSource(String(destination)) : sourceOf(String(destination), settings),
  );
  if (problems.length === 0 && settings !== undefined && source !== undefined && isCallback(callback))
    return { name, source, settings, callback };
  throw new PubsubError('invalid-setting', problems.join('\n'));
}

function isCallback(value: unknown): value is ConsumerDefinition['callback'] {
  if (typeof value === 'string') return value !== '';
  return Array.isArray(value) && value.length > 0 && value.every((part) => typeof part === 'string');
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
