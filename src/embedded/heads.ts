/**
 * The heads of the messages that one connection sends to one destination. Hides that they are alike: the lines that come
 * again and again are kept once, in an Address, and a message keeps the values that are its own, which is a quarter of a
 * usual head. What differs from the last message is taken to differ in the next ones too.
 */
import { encodeHeader, escape } from '../stomp/frames.js';
import { type Address, isEchoed, type Message, stored, storedHead } from './message.js';

type StoredHead = Pick<Message, 'address' | 'head'>;
type Lines = Readonly<Record<string, string | undefined>>;

/** In a longer head the lines of one message outweigh its cost, and a connection remembers many. */
const LONGEST = 1024;

export class Heads {
  /** Of messages that share no line. */
  readonly #plain: Address;
  #shared: Address | undefined;
  /** Of the last message whose head was unlike the one before. */
  #names: readonly string[] = [];
  /** Undefined: it differs from message to message. */
  #values: readonly (string | undefined)[] = [];

  constructor(address: Address) {
    this.#plain = address;
  }

  /** The same lines as `storedHead` tells of these headers. */
  store(headers: Lines): StoredHead {
    const own = this.#shared && this.#ownOf(headers);
    if (this.#shared === undefined || own === undefined) return this.#learn(headers);
    return { address: this.#shared, head: stored(own) };
  }

  /** Undefined when the names are others, or a value that should be. */
  #ownOf(headers: Lines): string | undefined {
    let own = '';
    let line = 0;
    for (const name in headers) {
      const value = headers[name];
      if (value === undefined || !isEchoed(name)) continue;
      if (name !== this.#names[line]) return undefined;
      const shared = this.#values[line++];
      if (shared === undefined) own += `${escape(value)}\n`;
      else if (shared !== value) return undefined;
    }
    return line === this.#names.length ? own : undefined;
  }

  #learn(headers: Lines): StoredHead {
    const head = storedHead(headers);
    const entries = Object.entries(headers).filter(([name, value]) => value !== undefined && isEchoed(name));
    const isAlike =
      entries.length === this.#names.length && entries.every(([name], line) => name === this.#names[line]);
    this.#names = head.length > LONGEST ? [] : entries.map(([name]) => name);
    this.#values = entries.map(([, value], line) =>
      isAlike && value !== this.#values[line] ? undefined : value,
    );
    this.#shared = isAlike && this.#names.length > 0 ? this.#addressOf() : undefined;
    return this.#shared === undefined ? { address: this.#plain, head } : this.store(headers);
  }

  #addressOf(): Address {
    const pieces: string[] = [];
    let piece = '';
    for (const [line, name] of this.#names.entries()) {
      const value = this.#values[line];
      if (value === undefined) {
        pieces.push(`${piece}${escape(name)}:`);
        piece = '';
      } else {
        piece += encodeHeader(name, value);
      }
    }
    return { ...this.#plain, pieces: [...pieces, piece].map(stored) };
  }
}
