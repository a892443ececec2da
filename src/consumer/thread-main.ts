/**
 * The entry file of a worker thread: loads the callback, calls it for each message and tells the main thread what came
 * of it. Results go out together once the event loop has turned; a settlement, a log line and last words go at once, so
 * that nothing a callback did is lost when it ends its thread in the next moment.
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
import {
  encodeError,
  type FromThread,
  type ThreadData,
  type ToThread,
  type WireError,
  type WireJob,
} from './thread-protocol.js';

const { callback: spec, logLevel, queueType, calling } = workerData as ThreadData;
if (parentPort === null) throw new Error('this file is the entry of a worker thread');
const port = parentPort;
const post = (message: FromThread): void => port.postMessage(message);
const exit = process.exit.bind(process);

const running = new Map<number, Invocation>();
const settling = new Map<number, (settlement: Settlement) => void>();
let lastCall = 0;
let results: Extract<FromThread, { kind: 'done' }>['results'][number][] = [];

function flush(): void {
  if (results.length === 0) return;
  post({ kind: 'done', results });
  results = [];
}

function start(callback: LoadedCallback, [runId, headerJson, body, correlationId]: WireJob): void {
  // Names are safe to look up, and __proto__ is one of them.
  const headers = Object.assign(Object.create(null) as object, JSON.parse(headerJson)) as Record<
    string,
    string
  >;
  const message = { headers, raw: Buffer.from(body, 'latin1') };
  calling[0] = runId;
  const settle: Settle = (verdict, outgoing) => {
    const call = ++lastCall;
    post({ kind: 'settle', runId, call, verdict, outgoing });
    return new Promise((resolve) => settling.set(call, resolve));
  };
  const invocation = invoke(callback.call, message, { correlationId, runId }, queueType, settle);
  calling[0] = 0;
  running.set(runId, invocation);
  void invocation.result.then((result) => finish(runId, result));
}

function finish(runId: number, result: RunResult): void {
  running.delete(runId);
  if (results.length === 0) setImmediate(flush);
  results.push([
    runId,
    result.kind === 'threw' ? { kind: 'threw', error: encodeError(result.error) } : result,
  ]);
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
        for (const job of message.jobs) start(callback, job);
        return;
      case 'settled':
        settling.get(message.call)?.(message.settlement);
        settling.delete(message.call);
        return;
      case 'abort':
        running.get(message.runId)?.abort(message.reason);
        post({ kind: 'aborted', runId: message.runId });
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
