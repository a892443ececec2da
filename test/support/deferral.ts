/**
 * Makes the broker behind one connection look like one whose transactions wait for COMMIT whole, as the STOMP of RabbitMQ's
 * main branch (2026) does: it sees nothing of a transaction before that, and nothing at all of one that is aborted. Hides
 * which receipts have to be answered here then: those of BEGIN, ABORT and of the ACKs and NACKs inside, all of which
 * RabbitMQ answers at once. A SEND's comes after COMMIT, from the broker, and after an ABORT never.
 */
import { encodeFrame, type Frame, FrameDecoder } from '../../src/stomp/frames.js';

const options = { strict: false, headerBytes: Infinity, bodyBytes: Infinity };

export class Deferral {
  #bytes: Buffer[] = [];
  #frame: Frame | undefined;
  readonly #fromClient = new FrameDecoder(options, (frame) => (this.#frame = frame));
  readonly #fromServer = new FrameDecoder(options, () => undefined);
  /** Of each open transaction, what the broker is still to see. */
  readonly #open = new Map<string, Buffer[]>();
  #receipts: Buffer[] = [];

  /** What of this goes to the server now. */
  toServer(chunk: Buffer): Buffer {
    const passed: Buffer[] = [];
    for (let start = 0; start < chunk.length;) {
      // A frame ends with a NUL; the decoder knows which of them do not end one.
      const nul = chunk.indexOf(0, start);
      const end = nul === -1 ? chunk.length : nul + 1;
      const piece = chunk.subarray(start, end);
      start = end;
      this.#bytes.push(piece);
      this.#fromClient.push(piece);
      if (!this.#fromClient.isMidFrame) passed.push(...this.#pass());
    }
    return Buffer.concat(passed);
  }

  /** What goes to the client with this: the receipts that are due, as soon as no frame is under way. */
  toClient(chunk: Buffer): Buffer {
    this.#fromServer.push(chunk);
    return Buffer.concat([chunk, this.takeReceipts()]);
  }

  /** The receipts to be sent to the client now; none in the middle of a frame. */
  takeReceipts(): Buffer {
    return Buffer.concat(this.#fromServer.isMidFrame ? [] : this.#receipts.splice(0));
  }

  /** Of the frame that has ended, or the line ends between two. */
  #pass(): Buffer[] {
    const [bytes, frame] = [this.#bytes, this.#frame];
    this.#bytes = [];
    this.#frame = undefined;
    const id = frame?.headers.transaction;
    if (frame === undefined || id === undefined) return bytes;
    if (frame.command === 'BEGIN') {
      this.#open.set(id, [this.#answer(frame)]);
      return [];
    }
    const held = this.#open.get(id);
    if (held === undefined) return bytes;
    if (frame.command === 'SEND') held.push(...bytes);
    else if (frame.command === 'ACK' || frame.command === 'NACK') held.push(this.#answer(frame));
    else this.#open.delete(id);
    if (frame.command === 'ABORT') this.#answer(frame);
    return frame.command === 'COMMIT' ? [...held, ...bytes] : [];
  }

  /** Says the frame's receipt; returns the frame without it, for the server. */
  #answer({ command, headers, body }: Frame): Buffer {
    const { receipt } = headers;
    if (receipt !== undefined) this.#receipts.push(encodeFrame('RECEIPT', { 'receipt-id': receipt }));
    return encodeFrame(command, { ...headers, receipt: undefined }, body);
  }
}
