/**
 * django-stomp itself, from PyPI, in a virtual environment. Hides how that is made, and how its commands are run for the
 * project in test/fixtures/django-stomp/.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BrokerUnderTest } from './brokers.js';
import { cached, cachePath, isCached } from './cache.js';
import { packageRoot, type Running, runProgram } from './process.js';

const DJANGO_STOMP = 'django-stomp==6.1.0';
const PACKAGES = [DJANGO_STOMP, 'stomp.py==8.2.0', 'django==4.2.16'];
const name = 'django-stomp-6.1.0';
/** Some 10 MB over a slow line. */
const FETCH_DEADLINE_MS = 600_000;

const exec = (file: string, args: readonly string[]) =>
  promisify(execFile)(file, args, { timeout: FETCH_DEADLINE_MS });

/** Why it cannot be run here and what to type, or undefined when it can. */
export function djangoStompMissing(): string | undefined {
  if (isCached(name)) return undefined;
  return `no django-stomp in ${cachePath(name)}: node dist/test/support/fetch.js django-stomp`;
}

/** Resolves when it can be run. */
export async function fetchDjangoStomp(): Promise<void> {
  await cached(name, async (folder) => {
    await exec('python3', ['-m', 'venv', folder]);
    await exec(join(folder, 'bin/python'), ['-m', 'pip', 'install', '--quiet', ...PACKAGES]);
  });
}

/** Does PyPI answer this machine? */
export async function hasPypi(): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'stomp-pubsub-pypi-'));
  try {
    const args = ['--no-deps', '--no-cache-dir', '--dest', folder, DJANGO_STOMP];
    await exec('python3', ['-m', 'pip', 'download', '--quiet', ...args]);
    return true;
  } catch {
    return false;
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Runs a command of its `manage.py`, or a script of the project; it is killed at the end of the test. */
export function django(broker: BrokerUnderTest, args: readonly string[], ledger = '/dev/null'): Running {
  const project = join(packageRoot, 'test/fixtures/django-stomp');
  const [first = ''] = args;
  const all = first.endsWith('.py') ? args : ['-m', 'django', ...args];
  return runProgram(join(cachePath(name), 'bin/python'), all, {
    cwd: project,
    env: {
      ...broker.env,
      DJANGO_SETTINGS_MODULE: 'settings',
      PYTHONPATH: project,
      PYTHONDONTWRITEBYTECODE: '1',
      PYTHONUNBUFFERED: '1',
      LEDGER: ledger,
    },
  });
}
