/** The public API. */
import { pino } from 'pino';
import { providePino } from './late-pino.js';

export { consume, type ConsumeOptions } from './consume.js';
export { defineConsumers, type ConsumerDefinition, type ConsumersConfig } from './consumers.js';
export { openPublisher, type PublisherOptions } from './publish.js';
export type { ConsumeSummary } from './consumer/account.js';
export type {
  ConnectionEvent,
  DeadLetterReason,
  Outcome,
  PublishedEvent,
  ReceivedEvent,
  ReleaseReason,
  RoundTripEvent,
  SettledEvent,
  WorkerEndReason,
  WorkerEvent,
} from './consumer/events.js';
export type { Callback, Payload, Settlement } from './consumer/payload.js';
export type { Schema } from './consumer/schema.js';
export { correlationId } from './context.js';
export { errorCodes, exitStatuses, PubsubError, type ErrorCode, type ExitStatus } from './errors.js';
export { log, type Logger } from './log.js';
export type { MetricsRegistry } from './observing/metrics.js';
export type { Settings } from './settings.js';
export type { Abortable } from './sending/giving-up.js';
export type { SendOptions } from './sending/heads.js';
export type { Publisher, TransactionSender } from './sending/publisher.js';

providePino(pino);
