/**
 * What the main thread and a worker thread say to each other. Headers travel as JSON and bodies as text of one byte a
 * character: copying two strings costs a third of cloning the objects.
 */
import { reasonOf, type ErrorCode } from '../errors.js';
import { serializeError } from '../log.js';
import type { QueueType } from '../brokers/queues.js';
import type { Outgoing } from '../sending/heads.js';
import type { AbortReason, Gone, Refusal, RunResult, Settlement, Verdict } from './payload.js';
import type { VerdictRing } from './verdicts.js';

/** Given to a thread at its start. */
export interface ThreadData {
  /** `module#export` */
  readonly callback: string;
  readonly logLevel: string;
  readonly queueType: QueueType;
  /** The run whose callback the thread is in the middle of calling, or 0; since when (Date.now); the last one called. */
  readonly calling: Float64Array;
  /** One number: the connection that is open, 0 for none. */
  readonly connection: Float64Array;
  readonly verdicts: VerdictRing;
}

/** `connection` numbers the connections that messages come by. */
export type WireJob = readonly [
  runId: number,
  headers: string,
  body: string,
  correlationId: string,
  connection: number,
];

/** A call of ack() or nack() that the thread cannot answer, with a number by which it is; 0 when it need not be. */
export type WireCall = readonly [
  runId: number,
  call: number,
  verdict: Verdict,
  outgoing: readonly Outgoing[] | undefined,
];

export type WireSettlement = readonly [call: number, settlement: Settlement];

export type ToThread =
  | { readonly kind: 'run'; readonly jobs: readonly WireJob[] }
  | { readonly kind: 'abort'; readonly runId: number; readonly reason: AbortReason }
  | { readonly kind: 'settled'; readonly settlements: readonly WireSettlement[] }
  /** What has not been started is not to be: it comes back as gone. */
  | { readonly kind: 'drain' }
  | { readonly kind: 'stop' };

export type FromThread =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string; readonly error: WireError }
  /** What happened in a turn of the event loop; before it, the verdicts in shared memory. */
  | {
      readonly kind: 'progress';
      readonly calls: readonly WireCall[];
      readonly results: readonly (readonly [runId: number, result: WireResult])[];
    }
  /** The abort was seen: the thread's event loop turns. */
  | { readonly kind: 'aborted'; readonly runId: number }
  | { readonly kind: 'log'; readonly line: string }
  | LastWords;

/** Why a thread ends, told by itself; no `runId`: the code that did it belongs to no message. */
export interface LastWords {
  readonly kind: 'dying';
  readonly runId: number | undefined;
  readonly reason: Refusal;
  readonly detail: string;
  readonly error?: WireError | undefined;
}

export type WireResult =
  Exclude<RunResult, { kind: 'threw' }> | Gone | { readonly kind: 'threw'; readonly error: WireError };

/** An error as its log entry shows it, or anything else that was thrown, as JSON. */
export interface WireError {
  readonly isError: boolean;
  readonly json: string;
}

/** What was thrown, for the other thread; never throws. */
export function encodeError(error: unknown): WireError {
  // What is not like an Error is given back as it is.
  const told = serializeError(error);
  const isError = told !== error;
  const json = stringify(told);
  if (json !== undefined) return { isError, json };
  // Not everything is JSON: of an error there is more to tell than its text.
  const { type, stack } = (isError ? told : {}) as Record<string, unknown>;
  return {
    isError,
    json: JSON.stringify(isError ? { type, message: reasonOf(error), stack } : reasonOf(error)),
  };
}

function stringify(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

/** What was thrown there, as it is logged; an Error of the same name, stack and properties. Never throws. */
export function decodeError({ isError, json }: WireError): unknown {
  const value = JSON.parse(json) as unknown;
  // What an error's own toJSON makes of it may be anything.
  if (!isError || typeof value !== 'object' || value === null) return value;
  const { type, message, stack, ...properties } = value as Record<string, unknown>;
  const name = typeof type === 'string' ? type : 'Error';
  const text = typeof message === 'string' ? message : json;
  const hidden = { configurable: true, enumerable: false, writable: true };
  return Object.defineProperties(Object.assign(new Error(text), properties), {
    name: { ...hidden, value: name },
    stack: { ...hidden, value: typeof stack === 'string' ? stack : `${name}: ${text}` },
    // The log takes the type from it, else from the name.
    constructor: { ...hidden, value: undefined },
  });
}
