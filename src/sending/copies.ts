/** What a copy of a message looks like: its body byte for byte, and all that its sender gave it (brokers/headers.ts). */
import { isCopied } from '../brokers/headers.js';
import { existingQueueOf } from '../brokers/queues.js';
import { encodeHeader, encodeHeaders, type Frame, type Headers } from '../stomp/frames.js';
import type { Outgoing } from './heads.js';

/** These stay in any case, whatever the broker's limit. */
const essential = ['correlation-id', 'content-type', 'content-encoding'];

export interface CopyOptions {
  /** The copy goes to a dead-letter queue, or stays in its own, and says where the message came from. */
  readonly keepsDeath?: boolean;
}

/**
 * The header lines of a copy but for its destination and for what is in `without`, which is another's: `most` of them at most,
 * for which the sender's last ones give way. A `content-length` is there beside these only if the message had one or its body
 * needs it: on ActiveMQ it makes the difference between a message of text and one of bytes.
 */
export function copyLines(
  { headers, body }: Frame,
  most: number,
  without: Readonly<Headers>,
  { keepsDeath = false }: CopyOptions,
): string {
  // An object of them would cost as much as to encode them.
  let lines = '';
  let room = most - essential.length;
  for (const name in headers) {
    const value = headers[name] ?? '';
    if (!isCopied(name, value, keepsDeath) || Object.hasOwn(without, name)) continue;
    if (essential.includes(name) || room-- > 0) lines += encodeHeader(name, value);
  }
  const hasLength = headers['content-length'] !== undefined || body.includes(0);
  return hasLength ? `${lines}content-length:${body.length}\n` : lines;
}

/** A copy with headers of its own, which stay; `mostHeaders` is how many the broker takes. */
export function copyOf(
  frame: Frame,
  destination: string,
  own: Headers,
  mostHeaders: number,
  options: CopyOptions = {},
): Outgoing {
  const to = existingQueueOf(destination) === undefined ? { destination } : {};
  const anew = { ...own, persistent: 'true' };
  const most = mostHeaders - Object.keys(own).length;
  const copied = copyLines(frame, most, anew, options);
  const lines = `SEND\n${copied}${encodeHeaders(to)}${encodeHeaders(anew)}`;
  return { destination, lines, body: frame.body };
}
