/** What the text of an ERROR frame means to an operator: what caused it and what to do. */

import type { Diagnosis, Meaning } from '../stomp/session-end.js';

/** The text is that of the ERROR frame. */
type Advice = string | ((text: string) => string);

const diagnoses: readonly [pattern: RegExp, isConfiguration: boolean, advice: Advice, meaning?: Meaning][] = [
  [
    /Access refused for user|User name \[.*\] or password is invalid/,
    true,
    'check STOMP_SERVER_USER and STOMP_SERVER_PASSWORD',
  ],
  [
    // RabbitMQ says the same at a limit of connections (3.10.8).
    /Virtual host .* access denied/,
    true,
    'check STOMP_SERVER_VHOST, that the user may use it, and the max-connections of both (list_user_limits, list_vhost_limits)',
  ],
  [
    /delivery acknowledgement on channel \d+ timed out/,
    false,
    "a callback took longer than RabbitMQ's consumer_timeout: make it faster or raise consumer_timeout; its message runs again",
  ],
  [
    // RabbitMQ newer than 3.10.8, which has no limit: 1024 (source). It says so before it has come to COMMIT.
    /Too many actions in transaction|frames in a transaction/,
    true,
    'send fewer messages in one: publish --lines --transaction-size <number>, at most the limit named',
    'nothing-committed',
  ],
  [/unknown delivery tag|Unexpected ACK/, false, 'a message was settled twice or on another connection'],
  [/inequivalent arg/, true, adviseOnMismatch, 'other-queue'],
  [
    // RabbitMQ 3.10.8 and 4.0.5: a quorum queue has no priorities, a stream no limits in time.
    /invalid arg '[^']*' for queue .* of queue type rabbit_/,
    true,
    ofTypeWithout,
  ],
  [/in exclusive use/, false, 'another consumer has the queue for itself', 'other-queue'],
  [
    /is larger than configured max size|maximum data length was exceeded/,
    true,
    'the message is too large for the broker',
    'too-large',
  ],
  [
    /RESOURCE_LOCKED/,
    true,
    'the queue is exclusive to another connection, or was declared with another STOMP_DEFAULT_EXCLUSIVE_QUEUE',
    'other-queue',
  ],
  [
    /ACCESS_REFUSED|is not authorized|does not have permission/,
    true,
    'give the user the permission named (RabbitMQ: read to consume, write to publish, configure to declare); a queue that is ' +
      'there is used without configure by --no-declare',
  ],
  [
    /already connected from/,
    // The connection of one that was killed or cut off holds it until the broker misses its heart-beats.
    false,
    'another connection has this STOMP_LISTENER_CLIENT_ID: a lost one lets go of it soon; give each process its own',
  ],
  [
    /is down or inaccessible|on queue .* due to timeout/,
    false,
    'the node that holds the queue is down: a quorum queue (--queue-type quorum) would be held by others too',
  ],
  [
    /NOT_FOUND/,
    true,
    'create what is missing, or correct the destination: nothing is declared here, be it for --no-declare or for an operator',
  ],
  [
    /not a valid (?:\S+ )?destination|Unknown destination/,
    true,
    'correct the destination; a "/" in the name of a queue is written %2F',
  ],
  [/Supported versions are|Invalid Protocol version/, true, 'the broker does not speak STOMP 1.2'],
  [/PRECONDITION_FAILED/, true, 'the broker refuses what was asked: see its text'],
  [
    // RabbitMQ 4.3.6 says no more than this at the consumer_timeout of a quorum queue, and has none for classic ones.
    /canceled a subscription/,
    false,
    'the queue was deleted: connecting again declares it again, but for --no-declare; or, from RabbitMQ 4.3 on, a callback ' +
      'took longer than consumer_timeout: make it faster or raise consumer_timeout',
  ],
  [
    // RabbitMQ 4.0.5: its channel dies. 3.10.8 takes longer ones.
    /content_properties_shortstr_overflow/,
    true,
    'a header that is a property in AMQP (correlation-id, reply-to, type, ...) is longer than 255 bytes',
    'too-large',
  ],
  [
    /maximum (?:number of headers|header length)/,
    true,
    'the message has more or longer headers than the broker takes',
    'too-large',
  ],
];

/** What an ERROR frame's text means, or undefined for one that is not known. */
export function diagnose(text: string): Diagnosis | undefined {
  const found = diagnoses.find(([pattern]) => pattern.test(text));
  if (found === undefined) return undefined;
  const [, isConfiguration, advice, meaning] = found;
  return {
    isConfiguration,
    advice: typeof advice === 'string' ? advice : advice(text),
    ...(meaning === undefined ? {} : { meaning }),
  };
}

/**
 * RabbitMQ compares a declaration with the queue and names the first argument that differs, with the value that the queue
 * has. Queues beside the one that is consumed or published to have no arguments that a user could give.
 */
function adviseOnMismatch(text: string): string {
  const [, argument = '', queue = '', current] =
    /arg '([^']*)' for queue '(.*?)' in vhost .*current is (?:the value )?(?:'([^']*)'|none)/.exec(text) ??
    [];
  if (/\.retry\.\d+$/.test(queue)) return 'delete this queue, in which messages wait for their retry';
  const asItIs = 'use it as it is: --no-declare';
  if (argument === 'x-queue-type' && current !== 'stream')
    return `the queue exists with another type: the same STOMP_QUEUE_TYPE (--queue-type) for all who use it, or ${asItIs}`;
  if (queue.startsWith('DLQ.'))
    return `the dead-letter queue exists with other arguments: delete it, or ${asItIs}`;
  const option = optionFor(argument, current);
  return `the queue exists with other arguments: ${option}${option === '' ? '' : ', or '}${asItIs}`;
}

/** There is no queue of this type with this argument. */
function ofTypeWithout(text: string): string {
  const [, argument = '', type = ''] =
    /arg '([^']*)' for queue .* of queue type rabbit_(\w+)_queue/.exec(text) ?? [];
  return `a ${type} queue has no ${argument}: leave it away, or use another --queue-type`;
}

/** The option that makes this argument equal; empty where there is none. */
function optionFor(argument: string, current: string | undefined): string {
  if (!/^x-(?:message-ttl|expires|max-length|max-length-bytes|max-priority)$/.test(argument)) return '';
  return current === undefined
    ? `leave --queue-argument ${argument} away`
    : `--queue-argument ${argument}=${current}`;
}
