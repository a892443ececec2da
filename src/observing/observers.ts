/** Several observers of one consumer, as one. */
import type { ConsumerObserver } from '../consumer/events.js';

type Name = keyof ConsumerObserver;
const names = ['onSettled', 'onConnection', 'onReceived', 'onWorker', 'onPublished', 'onRoundTrip'] as const;

/** The last one may fail: those before it have been told, and the consumer tells of the failure. */
export function observers(all: readonly ConsumerObserver[]): ConsumerObserver {
  return Object.fromEntries(
    (names satisfies readonly Name[]).flatMap((name) => {
      const functions = all.flatMap((one) => one[name] ?? []) as ((event: unknown) => unknown)[];
      const tellAll = (event: unknown) => functions.map((tell) => tell(event)).at(-1);
      return functions.length === 0 ? [] : [[name, functions.length === 1 ? functions[0] : tellAll]];
    }),
  );
}
