/** What is consumed, by its destination and the settings together, and what follows from it for all that is sent because of it. */
import { parseQueue, parseSource, type Source } from '../brokers/destinations.js';
import type { QueueRules } from '../brokers/queues.js';
import { PubsubError } from '../errors.js';
import type { Settings } from '../settings.js';

/** Throws `invalid-destination`, and `invalid-setting` for settings that make no sense for this destination. */
export function sourceOf(destination: string, settings: Settings): Source {
  const source = parseSource(destination, settings.queueName);
  const isExisting = source.isExisting || !settings.declare;
  if (!isExisting) {
    if (settings.deadLetterQueue === undefined) return source;
    refuse('STOMP_DEAD_LETTER_QUEUE', 'is for queues that others declared: add --no-declare');
  }
  // With --no-declare the settings have been checked themselves.
  if (settings.exclusiveQueue)
    refuse('STOMP_DEFAULT_EXCLUSIVE_QUEUE', 'a queue that is not declared cannot be made exclusive');
  if (Object.keys(settings.queueArguments).length > 0)
    refuse('STOMP_QUEUE_ARGUMENTS', 'arguments are for queues that are declared');
  const { deadLetterQueue = source.deadLetterQueue } = settings;
  const name = parseQueue(deadLetterQueue);
  if (name === source.queue)
    refuse(
      'STOMP_DEAD_LETTER_QUEUE',
      `${name} is the queue that is consumed: its dead letters would come again`,
    );
  return { ...source, isExisting, deadLetterQueue: name, keepsRejected: settings.deadLetterBy === 'nack' };
}

function refuse(variable: string, problem: string): never {
  throw new PubsubError('invalid-setting', `${variable}: ${problem}`);
}

/** For the log: the dead-letter queue, unless only the broker knows it. */
export function deadLetterQueueIn({ deadLetterQueue, keepsRejected }: Source): object {
  return keepsRejected ? {} : { deadLetterQueue };
}

/** How the queues that callbacks publish to come into being: none is declared by who declares not even his own. */
export function rulesOf(source: Source, { queueType, queueArguments }: Settings): QueueRules {
  return { queueType, queueArguments, argumentsOf: source.queue, declare: !source.isExisting };
}
