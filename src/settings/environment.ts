/** What is told from the environment and the options beside the settings themselves: misspelt ones, colours, who started us. */
import { closest } from '../closest.js';
import { settingNames, settings, type Settings } from '../settings.js';

/** Of django-stomp, and without a meaning here: Node picks the version of TLS, and has no key with a passphrase. */
const ignoredVariables = [
  'DEFAULT_STOMP_CERT_VALIDATOR',
  'DEFAULT_STOMP_SSL_VERSION',
  'DEFAULT_STOMP_SSL_PASSWORD',
];

/** STOMP_* and DEFAULT_STOMP_* variables that are set and not in the table, and why they change nothing. */
export function uselessVariables(): { variable: string; isIgnored: boolean; meant: string | undefined }[] {
  const known = settingNames.map((name) => settings[name].variable);
  return Object.keys(process.env)
    .filter((variable) => /^(?:DEFAULT_)?STOMP_/.test(variable) && !known.includes(variable))
    .map((variable) => ({
      variable,
      isIgnored: ignoredVariables.includes(variable),
      meant: closest(variable, known),
    }));
}

/** Options of the library that are given and not in the table: probably misspelt, and the compiler was not asked. */
export function unknownOptions(given: object): { option: string; meant: string | undefined }[] {
  return Object.keys(given)
    .filter((option) => !(option in settings))
    .map((option) => ({ option, meant: closest(option, settingNames) }));
}

/** The format of the log, as far as it can be told when not all settings are known. */
export function logFormatMeant(given: unknown): Settings['logFormat'] {
  const { parse, variable, default: fallback } = settings.logFormat;
  try {
    return parse(typeof given === 'string' ? given : (process.env[variable] ?? fallback));
  } catch {
    return fallback;
  }
}

/** Are colours written there? As asked for; else as NO_COLOR says, then FORCE_COLOR; else on a terminal that has them. */
export function hasColors(stream: NodeJS.WriteStream, asked: boolean | undefined): boolean {
  if (asked !== undefined) return asked;
  const { NO_COLOR, FORCE_COLOR } = process.env;
  if (NO_COLOR !== undefined && NO_COLOR !== '') return false;
  if (FORCE_COLOR !== undefined) return !['0', 'false'].includes(FORCE_COLOR);
  // It heeds TERM=dumb.
  return stream.isTTY && stream.hasColors();
}

/** Did npx, npm exec or an npm script start this process? */
export function isBehindNpm(): boolean {
  return process.env.npm_command !== undefined;
}
