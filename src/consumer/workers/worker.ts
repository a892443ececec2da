/**
 * A worker process, from its start to its end: it loads the callback, hands messages to calls.ts, and tells the consumer
 * why it ends, after all that was told before.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import { Worker } from 'node:worker_threads';
import { currentContext } from '../../context.js';
import { PubsubError, reasonOf } from '../../errors.js';
import { log, prepareLog } from '../../log.js';
import { requireOptional } from '../../optional.js';
import { flushSpans } from '../../tracing.js';
import { loadCallback } from '../callback.js';
import { askHealth, tracingOf } from '../invoke.js';
import type { Refusal } from '../payload.js';
import { Calls, createCalling, type OrderedCallback } from './calls.js';
import { FrameReader, type WireFrame } from './frames.js';
import { descriptors } from './descriptors.js';
import { encodeError, type WireError } from '../thrown.js';
import { Outbox } from './outbox.js';
import { printToLog } from './print.js';
import {
  fromWorker,
  isKnownKind,
  toWorker,
  type CallbackOrder,
  type FailureReport,
  type LastWords,
  type LoadOrder,
  type ReadyReport,
  type WatchData,
} from './protocol.js';

export interface Signals {
  /** When the last stop signal came, on performance's clock; -Infinity for never. */
  readonly lastSignalMs: () => number;
}

/** A process that exits so soon after a stop signal does so for it. */
const SIGNAL_MS = 5000;
const exit = process.exit.bind(process);
const outbox = new Outbox(() => exit(1));

/** Serves until it is told to stop, or its consumer is gone. */
export function serve(signals: Signals): void {
  const calling = createCalling();
  watch(calling);
  tellTheEnd(signals);
  let startReceived = (): void => undefined;
  let receive = ({ kind, head }: WireFrame): void => {
    if (kind !== toWorker.load) return;
    const order = JSON.parse(head.toString()) as LoadOrder;
    void start(order).then((loaded) => {
      const calls = new Calls(loaded, outbox, calling);
      startReceived = () => calls.startReceived();
      const tellMetrics = order.tellsMetrics ? createReporter(loaded[0]?.origin?.file) : undefined;
      receive = (frame) => {
        if (frame.kind === toWorker.stop) void stop(loaded, tellMetrics);
        else if (frame.kind === toWorker.metrics) void tellMetrics?.();
        else if (frame.kind === toWorker.healthy) void tellHealth(loaded, frame.number);
        else calls.receive(frame);
      };
      const reports = loaded.map(({ origin, healthy }): ReadyReport => ({
        ...origin,
        hasHealth: healthy !== undefined,
      }));
      outbox.send(fromWorker.ready, 0, JSON.stringify(reports));
      prepareLog();
    });
  };
  let received: WireFrame[] = [];
  const takeReceived = () => {
    const frames = received;
    received = [];
    for (const frame of frames) receive(frame);
    startReceived();
  };
  // Not within onread: a callback that turns the event loop itself, as the package deasync does, would have it read into the
  // same place again.
  const reader = new FrameReader(isKnownKind, (frame) => {
    if (received.push(frame) === 1) setImmediate(takeReceived);
  });
  const onread = {
    buffer: () => reader.place(),
    callback: (bytes: number, place: Uint8Array) => {
      reader.push((place as Buffer).subarray(0, bytes));
      return true;
    },
  };
  // The types of Node 20 do not know of the option that its documentation has.
  const inbox = new Socket({ fd: descriptors.inbox, onread } as SocketConstructorOpts);
  inbox.resume();
  inbox.on('error', () => undefined);
  // Without teardown: the consumer is gone.
  inbox.on('close', () => exit(1));
}

/** Its cost is that of one more isolate; nothing of the user's is loaded there. */
function watch(calling: Float64Array): void {
  const thread = new Worker(new URL('./watch.js', import.meta.url), {
    workerData: { calling, verdicts: outbox.verdicts.memory } satisfies WatchData,
    execArgv: [],
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 },
    name: 'watch',
  });
  thread.unref();
}

