/** Gives the memory of bytes back at once: of long ones the garbage collector would let several messages' worth pile up. */
import { MessageChannel, type MessagePort } from 'node:worker_threads';

let closed: MessagePort | undefined;

/** Nobody else may use the memory they are in, and they are empty then. */
export function freeBytes({ buffer }: Buffer): void {
  // What is passed on to a port that is closed goes nowhere: a buffer that is passed on is nobody's any more.
  closed ??= closedPort();
  closed.postMessage(null, [buffer as ArrayBuffer]);
}

function closedPort(): MessagePort {
  const { port1 } = new MessageChannel();
  port1.close();
  return port1;
}
