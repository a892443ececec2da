/** Which message the running code is about: set around each callback, read by the log and the publisher. */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface MessageContext {
  readonly correlationId: string;
}

const storage = new AsyncLocalStorage<MessageContext>();

/** Calls `work` with the context in force for it and for everything it starts. */
export function runInContext<T>(context: MessageContext, work: () => T): T {
  return storage.run(context, work);
}

/** The correlation id of the message whose callback is running, undefined outside of one. */
export function correlationId(): string | undefined {
  return storage.getStore()?.correlationId;
}
