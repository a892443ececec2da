/**
 * What each command of a logged-in client does, as a table. Hides how STOMP's headers become operations on queues:
 * defaults, ids, ack modes, where a RECEIPT goes and which errors end the connection. Behaviour and texts are those of
 * RabbitMQ 3.10.8 unless a comment says otherwise.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { encodeHead, type Frame, type Headers } from '../stomp/frames.js';
import { declarationOf, flag, integer } from './arguments.js';
import type { AckMode, Channel, Subscription } from './channel.js';
import {
  addressOf,
  type Destination,
  parseDestination,
  TOPIC_EXCHANGE,
  virtualTopicOf,
} from './destinations.js';
import { type Address, binary, type Message, NEVER, storedBody, storedHead } from './message.js';
import type { Queue } from './queue.js';
import type { Queues } from './queues.js';
import {
  invalid,
  preconditionFailed,
  processingError,
  queueNotFound,
  Refusal,
  requireShort,
  unknownTag,
} from './refusal.js';

/** A logged-in connection, as the commands see it. */
export interface Client {
  readonly version: string;
  readonly session: string;
  readonly user: string;
  readonly queues: Queues;
  readonly channel: Channel;
  receipt(id: string): void;
  error(refusal: Refusal): void;
  /** All that was said is sent, then the connection ends. */
  end(): void;
  subscribed(destination: string, queue: string): void;
}

type Command = (client: Client, frame: Frame) => void;

const commands: Readonly<Record<string, Command>> = {
  SEND: send,
  SUBSCRIBE: subscribe,
  UNSUBSCRIBE: unsubscribe,
  ACK: (client, frame) => settle(client, frame),
  NACK: (client, frame) => settle(client, frame),
  BEGIN: (client, frame) => {
    client.channel.begin(transactionOf(frame));
    confirm(client, frame);
  },
  COMMIT: (client, frame) => {
    const receipts = client.channel.commit(transactionOf(frame));
    confirm(client, frame);
    for (const receipt of receipts) client.receipt(receipt);
  },
  ABORT: (client, frame) => {
    client.channel.abort(transactionOf(frame));
    confirm(client, frame);
  },
  DISCONNECT: (client, frame) => {
    confirm(client, frame);
    client.end();
  },
};

/** Does what the frame asks, or answers with an ERROR frame. */
export function obey(client: Client, frame: Frame): void {
  const command = Object.hasOwn(commands, frame.command) ? commands[frame.command] : undefined;
  try {
    if (command === undefined)
      throw invalid('Bad command', `Could not interpret command "${frame.command}"\n`);
    command(client, frame);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const isSettling = frame.command === 'ACK' || frame.command === 'NACK';
    // The RECEIPT of a SUBSCRIBE, ACK or NACK that ends the connection is sent nevertheless.
    if (error.isFatal && isSettling) confirm(client, frame);
    client.error(error);
    if (error.isFatal && frame.command === 'SUBSCRIBE') confirm(client, frame);
    if (error.isFatal) client.end();
  }
}

function confirm(client: Client, { headers }: Frame): void {
  if (headers.receipt !== undefined) client.receipt(headers.receipt);
}

function send(client: Client, frame: Frame): void {
  const { headers, body } = frame;
  const { transaction, receipt } = headers;
  const destination = destinationOf(frame);
  if (headers['message-id'] !== undefined)
    throw invalid('Invalid header', `'message-id' is not allowed on 'SEND'.\n`);
  if (destination.kind === 'temp-queue') throw invalidFor(frame);
  if (transaction !== undefined) client.channel.requireTransaction(transaction);
  if (headers['user-id'] !== undefined && headers['user-id'] !== client.user) {
    throw preconditionFailed(
      `user_id property set to '${headers['user-id']}' but authenticated user was '${client.user}'`,
    );
  }
  const delayMs = delayOf(headers);
  const message: Message = {
    sequence: 0,
    address: addressFor(client, destination, headers),
    head: storedHead(scheduled(withReplyQueue(client, headers), delayMs)),
    body: storedBody(body),
    priority: Math.max(0, integer(headers, 'priority') ?? 0),
    ttlMs: expirationOf(headers),
    delayMs,
    expiresAt: NEVER,
    redelivered: false,
    deaths: undefined,
  };
  if (client.channel.send(message, transaction, receipt)) confirm(client, frame);
}

