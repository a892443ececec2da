/** What the text of an ERROR frame means to an operator: what caused it and what to do. */

import type { Diagnosis, Meaning } from '../stomp/session-end.js';

const diagnoses: readonly [pattern: RegExp, isConfiguration: boolean, advice: string, meaning?: Meaning][] = [
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
  [
    /inequivalent arg 'x-queue-type'/,
    true,
    'the queue exists with another type: give all its consumers and publishers the same STOMP_QUEUE_TYPE (--queue-type)',
    'other-queue',
  ],
  [
    /inequivalent arg/,
    true,
    'the queue exists with other arguments: delete it, or declare it everywhere with the arguments named',
    'other-queue',
  ],
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
    'give the user the permission named (RabbitMQ: configure, write and read)',
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
  [/NOT_FOUND/, true, 'create what is missing, or correct the destination'],
  [
    /not a valid (?:\S+ )?destination|Unknown destination/,
    true,
    'correct the destination; a "/" in the name of a queue is written %2F',
  ],
  [/Supported versions are|Invalid Protocol version/, true, 'the broker does not speak STOMP 1.2'],
  [/PRECONDITION_FAILED/, true, 'the broker refuses what was asked: see its text'],
  [/canceled a subscription/, false, 'the queue was deleted: connecting again declares it again'],
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
  return { isConfiguration, advice, ...(meaning === undefined ? {} : { meaning }) };
}
