/** What was asked for to be seen of one consumer from outside, from before its start until after its end. */
import type { ConsumerView } from '../consumer/consumer.js';
import type { ConsumerObserver } from '../consumer/events.js';
import type { RunnerObserver } from '../consumer/runner.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { version } from '../version.js';
import { keepHealthFiles } from './health-file.js';
import { Health, type HealthReport } from './health.js';
import { openMetrics, type MetricsRegistry } from './metrics.js';
import { observers } from './observers.js';
import { servePages, type Page, type Pages } from './pages.js';

export interface ObservingOptions {
  readonly destination: string;
  readonly settings: Settings;
  /** Do callbacks run in processes of their own? */
  readonly hasWorkers: boolean;
  /** Where prom-client is looked for first. */
  readonly callbackFile: string | undefined;
  /** Metrics go there, too. */
  readonly registry: MetricsRegistry | undefined;
  /** The caller's own. */
  readonly observer: ConsumerObserver;
  readonly log: Logger;
}

export interface Observing {
  /** For the consumer to tell. */
  readonly observer: ConsumerObserver & RunnerObserver;
  readonly onBegin: ((consumer: ConsumerView) => void) | undefined;
  /** Never rejects. */
  close(): Promise<void>;
}

/** Resolves when probes are answered. Rejects with `invalid-setting`. */
export async function startObserving(options: ObservingOptions): Promise<Observing> {
  const { settings, log, observer, registry } = options;
  const health = new Health(options);
  const isMeasured = registry !== undefined || settings.servesMetrics;
  const metrics = isMeasured
    ? openMetrics({ ...options, version, concurrency: settings.concurrency })
    : undefined;
  const pages: Pages = {
    '/live': () => asPage(health.live()),
    '/ready': () => asPage(health.ready()),
    ...(metrics === undefined ? {} : { '/metrics': () => metrics.page() }),
  };
  const { healthPort: port, healthHost: host, healthFile } = settings;
  const server = port === undefined ? undefined : await servePages(pages, { host, port }, log);
  try {
    const removeFiles = healthFile === undefined ? undefined : await keepHealthFiles(healthFile, health, log);
    return {
      observer: {
        ...observers([health.observer, ...(metrics === undefined ? [] : [metrics.observer]), observer]),
        onMetrics: metrics?.take,
      },
      onBegin: (consumer) => {
        health.begin(consumer);
        metrics?.begin(consumer);
      },
      close: async () => {
        metrics?.end();
        removeFiles?.();
        await server?.close();
      },
    };
  } catch (error) {
    await server?.close();
    throw error;
  }
}

function asPage(report: HealthReport): Page {
  const status = report.status === 'ok' ? 200 : 503;
  return { status, type: 'application/json', body: `${JSON.stringify(report)}\n` };
}
