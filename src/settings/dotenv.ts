/**
 * `.env`: what it holds for this program goes into the environment, what it holds for callbacks is kept for the processes
 * that they run in, and what a file must not decide is left out.
 */
import { statSync } from 'node:fs';
import { PubsubError, reasonOf } from '../errors.js';

/** What `.env` may set for this program itself. */
const ownVariables = /^(?:DEFAULT_)?STOMP_|^(?:LOG|LOG_LEVEL|LOG_FORMAT|NO_COLOR|FORCE_COLOR)$/;
/** What would make a process load other code, or trust anybody: never for one that we start because a file says so. */
const refusedVariables = /^(?:NODE_OPTIONS|NODE_TLS_REJECT_UNAUTHORIZED|(?:LD|DYLD)_.*)$/;
const ofCallbacks: Record<string, string> = {};
const fromDotenv = new Set<string>();

/** Does this variable have its value from `.env`? */
export const isFromDotenv = (variable: string): boolean => fromDotenv.has(variable);

/**
 * Adds what `.env` in the working directory defines for this program and the environment does not; what else it defines
 * is kept for the callbacks. Returns the variables that are left out because a file must not set them. Rejects
 * with `invalid-setting`.
 */
export async function loadDotenv(): Promise<readonly string[]> {
  // Variables of dotenv's own name another file.
  const isNamed = (process.env.DOTENV_PATH ?? process.env.DOTENV_CONFIG_PATH) !== undefined;
  if (!isNamed && isMissing('.env')) return [];
  const found: Record<string, string> = {};
  const { config } = await import('dotenv');
  const { error } = config({ quiet: true, processEnv: found });
  if (error !== undefined && (error as NodeJS.ErrnoException).code !== 'ENOENT') {
    throw new PubsubError('invalid-setting', `.env cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  const [refused, taken] = [[] as string[], [] as string[]];
  for (const name of Object.keys(found)) (refusedVariables.test(name) ? refused : taken).push(name);
  for (const name of taken) {
    if (process.env[name] === undefined) fromDotenv.add(name);
    const environment = ownVariables.test(name) ? process.env : ofCallbacks;
    environment[name] = process.env[name] ?? found[name] ?? '';
  }
  return refused;
}

/** False, too, where nobody may look. */
function isMissing(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

/** What `.env` holds for the callbacks: for the environment of a process that they run in. */
export function callbackVariables(): Readonly<Record<string, string>> {
  return ofCallbacks;
}

/** Gives the callbacks of this process what `.env` holds for them. */
export function admitCallbackVariables(): void {
  Object.assign(process.env, ofCallbacks);
}

/** The environment for programs that are not ours: without secrets, and without the headers of somebody else's message. */
export function environmentForPrograms(): Record<string, string> {
  const hidden = /^(?:DEFAULT_)?STOMP_(HEADER_|.*(PASSWORD|URL)$)/;
  const shown = Object.entries({ ...ofCallbacks, ...process.env }).filter(([name]) => !hidden.test(name));
  return Object.fromEntries(shown) as Record<string, string>;
}
