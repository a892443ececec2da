/**
 * The entry file of a worker thread: loads the callback, calls it for each message and tells the main thread what came
 * of it, together once a turn of the event loop; a log line and last words go at once, and these after all that came
 * before them.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { currentContext } from '../context.js';
import { PubsubError, reasonOf } from '../errors.js';
import { bridgeConsole, log, redirectLog } from '../log.js';
import { loadCallback } from './callback.js';
import {
  invoke,
  type Invocation,
  type LoadedCallback,
  type Refusal,
  type RunResult,
  type Settle,
  type Settlement,
} from './payload.js';
import { Slots } from '../slots.js';
import {
  encodeError,
  type FromThread,
  type ThreadData,
  type ToThread,
  type WireError,
  type WireCall,
  type WireJob,
} from './thread-protocol.js';
import { VerdictWriter } from './verdicts.js';

const {
  callback: spec,
  logLevel,
  queueType,
  calling,
  connection: open,
  verdicts: ring,
} = workerData as ThreadData;
if (parentPort === null) throw new Error('this file is the entry of a worker thread');
const port = parentPort;
const post = (message: FromThread): void => port.postMessage(message);
const exit = process.exit.bind(process);

const running = new Slots<{ readonly runId: number; readonly invocation: Invocation }>();
const settling = new Slots<(settlement: Settlement) => void>();
const verdicts = new VerdictWriter(ring);
const SLICE_MS = 5;
/** Received and not started. */
const jobs: WireJob[] = [];
let calls: WireCall[] = [];
let results: Extract<FromThread, { kind: 'progress' }>['results'][number][] = [];
let isFlushing = false;

function flushSoon(): void {
  if (!isFlushing) setImmediate(flush);
  isFlushing = true;
}

function flush(): void {
  isFlushing = false;
  post({ kind: 'progress', calls, results });
  calls = [];
  results = [];
}

function start(
  callback: LoadedCallback,
  [runId, headerJson, body, correlationId, connection]: WireJob,
): void {
  // Names are safe to look up, and __proto__ is one of them.
  const headers = Object.assign(Object.create(null) as object, JSON.parse(headerJson)) as Record<
    string,
    string
  >;
  const message = { headers, raw: Buffer.from(body, 'latin1') };
  calling[1] = Date.now();
  calling[2] = runId;
  calling[0] = runId;
  let isSettled = false;
  const settle: Settle = (verdict, outgoing) => {
    flushSoon();
    if (isSettled) {
      calls.push([runId, 0, verdict, undefined]);
      return Promise.resolve('already-settled');
    }
    isSettled = true;
    if (outgoing === undefined && open[0] === connection) {
      verdicts.write(runId, verdict);
      return Promise.resolve('sent');
    }
    return new Promise((resolve) => calls.push([runId, settling.add(resolve), verdict, outgoing]));
  };
  const invocation = invoke(callback.call, message, { correlationId, runId }, queueType, settle);
  calling[0] = 0;
  const place = running.add({ runId, invocation });
  void invocation.result.then((result) => {
    isSettled = true;
    finish(runId, place, result);
  });
}

function finish(runId: number, place: number, result: RunResult): void {
  running.remove(place);
  flushSoon();
  results.push([
    runId,
    result.kind === 'threw' ? { kind: 'threw', error: encodeError(result.error) } : result,
  ]);
}

/** Those that take their time are started with a turn of the event loop between them, so that others settle meanwhile. */
function startJobs(callback: LoadedCallback): void {
  const sinceMs = performance.now();
  for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
    start(callback, job);
    if (jobs.length > 0 && performance.now() - sinceMs > SLICE_MS) {
      setImmediate(() => startJobs(callback));
      return;
    }
  }
}

async function stop({ teardown }: LoadedCallback): Promise<void> {
  try {
    await teardown?.();
  } catch (error) {
    log.error({ err: error }, 'teardown() failed');
  }
  exit(0);
}

function listen(callback: LoadedCallback): void {
  port.on('message', (message: ToThread) => {
    switch (message.kind) {
      case 'run':
        jobs.push(...message.jobs);
        if (jobs.length === message.jobs.length) startJobs(callback);
        return;
      case 'settled':
        for (const [call, settlement] of message.settlements) {
          settling.get(call)?.(settlement);
          settling.remove(call);
        }
        return;
      case 'abort':
        for (const [, { runId, invocation }] of running.entries()) {
          if (runId === message.runId) invocation.abort(message.reason);
        }
        post({ kind: 'aborted', runId: message.runId });
        return;
      case 'drain':
        for (const [runId] of jobs.splice(0)) results.push([runId, { kind: 'gone' }]);
        flushSoon();
        return;
      case 'stop':
        void stop(callback);
        return;
    }
  });
}

/** Tells why the thread ends, after all that it has done. */
function tellEnd(reason: Refusal, detail: string, error?: WireError): void {
  flush();
  post({ kind: 'dying', runId: currentContext()?.runId, reason, detail, error });
}

/** An error that nobody catches leaves the thread in a state nobody knows: it ends, and another takes over. */
process.on('uncaughtException', (error, origin) => {
  const isRejection = origin === 'unhandledRejection';
  const detail = isRejection
    ? 'a promise was rejected and nobody awaited it'
    : 'an error escaped the callback';
  tellEnd('callback-crashed', detail, encodeError(error));
  exit(1);
});
process.exit = (code) => {
  tellEnd('callback-exited', `the callback called process.exit(${code ?? ''})`);
  return exit(code ?? undefined);
};
redirectLog((line) => post({ kind: 'log', line }), logLevel);
bridgeConsole();

try {
  const callback = await loadCallback(spec);
  await callback.setup?.();
  listen(callback);
  post({ kind: 'ready' });
} catch (error) {
  const code = error instanceof PubsubError ? error.code : 'callback-not-loadable';
  post({ kind: 'failed', code, message: reasonOf(error), error: encodeError(error) });
  exit(1);
}
