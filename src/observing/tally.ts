/**
 * What is counted of the consumers of one destination: plain numbers, which cost next to nothing while messages run, and
 * become samples when somebody asks. The one place that names metrics.
 */
import type { ConsumerView } from '../consumer/consumer.js';
import type { ConsumerObserver, ConnectionEvent } from '../consumer/events.js';
import { DURATION_BOUNDS, Numbers } from '../consumer/numbers.js';
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
    return samplesBy(label, this.#numbers);
  }
}

const samplesBy = (label: string, numbers: Iterable<readonly [string, number]>): Sample[] =>
  Array.from(numbers, ([name, value]) => ({ value, labels: { [label]: name } }));

const resultOf = (code: ConnectionEvent['code']): string =>
  code === 'broker-unreachable' ? 'unreachable' : 'refused';

export class Tally {
  readonly #version: string;
  readonly #live = new Set<Live>();
  readonly #numbers = new Numbers();
  readonly #workerEnds = new Counts();
  readonly #connects = new Counts(['connected', 'unreachable', 'refused']);
  readonly #published = new Counts(['confirmed', 'refused', 'unconfirmed']);
  #canarySeconds: number | undefined;
  #broker = '';
  readonly #read: Readonly<Record<MetricName, () => readonly Sample[]>> = {
    pubsub_messages_total: () => samplesBy('outcome', Object.entries(this.#numbers.outcomes)),
    pubsub_dead_letters_total: () => samplesBy('reason', this.#numbers.deadLetters),
    pubsub_redelivered_total: () => one(this.#numbers.redelivered),
    pubsub_callback_duration_seconds: () => histogram('pubsub_callback_duration_seconds', this.#numbers),
    pubsub_in_flight: () => this.#sum(({ view }) => view?.inFlight ?? 0),
    pubsub_concurrency: () => this.#sum(({ concurrency }) => concurrency),
    pubsub_workers: () => this.#sum(({ workers }) => workers),
    pubsub_worker_ends_total: () => this.#workerEnds.samples('reason'),
    pubsub_connected: () => this.#sum(({ isSubscribed }) => Number(isSubscribed)),
    pubsub_connects_total: () => this.#connects.samples('result'),
    pubsub_last_message_timestamp_seconds: () => one(secondsOfEpoch(this.#numbers.lastReceivedMs)),
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
    readonly numbers: Numbers;
    begin(view: ConsumerView): void;
    end(): void;
  } {
    const live: Live = { concurrency, isSubscribed: false, workers: 0 };
    this.#live.add(live);
    return {
      observer: {
        onConnection: (event) => this.#turn(live, event),
        onWorker: ({ kind, reason }) => {
          live.workers += kind === 'ready' ? 1 : reason === 'not-started' ? 0 : -1;
          if (reason !== undefined) this.#workerEnds.add(reason);
        },
        onPublished: ({ result }) => this.#published.add(result),
        onRoundTrip: ({ durationMs }) => (this.#canarySeconds = durationMs / 1000),
      },
      numbers: this.#numbers,
      begin: (view) => (live.view = view),
      end: () => this.#live.delete(live),
    };
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

const secondsOfEpoch = (ms: number | undefined): number | undefined =>
  ms === undefined ? undefined : (performance.timeOrigin + ms) / 1000;

function histogram(name: string, { durations, durationMs }: Numbers): Sample[] {
  let count = 0;
  const upTo = [...DURATION_BOUNDS, '+Inf'].map((le, at): Sample => {
    count += durations[at] ?? 0;
    return { metricName: `${name}_bucket`, labels: { le }, value: count };
  });
  return [
    ...upTo,
    { metricName: `${name}_sum`, labels: {}, value: durationMs / 1000 },
    { metricName: `${name}_count`, labels: {}, value: count },
  ];
}
