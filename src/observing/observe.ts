/**
 * What was asked for to be seen from outside of the consumers of this process, from before their start until after their end.
 * Hides whether there is one or several: of several, each answer is about all of them.
 */
import type { ConsumerView } from '../consumer/consumer.js';
import type { ConsumerObserver } from '../consumer/events.js';
import type { Numbers } from '../consumer/numbers.js';
import type { RunnerObserver } from '../consumer/runner.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { version } from '../version.js';
import { keepHealthFiles } from './health-file.js';
import { Health, type HealthReport } from './health.js';
import { openMetrics, type MetricsRegistry } from './metrics.js';
import { observers } from './observers.js';
import { servePages, type Page, type Pages } from './pages.js';

export interface Watched {
  /** Where a process has several. */
  readonly name?: string | undefined;
  readonly destination: string;
  readonly settings: Settings;
  /** Do callbacks run in processes of their own? */
  readonly hasWorkers: boolean;
  /** Where prom-client is looked for first: from that of the first one. */
  readonly callbackFile: string | undefined;
  /** The caller's own. */
  readonly observer: ConsumerObserver;
}

export interface ObservingOptions {
  readonly pages: Pick<Settings, 'healthPort' | 'healthHost' | 'healthFile' | 'servesMetrics'>;
  /** Metrics go there, too. */
  readonly registry: MetricsRegistry | undefined;
  readonly log: Logger;
}

/** Of one consumer. */
export interface Observed {
  /** For the consumer to tell. */
  readonly observer: ConsumerObserver & RunnerObserver;
  readonly numbers: Numbers | undefined;
  readonly onBegin: ((consumer: ConsumerView) => void) | undefined;
  /** It has ended; the others go on. */
  readonly end: () => void;
}

export interface Observing {
  /** In the order of the consumers, of which there is one at least. */
  readonly observed: readonly [Observed, ...Observed[]];
  /** Never rejects. */
  close(): Promise<void>;
}

/** What probes are told of several. */
interface HealthReports {
  readonly status: HealthReport['status'];
  readonly consumers: Readonly<Record<string, HealthReport>>;
}

/** Resolves when probes are answered. Rejects with `invalid-setting`. */
export async function startObserving(
  consumers: readonly Watched[],
  {
    pages: { healthPort: port, healthHost: host, healthFile, servesMetrics },
    registry,
    log,
  }: ObservingOptions,
): Promise<Observing> {
  const isMeasured = registry !== undefined || servesMetrics;
  const callbackFile = consumers[0]?.callbackFile;
  const metrics = isMeasured ? openMetrics({ version, callbackFile, registry, log }) : undefined;
  const running = new Map(consumers.map((one) => [one, new Health(one)]));
  const ask = (question: 'live' | 'ready') => reportOn(running, question);
  const told = { live: () => ask('live'), ready: () => ask('ready') };
  const pages: Pages = {
    '/live': () => asPage(told.live()),
    '/ready': () => asPage(told.ready()),
    ...(metrics === undefined ? {} : { '/metrics': () => metrics.page() }),
  };
  const observed = Array.from(running, ([one, health]): Observed => {
    const counting = metrics?.join({ ...one, concurrency: one.settings.concurrency });
    const heard = [health.observer, ...(counting === undefined ? [] : [counting.observer]), one.observer];
    const onBegin = (view: ConsumerView) => {
      health.begin(view);
      counting?.begin(view);
    };
    const end = () => {
      running.delete(one);
      counting?.end();
    };
    return {
      observer: { ...observers(heard), onMetrics: metrics?.take },
      numbers: counting?.numbers,
      onBegin,
      end,
    };
  });
  const closePages = port === undefined ? undefined : await servePages(pages, { host, port }, log);
  try {
    const removeFiles = healthFile === undefined ? undefined : await keepHealthFiles(healthFile, told, log);
    return {
      observed: observed as [Observed, ...Observed[]],
      close: async () => {
        for (const { end } of observed) end();
        removeFiles?.();
        await closePages?.();
      },
    };
  } catch (error) {
    await closePages?.();
    throw error;
  }
}

/** One without a name is the only one. */
function reportOn(
  running: ReadonlyMap<Watched, Health>,
  question: 'live' | 'ready',
): HealthReport | HealthReports {
  const reports = Array.from(running, ([{ name }, health]) => [name, health[question]()] as const);
  const [first] = reports;
  if (first !== undefined && first[0] === undefined) return first[1];
  return {
    status: reports.every(([, { status }]) => status === 'ok') ? 'ok' : 'failing',
    consumers: Object.fromEntries(reports.map(([name = '', report]) => [name, report])),
  };
}

function asPage(report: HealthReport | HealthReports): Page {
  const status = report.status === 'ok' ? 200 : 503;
  return { status, type: 'application/json', body: `${JSON.stringify(report)}\n` };
}
