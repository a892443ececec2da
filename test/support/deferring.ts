/**
 * What a broker does to transactions whose STOMP keeps them whole until COMMIT, as RabbitMQ's main branch (2026) does:
 * a SEND in one declares no queue before, and ABORT erases it. 3.10.8 to 4.3.6 declare the queue at the SEND.
 */
import { encodeFrame, FrameDecoder } from '../../src/stomp/frames.js';

/** Returns what passes on the chunks of a client's connection, in order: frames in a transaction with its COMMIT. */
export function deferTransactions(): (chunk: Buffer) => Buffer {
  const deferred = new Map<string, Buffer[]>();
  let passed: Buffer[] = [];
  const limits = { strict: false, headerBytes: Infinity, bodyBytes: Infinity };
  const decoder = new FrameDecoder(limits, ({ command, headers, body }) => {
    const { transaction } = headers;
    const bytes = Buffer.from(encodeFrame(command, headers, body));
    if (transaction === undefined || command === 'BEGIN') {
      passed.push(bytes);
    } else if (command === 'COMMIT' || command === 'ABORT') {
      const whole = deferred.get(transaction) ?? [];
      deferred.delete(transaction);
      passed.push(...(command === 'COMMIT' ? whole : []), bytes);
    } else {
      deferred.set(transaction, [...(deferred.get(transaction) ?? []), bytes]);
    }
  });
  return (chunk) => {
    // A heart-beat is no frame.
    if (!decoder.isMidFrame && chunk.every((byte) => byte === 0x0a)) return chunk;
    decoder.push(chunk);
    const bytes = Buffer.concat(passed);
    passed = [];
    return bytes;
  };
}
