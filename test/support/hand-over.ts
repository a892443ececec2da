/**
 * The moments at which a consumer may end while it sends something because of a message and then acks that message: the
 * frames that go over the wire, in order.
 */
import type { Frame } from '../../src/stomp/frames.js';
import type { Direction, Proxy } from './proxy.js';

/** A moment of a hand-over: when a frame is on its way. */
export interface Step {
  readonly name: string;
  readonly direction: Direction;
  readonly command: string;
  /** The how-many-th of these frames it is. */
  readonly nth: number;
  /** How often what is sent is sent again afterwards. */
  readonly repeated: number;
  /** The message is done then. */
  readonly isLast: boolean;
}

const held = (name: string, direction: Direction, command: string, repeated: number): Step => {
  return { name, direction, command, nth: 1, repeated, isLast: false };
};

/** Everything is confirmed before the ACK goes out. */
export const handOverSteps: readonly Step[] = [
  held('before the SEND', 'toServer', 'SEND', 0),
  held('before its receipt', 'toClient', 'RECEIPT', 1),
  held('before the ACK', 'toServer', 'ACK', 1),
  // With one message at a time the next is not sent on before the broker has taken that.
  { ...held('after the ACK', 'toServer', 'SEND', 0), nth: 2, isLast: true },
];

/** Resolves when the step has come, and there the connections stand still. */
export function reaches(proxy: Proxy, { direction, command, nth }: Step): Promise<void> {
  let seen = 0;
  const isIt = (frame: Frame) => frame.command === command && ++seen === nth;
  return proxy.frame(direction, isIt, { isHeld: true });
}
