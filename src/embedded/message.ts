/**
 * One message in one queue, stored compactly: its headers as the bytes they go out in, the body beside them, no
 * closure, timer or Map of its own. Bytes are kept as strings with one character per byte ("binary text"), which take
 * a third of a Buffer's space and are written to a socket as they are; large bodies stay Buffers outside of the heap.
 */
import { encodeHeader, type Frame, FrameDecoder, type Headers } from '../stomp/frames.js';

/** Where a message was sent: an exchange (the default one is '') and a routing key. Shared by messages sent there. */
export interface Address {
  readonly exchange: string;
  readonly key: string;
  /** The `destination` line of a MESSAGE sent here, as bytes. */
  readonly line: string;
  /** What those messages have in their heads; after each piece but the last comes the next line of what is their own. */
  readonly pieces: readonly string[];
}

export interface Message {
  /** Its place in the queue, given by the queue. */
  sequence: number;
  readonly address: Address;
  /** Of the sender's headers what is not in the pieces of the address, escaped, with line ends; binary text. */
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
export const OVERHEAD_BYTES = 180;
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

/** Those that the broker tells itself are not. */
export function isEchoed(name: string): boolean {
  return name !== 'destination' && name !== 'content-length';
}

/** Header lines as they are echoed to a consumer. */
export function storedHead(headers: Readonly<Record<string, string | undefined>>): string {
  let lines = '';
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined && isEchoed(name)) lines += encodeHeader(name, value);
  }
  return stored(lines);
}

/** Binary text by way of bytes: a string that was cut out of others, or put together by +, keeps all of them alive. */
export function stored(text: string): string {
  return Buffer.from(text).toString('latin1');
}

/** The sender's headers, escaped, each with its line end; binary text. */
export function headOf({ address: { pieces }, head }: Message): string {
  let [lines = ''] = pieces;
  let at = 0;
  for (let piece = 1; piece < pieces.length; piece++) {
    const end = head.indexOf('\n', at) + 1;
    lines += head.slice(at, end) + (pieces[piece] ?? '');
    at = end;
  }
  return lines + head.slice(at);
}

/** What is shared counts for each: a hostile sender sees to it that few share it. */
export function sizeOf({ address: { pieces }, head, body }: Message): number {
  let bytes = head.length + body.length + OVERHEAD_BYTES;
  for (const piece of pieces) bytes += piece.length;
  return bytes;
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
    head: message.deaths === undefined ? headAfterDeath(message, queue, reason) : headOf(message),
    ttlMs: NEVER,
    delayMs: 0,
    redelivered: false,
    deaths: reason === 'rejected' ? undefined : (message.deaths ?? new Set<string>()).add(queue),
  };
}

function headAfterDeath(message: Message, queue: string, reason: DeathReason): string {
  const head = headOf(message).replace(/^expiration:.*\n/m, '');
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
  const { address, redelivered, body } = message;
  const head = `${address.line}redelivered:${redelivered}\n${headOf(message)}`;
  decoder.push(Buffer.from(`MESSAGE\n${head}\n\0`, 'latin1'));
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : Buffer.from(body);
  return { headers: { ...frames[0]?.headers }, body: bytes };
}
