/**
 * Where RabbitMQ's programs come from: the packages of this machine, or, by TEST_RABBITMQ_VERSION, those of a newer Debian in a
 * root of its own. Hides how a program runs in there: with mounts that nobody else sees, on this machine's network.
 */
import { execFile } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cached, cachePath, isCached } from './cache.js';
import { findProgram } from './server-process.js';

export interface Invocation {
  readonly file: string;
  readonly args: readonly string[];
}

interface Programs {
  /** Why they cannot be run here and what to type, or undefined when they can. */
  missing(): string | undefined;
  /** Resolves when they can be run. */
  fetch(): Promise<unknown>;
  readonly server: string;
  readonly ctl: string;
  readonly epmd: string;
  run(file: string, args: readonly string[]): Invocation;
}

/** What TEST_RABBITMQ_VERSION may say, and which Debian has it. */
const releases: Readonly<Record<string, string>> = { '4': 'trixie', '4-newest': 'sid' };
/** About 130 MB over a slow line. */
const FETCH_DEADLINE_MS = 900_000;

/** The programs of this run. Throws for a version that nobody knows. */
export function rabbitmqPrograms(): Programs {
  const version = process.env.TEST_RABBITMQ_VERSION ?? '';
  if (version === '') return ofThisMachine;
  const release = releases[version];
  if (release === undefined)
    throw new Error(`TEST_RABBITMQ_VERSION: "${version}" is none of ${Object.keys(releases).join(', ')}`);
  return ofDebian(release);
}

/** Does this run's RabbitMQ limit the size of a frame by itself? */
export function hasLimits(): boolean {
  return (process.env.TEST_RABBITMQ_VERSION ?? '') !== '';
}

/** Debian's programs in sbin switch users and take their paths from there; the ones below do not. */
const programs = {
  server: '/usr/lib/rabbitmq/bin/rabbitmq-server',
  ctl: '/usr/lib/rabbitmq/bin/rabbitmqctl',
};

const ofThisMachine: Programs = {
  missing: () =>
    Object.values(found).every((find) => find() !== undefined)
      ? undefined
      : 'no rabbitmq-server on this machine: apt-get install rabbitmq-server',
  fetch: () => Promise.resolve(),
  get server() {
    return found.server() ?? programs.server;
  },
  get ctl() {
    return found.ctl() ?? programs.ctl;
  },
  get epmd() {
    return found.epmd() ?? 'epmd';
  },
  run: (file, args) => ({ file, args }),
};

const found = {
  server: () => findProgram(programs.server, 'rabbitmq-server'),
  ctl: () => findProgram(programs.ctl, 'rabbitmqctl'),
  epmd: () => findProgram('epmd'),
};

/** The mounts end with the program. */
const enter =
  'root=$1 tmp=$2; shift 2; mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" && ' +
  'mkdir -p "$root$tmp" && mount --rbind "$tmp" "$root$tmp" && exec chroot "$root" "$@"';

function ofDebian(release: string): Programs {
  const name = `rabbitmq-${release}`;
  return {
    missing: () =>
      isCached(name)
        ? undefined
        : `no RabbitMQ of Debian ${release} in ${cachePath(name)}: TEST_BROKERS=rabbitmq npm test makes it`,
    fetch: () => cached(name, (folder) => debootstrap(release, folder)),
    ...programs,
    epmd: '/usr/bin/epmd',
    run: (file, args) => ({
      file: 'unshare',
      args: [
        ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
        ...['--mount', '/bin/sh', '-c', enter, 'sh', cachePath(name), tmpdir(), file, ...args],
      ],
    }),
  };
}

/** As root. The packages come from where this machine has its own from. */
async function debootstrap(release: string, folder: string): Promise<void> {
  const run = promisify(execFile);
  const { stdout } = await run('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI)',
    'Created-By: Packages',
  ]);
  const mirror =
    stdout.split('\n').find((uri) => /\/debian\/?$/.test(uri)) ?? 'http://deb.debian.org/debian/';
  const args = ['--variant=minbase', '--include=rabbitmq-server,procps', release, join(folder), mirror];
  try {
    await run('debootstrap', args, { timeout: FETCH_DEADLINE_MS, maxBuffer: 1 << 26 });
  } catch (error) {
    const { stdout = '' } = error as { stdout?: string };
    const why = stdout.trimEnd().split('\n').slice(-5).join('\n');
    throw new Error(`debootstrap ${args.join(' ')} failed (it needs root):\n${why}`, { cause: error });
  }
  await chmod(folder, 0o755);
  // Debian's sid makes none, and Erlang looks its own host up.
  await writeFile(join(folder, 'etc/hosts'), '127.0.0.1 localhost\n', { flag: 'a' });
}
