/**
 * The receipts that a connection awaits: for which frame each is, and since when it is due. One timer for all of them
 * looks at the oldest.
 */
import type { PubsubError } from '../errors.js';
import { Slots } from '../slots.js';

export interface Awaited {
  readonly what: string;
  /** Since when it is due; not yet at Infinity. */
  startMs: number;
  /** So many more are to come with this id. */
  left: number;
  readonly settle: (error?: PubsubError) => void;
  /** An ERROR that names this receipt is about its frame alone. */
  readonly isContained: boolean;
  /** Of one that comes behind what is on its way: changes with what comes. */
  readonly heard: (() => number) | undefined;
  lastHeard: number;
}

export interface ReceiptOptions {
  readonly timeoutMs: number;
  /** Called every now and then while none comes. */
  readonly onSilence: (waitedMs: number) => void;
  /** Called once, with what the overdue one is for. */
  readonly onOverdue: (what: string) => void;
}

/** Without any receipt for so long the broker is worth a word: a healthy one confirms within milliseconds. */
const SILENCE_MS = 5000;

export class Receipts {
  readonly #options: ReceiptOptions;
  readonly #awaited = new Slots<Awaited>();
  #timer: NodeJS.Timeout | undefined;
  #isPaused = false;
  /** Until then nothing could come. */
  #resumedMs = 0;

  constructor(options: ReceiptOptions) {
    this.#options = options;
  }

  /** Awaits one, from now on; its id. */
  add(what: string, settle: Awaited['settle'], isContained = false): number {
    this.#watch();
    return this.#add(what, performance.now(), settle, isContained);
  }

  /** One that comes behind what is on its way: while that comes, so that `heard` changes, it is not due. */
  addBehind(what: string, settle: Awaited['settle'], heard: () => number): number {
    this.#watch();
    return this.#add(what, performance.now(), settle, false, heard);
  }

  /** One that is not due before `expect`, and of which each frame that asks for it makes one more. */
  addLater(what: string, settle: Awaited['settle']): number {
    return this.#add(what, Infinity, settle);
  }

  expect(id: number): void {
    const awaited = this.#awaited.get(id);
    if (awaited === undefined) return;
    awaited.startMs = performance.now();
    this.#watch();
  }

  get(id: number): Awaited | undefined {
    return this.#awaited.get(id);
  }

  /** Awaits it no longer. */
  take(id: number): Awaited | undefined {
    const awaited = this.#awaited.get(id);
    this.#awaited.remove(id);
    return awaited;
  }

  /** A receipt has come; an unknown one is ignored. */
  arrive(id: number): void {
    const awaited = this.#awaited.get(id);
    if (awaited === undefined) return;
    if (--awaited.left > 0) {
      // A transaction that is being confirmed is alive, however long all of it takes.
      if (awaited.startMs !== Infinity) awaited.startMs = performance.now();
      return;
    }
    this.#awaited.remove(id);
    awaited.settle();
  }

  /** None can come until `resume`: that time does not count. */
  pause(): void {
    this.#isPaused = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  resume(): void {
    this.#isPaused = false;
    this.#resumedMs = performance.now();
    if (this.#awaited.size > 0) this.#watch();
  }

  /** Awaits none any more; what was awaited, the oldest first. */
  clear(): Awaited[] {
    clearTimeout(this.#timer);
    const entries = this.#awaited.entries();
    for (const [id] of entries) this.#awaited.remove(id);
    return entries.map(([, awaited]) => awaited);
  }

  #add(
    what: string,
    startMs: number,
    settle: Awaited['settle'],
    isContained = false,
    heard?: () => number,
  ): number {
    return this.#awaited.add({
      what,
      startMs,
      left: 1,
      settle,
      isContained,
      heard,
      lastHeard: heard?.() ?? 0,
    });
  }

  #watch(): void {
    if (!this.#isPaused) this.#timer ??= this.#arm(SILENCE_MS);
  }

  #arm(delayMs: number): NodeJS.Timeout {
    return setTimeout(() => this.#look(), Math.min(delayMs, this.#options.timeoutMs));
  }

  #look(): void {
    const nowMs = performance.now();
    // A blocked event loop runs timers before it reads: what waits in the socket is read before the verdict.
    if ((this.#oldest(nowMs)?.waitedMs ?? 0) >= this.#options.timeoutMs) {
      setImmediate(() => this.#judge(nowMs));
    } else {
      this.#judge(nowMs);
    }
  }

  #judge(nowMs: number): void {
    if (this.#isPaused) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const oldest = this.#oldest(nowMs);
    if (oldest === undefined) return;
    const { timeoutMs, onSilence, onOverdue } = this.#options;
    const { what, waitedMs } = oldest;
    if (waitedMs >= timeoutMs) {
      onOverdue(what);
      return;
    }
    if (waitedMs >= SILENCE_MS) onSilence(waitedMs);
    this.#timer = this.#arm((waitedMs >= SILENCE_MS ? timeoutMs : SILENCE_MS) - waitedMs);
  }

  /** The one that is due for longest. */
  #oldest(nowMs: number): { readonly what: string; readonly waitedMs: number } | undefined {
    if (this.#awaited.size === 0) return undefined;
    const all = this.#awaited.entries().map(([, awaited]) => awaited);
    for (const awaited of all) {
      const { heard, lastHeard } = awaited;
      if (heard === undefined || heard() === lastHeard) continue;
      awaited.lastHeard = heard();
      awaited.startMs = nowMs;
    }
    const { what, startMs } = all.reduce((a, b) => (b.startMs < a.startMs ? b : a));
    // Whole ones: what rounding leaves of the time would be waited for, again and again.
    return { what, waitedMs: Math.max(0, Math.round(nowMs - Math.max(startMs, this.#resumedMs))) };
  }
}
