/**
 * What CONNECT settles: version, login and heart-beats, as a function from its headers to an agreement or a Refusal.
 * Rules and texts are RabbitMQ 3.10.8's; unlike there any `host` is taken, as there is one virtual host only.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Headers } from '../stomp/frames.js';
import { invalid, processingError, Refusal } from './refusal.js';

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

export interface Agreement {
  readonly version: string;
  readonly user: string;
  /** How often the broker promises to send something; 0 for not at all. */
  readonly sendMs: number;
  /** How often the client promises to; 0 for not at all. */
  readonly receiveMs: number;
}

const versions = ['1.2', '1.1', '1.0'];
/** Who is logged in without a login, as on RabbitMQ 3.10.8. */
const DEFAULT_USER = 'guest';

/** STOMP 1.0 allows blanks before a value that are not part of it (RabbitMQ 3.10.8). */
export function trimmed(headers: Readonly<Headers>): Readonly<Headers> {
  const values = Object.create(null) as Headers;
  for (const name in headers) values[name] = (headers[name] ?? '').replace(/^ +/, '');
  return values;
}

/** Throws a Refusal. Without credentials every login is good. */
export function agree(sent: Readonly<Headers>, credentials: Credentials | undefined): Agreement {
  const accepted = (sent['accept-version'] ?? '1.0').split(',').map((version) => version.trim());
  const version = versions.find((candidate) => accepted.includes(candidate));
  if (version === undefined) throw invalid('Version mismatch', 'Supported versions are 1.0,1.1,1.2\n');
  const headers = version === '1.0' ? trimmed(sent) : sent;
  const user = headers.login ?? DEFAULT_USER;
  if (credentials !== undefined) {
    const isUser = isSame(user, credentials.user);
    const isPassword = isSame(headers.passcode ?? '', credentials.password);
    if (!isUser || !isPassword) throw new Refusal('Bad CONNECT', `Access refused for user '${user}'\n`, true);
  }
  const [, receive, send] = /^\s*(\d{1,9})\s*,\s*(\d{1,9})\s*$/.exec(headers['heart-beat'] ?? '0,0') ?? [];
  if (receive === undefined || send === undefined) throw processingError();
  return { version, user, sendMs: wholeSeconds(send), receiveMs: wholeSeconds(receive) };
}

/** RabbitMQ 3.10.8 rounds down to whole seconds, but not below one. */
function wholeSeconds(milliseconds: string): number {
  const ms = Number(milliseconds);
  return ms === 0 ? 0 : Math.max(1000, ms - (ms % 1000));
}

/** Takes the same time wherever the two differ. */
function isSame(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
