/** Why a session ended, and what that means to whoever it interrupted: told from a transport error or an ERROR frame. */
import { PubsubError, reasonOf, type ErrorCode } from '../errors.js';
import type { Frame } from './frames.js';
import { tlsAdvice, tlsReason } from './misconnections.js';

/**
 * Why a session ended. `closed`: by close(). `abandoned`: we broke it off. `broker`: an ERROR frame, with its text.
 * `unconfirmed`: no receipt in time.
 */
export interface SessionEnd {
  readonly kind: 'closed' | 'abandoned' | 'transport' | 'protocol' | 'broker' | 'timeout' | 'unconfirmed';
  readonly message: string;
  /** errno or TLS code of a transport error. */
  readonly code?: string;
  /** Nothing but a change of settings, or at the broker, cures it. */
  readonly isConfiguration: boolean;
  readonly advice?: string;
  readonly meaning?: Meaning;
  /** For how long nobody should connect again, when that is for a reason. */
  readonly stayAwayMs?: number;
}

/**
 * What an ERROR means to the program itself. `other-queue`: there is a queue of that name, only another one.
 * `nothing-committed`: a COMMIT was refused before any of its frames was carried out. `too-large`: the broker takes no such
 * message anywhere.
 */
export type Meaning = 'other-queue' | 'nothing-committed' | 'too-large';

/** The same as it is given: that waiting may cure it goes without saying. */
export type EndCause = Omit<SessionEnd, 'isConfiguration'> & Partial<Pick<SessionEnd, 'isConfiguration'>>;

/** What the text of an ERROR means on the product that sent it. */
export interface Diagnosis {
  /** Trying again changes nothing until somebody changes a setting or the broker. */
  readonly isConfiguration: boolean;
  readonly advice: string;
  readonly meaning?: Meaning;
}

/** Bodies of ERROR are one line from RabbitMQ and a stack trace from ActiveMQ; a header may be as long as all of a head. */
const MAX_REASON_LENGTH = 4096;

/** What to look at when nothing answers as a STOMP server does. */
const transportAdvice: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: is the broker up, with STOMP on this port?',
  ENOTFOUND: 'is the name of the host right?',
};

/** A session's end as the error of what it interrupted; `code` is for what waiting may cure. */
export function endError(end: EndCause, what: string, code: ErrorCode = 'connection-lost'): PubsubError {
  return new PubsubError(
    end.isConfiguration === true ? 'broker-refused' : code,
    `${what}: ${describeEnd(end)}`,
  );
}

/** In words, with what to do. */
export function describeEnd({ message, advice }: EndCause): string {
  return advice === undefined ? message : `${message} (${advice})`;
}

/** stompit tells its own protocol errors the same way. */
export function transportEnd(error: Error & { code?: string; isProtocolError?: () => boolean }): EndCause {
  if (error.isProtocolError?.() === true) return { kind: 'protocol', message: error.message };
  const { code } = error;
  // Of a name with several addresses, each has failed.
  const message = error instanceof AggregateError ? error.errors.map(reasonOf).join('; ') : error.message;
  if (code === undefined) return { kind: 'transport', message };
  const end = { kind: 'transport', message: message.trim() || code, code } as const;
  const ofTls = tlsAdvice(code);
  if (ofTls !== undefined)
    return { ...end, message: tlsReason(end.message), isConfiguration: true, advice: ofTls };
  const advice = transportAdvice[code];
  return advice === undefined ? end : { ...end, advice };
}

/** RabbitMQ's `message` is generic and its body says why; ActiveMQ's is the reason and its body a Java stack trace. */
export function brokerEnd(frame: Frame, diagnose: (text: string) => Diagnosis | undefined): EndCause {
  const summary = (frame.headers.message ?? 'ERROR').slice(0, MAX_REASON_LENGTH);
  const body = frame.body.subarray(0, MAX_REASON_LENGTH).toString('utf8').trim();
  const isRepeated = body.includes(summary) || /^\s+at |^[\w.]+(?:Exception|Error)\b/m.test(body);
  const text = body === '' || isRepeated ? summary : `${summary}: ${body.replace(/\s+/g, ' ')}`;
  return { kind: 'broker', message: `the broker says ${JSON.stringify(text)}`, ...diagnose(text) };
}
