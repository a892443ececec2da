/** Asking a consumer of the commands how it is, as probes and scrapers do. */
import type { Running } from './process.js';

/** Far beyond what a loaded machine needs. */
const ANSWER_MS = 20_000;

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
      signal: AbortSignal.timeout(ANSWER_MS),
      ...init,
    });
    const body = await response.text();
    const report = body.startsWith('{') ? (JSON.parse(body) as Answer['report']) : {};
    return { status: response.status, body, report, headers: response.headers };
  };
}

/** Asks again and again, from now on; `end` tells which statuses there were, as `of` takes them from the answers. */
export function sample(
  ask: () => Promise<Answer>,
  of = ({ status }: Answer): number => status,
): { readonly end: () => Promise<ReadonlySet<number>> } {
  const seen = new Set<number>();
  const over = new AbortController();
  const asking = (async () => {
    while (!over.signal.aborted) seen.add(of(await ask()));
  })();
  // Told by `end`.
  asking.catch(() => undefined);
  return {
    end: async () => {
      over.abort();
      await asking;
      return seen;
    },
  };
}
