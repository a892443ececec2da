/** Who logs in, where that is in files: read for every connection, so that what was renewed there counts from then on. */
import { readFileSync } from 'node:fs';
import { PubsubError, reasonOf } from '../errors.js';
import type { Settings } from '../settings.js';
import type { Login } from '../stomp/session.js';

type LoginSettings = Pick<Settings, 'user' | 'password' | 'userFile' | 'passwordFile'>;

/** Throws `invalid-setting` for a file that cannot be read, is empty or holds more than one line. */
export function readLogin({ user, password, userFile, passwordFile }: LoginSettings): Login {
  return {
    user: userFile === undefined ? user : readLine('USER_FILE', userFile),
    password: passwordFile === undefined ? password : readLine('PASSWORD_FILE', passwordFile),
  };
}

/** Without the one line break that editors and `echo` leave at its end. */
function readLine(variable: string, file: string): string {
  const broken = (problem: string, cause?: unknown) =>
    new PubsubError('invalid-setting', `STOMP_SERVER_${variable} (or STOMP_SOURCE_${variable}): ${problem}`, {
      cause,
    });
  let text: string;
  try {
    text = readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw broken(`${file} cannot be read: ${reasonOf(error)}`, error);
  }
  if (text === '') throw broken(`${file} is empty`);
  if (/[\r\n\0]/.test(text)) throw broken(`${file} holds more than one line of text`);
  return text;
}
