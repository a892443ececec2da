/**
 * The part of `pubsub check` about what a broker will do for a consumer once it is connected: its queues, its dead letters,
 * its delays, its limits.
 */
import type { Source } from '../brokers/destinations.js';
import {
  CHECK_QUEUE,
  consumerTimeoutOf,
  harmlessDestination,
  type ConsumerTimeout,
} from '../brokers/limits.js';
import { delayQueues, retriesOf } from '../consumer/retries.js';
import { declarationOf } from '../consumer/subscribe.js';
import { PubsubError } from '../errors.js';
import { log } from '../log.js';
import type { Session } from '../sending/connect.js';
import { declareQueues } from '../sending/declare.js';
import { examineBeside } from '../sending/examine.js';
import { requireQueue } from '../sending/existing.js';
import { refusedMessageGoesTo } from '../sending/own-message.js';
import { requireScheduler } from '../sending/scheduler.js';
import type { Settings } from '../settings.js';
import { encodeLines } from '../stomp/frames.js';
import { finding, type Finding } from './check-report.js';

interface BrokerCheck {
  readonly session: Session;
  readonly settings: Settings;
  readonly source: Source;
  readonly isDeclaring: boolean;
  readonly signal: AbortSignal;
}

/** The findings, one after the other. Throws what is no PubsubError. */
export async function* checkBroker(check: BrokerCheck): AsyncGenerator<Finding, void, void> {
  const { dialect } = check.session;
  yield await finding('round trip', () => roundTrip(check));
  yield await finding('queues', () => queues(check));
  if (dialect.delaysByScheduler) {
    yield await finding('dead-letter strategy', () => strategy(check));
    yield await finding('scheduler', () => scheduler(check));
  }
  yield await finding('frame limit', () => frameLimit(check));
  const timeout = consumerTimeoutOf(check.session.server);
  if (timeout !== undefined) yield consumerTimeout(check, timeout);
  yield* advice(check);
}

type Found = Omit<Finding, 'step'>;

async function roundTrip({ session }: BrokerCheck): Promise<Found> {
  const sinceMs = performance.now();
  await session.abort(session.begin());
  return { status: 'ok', detail: `${(performance.now() - sinceMs).toFixed(1)} ms` };
}

