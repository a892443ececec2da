/**
 * A program instead of a function: one process for each message, its body on stdin, its headers in the environment, and
 * the exit status as the verdict. Each leads a process group of its own, so that a stop of ours is not taken for its own and
 * that what it started ends with it. Its span is recorded here, and what it records itself is below that.
 */
import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, statSync } from 'node:fs';
import { constants as system } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { environmentOf } from './program-environment.js';
import type { MessageContext } from '../context.js';
import { PubsubError, reasonOf } from '../errors.js';
import { environmentForPrograms } from '../settings/dotenv.js';
import { Slots } from '../slots.js';
import { traceFields, traceHeadersOf } from '../trace-context.js';
import { currentTracing, flushSpans, type Failure } from '../tracing.js';
import type { Gone, RunResult } from './payload.js';
import { GRACE_MS, type CallbackRunner, type Job, type RunnerOptions } from './runner.js';
import { watchLimit, type Timed } from './time-limit.js';
import { isStopping, isStopSignal } from './workers/end.js';
import { WorkerOutput } from './workers/output.js';
import { killGroup } from './workers/spawn.js';

export interface ProgramOptions extends RunnerOptions {
  /** The program and its arguments. */
  readonly command: readonly [string, ...string[]];
  readonly drain: AbortSignal;
}

/** EX_DATAERR of sysexits.h: the message is bad, and no other attempt makes it better. */
const DEAD_LETTER = 65;
/** How long what a program printed is read after its end: what it started may hold its pipes. */
const LAST_READING_MS = 1000;
/** What programs have, once they are told that the graceful wait is over, before they are killed. */
const LAST_MOMENT_MS = 250;

interface Running extends Timed {
  readonly child: ChildProcess;
}

interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  readonly entry: Running;
  readonly place: number;
}

interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Throws `callback-not-found` and `callback-not-loadable` when there is nothing to run. */
export function startProgramRunner(options: ProgramOptions): CallbackRunner {
  checkProgram(options.command[0]);
  return new ProgramRunner(options);
}

class ProgramRunner implements CallbackRunner {
  readonly #options: ProgramOptions;
  readonly #running = new Slots<Running>();
  readonly #endLimit: () => void;
  readonly #onExit = () => this.#kill('SIGKILL');

