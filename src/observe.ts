/** What of the consumers of a process is seen from outside, as the settings of each ask for it together. */
import type { ConsumerOptions } from './consumer/consumer.js';
import type { ConsumerObserver } from './consumer/events.js';
import type { Runnable } from './consumer/runners.js';
import { PubsubError } from './errors.js';
import type { Logger } from './log.js';
import type { MetricsRegistry } from './observing/metrics.js';
import type { Observed, Observing, ObservingOptions, Watched } from './observing/observe.js';

export type { Observed, Observing };

/** A consumer that may be seen from outside. */
export interface Observable extends Pick<ConsumerOptions, 'source' | 'settings'> {
  readonly name?: string | undefined;
  readonly callback: Runnable['callback'];
  /** The caller's own. */
  readonly observer?: ConsumerObserver | undefined;
}

/**
 * Lets consumers (one at least) be seen from outside, as their settings ask for: to be closed after them. Nothing is loaded
 * that is not asked for. Rejects with `invalid-setting`.
 */
export async function observe(
  consumers: readonly Observable[],
  { metrics: registry, log }: { readonly metrics?: MetricsRegistry | undefined; readonly log: Logger },
): Promise<Observing> {
  const pages = pagesOf(consumers);
  if (pages === undefined && registry === undefined) {
    const unseen = ({ observer = {} }: Observable) => ({
      observer,
      numbers: undefined,
      onBegin: undefined,
      end: () => undefined,
    });
    return { observed: consumers.map(unseen) as [Observed, ...Observed[]], close: () => Promise.resolve() };
  }
  const { startObserving } = await import('./observing/observe.js');
  const watched = await Promise.all(consumers.map(watchedOf));
  return startObserving(watched, { pages: pages ?? unasked, registry, log });
}

async function watchedOf({ name, callback, settings, source, observer = {} }: Observable): Promise<Watched> {
  const isModule = typeof callback === 'string';
  const callbackFile = isModule
    ? await (await import('./consumer/callback.js')).locateCallback(callback)
    : undefined;
  const hasWorkers = isModule && settings.processOnBackground;
  return { name, settings, observer, destination: source.destination, callbackFile, hasWorkers };
}

const unasked = { healthPort: undefined, healthHost: '', healthFile: undefined, servesMetrics: false };

/** One port and one file for all of them; undefined when nobody asks. Throws `invalid-setting` when they say different things. */
function pagesOf(consumers: readonly Observable[]): ObservingOptions['pages'] | undefined {
  const asked = consumers
    .map(({ settings }) => settings)
    .filter(({ healthPort, healthFile }) => (healthPort ?? healthFile) !== undefined);
  if (asked.length === 0) return undefined;
  const one = <Name extends 'healthPort' | 'healthFile' | 'healthHost'>(name: Name, variable: string) => {
    const values = new Set(asked.flatMap((settings) => settings[name] ?? []));
    if (values.size > 1)
      throw new PubsubError(
        'invalid-setting',
        `${variable}: one for all consumers of a process, not ${[...values].join(' and ')}`,
      );
    return asked.find((settings) => settings[name] !== undefined)?.[name];
  };
  return {
    healthPort: one('healthPort', 'STOMP_HEALTH_PORT'),
    healthHost: one('healthHost', 'STOMP_HEALTH_HOST') ?? '',
    healthFile: one('healthFile', 'STOMP_HEALTH_FILE'),
    servesMetrics: asked.some(({ servesMetrics }) => servesMetrics),
  };
}
