/** What every command begins with: `.env`, settings, log, a word on what is probably a mistake, and the signals. */
import { configureLog, log } from '../log.js';
import type { Settings } from '../settings.js';
import { loadDotenv } from '../settings/dotenv.js';
import { uselessVariables } from '../settings/environment.js';
import { resolve } from '../settings/resolve.js';
import { listenForStop, type Shutdown } from '../shutdown.js';

export interface Start {
  readonly settings: Settings;
  /** Takes over the process's stop signals, for good. Default: with the graceful wait of the settings. */
  readonly listen: (gracefulWaitSeconds?: number) => Shutdown;
}

/** Rejects with one `invalid-setting` for all that is wrong with flags and variables. */
export async function start(flags: Record<string, unknown>): Promise<Start> {
  const refused = await loadDotenv();
  const settings = resolve(flags);
  await configureLog(settings);
  for (const { variable, isIgnored, meant } of uselessVariables())
    log.warn(
      { variable, meant: isIgnored ? undefined : meant },
      isIgnored ? 'this variable changes nothing here' : 'unknown variable; is it misspelt?',
    );
  for (const variable of refused) log.warn({ variable }, 'left out: .env must not set this variable');
  if (!settings.sslVerify && (settings.useSsl || settings.sourceUseSsl === true))
    log.warn({}, 'the certificate of the broker is not verified');
  return {
    settings,
    listen: (gracefulWaitSeconds = settings.gracefulWaitSeconds) =>
      listenForStop(gracefulWaitSeconds * 1000, log),
  };
}
