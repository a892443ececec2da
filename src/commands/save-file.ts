/**
 * The file that messages are saved in before they are removed, one line each, in the order given. Hides that what arrives
 * while the disk is busy is written together, and that a disk which is full leaves a torn line: nothing is written behind
 * one, so it is always the last.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { PubsubError, reasonOf } from '../errors.js';
import type { Frame } from '../stomp/frames.js';
import { toJson } from './records.js';

/** Characters that are written at once. */
const BATCH_LENGTH = 1024 * 1024;

export class SaveFile {
  readonly path: string;
  readonly #file: FileHandle;
  /** What the next flush writes. */
  #lines: string[] = [];
  #last: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  /** Of a file that is open and empty; createSaveFile makes it. */
  constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /** Resolves when the message is on the disk. Rejects with `not-saved`, as all writes do after the first that failed. */
  write(message: Frame): Promise<void> {
    this.#lines.push(`${toJson(message)}\n`);
    this.#next ??= this.#flush();
    return this.#next;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #flush(): Promise<void> {
    // One that failed makes this one fail, which stays the next for good.
    await this.#last;
    this.#last = this.#next ?? this.#last;
    this.#next = undefined;
    const lines = this.#lines;
    this.#lines = [];
    try {
      for (const text of joined(lines)) await this.#file.appendFile(text);
      await this.#file.datasync();
    } catch (error) {
      throw new PubsubError('not-saved', `${this.path} cannot be written: ${reasonOf(error)}`, {
        cause: error,
      });
    }
  }
}

/** Few texts, none of which is much longer than the longest line: all lines together may be more than a string can be. */
function* joined(lines: readonly string[]): Generator<string> {
  let text = '';
  for (const line of lines) {
    if (text.length + line.length > BATCH_LENGTH && text !== '') {
      yield text;
      text = '';
    }
    text += line;
  }
  yield text;
}

/** A new file, that only its owner reads. Rejects with `invalid-usage` when it exists or cannot be made. */
export async function createSaveFile(path: string): Promise<SaveFile> {
  try {
    return new SaveFile(path, await open(path, 'wx', 0o600));
  } catch (error) {
    throw new PubsubError('invalid-usage', `--save: ${reasonOf(error)}; name a new file`, { cause: error });
  }
}
