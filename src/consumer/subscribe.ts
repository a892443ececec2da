/** From a session to a subscription: what must be there first, what is asked of the broker, and what the user should know. */
import { checkSubscriptionHeaders } from '../brokers/headers.js';
import { hasWildcard, type Source } from '../brokers/destinations.js';
import type { Dialect, SubscribeOptions } from '../brokers/dialect.js';
import type { Declaration } from '../brokers/queues.js';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Session } from '../sending/connect.js';
import { declareQueues } from '../sending/declare.js';
import { requireQueue } from '../sending/existing.js';
import { requireScheduler } from '../sending/scheduler.js';
import type { Settings } from '../settings.js';
import type { Frame } from '../stomp/frames.js';
import { requireCounting, type CountingOptions } from './deliveries.js';
import { delayQueues, type Retries } from './retries.js';
import type { StreamPosition } from './stream-position.js';

export interface SubscribingOptions {
  readonly source: Source;
  readonly settings: Settings;
  readonly retries: Retries;
  readonly counting: CountingOptions | undefined;
  readonly position: StreamPosition;
  readonly log: Logger;
  /** Aborted: nothing is declared any more. */
  readonly drain: AbortSignal;
}

/**
 * Declares the queues of the source and subscribes. `receive` is told the queues that the broker moves messages to, and
 * gives what takes the messages. Rejects with `broker-refused`, `broker-unreachable`, `connection-lost`, or
 * `invalid-destination` and `invalid-setting` for what this broker has not.
 */
export async function subscribe(
  session: Session,
  { source, settings, retries, counting, position, log, drain }: SubscribingOptions,
  receive: (declarations: readonly Declaration[]) => (frame: Frame) => void,
): Promise<void> {
  const { dialect } = session;
  checkSource(source, dialect);
  checkSubscriptionHeaders(settings.subscribeHeaders, dialect);
  const delays = delayQueues(retries, dialect);
  if (counting !== undefined) requireCounting(counting, dialect);
  if (dialect.delaysByScheduler && retries.attempts > 1) await requireScheduler(session, log, drain);
  const declarations = [...dialect.declarations(source, settings.queueType), ...delays];
  const { other } = await declareQueues(session, declarations, log, drain).catch((error: unknown) => {
    throw source.isExisting ? withoutRetries(error) : error;
  });
  if (other !== undefined) throw other;
  if (source.isExisting && !source.keepsRejected)
    await requireQueue(session, source.deadLetterQueue, log, drain);
  const options = subscribeOptionsOf(settings);
  const given = { ...settings.subscribeHeaders, ...position.resume() };
  const idPrefix = settings.subscriptionId === undefined ? '' : `${settings.subscriptionId}-`;
  const onMessage = receive(declarations);
  const subscribing = sharesOf(options.prefetch, source, dialect).map((prefetch) =>
    session.subscribe(
      { ...given, ...dialect.subscribeHeaders(source, { ...options, prefetch }) },
      idPrefix,
      onMessage,
    ),
  );
  await Promise.all(subscribing);
}

/** The prefetch of each subscription: as many as it takes to have so many messages, where they share what there is. */
function sharesOf(prefetch: number, { kind }: Source, { mostHeld, hasTopicQueues }: Dialect): number[] {
  const isShared = kind !== 'topic' || hasTopicQueues;
  if (!isShared || prefetch <= mostHeld) return [prefetch];
  const whole = Array<number>(Math.floor(prefetch / mostHeld)).fill(mostHeld);
  return prefetch % mostHeld === 0 ? whole : [...whole, prefetch % mostHeld];
}

/**
 * The queue of the source as its subscription would declare it, which gets nothing; undefined where the subscription itself
 * would be left behind, or goes with its connection.
 */
export function declarationOf(source: Source, settings: Settings, dialect: Dialect): Declaration | undefined {
  const options = { ...subscribeOptionsOf(settings), prefetch: 0 };
  const isQueue = source.kind !== 'topic' || dialect.hasTopicQueues;
  if (!isQueue || !dialect.declaresEmptyHanded || !dialect.outlivesItsConnection(source, options))
    return undefined;
  const { destination = '', ...headers } = dialect.subscribeHeaders(source, options);
  return { destination, headers };
}

function checkSource({ destination, queue, kind, isExisting }: Source, dialect: Dialect): void {
  if (kind === 'topic' || isExisting || dialect.hasQueuePatterns || !hasWildcard(queue)) return;
  throw new PubsubError(
    'invalid-destination',
    `cannot consume from ${JSON.stringify(destination)}: ${dialect.name} has no wildcards for queues; ` +
      'name one queue, or consume a /topic/',
  );
}

/** For who may not declare, why a queue is declared all the same. */
function withoutRetries(error: unknown): unknown {
  if (!(error instanceof PubsubError)) return error;
  const why = 'messages wait for their retry in queues that must be declared; STOMP_RETRIES=0 does without';
  return new PubsubError(error.code, `${error.message}; ${why}`, { cause: error });
}

/** Does what is sent to the source wait while nobody is connected? Then a connection may be given up for another. */
export function mayRenew({ dialect }: Session, { source, settings, position }: SubscribingOptions): boolean {
  return !position.isUnknown && dialect.outlivesItsConnection(source, subscribeOptionsOf(settings));
}

/** Warns of what is allowed and may not be meant. */
export function warn({ dialect }: Session, { source, settings, retries, log }: SubscribingOptions): void {
  const facts = { queueType: settings.queueType, hasRetries: retries.attempts > 1 };
  for (const warning of dialect.warnings(source, facts))
    log.warn({ destination: source.destination, queue: source.queue }, warning);
}

function subscribeOptionsOf(settings: Settings): SubscribeOptions {
  const { concurrency, exclusiveQueue, queueType, queueArguments, durableTopicSubscription, clientId } =
    settings;
  return {
    prefetch: concurrency,
    isExclusive: exclusiveQueue,
    queueType,
    queueArguments,
    durableName: durableTopicSubscription ? `${clientId ?? ''}-listener` : undefined,
  };
}
