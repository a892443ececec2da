/**
 * Metrics of consumers by prom-client, which writes the text. It is not ours but the callback's or the program's, so that what
 * these count is in the same scrape. Hides that a registry may be shared by several consumers, as their workers may, and
 * that callbacks count in processes of their own.
 */
import type * as PromClient from 'prom-client';
import type { ConsumerView } from '../consumer/consumer.js';
import type { ConsumerObserver } from '../consumer/events.js';
import type { Numbers } from '../consumer/numbers.js';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import { requireOptional } from '../optional.js';
import { CallbackMetrics, type Aggregate, type ToldMetric } from './callback-metrics.js';
import type { Page } from './pages.js';
import { families, Tally, type MetricName } from './tally.js';

/** A registry of prom-client. */
export interface MetricsRegistry {
  readonly contentType: string;
  metrics(): Promise<string>;
}

export interface MetricsOptions {
  readonly version: string;
  /** Where prom-client is looked for first. */
  readonly callbackFile: string | undefined;
  /** The caller's own; default: one with Node's own metrics. */
  readonly registry: MetricsRegistry | undefined;
  readonly log: Logger;
}

/** A consumer that is counted. */
export interface Counted {
  readonly destination: string;
  readonly concurrency: number;
  readonly hasWorkers: boolean;
}

export interface Counting {
  readonly observer: ConsumerObserver;
  /** For the consumer to count in. */
  readonly numbers: Numbers;
  begin(consumer: ConsumerView): void;
  end(): void;
}

export interface Metrics {
  join(consumer: Counted): Counting;
  /** A worker has told what its callback has counted. */
  readonly take: (pid: number | undefined, text: string) => void;
  /** One scrape. */
  page(): Promise<Page>;
}

/** What was counted into a registry, by destination: consumers come and go, and counters stay. */
const talliesOf = new WeakMap<object, Map<string, Tally>>();

/** Throws `invalid-setting` when there is no prom-client. */
export function openMetrics(options: MetricsOptions): Metrics {
  const { version, callbackFile, log } = options;
  const client = requireOptional('prom-client', callbackFile) as typeof PromClient | undefined;
  if (client === undefined)
    throw new PubsubError(
      'invalid-setting',
      'STOMP_METRICS: there is no prom-client; npm install prom-client',
    );
  const registry = (options.registry ?? ownRegistry(client)) as PromClient.Registry;
  const aggregate: Aggregate = (all) => client.AggregatorRegistry.aggregate([...all]);
  const callbacks = new CallbackMetrics(aggregate, log);
  const views = new Set<ConsumerView>();
  const runs = { inline: false };
  const gather = async (): Promise<readonly (readonly ToldMetric[])[]> => {
    await Promise.all([...views].map((view) => view.gatherMetrics()));
    const told = await callbacks.all();
    if (!runs.inline || client.register === registry) return told;
    return [...told, (await client.register.getMetricsAsJSON()) as unknown as ToldMetric[]];
  };
  return {
    join: ({ destination, concurrency, hasWorkers }) => {
      if (!hasWorkers) runs.inline = true;
      const counted = tallyOf(registry, destination, version).join(concurrency);
      const { observer } = counted;
      let own: ConsumerView | undefined;
      return {
        observer: {
          ...observer,
          onWorker: (event) => {
            if (event.kind === 'ended') callbacks.end(event.pid);
            return observer.onWorker?.(event);
          },
        },
        numbers: counted.numbers,
        begin: (view) => {
          own = view;
          views.add(view);
          counted.begin(view);
        },
        end: () => {
          if (own !== undefined) views.delete(own);
          counted.end();
        },
      };
    },
    take: (pid, text) => callbacks.take(pid, text),
    page: async () => {
      const names = new Set(registry.getMetricsAsArray().map(({ name }) => name));
      const others = (await gather()).map((all) => all.filter(({ name }) => !names.has(name)));
      const own = (await registry.metrics()).replace(/# EOF\n$/, '');
      const body = `${own}\n${await textOf(client, registry, others, log)}`;
      return { status: 200, type: registry.contentType, body };
    },
  };
}

function ownRegistry(client: typeof PromClient): PromClient.Registry {
  const registry = new client.Registry();
  client.collectDefaultMetrics({ register: registry });
  return registry;
}

function tallyOf(registry: PromClient.Registry, destination: string, version: string): Tally {
  let tallies = talliesOf.get(registry);
  if (tallies === undefined) {
    tallies = new Map();
    talliesOf.set(registry, tallies);
    register(registry, tallies);
  }
  const tally = tallies.get(destination) ?? new Tally(version);
  tallies.set(destination, tally);
  return tally;
}

/** As metrics that have no numbers of their own: prom-client asks them at each scrape. */
function register(registry: PromClient.Registry, tallies: ReadonlyMap<string, Tally>): void {
  for (const [name, [type, help]] of Object.entries(families) as [
    MetricName,
    (typeof families)[MetricName],
  ][]) {
    const get = () => ({
      ...{ name, type, help, aggregator: 'sum' },
      values: [...tallies].flatMap(([destination, tally]) =>
        tally.samples(name).map((sample) => ({ ...sample, labels: { ...sample.labels, destination } })),
      ),
    });
    const metric = { name, type, help, aggregator: 'sum', get, reset: () => undefined };
    registry.registerMetric(metric as unknown as PromClient.Metric);
  }
}

/** What callbacks count must not cost the scrape of what we do. */
async function textOf(
  client: typeof PromClient,
  { contentType }: PromClient.Registry,
  told: readonly (readonly ToldMetric[])[],
  log: Logger,
): Promise<string> {
  try {
    const sum = client.AggregatorRegistry.aggregate([...told]);
    sum.setContentType(contentType);
    return await sum.metrics();
  } catch (error) {
    log.warn({ err: error }, 'the metrics of callbacks cannot be put together');
    return contentType.startsWith('application/openmetrics-text') ? '# EOF\n' : '';
  }
}
