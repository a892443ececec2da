/**
 * What a connection reads: chunks become frames that keep to the limits, or a Refusal. Hides that whoever is not logged
 * in may send a CONNECT and little more, and what STOMP 1.0 writes differently.
 */
import { encodeFrame, type Frame, FrameDecoder, type FrameLimits } from '../stomp/frames.js';
import { FrameError } from '../stomp/headers.js';
import type { Behaviour } from './behaviour.js';
import { trimmed } from './connect.js';
import type { BrokerLimits } from './limits.js';
import { Refusal, silent } from './refusal.js';

export class Input {
  #limits: BrokerLimits;
  #maxFrameBytes: number;
  #decoder: FrameDecoder;
  #isTrimming = false;

  constructor(
    limits: BrokerLimits,
    { maxFrameBytes = Infinity }: Behaviour,
    onFrame: (frame: Frame) => void,
  ) {
    this.#limits = limits;
    this.#maxFrameBytes = maxFrameBytes;
    const beforeLogin = this.#within(limits.headerBytesBeforeLogin, limits.bodyBytesBeforeLogin);
    this.#decoder = new FrameDecoder({ strict: true, ...beforeLogin }, (frame) => {
      this.#check(frame);
      onFrame(this.#isTrimming ? { ...frame, headers: trimmed(frame.headers) } : frame);
    });
  }

  /** From the next frame on, also if it came in the same chunk as the CONNECT. */
  loggedIn(version: string): void {
    this.#decoder.setLimits(this.#within(Infinity, Infinity));
    this.#isTrimming = version === '1.0';
  }

  /** Calls `onFrame` for each frame that ends in this chunk. Throws what that throws, and a Refusal that is fatal. */
  push(chunk: Buffer): void {
    try {
      this.#decoder.push(chunk);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      if (error.isOverLimit && Number.isFinite(this.#maxFrameBytes)) throw tooLong(error.message);
      throw malformed(error.message);
    }
  }

  #within(headerBytes: number, bodyBytes: number): FrameLimits {
    return {
      headerBytes: Math.min(headerBytes, this.#limits.headerBytes, this.#maxFrameBytes),
      bodyBytes: Math.min(bodyBytes, this.#limits.bodyBytes, this.#maxFrameBytes),
    };
  }

  #check({ command, headers, lines = '', body }: Frame): void {
    const limits = this.#limits;
    const max = this.#maxFrameBytes;
    if (Number.isFinite(max) && encodeFrame(command, headers, body).length > max)
      throw tooLong(`a frame is longer than ${max} bytes`);
    if (command.includes('\0')) throw malformed('a command contains a NUL byte');
    if (lines.includes('\0')) throw malformed('a header contains a NUL byte');
    // Each header takes two characters at least.
    if (lines.length <= Math.min(limits.headerLineBytes, 2 * limits.headers)) return;
    let count = 0;
    for (const name in headers) {
      const value = headers[name] ?? '';
      if (++count > limits.headers) throw malformed(`a frame has more than ${limits.headers} headers`);
      if (name.length + value.length > limits.headerLineBytes)
        throw malformed(`a header is longer than ${limits.headerLineBytes} bytes`);
    }
  }
}

/** RabbitMQ 3.10.8 closes without a word. */
const malformed = (why: string): Refusal => new Refusal('Malformed frame', why, true);
const tooLong = (why: string): Refusal => silent('Frame too long', why);
