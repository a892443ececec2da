/** What the consumer and a worker process say to each other: the kinds of frames, and what is in them. */
import type { Settings } from '../../settings.js';
import type { ErrorCode } from '../../errors.js';
import { withoutDelay } from '../../brokers/headers.js';
import { readHead, type Headers } from '../../stomp/headers.js';
import type { LostAttempt } from '../../tracing.js';
import type { CallOptions, Refusal, RunResult } from '../payload.js';
import type { Run } from './runs.js';
import type { WireError } from '../thrown.js';

export const toWorker = {
  /** Head: LoadOrder. */
  load: 0x81,
  /** Number of the run; head: see encodeRunHead, and the body. */
  run: 0x82,
  /** Number of the run; head: an AbortReason. */
  abort: 0x83,
  /** Number of the call that is answered; head: a Settlement. */
  settled: 0x84,
  /** Number of the connection that has ended. */
  disconnected: 0x85,
  /** What has not been started is not to be: it comes back as gone. */
  drain: 0x86,
  stop: 0x87,
  /** What does the callback count? */
  metrics: 0x88,
  /** An attempt that ended with its process. Head: LostReport. */
  lost: 0x89,
  /** Is what it needs there? Number of the callback. */
  healthy: 0x8a,
} as const;

export const fromWorker = {
  /** Head: ReadyReport[], of each callback. */
  ready: 0x91,
  /** Head: FailureReport. */
  failed: 0x92,
  /** Of the run, the first time or again. */
  ack: 0x93,
  nack: 0x94,
  /** An ack that publishes. Number of the call; head: ForwardHead, and the bodies. */
  forward: 0x95,
  /** The run was told: the event loop of the worker turns. */
  aborted: 0x96,
  /** It cannot be told, for it was not started. */
  unstarted: 0x97,
  /** Head: ForwardHead without its run, when something was published; and the bodies. */
  returned: 0x98,
  /** Head: WireError. */
  threw: 0x99,
  /** Head: RefusalReport. */
  refused: 0x9a,
  gone: 0x9b,
  /** Last words. Number of the run whose code ends the worker, 0 for that of no message; head: LastWords. */
  dying: 0x9c,
  /** Head: what prom-client has counted there. */
  metrics: 0x9d,
  /** Number of the callback; head: JSON, true or false. */
  healthy: 0x9e,
} as const;

const CORRELATION_ID = 'correlation-id';

const known = new Set<number>([...Object.values(toWorker), ...Object.values(fromWorker)]);
export const isKnownKind = (kind: number): boolean => known.has(kind);

/** A callback to load, and how it is called. */
export interface CallbackOrder extends CallOptions {
  /** `module#export` */
  readonly callback: string;
  /** Whose it is, where there are several. */
  readonly consumer?: string | undefined;
}

export interface LoadOrder {
  readonly callbacks: readonly CallbackOrder[];
  readonly logLevel: Settings['logLevel'];
  /** Is it asked for the metrics of the callback? */
  readonly tellsMetrics: boolean;
  /** Neither setup() nor teardown() is called. */
  readonly isOnlyLoaded: boolean;
}

export interface RunHead {
  readonly correlationId: string;
  /** Which of the callbacks of the LoadOrder it is for. */
  readonly which: number;
  /** Numbers the connections that messages come by. */
  readonly connection: number;
  readonly headers: Headers;
}

/** The header lines go as they came, below a line with the rest: a correlation id that is not among them is JSON there. */
export function encodeRunHead({ job, which }: Pick<Run, 'job' | 'which'>, connection: number): string {
  const { context, headers, lines } = job;
  const isOwn = headers[CORRELATION_ID] === context.correlationId;
  return `${which},${connection}${isOwn ? '' : `,${JSON.stringify(context.correlationId)}`}\n${lines}`;
}

export function readRunHead(text: string): RunHead {
  const { command, headers } = readHead(text, false, 'MESSAGE');
  const comma = command.indexOf(',');
  const quote = command.indexOf('"');
  return {
    which: Number(command.slice(0, comma)),
    // What stands behind it is no part of a number.
    connection: Number.parseInt(command.slice(comma + 1), 10),
    correlationId:
      quote === -1 ? (headers[CORRELATION_ID] ?? '') : (JSON.parse(command.slice(quote)) as string),
    headers: withoutDelay(headers),
  };
}

export type PublishedHead = readonly (readonly [destination: string, lines: string, bodyBytes: number])[];
export interface ForwardHead {
  readonly run: number;
  readonly published: PublishedHead;
}

export interface LostReport extends Omit<LostAttempt, 'error'> {
  readonly which: number;
}

export interface ReadyReport {
  /** The file of the callback, and its time. */
  readonly file?: string | undefined;
  readonly changed?: string | undefined;
  /** There is a healthy() to be asked. */
  readonly hasHealth: boolean;
}

export interface FailureReport {
  readonly code: ErrorCode;
  readonly message: string;
  readonly error: WireError;
}

export type RefusalReport = Pick<Extract<RunResult, { kind: 'refused' }>, 'reason' | 'detail'>;

/** Why a worker ends, told by itself. */
export interface LastWords {
  readonly reason: Refusal;
  readonly detail: string;
  readonly error?: WireError | undefined;
  /** It was told to stop before, by a signal. */
  readonly isSignalled: boolean;
}

/** What the thread that watches shares with the process's own. */
export interface WatchData {
  readonly calling: Float64Array;
  readonly verdicts: SharedArrayBuffer;
}

/** What the thread that watches answers: doubles, in this order. */
export interface Observation {
  /** The run whose callback the worker is in the middle of calling, or 0. */
  readonly calling: number;
  /** For how long, in ms. */
  readonly forMs: number;
  /** The last run that was started. */
  readonly lastStarted: number;
  /** Resident memory, in bytes. */
  readonly residentBytes: number;
}
export const OBSERVATION_BYTES = 32;
