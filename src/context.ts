/** Which message the running code is about: set around each callback, read by the log, the publisher and its worker. */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';

export interface MessageContext {
  readonly correlationId: string;
  /** The name of the consumer, where a process has several. */
  readonly consumer?: string | undefined;
  /** In a worker process: the run that the code belongs to, also after its callback returned. */
  readonly runId?: number;
  /** The headers that tell of the trace that the message is part of, and of its span there. */
  readonly trace?: Readonly<Record<string, string>> | undefined;
  /** The `traceparent` that the message came with, where that is another. */
  readonly receivedTrace?: string | undefined;
}

const storage = new AsyncLocalStorage<MessageContext>();

/** Calls `work` with the context in force for it and for everything it starts. */
export function runInContext<T, Args extends unknown[]>(
  context: MessageContext,
  work: (...args: Args) => T,
  ...args: Args
): T {
  return storage.run(context, work, ...args);
}

/** The context that the running code was started in, undefined outside of a callback. */
export function currentContext(): MessageContext | undefined {
  return storage.getStore();
}

/** The correlation id of the message whose callback is running, undefined outside of one. */
export function correlationId(): string | undefined {
  return storage.getStore()?.correlationId;
}

/** The function, which runs in the context of now whenever it is called. */
export function boundHere<Args extends unknown[]>(work: (...args: Args) => void): (...args: Args) => void {
  return AsyncResource.bind(work);
}