  constructor(options: ProgramOptions) {
    this.#options = options;
    this.#endLimit = watchLimit(this.#running, options.timeoutMs, ({ child }) => {
      killGroup(child, 'SIGTERM');
      setTimeout(() => killGroup(child), GRACE_MS).unref();
    });
    options.abort.addEventListener('abort', () => this.#kill('SIGTERM'), { once: true });
    process.once('exit', this.#onExit);
  }

  run(job: Job, done: (result: RunResult | Gone) => void): void {
    const { headers, raw, context } = job;
    const span = currentTracing()?.process(this.#options.traced, headers, raw.length);
    const trace = span?.headers ?? traceHeadersOf(headers);
    const conclude = (result: RunResult | Gone) => {
      done(result);
      span?.end(failureOf(result));
    };
    this.#run(job, { ...context, trace }).then(conclude, (error: unknown) =>
      conclude({ kind: 'threw', error }),
    );
  }

  async #run(job: Job, context: MessageContext): Promise<RunResult | Gone> {
    const { command, log } = this.#options;
    job.setHeld(false);
    const { env, omitted } = environmentOf({ headers: job.headers, context });
    if (omitted.length > 0) {
      const { trace, ...own } = context;
      const fields = { headers: omitted, ...own, ...traceFields(trace?.traceparent) };
      log.warn(fields, 'headers that are too long are not in the environment of the program');
    }
    let started: Started;
    try {
      started = await this.#start(command, env);
    } catch (error) {
      return { kind: 'gone', fatal: notStarted(command[0], error) };
    }
    const { child, entry, place } = started;
    // It may end before it has read everything.
    child.stdin.on('error', () => undefined).end(job.raw);
    try {
      return await this.#conclude(job, context, entry, child);
    } finally {
      this.#running.remove(place);
    }
  }

  /** It is among those that are killed from the moment on at which it may run. */
  async #start([program, ...args]: ProgramOptions['command'], env: NodeJS.ProcessEnv): Promise<Started> {
    const child = spawn(program, args, { env, detached: true });
    const entry: Running = { child, startMs: performance.now(), isOverdue: false };
    const place = this.#running.add(entry);
    try {
      await once(child, 'spawn');
      return { child, entry, place };
    } catch (error) {
      this.#running.remove(place);
      throw error;
    }
  }

  async #conclude(
    job: Job,
    context: MessageContext,
    entry: Running,
    child: ChildProcessWithoutNullStreams,
  ): Promise<RunResult | Gone> {
    const output = new WorkerOutput({ program: child.pid }, child, () => context);
    const [code, signal] = (await once(child, 'exit')) as [End['code'], End['signal']];
    if (code === 0) await job.ack();
    // What it started and left behind does not outlive its failure.
    else killGroup(child);
    await Promise.race([output.ended, delay(LAST_READING_MS, undefined, { ref: false })]);
    for (const stream of [child.stdout, child.stderr]) stream.destroy();
    if (code === 0) return { kind: 'returned' };
    if (await this.#wasStopped({ code, signal }, entry)) return { kind: 'gone' };
    return this.#judge({ code, signal }, entry, output.lastError);
  }

  #judge({ code, signal }: End, { isOverdue }: Running, lastError: string): RunResult {
    const name = path.basename(this.#options.command[0]);
    const said = lastError === '' ? '' : `: ${lastError}`;
    if (isOverdue) {
      const limit = `its time limit of ${this.#options.timeoutMs / 1000} s`;
      return { kind: 'refused', reason: 'timeout', detail: `${name} was ended at ${limit}${said}` };
    }
    const end = signal === null ? `ended with status ${code ?? 'unknown'}` : `was ended by ${signal}`;
    const message = `${name} ${end}${said}`;
    if (code === DEAD_LETTER) return { kind: 'refused', reason: 'nack', detail: message };
    return { kind: 'threw', error: new ProgramFailed(message, String(signal ?? code)) };
  }

  /** A program that took the stop of the consumer for its own, or was told that the graceful wait is over. */
  async #wasStopped({ code, signal }: End, { isOverdue }: Running): Promise<boolean> {
    const { drain, abort } = this.#options;
    if (abort.aborted) return true;
    const name = signal ?? signalOfStatus(code);
    return !isOverdue && isStopSignal(name) && (await isStopping(drain));
  }

  async close(): Promise<void> {
    this.#endLimit();
    process.removeListener('exit', this.#onExit);
    if (this.#running.size > 0) await this.#giveUp();
    if (!this.#options.abort.aborted) await flushSpans();
  }

  /** The graceful wait is over, or the consumer failed. */
  async #giveUp(): Promise<void> {
    this.#kill('SIGTERM');
    await delay(LAST_MOMENT_MS);
    const ended = this.#running.entries().map(([, { child }]) => once(child, 'close'));
    this.#kill('SIGKILL');
    // Their spans end then.
    await Promise.race([Promise.all(ended), delay(LAST_MOMENT_MS, undefined, { ref: false })]);
  }

  #kill(signal: NodeJS.Signals): void {
    for (const [, { child }] of this.#running.entries()) killGroup(child, signal);
  }
}

/** Named so in the log and in the headers of a dead letter. */
class ProgramFailed extends Error {
  override readonly name = 'ProgramFailed';
  /** Its exit status, or the signal that ended it. */
  readonly end: string;

  constructor(message: string, end: string) {
    super(message);
    this.end = end;
    // Where this was made tells nothing about the program.
    this.stack = `${this.name}: ${message}`;
  }
}

/** For its span: by exit status or signal where that was the verdict. */
function failureOf(result: RunResult | Gone): Failure | undefined {
  switch (result.kind) {
    case 'returned':
      return undefined;
    case 'refused':
      return { type: result.reason, detail: result.detail };
    case 'threw': {
      const { error } = result;
      return { type: error instanceof ProgramFailed ? error.end : 'unknown', detail: reasonOf(error) };
    }
    case 'gone':
      return { type: result.fatal?.code ?? 'stopped', detail: result.fatal?.message };
  }
}

/** Of a shell whose command died by a signal. */
function signalOfStatus(code: number | null): NodeJS.Signals | null {
  const names = Object.entries(system.signals) as [NodeJS.Signals, number][];
  return names.find(([, number]) => code === 128 + number)?.[0] ?? null;
}

function notStarted(program: string, error: unknown): PubsubError {
  const { code } = error as NodeJS.ErrnoException;
  const isScript = code === 'ENOEXEC' || code === 'ENOENT';
  const hint = isScript ? '; is it there, and does its first line name what runs it, like #!/bin/sh?' : '';
  return new PubsubError('callback-not-loadable', `${program} cannot be started: ${reasonOf(error)}${hint}`, {
    cause: error,
  });
}

/** Looked for as the system looks for it: by its path, or in the folders of PATH. */
function checkProgram(program: string): void {
  const isPath = program.includes('/');
  const folders = isPath ? [''] : (environmentForPrograms().PATH ?? '').split(':');
  const found = folders
    .map((folder) => path.join(folder, program))
    .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile() === true);
  if (found.length === 0) {
    const where = isPath ? path.resolve(program) : 'in PATH; write a path like ./job.sh';
    const told = where === program ? program : `${program} (${where})`;
    throw new PubsubError('callback-not-found', `there is no program ${told}`);
  }
  if (!found.some(isExecutable))
    throw new PubsubError(
      'callback-not-loadable',
      `${program} is not executable: chmod +x ${found[0] ?? program}`,
    );
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
