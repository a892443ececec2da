/** Where a callback runs. Today that is the event loop of the connection; threads fit behind the same interface. */
import { runInContext, type MessageContext } from '../context.js';

/** What became of ack() or nack(): written to the connection, refused as a second call, or too late. */
export type Settlement = 'sent' | 'already-settled' | 'connection-lost';

/** The callback's view of one message. */
export interface Payload<Body = unknown> {
  /** As received, un-escaped. The object has no prototype: any name is safe to look up. */
  readonly headers: Readonly<Record<string, string>>;
  /** The parsed JSON. */
  readonly body: Body;
  /** The bytes of the body as received, for what JSON cannot keep exact, such as integers above 2^53. */
  readonly raw: Uint8Array;
  /** Aborted when a stop has waited its graceful time: the message goes back to its queue. */
  readonly signal: AbortSignal;
  /**
   * Tells the broker that the message is done. Resolves once that is written to the connection, and never rejects:
   * `connection-lost` means that the message will be delivered again.
   */
  readonly ack: () => Promise<Settlement>;
  /** Puts the message into its dead-letter queue. Resolves as ack does. */
  readonly nack: () => Promise<Settlement>;
}

/** Called once for each delivery. To throw, or to return without ack() or nack(), dead-letters the message. */
export type Callback<Body = never> = (payload: Payload<Body>) => unknown;

export type RunResult = { readonly threw: false } | { readonly threw: true; readonly error: unknown };

export interface CallbackRunner {
  /** Settles when the callback has; never rejects. */
  run(payload: Payload, context: MessageContext): Promise<RunResult>;
}

const RETURNED: RunResult = { threw: false };

/** Runs callbacks on this event loop: fastest, and a callback that blocks it blocks everything. */
export function createInlineRunner(callback: (payload: Payload) => unknown): CallbackRunner {
  return {
    run: async (payload, context) => {
      try {
        await runInContext(context, () => callback(payload));
        return RETURNED;
      } catch (error) {
        return { threw: true, error };
      }
    },
  };
}
