/**
 * The commands as their users run them: `bin/*.js` in a process of its own. Hides the clean environment (nothing of the
 * caller's settings gets in), collecting what is printed, and that none outlives its test.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { type Fatal, fatalText } from '../../src/log.js';
import { keepGroup, releaseGroup } from './keeper.js';
import { type Said, says } from './log-lines.js';
import { until, within } from './until.js';

/** The folder of package.json. Compiled tests are in dist/test/. */
export const packageRoot = join(import.meta.dirname, '../../..');

export interface RunOptions {
  /** Added to PATH and HOME; an undefined one is left out. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The package root when left out. */
  readonly cwd?: string;
  /** Written to stdin, which is then closed; without it stdin is at its end at once. null keeps it open for the test. */
  readonly input?: string | Uint8Array | null;
  /** Flags of Node itself, before the file. */
  readonly nodeFlags?: readonly string[];
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Starting a Node process on a busy machine, with a broker to reach, and more. */
const DEADLINE_MS = 30_000;

export class Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly pid: number;
  /** When it has ended and all of its output has been read. */
  readonly exited: Promise<Exit>;
  /** Everything printed so far. */
  stdout = '';
  #stderr = '';
  #exit: Exit | undefined;

  constructor(child: ChildProcessWithoutNullStreams) {
    this.child = child;
    this.pid = child.pid!;
    child.stdout.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text));
    // It may end before it has read all of its input.
    child.stdin.on('error', () => undefined);
    this.exited = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
  }

  /** Everything printed so far; a last, fatal line of JSON as a terminal shows it, which is what people are told. */
  get stderr(): string {
    return this.#stderr.replace(/^\{"level":"fatal",.*\}$/gm, (line) => {
      const { msg, err, ...fatal } = JSON.parse(line) as Fatal & { msg: string; err?: { stack: string } };
      return fatalText({ ...fatal, message: err === undefined ? msg : `${msg}\n${err.stack}` });
    });
  }

  /** Frees what it printed to stderr; a line that is not complete is kept. */
  forgetLines(): void {
    this.#stderr = this.#stderr.slice(this.#stderr.lastIndexOf('\n') + 1);
  }

  /** Resolves with the first match in stdout or stderr. Rejects at the deadline and when it ends without one. */
  async waitFor(pattern: RegExp, deadlineMs = DEADLINE_MS): Promise<RegExpExecArray> {
    const find = () => pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
    const found = await until(
      () => find() ?? (this.#exit && 'exited'),
      deadlineMs,
      () => `${String(pattern)} in ${this.#output()}`,
    );
    if (found === 'exited') throw new Error(`it ended before ${String(pattern)} in ${this.#output()}`);
    return found;
  }

  /** `exited`, or a rejection at the deadline with what was printed. */
  exit(deadlineMs = DEADLINE_MS): Promise<Exit> {
    return within(this.exited, deadlineMs, () => `the end of ${this.#output()}`);
  }

  /** The signal goes to the process alone, not to its children. */
  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** stderr as the JSON lines it should be; lines that are none are left out. */
  get logLines(): Record<string, unknown>[] {
    return this.#stderr
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** The lines of its log that say this. */
  said(what: Said): Record<string, unknown>[] {
    return this.logLines.filter((line) => says(line, what));
  }

  /** Resolves with the last of so many lines that say this. Rejects at the deadline and when it ends without them. */
  async says(what: Said, times = 1): Promise<Record<string, unknown>> {
    const found = await until(
      () => this.said(what)[times - 1] ?? (this.#exit && 'exited'),
      DEADLINE_MS,
      () => `"${what}" ${times} times in ${this.#output()}`,
    );
    if (found === 'exited') throw new Error(`it ended before "${what}" in ${this.#output()}`);
    return found;
  }

  /** Kills it with its children; resolves when it is gone. */
  async kill(): Promise<void> {
    if (this.#exit === undefined) signalGroup(this.pid, 'SIGKILL');
    await this.exited;
  }

  #output(): string {
    return `the output of ${this.child.spawnargs.slice(1).join(' ')}\nstdout: ${this.stdout}\nstderr: ${this.stderr}`;
  }
}

/** Runs `bin/<bin>.js`; it is killed at the end of the test (or suite, from a before hook) that called this. */
export function run(
  bin: 'stomp-pubsub' | 'pubsub' | 'publish',
  args: readonly string[],
  options: RunOptions = {},
): Running {
  return runFile(join(packageRoot, 'bin', `${bin}.js`), args, options);
}

/** The same for any file that Node runs. */
export function runFile(file: string, args: readonly string[], options: RunOptions = {}): Running {
  return runProgram(process.execPath, [...(options.nodeFlags ?? []), file, ...args], options);
}

/** The same for any program. */
export function runProgram(program: string, args: readonly string[], options: RunOptions = {}): Running {
  const running = startProgram(program, args, options);
  after(() => running.kill());
  return running;
}

/** The same outside of a test: it is killed when this process ends. */
export function startProgram(program: string, args: readonly string[], options: RunOptions = {}): Running {
  const { env = {}, cwd = packageRoot, input = '' } = options;
  const { PATH, HOME } = process.env;
  const child = spawn(program, args, { cwd, env: { PATH, HOME, ...env }, detached: true });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} cannot be started in ${cwd}`);
  keepGroup(pid);
  const running = new Running(child);
  child.once('exit', () => {
    // What it started and left behind.
    signalGroup(pid, 'SIGKILL');
    releaseGroup(pid);
  });
  if (input !== null) child.stdin.end(input);
  return running;
}

/** What a process has started and is still there. */
export function childrenOf(pid: number): number[] {
  for (let tries = 1; ; tries++) {
    const tasks = readdirSync(`/proc/${pid}/task`);
    try {
      const children = tasks.flatMap((task) =>
        readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' '),
      );
      return children.filter((child) => child !== '').map(Number);
    } catch (error) {
      // A thread has ended meanwhile, and others have its children.
      if (tries === 10) throw error;
    }
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
