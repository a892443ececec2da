/**
 * How a worker process is started: its streams, its environment, that it leads a process group of its own, by which it is
 * killed together with what it spawned, and that it may be started before anybody knows what to do with it: it loads what is
 * ours meanwhile.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { PubsubError, reasonOf } from '../../errors.js';
import { callbackVariables } from '../../settings/dotenv.js';
import { descriptors } from './descriptors.js';
import { flagsOf, type SpawnOptions } from './flags.js';

/** Its streams, each with one direction that counts. */
export interface Spawned {
  readonly child: ChildProcess;
  /** Resolves when it has ended, be that before anybody asked. */
  readonly exited: Promise<readonly [code: number | null, signal: NodeJS.Signals | null]>;
  readonly inbox: Socket;
  readonly outbox: Socket;
  readonly log: Socket;
  readonly watch: Socket;
  readonly stdout: Socket;
  readonly stderr: Socket;
}

interface Ahead {
  readonly flags: readonly string[];
  readonly child: ChildProcess;
  readonly spawned: Promise<Spawned>;
}
const allAhead: Ahead[] = [];

/**
 * Starts so many that `spawnWorker` gives away first, to whom they fit. Whatever is wrong with one is told then, but that
 * the entry file is missing, which is thrown.
 */
export function spawnAhead(options: SpawnOptions, count: number): void {
  const flags = flagsOf(options);
  // One that loads something for long, or for ever, does not see that nobody wants it.
  process.once('exit', () => {
    for (const { child } of allAhead) killGroup(child);
  });
  for (let left = count; left > 0; left--) {
    const child = start(flags);
    const spawned = whenSpawned(child);
    spawned.catch(() => undefined);
    allAhead.push({ flags, child, spawned });
  }
}

/** Rejects with `callback-not-loadable` when the entry file is missing, as it is in a bundle, and when nothing can be started. */
export async function spawnWorker(options: SpawnOptions): Promise<Spawned> {
  const flags = flagsOf(options);
  const index = allAhead.findIndex((one) => isDeepStrictEqual(one.flags, flags));
  const [ahead] = index === -1 ? [] : allAhead.splice(index, 1);
  const spawned = await (ahead?.spawned ?? whenSpawned(start(flags)));
  for (const stream of readIn(spawned)) stream.off('readable', keepUnread);
  return spawned;
}

/** With a listener of that kind it stays in its stream: what is not listened to is thrown away when the process has ended. */
const keepUnread = () => undefined;
const readIn = ({ outbox, log, watch, stdout, stderr }: Spawned) => [outbox, log, watch, stdout, stderr];

function start(flags: readonly string[]): ChildProcess {
  return spawn(process.execPath, [...flags, entryFile()], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    detached: true,
    env: { ...callbackVariables(), ...inheritedEnvironment(process.env) },
  });
}

async function whenSpawned(child: ChildProcess): Promise<Spawned> {
  const exited = new Promise<Awaited<Spawned['exited']>>((resolve) =>
    child.once('exit', (code, signal) => resolve([code, signal])),
  );
  try {
    await once(child, 'spawn');
  } catch (error) {
    const problem = `a worker process cannot be started: ${reasonOf(error)}`;
    throw new PubsubError('callback-not-loadable', problem, { cause: error });
  }
  const stream = (fd: number) => child.stdio[fd] as Socket;
  const streams = {
    inbox: stream(descriptors.inbox),
    outbox: stream(descriptors.outbox),
    log: stream(descriptors.log),
    watch: stream(descriptors.watch),
    stdout: stream(1),
    stderr: stream(2),
  };
  // Its end is told by its exit.
  for (const socket of Object.values(streams)) socket.on('error', () => undefined);
  const spawned = { child, exited, ...streams };
  for (const socket of readIn(spawned)) socket.on('readable', keepUnread);
  return spawned;
}

/** Ends it where it stands, or by a kinder signal, with what it spawned; nothing when it is gone. */
export function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // There is no such group any more.
  }
}

function entryFile(): string {
  // A bundle in CommonJS has no import.meta.url.
  const url = import.meta.url as string | undefined;
  const file = url === undefined ? undefined : fileURLToPath(new URL('./main.js', url));
  if (file !== undefined && existsSync(file)) return file;
  throw new PubsubError(
    'callback-not-loadable',
    `the entry file of worker processes is missing (${file ?? 'main.js'}): a bundle does not take it along; ` +
      'leave stomp-pubsub out of the bundle, or set STOMP_PROCESS_MSG_ON_BACKGROUND=false',
  );
}

function inheritedEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NODE_OPTIONS } = env;
  if (NODE_OPTIONS === undefined) return env;
  return { ...env, NODE_OPTIONS: NODE_OPTIONS.replace(/(^|\s)--inspect\S*/g, '$1') };
}
