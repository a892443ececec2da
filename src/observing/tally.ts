/**
 * What is counted of the consumers of one destination: plain numbers, which cost next to nothing while messages run, and
 * become samples when somebody asks. The one place that names metrics.
 */
import type { ConsumerView } from '../consumer/consumer.js';
import type { ConsumerObserver, ConnectionEvent, SettledEvent } from '../consumer/events.js';
import { droppedLines } from '../log.js';

export type MetricType = 'counter' | 'gauge' | 'histogram';

export interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  /** Where it is not that of its family. */
  readonly metricName?: string;
}

/** One consumer of the destination, while it runs. */
interface Live {
  concurrency: number;
  view?: ConsumerView;
  isSubscribed: boolean;
  workers: number;
}

/** Upper bounds of the durations of callbacks, in seconds: from a cache hit to the default time limit. */
const BOUNDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1500];

class Counts {
  readonly #numbers = new Map<string, number>();

  /** These are told from the start: a rate needs a zero to begin with. */
  constructor(names: readonly string[] = []) {
    for (const name of names) this.#numbers.set(name, 0);
  }

  add(name: string): void {
    this.#numbers.set(name, (this.#numbers.get(name) ?? 0) + 1);
  }

  samples(label: string): Sample[] {
    return [...this.#numbers].map(([name, value]) => ({ value, labels: { [label]: name } }));
  }
}

const resultOf = (code: ConnectionEvent['code']): string =>
  code === 'broker-unreachable' ? 'unreachable' : 'refused';

export class Tally {
  readonly #version: string;
  readonly #live = new Set<Live>();
  readonly #outcomes = new Counts(['acked', 'dead-lettered', 'retried', 'released']);
  readonly #deadLetters = new Counts();
  readonly #workerEnds = new Counts();
  readonly #connects = new Counts(['connected', 'unreachable', 'refused']);
  readonly #published = new Counts(['confirmed', 'refused', 'unconfirmed']);
  readonly #buckets = new Float64Array(BOUNDS.length + 1);
  #durationSeconds = 0;
  #redelivered = 0;
  #lastMessageMs: number | undefined;
  #canarySeconds: number | undefined;
  #broker = '';
  readonly #read: Readonly<Record<MetricName, () => readonly Sample[]>> = {
    pubsub_messages_total: () => this.#outcomes.samples('outcome'),
    pubsub_dead_letters_total: () => this.#deadLetters.samples('reason'),
    pubsub_redelivered_total: () => one(this.#redelivered),
    pubsub_callback_duration_seconds: () =>
      histogram('pubsub_callback_duration_seconds', this.#buckets, this.#durationSeconds),
    pubsub_in_flight: () => this.#sum(({ view }) => view?.inFlight ?? 0),
    pubsub_concurrency: () => this.#sum(({ concurrency }) => concurrency),
    pubsub_workers: () => this.#sum(({ workers }) => workers),
    pubsub_worker_ends_total: () => this.#workerEnds.samples('reason'),
    pubsub_connected: () => this.#sum(({ isSubscribed }) => Number(isSubscribed)),
    pubsub_connects_total: () => this.#connects.samples('result'),
    pubsub_last_message_timestamp_seconds: () =>
      one(this.#lastMessageMs === undefined ? undefined : this.#lastMessageMs / 1000),
    pubsub_canary_seconds: () => one(this.#canarySeconds),
    pubsub_published_total: () => this.#published.samples('result'),
    pubsub_log_lines_dropped_total: () => one(droppedLines()),
    pubsub_info: () => [{ value: 1, labels: { version: this.#version, broker: this.#broker } }],
  };

  constructor(version: string) {
    this.#version = version;
  }

  /** Counts one consumer more, from now on. */
  join(concurrency: number): {
    readonly observer: ConsumerObserver;
    begin(view: ConsumerView): void;
    end(): void;
  } {
    const live: Live = { concurrency, isSubscribed: false, workers: 0 };
    this.#live.add(live);
    return {
      observer: {
        onReceived: ({ isRedelivered }) => {
          this.#lastMessageMs = Date.now();
          if (isRedelivered) this.#redelivered++;
        },
        onSettled: (event) => this.#settle(event),
        onConnection: (event) => this.#turn(live, event),
        onWorker: ({ kind, reason }) => {
          live.workers += kind === 'ready' ? 1 : reason === 'not-started' ? 0 : -1;
          if (reason !== undefined) this.#workerEnds.add(reason);
        },
        onPublished: ({ result }) => this.#published.add(result),
        onRoundTrip: ({ durationMs }) => (this.#canarySeconds = durationMs / 1000),
      },
      begin: (view) => (live.view = view),
      end: () => this.#live.delete(live),
    };
  }

  #settle({ outcome, reason, durationMs }: SettledEvent): void {
    this.#outcomes.add(outcome);
    if (outcome === 'dead-lettered') this.#deadLetters.add(reason ?? 'unknown');
    const seconds = durationMs / 1000;
    let at = 0;
    while (at < BOUNDS.length && seconds > (BOUNDS[at] ?? 0)) at++;
    this.#buckets[at] = (this.#buckets[at] ?? 0) + 1;
    this.#durationSeconds += seconds;
  }

  #turn(live: Live, { kind, code, broker }: ConnectionEvent): void {
    if (kind === 'connected') this.#connects.add('connected');
    if (kind === 'failed') this.#connects.add(resultOf(code));
    if (kind === 'subscribed') live.isSubscribed = true;
    else if (kind !== 'draining') live.isSubscribed = false;
    this.#broker = broker ?? this.#broker;
  }

  /** Of one family, without the destination. */
  samples(family: MetricName): readonly Sample[] {
    return this.#read[family]();
  }

  #sum(of: (live: Live) => number): Sample[] {
    return one([...this.#live].reduce((total, live) => total + of(live), 0));
  }
}

const one = (value: number | undefined): Sample[] => (value === undefined ? [] : [{ value, labels: {} }]);

/** What each metric is, for whoever reads a scrape. */
export const families = {
  pubsub_messages_total: ['counter', 'Attempts at messages that have ended, by outcome.'],
  pubsub_dead_letters_total: ['counter', 'Messages that went to the dead-letter queue, by reason.'],
  pubsub_redelivered_total: ['counter', 'Messages received that had been delivered before.'],
  pubsub_callback_duration_seconds: [
    'histogram',
    'From the start of an attempt until its message was settled and its callback had returned.',
  ],
  pubsub_in_flight: ['gauge', 'Messages in flight.'],
  pubsub_concurrency: ['gauge', 'Messages that may be in flight at once.'],
  pubsub_workers: ['gauge', 'Worker processes that have set the callback up.'],
  pubsub_worker_ends_total: ['counter', 'Worker processes that have ended, by reason.'],
  pubsub_connected: ['gauge', '1 while the subscription stands, else 0.'],
  pubsub_connects_total: ['counter', 'Attempts to connect, by result.'],
  pubsub_last_message_timestamp_seconds: ['gauge', 'When the last message was received.'],
  pubsub_canary_seconds: ['gauge', 'How long the broker took for its last answer.'],
  pubsub_published_total: ['counter', 'Messages that callbacks published, by result.'],
  pubsub_log_lines_dropped_total: ['counter', 'Lines of the log that nobody took in time.'],
  pubsub_info: ['gauge', 'The version of stomp-pubsub, and the broker as it calls itself.'],
} as const satisfies Readonly<Record<string, readonly [type: MetricType, help: string]>>;

export type MetricName = keyof typeof families;

function histogram(name: string, buckets: Float64Array, sum: number): Sample[] {
  let count = 0;
  const upTo = [...BOUNDS, '+Inf'].map((le, at): Sample => {
    count += buckets[at] ?? 0;
    return { metricName: `${name}_bucket`, labels: { le }, value: count };
  });
  return [
    ...upTo,
    { metricName: `${name}_sum`, labels: {}, value: sum },
    { metricName: `${name}_count`, labels: {}, value: count },
  ];
}