/** Declares the queue of a `/queue/`: also inside a transaction, whose ABORT does not undo it. */
function addressFor(
  client: Client,
  destination: Exclude<Destination, { kind: 'temp-queue' }>,
  headers: Readonly<Headers>,
): Address {
  if (destination.kind === 'exchange') client.queues.requireExchange(destination.exchange);
  if (destination.kind === 'queue' && destination.declares) declare(client, destination.name, headers);
  const { addresses } = client.channel;
  const known = addresses.get(headers.destination ?? '');
  if (known !== undefined) return known;
  const address =
    destination.kind === 'queue'
      ? addressOf('', destination.name)
      : addressOf(destination.kind === 'topic' ? TOPIC_EXCHANGE : destination.exchange, destination.key);
  if (addresses.size >= MAX_REMEMBERED) addresses.clear();
  addresses.set(headers.destination ?? '', address);
  return address;
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
  const tag = `T_${replyTo}`;
  const queue = client.channel.subscription(tag)?.queue ?? replyQueue(client, tag, replyTo);
  return { ...headers, 'reply-to': `/reply-queue/${queue.name}` };
}

function replyQueue(client: Client, tag: string, destination: string): Queue {
  const name = `amq.gen-${randomBytes(16).toString('base64url')}`;
  const declaration = { name, isDurable: false, isExclusive: true, isAutoDelete: true, arguments: {} };
  const queue = client.queues.declare(declaration, client.channel);
  const opening = openingOf(destination);
  client.channel.subscribe({ tag, destination, ackMode: 'auto', prefetch: 0, opening }, queue);
  return queue;
}

function subscribe(client: Client, frame: Frame): void {
  const { headers } = frame;
  const { id } = headers;
  requireShort('subscription id', id ?? '');
  const destination = destinationOf(frame);
  if (destination.kind === 'temp-queue') throw invalidFor(frame);
  const ackMode = headers.ack ?? 'auto';
  if (!isAckMode(ackMode)) throw processingError();
  // activemq.prefetchSize is for clients that were written for ActiveMQ; RabbitMQ does not know it.
  const prefetch = integer(headers, 'prefetch-count') ?? integer(headers, 'activemq.prefetchSize');
  const queue = queueFor(client, destination, headers);
  if (prefetch !== undefined) client.channel.lastPrefetch = prefetch;
  const tag = tagOf(headers);
  if (client.channel.subscription(tag) !== undefined) {
    throw new Refusal(
      'Duplicated subscription identifier',
      `A subscription identified by '${tag}' already exists.`,
      true,
    );
  }
  const name = headers.destination ?? '';
  client.subscribed(name, queue.name);
  client.channel.subscribe(
    {
      tag,
      destination: name,
      ackMode,
      prefetch: client.channel.lastPrefetch,
      opening: openingOf(id),
    },
    queue,
  );
  confirm(client, frame);
}

/** Declares and binds what the destination and headers of a SUBSCRIBE ask for. */
function queueFor(
  client: Client,
  destination: Exclude<Destination, { kind: 'temp-queue' }>,
  headers: Readonly<Headers>,
): Queue {
  if (destination.kind === 'queue') {
    const queue = destination.declares
      ? declare(client, destination.name, headers)
      : client.queues.get(destination.name);
    if (queue === undefined) throw queueNotFound(destination.name);
    client.queues.requireAccess(queue, client.channel);
    // The way of ActiveMQ: the name alone binds, as it does not on RabbitMQ.
    const topic = virtualTopicOf(queue.name);
    if (topic !== undefined && destination.declares) client.queues.bind(topic, queue);
    return queue;
  }
  if (destination.kind === 'exchange') client.queues.requireExchange(destination.exchange);
  const queue = client.queues.declare(
    declarationOf(subscriptionQueue(destination.key, headers), 'topic', headers),
    client.channel,
  );
  client.queues.bind(destination.key, queue);
  return queue;
}

/** Arguments are compared on the first use of a name by a connection; a queue that has gone is declared again. */
function declare(client: Client, name: string, headers: Readonly<Headers>): Queue {
  const { declared } = client.channel;
  const known = declared.get(name);
  if (known?.isDeleted === false) return known;
  const queue = client.queues.declare(declarationOf(name, 'queue', headers), client.channel);
  if (declared.size >= MAX_REMEMBERED) declared.clear();
  declared.set(name, queue);
  return queue;
}