async function queues({ session, settings, source, isDeclaring, signal }: BrokerCheck): Promise<Found> {
  const { dialect } = session;
  const delays = delayQueues(retriesOf(source, settings), dialect);
  if (source.isExisting && !isDeclaring) return existingQueues(session, source, signal);
  if (!isDeclaring)
    return notChecked(
      'STOMP cannot tell without declaring or taking',
      'let --declare declare what the start would',
    );
  const own = declarationOf(source, settings, dialect);
  if (own === undefined)
    return notChecked(
      'this subscription goes with its connection, or is bound to it: only a start declares it',
    );
  const all = [...dialect.declarations(source, settings.queueType), ...delays, own];
  const { other } = await declareQueues(session, all, log, signal);
  if (other !== undefined) throw other;
  const names = all.map(({ destination }) => destination.replace(/^\/queue\//, ''));
  return { status: 'ok', detail: `${names.join(', ')} declared` };
}

/** Of others: whether they are there can be told without declaring anything. */
async function existingQueues(session: Session, source: Source, signal: AbortSignal): Promise<Found> {
  const { queue, deadLetterQueue, keepsRejected } = source;
  if (!session.dialect.comparesArguments)
    return notChecked('this broker makes a queue when it is first used');
  const names = keepsRejected ? [queue] : [queue, deadLetterQueue];
  for (const name of names) await requireQueue(session, name, log, signal);
  return { status: 'ok', detail: `${names.join(' and ')}: there, as others declared` };
}

async function strategy({ session, source, signal }: BrokerCheck): Promise<Found> {
  let queue: string | undefined;
  try {
    queue = await refusedMessageGoesTo(session, log, signal);
  } catch (error) {
    if (!(error instanceof PubsubError)) throw error;
    return notChecked(error.message, `let the user use ${CHECK_QUEUE} and DLQ.${CHECK_QUEUE}`);
  }
  if (queue === `DLQ.${CHECK_QUEUE}`)
    return { status: 'ok', detail: `what is refused goes to DLQ.<queue>, as to ${source.deadLetterQueue}` };
  const where = queue === undefined ? 'is lost' : `goes to ${queue}, which all queues share`;
  return {
    status: 'warn',
    code: 'broker-refused',
    detail: `what cannot be copied is refused, and ${where}`,
    remedy: 'set <individualDeadLetterStrategy queuePrefix="DLQ."/> in activemq.xml',
  };
}

async function scheduler({ session, settings, signal }: BrokerCheck): Promise<Found> {
  try {
    await requireScheduler(session, log, signal);
    return { status: 'ok', detail: 'delays messages' };
  } catch (error) {
    if (settings.retries > 0 || !(error instanceof PubsubError) || error.code !== 'broker-refused')
      throw error;
    return { status: 'ok', detail: 'none, and STOMP_RETRIES=0 needs none' };
  }
}

/** RabbitMQ 4 takes frames of 4 MB: beyond that, no copy can be made. */
const PROBE_BYTES = 4 * 1024 * 1024 + 64 * 1024;

async function frameLimit({ session, settings, signal }: BrokerCheck): Promise<Found> {
  const destination = harmlessDestination(session.dialect);
  if (destination === undefined) return notChecked(`unknown for ${session.dialect.name}`);
  const bytes = Math.min(settings.maxMessageBytes, PROBE_BYTES);
  const probe = { destination, lines: encodeLines('SEND', { destination }), body: Buffer.alloc(bytes, 'x') };
  const result = await examineBeside(session, probe, log, signal);
  const size = `${(bytes / 1e6).toFixed(1)} MB`;
  if (result === 'refused') return { status: 'ok', detail: `takes frames of ${size}` };
  if (result === 'unknown') return notChecked('no answer that tells');
  return {
    status: 'warn',
    code: 'broker-refused',
    detail: `no frame of ${size} is taken: such a message could be received, and neither copied nor retried`,
    remedy:
      'raise the limit at the broker (RabbitMQ: stomp.max_frame_size), or lower STOMP_MAX_MESSAGE_BYTES below it',
  };
}

function consumerTimeout(
  { session, settings, source }: BrokerCheck,
  { seconds, isOfQuorumQueues }: ConsumerTimeout,
): Finding {
  const step = 'consumer_timeout';
  const where = isOfQuorumQueues ? ', in quorum queues alone' : '';
  const limit = `${session.server ?? ''} waits ${seconds / 60} minutes for an ACK${where}, unless it is set otherwise`;
  const { timeoutSeconds, holdSeconds, queueType } = settings;
  // Of what kind a queue of others is cannot be seen.
  if (isOfQuorumQueues && queueType !== 'quorum' && !source.isExisting)
    return { step, status: 'ok', detail: limit };
  const problem =
    timeoutSeconds === 0 || timeoutSeconds >= seconds
      ? `STOMP_MESSAGE_TIMEOUT is ${timeoutSeconds === 0 ? 'none' : `${timeoutSeconds} s`}`
      : holdSeconds >= seconds
        ? `STOMP_HOLD_SECONDS is ${holdSeconds}`
        : undefined;
  if (problem === undefined) return { step, status: 'ok', detail: limit };
  return {
    ...{ step, status: 'warn', code: 'invalid-setting', detail: `${limit}, and ${problem}` },
    remedy: 'raise consumer_timeout at the broker, or lower that below it',
  };
}

/** What the consumer would warn of, too. */
function* advice({ session, settings, source }: BrokerCheck): Generator<Finding, void, void> {
  const options = { queueType: settings.queueType, hasRetries: settings.retries > 0 };
  for (const text of session.dialect.warnings(source, options)) {
    const [detail = text, remedy] = text.split(/[:;] (?=rabbitmqctl|consume|--)/);
    const step = remedy?.startsWith('rabbitmqctl') === true ? 'retry policy' : 'topic';
    yield { step, status: 'warn', code: 'broker-refused', detail, remedy };
  }
}

const notChecked = (detail: string, remedy?: string): Found => ({ status: 'not checked', detail, remedy });
