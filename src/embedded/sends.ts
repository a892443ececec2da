/**
 * What a SEND becomes: a message, its queue declared. Hides the headers that say when it runs out, how long it is held
 * back and where an answer goes. Behaviour and texts are those of RabbitMQ 3.10.8 unless a comment says otherwise.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Frame, Headers } from '../stomp/frames.js';
import { integer } from './arguments.js';
import { type Client, declare, MAX_REMEMBERED } from './client.js';
import { addressOf, type Destination, destinationOf, invalidFor, TOPIC_EXCHANGE } from './destinations.js';
import { Heads } from './heads.js';
import { type Message, NEVER, storedBody } from './message.js';
import type { Queue } from './queue.js';
import { invalid, preconditionFailed, requireShort } from './refusal.js';
import { beginningsOf } from './subscription.js';

/** What a SEND asks for, its queue declared. Throws a Refusal. */
export function messageOf(client: Client, frame: Frame): Message {
  const { headers, body } = frame;
  const destination = destinationOf(frame);
  if (headers['message-id'] !== undefined)
    throw invalid('Invalid header', `'message-id' is not allowed on 'SEND'.\n`);
  if (destination.kind === 'temp-queue') throw invalidFor(frame);
  if (headers['user-id'] !== undefined && headers['user-id'] !== client.user) {
    throw preconditionFailed(
      `user_id property set to '${headers['user-id']}' but authenticated user was '${client.user}'`,
    );
  }
  const delayMs = delayOf(headers);
  const heads = headsFor(client, destination, headers);
  const { address, head } = heads.store(scheduled(withReplyQueue(client, headers), delayMs));
  return {
    sequence: 0,
    address,
    head,
    body: storedBody(body),
    priority: Math.max(0, integer(headers, 'priority') ?? 0),
    ttlMs: expirationOf(headers),
    delayMs,
    expiresAt: NEVER,
    redelivered: false,
    deaths: undefined,
  };
}

/** Declares the queue of a `/queue/`: also inside a transaction, whose ABORT does not undo it. */
function headsFor(
  client: Client,
  destination: Exclude<Destination, { kind: 'temp-queue' }>,
  headers: Readonly<Headers>,
): Heads {
  if (destination.kind === 'exchange') client.queues.requireExchange(destination.exchange);
  if (destination.kind === 'queue' && destination.declares) declare(client, destination.name, headers);
  const { heads } = client.channel;
  const known = heads.get(headers.destination ?? '');
  if (known !== undefined) return known;
  const address =
    destination.kind === 'queue'
      ? addressOf('', destination.name)
      : addressOf(destination.kind === 'topic' ? TOPIC_EXCHANGE : destination.exchange, destination.key);
  const made = new Heads(address);
  if (heads.size >= MAX_REMEMBERED) heads.clear();
  heads.set(headers.destination ?? '', made);
  return made;
}

function expirationOf(headers: Readonly<Headers>): number {
  const { expiration } = headers;
  if (expiration === undefined) return NEVER;
  if (!/^\d{1,15}$/.test(expiration))
    throw preconditionFailed(`invalid expiration '${expiration}': no_integer`);
  return Number(expiration);
}

/** RabbitMQ has no such thing. What was delayed already is not delayed again, like on ActiveMQ 5.17. */
function delayOf(headers: Readonly<Headers>): number {
  const delayMs = integer(headers, 'AMQ_SCHEDULED_DELAY') ?? 0;
  return headers.scheduledJobId === undefined ? Math.max(0, delayMs) : 0;
}

/** ActiveMQ's headers of a message that has been delayed. */
function scheduled(
  headers: Readonly<Headers>,
  delayMs: number,
): Readonly<Record<string, string | undefined>> {
  return delayMs === 0
    ? headers
    : { ...headers, AMQ_SCHEDULED_DELAY: undefined, scheduledJobId: randomUUID() };
}

/** `reply-to:/temp-queue/x` makes a queue of this connection, consumes from it and tells others where it is. */
function withReplyQueue(client: Client, headers: Readonly<Headers>): Readonly<Headers> {
  const { 'reply-to': replyTo } = headers;
  if (replyTo?.startsWith('/temp-queue/') !== true) return headers;
  requireShort('reply-to', replyTo);
  const tag = `T_${replyTo}`;
  const queue = client.channel.subscription(tag)?.queue ?? replyQueue(client, tag, replyTo);
  return { ...headers, 'reply-to': `/reply-queue/${queue.name}` };
}

function replyQueue(client: Client, tag: string, destination: string): Queue {
  const name = `amq.gen-${randomBytes(16).toString('base64url')}`;
  const declaration = { name, isDurable: false, isExclusive: true, isAutoDelete: true, arguments: {} };
  const queue = client.queues.declare(declaration, client.channel);
  const beginnings = beginningsOf(destination, tag, client.session);
  client.channel.subscribe({ tag, destination, ackMode: 'auto', prefetch: 0, ...beginnings }, queue);
  return queue;
}