async function start({ callbacks, logLevel, isOnlyLoaded }: LoadOrder): Promise<OrderedCallback[]> {
  printToLog(logLevel);
  const load = async (order: CallbackOrder) => {
    const callback = await loadCallback(order.callback);
    return { ...order, ...callback, tracing: tracingOf(callback) };
  };
  const loaded = await allOrExit(callbacks.map(load));
  if (isOnlyLoaded) return loaded.map((one) => ({ ...one, setup: undefined, teardown: undefined }));
  await allOrExit(modulesOf(loaded).map(({ setup }) => setup?.()));
  return loaded;
}

/** Tells of everything that failed, then ends. */
async function allOrExit<T>(work: readonly (T | Promise<T>)[]): Promise<T[]> {
  const results = await Promise.allSettled(work);
  const errors = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  );
  if (errors.length > 0) {
    const [error] = errors;
    const code = error instanceof PubsubError ? error.code : 'callback-not-loadable';
    const message = [...new Set(errors.map(reasonOf))].join('\n');
    const report: FailureReport = { code, message, error: encodeError(error) };
    outbox.send(fromWorker.failed, 0, JSON.stringify(report));
    exit(1);
  }
  return results.map((result) => (result as PromiseFulfilledResult<T>).value);
}

/** One callback of each module: setup() and teardown() are the module's, whichever of its functions are called. */
function modulesOf(loaded: readonly OrderedCallback[]): OrderedCallback[] {
  return [...new Map(loaded.map((callback) => [callback.origin?.file ?? callback, callback])).values()];
}

async function stop(loaded: readonly OrderedCallback[], tellMetrics?: () => Promise<void>): Promise<void> {
  for (const { teardown } of modulesOf(loaded)) {
    try {
      await teardown?.();
    } catch (error) {
      log.error({ err: error }, 'teardown() failed');
    }
  }
  await tellMetrics?.();
  await flushSpans();
  exit(0);
}

async function tellHealth(loaded: readonly OrderedCallback[], which: number): Promise<void> {
  const isHealthy = await askHealth(loaded[which] ?? {});
  outbox.send(fromWorker.healthy, which, JSON.stringify(isHealthy));
}

interface PromClient {
  readonly register: { getMetricsAsJSON(): Promise<readonly unknown[]> };
}

/** Tells what the callback has counted with prom-client so far, if there is one; never rejects. */
function createReporter(callbackFile: string | undefined): () => Promise<void> {
  const client = requireOptional('prom-client', callbackFile) as PromClient | undefined;
  return async () => {
    try {
      const metrics = (await client?.register.getMetricsAsJSON()) ?? [];
      outbox.send(fromWorker.metrics, 0, JSON.stringify(metrics));
    } catch (error) {
      log.warn({ err: error }, 'the metrics of the callback cannot be read');
    }
  };
}

/** An error that nobody catches leaves the process in a state nobody knows: it ends, and another takes over. */
function tellTheEnd({ lastSignalMs }: Signals): void {
  const tell = (reason: Refusal, detail: string, error?: WireError) => {
    const isSignalled = performance.now() - lastSignalMs() < SIGNAL_MS;
    const words: LastWords = { reason, detail, error, isSignalled };
    outbox.send(fromWorker.dying, currentContext()?.runId ?? 0, JSON.stringify(words));
  };
  process.on('uncaughtException', (error, origin) => {
    const isRejection = origin === 'unhandledRejection';
    const detail = isRejection
      ? 'a promise was rejected and nobody awaited it'
      : 'an error escaped the callback';
    tell('callback-crashed', detail, encodeError(error));
    exit(1);
  });
  process.exit = (code) => {
    tell('callback-exited', `the callback called process.exit(${code ?? ''})`);
    return exit(code ?? undefined);
  };
  process.on('exit', () => outbox.flush());
}