/** Destinations that a connection remembers; what is forgotten is worked out again. */
const MAX_REMEMBERED = 1000;

/** `x-queue-name`, or one that a durable subscription finds again by topic and id, or one that nobody else has. */
function subscriptionQueue(topic: string, headers: Readonly<Headers>): string {
  const name = headers['x-queue-name'];
  if (name !== undefined) return name;
  const key = flag(headers, 'durable') === true ? `${topic}$${headers.id ?? ''}` : randomBytes(16);
  return `stomp-subscription-${createHash('sha256').update(key).digest('base64url')}`;
}

function unsubscribe(client: Client, frame: Frame): void {
  const { headers } = frame;
  const { id, destination } = headers;
  if (id === undefined && destination === undefined) {
    throw invalid('Missing destination or id', "UNSUBSCRIBE must include a 'destination' or 'id' header");
  }
  const subscription = client.channel.subscription(tagOf(headers));
  if (subscription === undefined) {
    const which = id === undefined ? `destination='${destination ?? ''}'` : `id='${id}'`;
    throw invalid(
      'No subscription found',
      `UNSUBSCRIBE must refer to an existing subscription.\nSubscription to "${which}" not found.\n`,
    );
  }
  client.channel.unsubscribe(subscription);
  if (flag(headers, 'durable') === true) removeDurable(client, subscription, headers);
  confirm(client, frame);
}

/** `durable:true` on UNSUBSCRIBE removes the queue for good; a named one only with its `x-queue-name` beside it. */
function removeDurable(client: Client, subscription: Subscription, headers: Readonly<Headers>): void {
  const destination = parseDestination(subscription.options.destination);
  if (destination.kind !== 'topic' && destination.kind !== 'exchange') return;
  const queue = client.queues.get(subscriptionQueue(destination.key, headers));
  if (queue !== undefined) client.queues.remove(queue);
}

function settle(client: Client, frame: Frame): void {
  const { command, headers } = frame;
  const idHeader = client.version === '1.2' ? 'id' : 'message-id';
  const id = headers[idHeader];
  if (id === undefined)
    throw invalid('Missing header', `"${command}" must include the "${idHeader}" header\n`);
  const parsed = /^([^]+)@@([^]+)@@(\d{1,15})$/.exec(id);
  if (parsed === null)
    throw invalid('Invalid header', `"${command}" must include a valid "${idHeader}" header\n`);
  const [, tag = '', session, number] = parsed;
  const subscription = client.channel.subscription(tag);
  if (subscription === undefined)
    throw invalid('Subscription not found', `Message with id "${id}" has no subscription`);
  // RabbitMQ 3.10.8 does not look at the session and settles whatever has that number on this connection: an id kept
  // over a reconnect settles another message. Here it never does.
  if (session !== client.session) throw unknownTag(Number(number));
  const isRequeued = flag(headers, 'requeue') ?? true;
  client.channel.settle(
    {
      tag: Number(number),
      isCumulative: subscription.options.ackMode === 'client',
      settlement: command === 'ACK' ? 'ack' : isRequeued ? 'requeue' : 'reject',
    },
    headers.transaction,
  );
  confirm(client, frame);
}

function destinationOf(frame: Frame): Destination {
  const { destination } = frame.headers;
  if (destination === undefined)
    throw invalid('Missing destination', `"${frame.command}" must include a 'destination' header\n`);
  return parseDestination(destination);
}

function invalidFor({ command, headers }: Frame): Refusal {
  return invalid(
    'Invalid destination',
    `'${headers.destination ?? ''}' is not a valid destination for '${command}'\n`,
  );
}

function transactionOf({ command, headers }: Frame): string {
  if (headers.transaction === undefined)
    throw invalid('Missing transaction', `"${command}" must include a 'transaction' header\n`);
  requireShort('transaction', headers.transaction);
  return headers.transaction;
}

function tagOf({ id, destination }: Readonly<Headers>): string {
  return id === undefined ? `Q_${destination ?? ''}` : `T_${id}`;
}

function isAckMode(text: string): text is AckMode {
  return text === 'auto' || text === 'client' || text === 'client-individual';
}

/** How each MESSAGE of a subscription begins; without an id there is no `subscription` header. */
function openingOf(id: string | undefined): string {
  return binary(encodeHead('MESSAGE', { subscription: id }).slice(0, -1));
}
