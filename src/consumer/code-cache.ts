/**
 * What TypeScript became, kept for the next start, which then needs no compiler. Hides where that is, and that what is run must
 * be what this user's own process wrote: a folder that anybody else may write to is not used, nor is a file of anybody else,
 * and a file counts only for the very source, options and versions that it was made from. Whatever goes wrong costs time alone.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  type Stats,
} from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import path from 'node:path';
import { version } from '../version.js';

/** The code that `name` was made into from what `made` describes, or what `make` gives now. Throws as that does. */
export type Cached = (name: string, made: unknown, make: () => string) => string;

const uncached: Cached = (_name, _made, make) => make();

/** Where XDG_CACHE_HOME says, else in ~/.cache; nothing is kept where that cannot be this user's alone. */
export function openCodeCache(): Cached {
  const { JITI_FS_CACHE, XDG_CACHE_HOME } = process.env;
  // The variable by which jiti's own cache is turned off.
  if (JITI_FS_CACHE === 'false' || JITI_FS_CACHE === '0') return uncached;
  try {
    const folder = privateFolder(XDG_CACHE_HOME);
    const versions = [version, jitiVersion(), process.version];
    return (name, made, make) => {
      const key = digest(JSON.stringify([versions, name, made]));
      const file = path.join(folder, digest(name));
      const known = read(file, key);
      if (known !== undefined) return known;
      const code = make();
      write(file, `${key} ${digest(code)}\n${code}`);
      return code;
    };
  } catch {
    return uncached;
  }
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

const jitiVersion = (): string =>
  (createRequire(import.meta.url)('jiti/package.json') as { version: string }).version;

/** Is it of this user, and may nobody else write or read it? Where there are no such users, as on Windows: no. */
const isPrivate = ({ uid, mode }: Stats): boolean => uid === process.getuid?.() && (mode & 0o077) === 0;

/** Throws when there can be none. */
function privateFolder(home: string | undefined): string {
  const base = home !== undefined && path.isAbsolute(home) ? home : path.join(homedir(), '.cache');
  const folder = path.join(base, 'stomp-pubsub');
  // Node 20.20 never returns from making folders with all above them in /proc.
  for (const each of [base, folder]) if (!existsSync(each)) mkdirSync(each, { mode: 0o700 });
  const stats = lstatSync(folder);
  if (!stats.isDirectory() || !isPrivate(stats)) throw new Error(`${folder} is not private`);
  return folder;
}

/** Undefined when it is missing, of something else, cut off, or not ours. */
function read(file: string, key: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  try {
    // Of what was opened: who may write to a folder above may have put another one there.
    if (!isPrivate(fstatSync(fd))) return undefined;
    const text = readFileSync(fd, 'utf8');
    const end = text.indexOf('\n');
    const code = text.slice(end + 1);
    return text.slice(0, end) === `${key} ${digest(code)}` ? code : undefined;
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** Whole or not at all: several processes may be at it. */
function write(file: string, text: string): void {
  const beside = `${file}.${randomBytes(8).toString('hex')}`;
  try {
    writeFileSync(beside, text, { flag: 'wx', mode: 0o600 });
    renameSync(beside, file);
  } catch {
    remove(beside);
  }
}

function remove(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // The folder is such that nothing can be done there.
  }
}
