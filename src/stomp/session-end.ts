/** Why a session ended, and what that means to whoever it interrupted: told from a transport error or an ERROR frame. */
import { PubsubError, reasonOf } from '../errors.js';
import { diagnose } from './dialects.js';
import type { Frame } from './frames.js';

/**
 * Why a session ended. `closed`: by close(). `local`: we broke it off. `broker`: an ERROR frame, with its text.
 * `unconfirmed`: no receipt in time.
 */
export interface SessionEnd {
  readonly kind: 'closed' | 'local' | 'transport' | 'protocol' | 'broker' | 'timeout' | 'unconfirmed';
  readonly message: string;
  /** errno or TLS code of a transport error. */
  readonly code?: string;
  /** Nothing but a change of settings, or at the broker, cures it. */
  readonly isConfiguration: boolean;
  readonly advice?: string;
}

/** ERROR bodies are one line from RabbitMQ and a stack trace from ActiveMQ. */
const MAX_REASON_LENGTH = 4096;

/** What to look at when nothing answers as a STOMP server does. */
const transportAdvice: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: is the broker up, with STOMP on this port?',
  ENOTFOUND: 'is the name of the host right?',
};

const certificateErrors = /^(?:CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_|ERR_TLS_|ERR_SSL_|ERR_OSSL_|EPROTO)/;

/** A session's end as the error of what it interrupted. */
export function endError(end: SessionEnd, what: string): PubsubError {
  const code = end.isConfiguration
    ? 'broker-refused'
    : what.startsWith('cannot connect')
      ? 'broker-unreachable'
      : 'connection-lost';
  return new PubsubError(code, `${what}: ${describeEnd(end)}`);
}

/** In words, with what to do. */
export function describeEnd({ message, advice }: SessionEnd): string {
  return advice === undefined ? message : `${message} (${advice})`;
}

/** stompit tells its own protocol errors the same way. */
export function transportEnd(error: Error & { code?: string; isProtocolError?: () => boolean }): SessionEnd {
  if (error.isProtocolError?.() === true)
    return { kind: 'protocol', message: error.message, isConfiguration: false };
  const { code } = error;
  // Of a name with several addresses, each has failed.
  const message = error instanceof AggregateError ? error.errors.map(reasonOf).join('; ') : error.message;
  if (code === undefined) return { kind: 'transport', message, isConfiguration: false };
  const end = { kind: 'transport', message: message.trim() || code, code } as const;
  if (!certificateErrors.test(code)) {
    const known = transportAdvice[code];
    return { ...end, isConfiguration: false, ...(known === undefined ? {} : { advice: known }) };
  }
  const advice = 'check STOMP_USE_SSL, the port and the certificates';
  return { ...end, isConfiguration: true, advice };
}

/** RabbitMQ's `message` is generic and its body says why; ActiveMQ's is the reason and its body a Java stack trace. */
export function brokerEnd(frame: Frame): SessionEnd {
  const summary = frame.headers.message ?? 'ERROR';
  const body = frame.body.subarray(0, MAX_REASON_LENGTH).toString('utf8').trim();
  const isRepeated = body.includes(summary) || /^\s+at |^[\w.]+(?:Exception|Error)\b/m.test(body);
  const text = body === '' || isRepeated ? summary : `${summary}: ${body.replace(/\s+/g, ' ')}`;
  const { isConfiguration = false, advice } = diagnose(text) ?? {};
  const end = {
    kind: 'broker',
    message: `the broker says ${JSON.stringify(text)}`,
    isConfiguration,
  } as const;
  return advice === undefined ? end : { ...end, advice };
}
