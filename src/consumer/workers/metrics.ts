/** In a worker process: what the callback counts with prom-client, as JSON for the consumer. */
import { requireOptional } from '../../optional.js';

interface PromClient {
  readonly register: { getMetricsAsJSON(): Promise<readonly unknown[]> };
}

/** Resolves with the text of an array, empty when nothing is counted; rejects with what a metric's own code throws. */
export function createMetricsReader(callbackFile: string | undefined): () => Promise<string> {
  const client = requireOptional('prom-client', callbackFile) as PromClient | undefined;
  return async () => JSON.stringify((await client?.register.getMetricsAsJSON()) ?? []);
}
