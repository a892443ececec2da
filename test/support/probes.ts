/** Asking a consumer of the commands how it is, as probes and scrapers do. */
import type { Running } from './process.js';

export interface Answer {
  readonly status: number;
  readonly body: string;
  /** Of JSON. */
  readonly report: {
    readonly status?: string;
    readonly state?: string;
    readonly reasons?: readonly string[];
    readonly [name: string]: unknown;
  };
  readonly headers: Headers;
}

/** Where it answers: it has been started with `--health-port 0`. */
export async function pagesOf(
  running: Running,
): Promise<(path: string, init?: RequestInit) => Promise<Answer>> {
  const { port } = await running.says('answering');
  return async (path, init = {}) => {
    const response = await fetch(`http://127.0.0.1:${String(port)}${path}`, {
      signal: AbortSignal.timeout(5000),
      ...init,
    });
    const body = await response.text();
    const report = body.startsWith('{') ? (JSON.parse(body) as Answer['report']) : {};
    return { status: response.status, body, report, headers: response.headers };
  };
}

/** Asks again and again, from now on; `end` tells which statuses there were. */
export function sample(ask: () => Promise<Answer>): { readonly end: () => Promise<ReadonlySet<number>> } {
  const seen = new Set<number>();
  const over = new AbortController();
  const asking = (async () => {
    while (!over.signal.aborted) seen.add((await ask()).status);
  })();
  return {
    end: async () => {
      over.abort();
      await asking;
      return seen;
    },
  };
}
