/**
 * The destinations of RabbitMQ 3.10.8's STOMP, and where a message to them goes. Hides their spelling: bare names,
 * prefixes, `%2F`, and the queue names by which ActiveMQ binds to a virtual topic.
 */
import { type Address, binary } from './message.js';
import { encodeHead, type Frame } from '../stomp/frames.js';
import { invalid, type Refusal, requireShort } from './refusal.js';

export type Destination =
  | { readonly kind: 'queue'; readonly name: string; readonly declares: boolean }
  | { readonly kind: 'topic'; readonly key: string }
  | { readonly kind: 'exchange'; readonly exchange: string; readonly key: string }
  | { readonly kind: 'temp-queue'; readonly name: string };

export const TOPIC_EXCHANGE = 'amq.topic';

const prefixes = [
  '/queue/',
  '/topic/',
  '/amq/queue/',
  '/reply-queue/',
  '/exchange/',
  '/temp-queue/',
] as const;

/** Throws a Refusal for what is no destination. */
export function parseDestination(text: string): Destination {
  if (text === '') throw invalid('Invalid destination', 'Destination cannot be blank');
  if (!text.includes('/')) {
    requireShort('destination', text);
    return { kind: 'queue', name: unescape(text), declares: true };
  }
  const prefix = prefixes.find((candidate) => text.startsWith(candidate));
  if (prefix === undefined) {
    throw invalid(
      'Unknown destination',
      `'${text}' is not a valid destination.\n` +
        'Valid destination types are: /temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n',
    );
  }
  const rest = text.slice(prefix.length);
  const parts = rest.split('/');
  const type = prefix.slice(1, -1);
  if (rest === '' || parts.length > (prefix === '/exchange/' ? 2 : 1)) {
    throw invalid('Invalid destination', `'/${rest}' is not a valid ${type} destination\n`);
  }
  const [name, key] = parts.map(unescape) as [string, string | undefined];
  for (const part of parts) requireShort('destination', part);
  if (prefix === '/topic/') return { kind: 'topic', key: name };
  if (prefix === '/exchange/') return { kind: 'exchange', exchange: name, key: key ?? '' };
  if (prefix === '/temp-queue/') return { kind: 'temp-queue', name: rest };
  return { kind: 'queue', name, declares: prefix === '/queue/' };
}

/** Of a SEND or SUBSCRIBE. Throws a Refusal when it names none. */
export function destinationOf(frame: Frame): Destination {
  const { destination } = frame.headers;
  if (destination === undefined)
    throw invalid('Missing destination', `"${frame.command}" must include a 'destination' header\n`);
  return parseDestination(destination);
}

export function invalidFor({ command, headers }: Frame): Refusal {
  return invalid(
    'Invalid destination',
    `'${headers.destination ?? ''}' is not a valid destination for '${command}'\n`,
  );
}

/** The address of a routing key; its `destination` is the same however the message was sent there (RabbitMQ 3.10.8). */
export function addressOf(exchange: string, key: string): Address {
  const prefix =
    exchange === '' ? '/queue/' : exchange === TOPIC_EXCHANGE ? '/topic/' : `/exchange/${exchange}/`;
  const head = encodeHead('', { destination: prefix + key.replaceAll('/', '%2F') });
  return { exchange, key, line: binary(head.slice(1, -1)), pieces: [''] };
}

/**
 * The topic that a queue of this name collects from on ActiveMQ 5.17.2, or undefined. RabbitMQ binds only by
 * SUBSCRIBE to the topic with `x-queue-name`; here both ways lead to the same queue.
 */
export function virtualTopicOf(queue: string): string | undefined {
  return /^Consumer\.[^.]+\.(VirtualTopic\..+)$/.exec(queue)?.[1];
}

function unescape(part: string): string {
  return part.replaceAll('%2F', '/');
}
