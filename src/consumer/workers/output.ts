/**
 * What a process that runs callbacks prints, as lines of the log: its own log lines as they are, what native code and
 * programs print wrapped in one. It is read at a bounded rate, so that one who prints without end waits and the consumer does not,
 * and read on whatever becomes of the consumer's own log.
 */
import type { Readable } from 'node:stream';
import type { MessageContext } from '../../context.js';
import { cutText, log, writeLine } from '../../log.js';
import { traceFields } from '../../trace-context.js';

/** Far above what logs are for, far below what would keep the consumer busy. */
const BYTES_PER_SECOND = 8_000_000;
/** May come at once after a silence. */
const BURST_BYTES = 1_000_000;
/** A longer line is cut: those of the log are shorter. */
const LONGEST_LINE = 600_000;
/** V8 14.3 and older: what is printed before it aborts because memory is exhausted. */
const outOfMemory = /^(FATAL ERROR: .*out of memory|# Fatal (JavaScript|process) (OOM|out of memory))/i;

export interface Printed {
  /** Where its own log lines come, if it writes any. */
  readonly log?: Readable;
  readonly stdout: Readable;
  readonly stderr: Readable;
}

export class WorkerOutput {
  /** Resolves when everything has been read to its end. */
  readonly ended: Promise<unknown>;
  readonly #origin: object;
  readonly #context: () => MessageContext | undefined;
  readonly #streams: readonly Readable[];
  #leftBytes = BURST_BYTES;
  #filledMs = performance.now();
  #isPaused = false;
  #hasRunOut = false;
  #lastError = '';

  /**
   * `origin`: fields that say what printed a line. `context`: of the message whose callback must have printed what
   * says nothing of it.
   */
  constructor(origin: object, { log, stdout, stderr }: Printed, context: () => MessageContext | undefined) {
    this.#origin = origin;
    this.#context = context;
    this.#streams = [...(log === undefined ? [] : [log]), stdout, stderr];
    const ends = [
      ...(log === undefined ? [] : [this.#read(log, (line) => this.#pass(line))]),
      this.#read(stdout, (line) => this.#wrap('stdout', line)),
      this.#read(stderr, (line) => {
        this.#hasRunOut ||= outOfMemory.test(line);
        if (line.trim() !== '') this.#lastError = line.trim();
        this.#wrap('stderr', line);
      }),
    ];
    this.ended = Promise.all(ends);
  }

  /** The last line on stderr that says something; empty when there was none. */
  get lastError(): string {
    return this.#lastError;
  }

  /** Has V8 said that it ran out of memory? */
  get hasRunOutOfMemory(): boolean {
    return this.#hasRunOut;
  }

  #read(stream: Readable, take: (line: string) => void): Promise<void> {
    const lines = new LineReader(take);
    stream.on('data', (chunk: Buffer) => {
      lines.push(chunk);
      this.#spend(chunk.length);
    });
    // That of a worker that has died before may be closed.
    if (stream.closed) return Promise.resolve();
    return new Promise((resolve) =>
      stream.once('close', () => {
        lines.end();
        resolve();
      }),
    );
  }

  #spend(bytes: number): void {
    const nowMs = performance.now();
    const earned = ((nowMs - this.#filledMs) * BYTES_PER_SECOND) / 1000;
    this.#leftBytes = Math.min(BURST_BYTES, this.#leftBytes + earned) - bytes;
    this.#filledMs = nowMs;
    if (this.#leftBytes >= 0 || this.#isPaused) return;
    this.#isPaused = true;
    for (const stream of this.#streams) stream.pause();
    setTimeout(
      () => {
        this.#isPaused = false;
        for (const stream of this.#streams) stream.resume();
      },
      (-this.#leftBytes / BYTES_PER_SECOND) * 1000,
    );
  }

  /** What is on the log's descriptor and no line of a log was written there by a stranger. */
  #pass(line: string): void {
    if (line.startsWith('{"level":') && line.endsWith('}')) writeLine(`${line}\n`);
    else this.#wrap('log', line);
  }

  #wrap(source: 'stdout' | 'stderr' | 'log', line: string): void {
    if (line === '') return;
    const { correlationId, consumer, trace } = this.#context() ?? {};
    const fields = {
      source,
      ...this.#origin,
      ...(correlationId === undefined ? {} : { correlationId }),
      ...(consumer === undefined ? {} : { consumer }),
      ...traceFields(trace?.traceparent),
    };
    log[source === 'stdout' ? 'info' : 'warn'](fields, cutText(line));
  }
}

/** Whole lines out of chunks. */
class LineReader {
  readonly #take: (line: string) => void;
  readonly #parts: Buffer[] = [];
  #length = 0;

  constructor(take: (line: string) => void) {
    this.#take = take;
  }

  push(chunk: Buffer): void {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      this.#add(chunk.subarray(from, end));
      this.end();
      from = end + 1;
    }
    this.#add(chunk.subarray(from));
  }

  #add(part: Buffer): void {
    if (this.#length > LONGEST_LINE || part.length === 0) return;
    this.#length += part.length;
    this.#parts.push(part);
  }

  end(): void {
    if (this.#parts.length > 0) this.#take(Buffer.concat(this.#parts).toString());
    this.#parts.length = 0;
    this.#length = 0;
  }
}
