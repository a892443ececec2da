/**
 * One private server: a process group with a directory and ports of its own. Hides spawning, the log, waiting for
 * readiness, every way to take it down, and that nothing of it survives. States: up, paused (up, but stopped by a
 * signal), down (the directory is kept), stopped (for good, the directory is gone).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readFileSync, closeSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { keepDirectory, keepGroup, releaseGroup } from './keeper.js';
import { until, within } from './until.js';

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** `kill` is SIGKILL: no chance to write anything. `clean` is SIGTERM and the wait for its effect. */
export type Downfall = 'kill' | 'clean';

/** A cold start on a busy machine; a warm one takes a tenth. */
const START_DEADLINE_MS = 180_000;
const EXIT_DEADLINE_MS = 60_000;
const LOG_TAIL_LINES = 40;

export class ServerProcess {
  readonly #name: string;
  readonly #directory: string;
  readonly #command: Command;
  readonly #isReady: () => Promise<boolean>;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();

  /** `isReady` is polled after each start; its throws count as "not yet". */
  constructor(name: string, directory: string, command: Command, isReady: () => Promise<boolean>) {
    this.#name = name;
    this.#directory = directory;
    this.#command = command;
    this.#isReady = isReady;
  }

  get logFile(): string {
    return join(this.#directory, 'output.log');
  }

  /** Down to up; resolves when it answers. Rejects with the tail of the log when it exits or does not answer. */
  async up(): Promise<void> {
    if (this.#child !== undefined) throw new Error(`${this.#name} is up already`);
    const log = openSync(this.logFile, 'a');
    const { file, args, env } = this.#command;
    const child = spawn(file, args, {
      cwd: this.#directory,
      env,
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    let ended: string | undefined;
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      const end = (how: string) => {
        ended = how;
        if (child.pid !== undefined) {
          killRest(child.pid);
          releaseGroup(child.pid);
        }
        this.#child = undefined;
        resolve();
      };
      child.once('error', (error) => end(error.message));
      child.once('exit', (code, signal) => end(`it exited with ${signal ?? code ?? 'nothing'}`));
    });
    if (child.pid !== undefined) keepGroup(child.pid);
    child.unref();
    try {
      await until(
        async () => ended !== undefined || (await this.#isReady()),
        START_DEADLINE_MS,
        'it answers',
      );
      if (ended !== undefined) throw new Error(ended);
    } catch (error) {
      throw new Error(`${this.#name} did not start; its last words:\n${this.logTail()}`, { cause: error });
    }
  }

  /** Up or paused to down. */
  async down(how: Downfall): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#signalGroup('SIGCONT');
    if (how === 'clean') {
      child.kill('SIGTERM');
      await within(this.#exited, EXIT_DEADLINE_MS, `${this.#name} ends after SIGTERM`);
    } else {
      this.#signalGroup('SIGKILL');
      await within(this.#exited, EXIT_DEADLINE_MS, `${this.#name} ends after SIGKILL`);
    }
  }

  /** Stops the process where it stands; its sockets stay open and nobody answers. */
  pause(): void {
    this.#signalGroup('SIGSTOP');
  }

  resume(): void {
    this.#signalGroup('SIGCONT');
  }

  /** Kills what runs and removes the directory. May be called in every state, and again. */
  async stop(): Promise<void> {
    await this.down('kill');
    const remove = () => {
      rmSync(this.#directory, { recursive: true, force: true });
      return true;
    };
    // Those of its group that were killed may still have written while it was being emptied.
    await until(remove, EXIT_DEADLINE_MS, `${this.#directory} is removed`);
  }

  logTail(): string {
    return existsSync(this.logFile)
      ? readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n')
      : '(nothing)';
  }

  #signalGroup(signal: NodeJS.Signals): void {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`${this.#name} is not up`);
    process.kill(-pid, signal);
  }
}

/** What the process started and left behind. */
function killRest(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** A directory of its own for one server, removed with this process at the latest. */
export function privateDirectory(name: string): string {
  const directory = mkdtempSync(join(tmpdir(), `stomp-pubsub-${name}-`));
  keepDirectory(directory);
  return directory;
}

/** Below those that the system gives to outgoing connections, which could have one while its server is down. */
const FIRST_PORT = 10_000;
const HUNDREDS = 100;
const PORTS_EACH = 100;
let hundred: Promise<number> | undefined;
let ports = 0;

/**
 * `count` different TCP ports of 127.0.0.1 that nobody listens on at this time. Processes that run beside each other take
 * theirs from different hundreds, so that a port is free again when its server comes back to it.
 */
export async function freePorts(count: number): Promise<number[]> {
  const first = await (hundred ??= ownHundred());
  const free: number[] = [];
  for (let tries = 1; tries < PORTS_EACH && free.length < count; tries++) {
    const port = first + 1 + (ports++ % (PORTS_EACH - 1));
    if (await isFree(port)) free.push(port);
  }
  if (free.length < count) throw new Error(`no ${count} free ports from ${first} on`);
  return free;
}

/** Whoever listens on the first of its ports has a hundred, up to the end of the process. */
async function ownHundred(): Promise<number> {
  for (let tries = 0; tries < HUNDREDS; tries++) {
    const first = FIRST_PORT + ((process.pid + tries) % HUNDREDS) * PORTS_EACH;
    const guard = await listenOn(first);
    if (guard === undefined) continue;
    guard.unref();
    return first;
  }
  throw new Error(`every hundred of ports from ${FIRST_PORT} on is somebody's`);
}

async function isFree(port: number): Promise<boolean> {
  const server = await listenOn(port);
  if (server === undefined) return false;
  await new Promise((resolve) => server.close(resolve));
  return true;
}

function listenOn(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

/** The first of these that exists; a bare name is looked up in PATH. */
export function findProgram(...candidates: string[]): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return candidates
    .flatMap((name) => (name.startsWith('/') ? [name] : folders.map((folder) => join(folder, name))))
    .find((path) => existsSync(path));
}
