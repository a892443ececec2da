/**
 * What each command of a logged-in client does, as a table. Hides how STOMP's headers become operations on queues:
 * defaults, ids, ack modes, where a RECEIPT goes and which errors end the connection. Behaviour and texts are those of
 * RabbitMQ 3.10.8 unless a comment says otherwise.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Frame, Headers } from '../stomp/frames.js';
import { declarationOf, flag, integer } from './arguments.js';
import { type Client, declare } from './client.js';
import {
  type Destination,
  destinationOf,
  invalidFor,
  parseDestination,
  virtualTopicOf,
} from './destinations.js';
import type { Queue } from './queue.js';
import { invalid, processingError, queueNotFound, Refusal, requireShort, unknownTag } from './refusal.js';
import { messageOf } from './sends.js';
import { type AckMode, beginningsOf, type Subscription } from './subscription.js';

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
    const receipts = client.channel.commit(transactionOf(frame), (deferred) => messageOf(client, deferred));
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
  const { transaction, receipt } = frame.headers;
  if (transaction !== undefined) client.channel.requireTransaction(transaction);
  if (transaction !== undefined && client.queues.behaviour.defersTransactions === true) {
    client.channel.defer(frame, transaction);
    return;
  }
  const message = messageOf(client, frame);
  if (client.channel.send(message, transaction, receipt)) confirm(client, frame);
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
      ...beginningsOf(id, tag, client.session),
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
  const parsed = parseMessageId(id);
  if (parsed === undefined)
    throw invalid('Invalid header', `"${command}" must include a valid "${idHeader}" header\n`);
  const { tag, session, number } = parsed;
  const subscription = client.channel.subscription(tag);
  if (subscription === undefined)
    throw invalid('Subscription not found', `Message with id "${id}" has no subscription`);
  // RabbitMQ 3.10.8 does not look at the session and settles whatever has that number on this connection: an id kept
  // over a reconnect settles another message. Here it never does.
  if (session !== client.session) throw unknownTag(number);
  const isRequeued = flag(headers, 'requeue') ?? true;
  client.channel.settle(
    {
      tag: number,
      isCumulative: subscription.options.ackMode === 'client',
      settlement: command === 'ACK' ? 'ack' : isRequeued ? 'requeue' : 'reject',
    },
    headers.transaction,
  );
  confirm(client, frame);
}

/** `<subscription>@@<session>@@<number>`, where a subscription's name may contain `@@` itself. */
function parseMessageId(id: string): { tag: string; session: string; number: number } | undefined {
  const last = id.lastIndexOf('@@');
  const first = id.lastIndexOf('@@', last - 2);
  const number = id.slice(last + 2);
  if (first < 1 || !/^\d{1,15}$/.test(number)) return undefined;
  return { tag: id.slice(0, first), session: id.slice(first + 2, last), number: Number(number) };
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
