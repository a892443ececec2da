/**
 * One message in one queue, stored compactly: its headers as the bytes they go out in, the body beside them, no
 * closure, timer or Map of its own. Bytes are kept as strings with one character per byte ("binary text"), which take
 * a third of a Buffer's space and are written to a socket as they are; large bodies stay Buffers outside of the heap.
 */
import { encodeHead, type Frame, FrameDecoder, type Headers } from '../stomp/frames.js';

/** Where a message was sent: an exchange (the default one is '') and a routing key. Shared by all messages sent there. */
export interface Address {
  readonly exchange: string;
  readonly key: string;
  /** The `destination` line of a MESSAGE sent here, as bytes. */
  readonly line: string;
}

export interface Message {
  /** Its place in the queue, given by the queue. */
  sequence: number;
  readonly address: Address;
  /** The sender's headers, escaped, each with its line end; binary text. */
  readonly head: string;
  readonly body: string | Buffer;
  readonly priority: number;
  /** The sender's `expiration` in milliseconds, or NEVER. */
  readonly ttlMs: number;
  /** How long it is held back before it goes to any queue; 0 for not at all. */
  readonly delayMs: number;
  /** On the queue's clock, or NEVER. */
  expiresAt: number;
  redelivered: boolean;
  /** Queues it died in without being rejected since; RabbitMQ drops a message that comes round to one of them. */
  readonly deaths: Set<string> | undefined;
}

export const NEVER = -1;

/** What the object, its strings and its place in the queue take beside their bytes, measured on Node 20. */
const OVERHEAD_BYTES = 180;
/** Above it a Buffer's own 200 bytes no longer count, and the heap is spared. */
const LARGE_BODY_BYTES = 8192;

/** Text with one character per byte of its UTF-8 form. */
export function binary(text: string): string {
  // eslint-disable-next-line no-control-regex
  return /^[\x00-\x7f]*$/.test(text) ? text : Buffer.from(text).toString('latin1');
}

/** Bytes that no later chunk or view keeps alive, as a message holds them. */
export function storedBody(body: Buffer): string | Buffer {
  return body.length > LARGE_BODY_BYTES ? Buffer.from(body) : body.toString('latin1');
}

/** Header lines as they are echoed to a consumer. */
export function storedHead(headers: Readonly<Record<string, string | undefined>>): string {
  const head = encodeHead('', { ...headers, destination: undefined, 'content-length': undefined });
  // By way of bytes: a string put together by + keeps all its parts alive.
  return Buffer.from(head).toString('latin1', 1, Buffer.byteLength(head) - 1);
}

export function sizeOf({ head, body }: Pick<Message, 'head' | 'body'>): number {
  return head.length + body.length + OVERHEAD_BYTES;
}

/** A copy for one more queue. */
export function copyOf(message: Message): Message {
  return { ...message, deaths: message.deaths && new Set(message.deaths) };
}

/**
 * The message as it goes to a dead-letter address: it cannot expire again, and tells of its first death only. It takes
 * over what the dead one had, which must not be used any more.
 */
export function afterDeath(message: Message, queue: string, reason: DeathReason, address: Address): Message {
  return {
    ...message,
    address,
    head: message.deaths === undefined ? headAfterDeath(message, queue, reason) : message.head,
    ttlMs: NEVER,
    delayMs: 0,
    redelivered: false,
    deaths: reason === 'rejected' ? undefined : (message.deaths ?? new Set<string>()).add(queue),
  };
}

function headAfterDeath(message: Message, queue: string, reason: DeathReason): string {
  const head = message.head.replace(/^expiration:.*\n/m, '');
  const first = /^x-first-death-queue:/m.test(head)
    ? ''
    : storedHead({
        'x-first-death-exchange': message.address.exchange,
        'x-first-death-queue': queue,
        'x-first-death-reason': reason,
      });
  return Buffer.from(head + first, 'latin1').toString('latin1');
}

/** RabbitMQ's words for why a message left its queue for the dead-letter exchange. */
export type DeathReason = 'rejected' | 'expired' | 'maxlen';

/** Headers and body as a consumer would see them, with `destination` and `redelivered` of the broker's own. */
export function readMessage(message: Message): { headers: Headers; body: Buffer } {
  const frames: Frame[] = [];
  const limits = { headerBytes: Infinity, bodyBytes: Infinity };
  const decoder = new FrameDecoder({ strict: true, ...limits }, (frame) => frames.push(frame));
  const { address, redelivered, head, body } = message;
  decoder.push(Buffer.from(`MESSAGE\n${address.line}redelivered:${redelivered}\n${head}\n\0`, 'latin1'));
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : Buffer.from(body);
  return { headers: { ...frames[0]?.headers }, body: bytes };
}
