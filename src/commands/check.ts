/**
 * `pubsub check <destination> [callback]`: would a consumer with these settings start, and what would it meet? Each step is
 * told with its cause and remedy. It declares nothing unless asked to.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Source } from '../brokers/destinations.js';
import { startRunners } from '../consumer/runners.js';
import { sourceOf } from '../consumer/source.js';
import { PubsubError } from '../errors.js';
import { configureLog, log } from '../log.js';
import type { Settings } from '../settings.js';
import { ineffective } from '../settings/contradictions.js';
import { loadDotenv } from '../settings/dotenv.js';
import { uselessVariables } from '../settings/environment.js';
import { resolve } from '../settings/resolve.js';
import { durationMs } from '../settings/kinds.js';
import { listenForStop, type Shutdown } from '../shutdown.js';
import { checkBroker } from './check-broker.js';
import type { CallbackArgument } from './consuming.js';
import { CheckReport, failed, type Finding } from './check-report.js';
import { checkServers, type Reached } from './check-server.js';

export interface CheckFlags extends Record<string, unknown> {
  readonly declare?: boolean;
  readonly setup?: boolean;
  readonly strict?: boolean;
  readonly wait?: string;
}

/** Resolves when a consumer would start. Rejects with a PubsubError whose exit status is that of the first failure. */
export async function check(
  destination: string,
  callback: CallbackArgument | undefined,
  flags: CheckFlags,
): Promise<void> {
  const waitMs = flags.wait === undefined ? 0 : durationMs(flags.wait);
  if (Number.isNaN(waitMs))
    throw new PubsubError(
      'invalid-usage',
      `--wait: a duration like 60s or 5m expected, not "${flags.wait ?? ''}"`,
    );
  const report = new CheckReport(flags.strict === true);
  const known = await checkSettings(destination, flags, report);
  if (known !== undefined) await checkAll(known, callback, flags, waitMs, report);
  report.conclude();
}

interface Known {
  readonly settings: Settings;
  readonly source: Source;
}

async function checkSettings(
  destination: string,
  flags: CheckFlags,
  report: CheckReport,
): Promise<Known | undefined> {
  const step = 'settings';
  try {
    await loadDotenv();
    const settings = resolve(flags);
    await configureLog(settings);
    const source = sourceOf(destination, settings);
    const doubts = doubtsOf(settings);
    for (const detail of doubts) await report.add({ step, status: 'warn', code: 'invalid-setting', detail });
    const detail = `${source.queue}, dead letters in ${source.deadLetterQueue}`;
    if (doubts.length === 0) await report.add({ step, status: 'ok', detail });
    return { settings, source };
  } catch (error) {
    await report.add(failed(step, error));
    return undefined;
  }
}

function doubtsOf(settings: Settings): string[] {
  return [
    ...uselessVariables().map(({ variable, isIgnored, meant }) =>
      isIgnored
        ? `${variable} changes nothing here`
        : `${variable} is no setting: ${meant === undefined ? 'is it misspelt?' : `did you mean ${meant}?`}`,
    ),
    ...ineffective(settings).map((setting) => `${setting} changes nothing`),
    ...(settings.useSsl && !settings.sslVerify
      ? ['the certificate of the broker is not verified (STOMP_SSL_VERIFY)']
      : []),
  ];
}

async function checkAll(
  { settings, source }: Known,
  callback: CallbackArgument | undefined,
  flags: CheckFlags,
  waitMs: number,
  report: CheckReport,
): Promise<void> {
  const stop = listenForStop(settings.gracefulWaitSeconds * 1000, log);
  await report.add(await checkCallback(callback, { settings, source }, stop, flags.setup === true));
  const reached = await reachWithin(waitMs, settings, stop.drain);
  await report.add(...reached.findings);
  const { session } = reached;
  if (session === undefined) return;
  try {
    const options = { session, settings, source, signal: stop.drain, isDeclaring: flags.declare === true };
    for await (const found of checkBroker(options)) await report.add(found);
  } finally {
    await session.close();
  }
}

async function checkCallback(
  callback: CallbackArgument | undefined,
  { settings, source }: Known,
  stop: Shutdown,
  isSetUp: boolean,
): Promise<Finding> {
  const step = 'callback';
  if (callback === undefined) return { step, status: 'not checked', detail: 'none is given' };
  try {
    const runnable = { source, callback, settings, log, isOnlyLoaded: !isSetUp };
    const runner = (await startRunners([runnable], stop))?.get(runnable);
    await runner?.close();
    if (typeof callback !== 'string')
      return { step, status: 'ok', detail: `${callback.join(' ')} is there, and may be run` };
    const done = isSetUp
      ? 'loads, and setup() and teardown() succeed'
      : 'loads (--setup would run its setup())';
    return { step, status: 'ok', detail: `${callback} ${done}` };
  } catch (error) {
    return failed(step, error);
  }
}

const AGAIN_MS = 500;

/** Tries until a server is reached, or refuses: one that may only be starting is waited for. */
async function reachWithin(waitMs: number, settings: Settings, signal: AbortSignal): Promise<Reached> {
  const untilMs = performance.now() + waitMs;
  for (;;) {
    const reached = await checkServers(settings, signal);
    const isHopeless = reached.findings.some(
      ({ code }) => code !== undefined && code !== 'broker-unreachable',
    );
    const isOver = performance.now() >= untilMs || signal.aborted;
    if (reached.session !== undefined || isHopeless || isOver) return reached;
    await delay(AGAIN_MS, undefined, { signal }).catch(() => undefined);
  }
}
