/**
 * The small HTTP server that probes and scrapers ask: GET and HEAD of a few pages, and nothing else. It hides that whoever
 * asks must not be able to hold anything: connections are few and short, and bodies are not read.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';

export interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** By path. What one rejects with is answered with 500, and told in the log. */
export type Pages = Readonly<Record<string, () => Page | Promise<Page>>>;

const MOST_CONNECTIONS = 100;
const LONGEST_REQUEST_MS = 5000;

/**
 * Resolves when it listens, with what ends that: it resolves when it listens no more, and what is asked just then gets no
 * answer. Rejects with `invalid-setting` when it cannot listen.
 */
export async function servePages(
  pages: Pages,
  { host, port }: { readonly host: string; readonly port: number },
  log: Logger,
): Promise<() => Promise<void>> {
  const limits = { requestTimeout: LONGEST_REQUEST_MS, headersTimeout: LONGEST_REQUEST_MS };
  const server = createServer({ ...limits, connectionsCheckingInterval: 1000 }, (request, response) => {
    void answer(pages, request, log).then((page) => send(page, request, response));
  });
  server.maxConnections = MOST_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const problem = `STOMP_HEALTH_PORT: cannot listen on port ${port} of ${host}: ${reasonOf(error)}`;
      reject(new PubsubError('invalid-setting', problem, { cause: error }));
    });
    server.listen({ host, port }, resolve);
  });
  const { port: listening } = server.address() as AddressInfo;
  log.info({ host, port: listening, paths: Object.keys(pages) }, 'answering over HTTP');
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
}

async function answer(pages: Pages, { method, url = '/' }: IncomingMessage, log: Logger): Promise<Page> {
  if (method !== 'GET' && method !== 'HEAD') return plain(405, 'GET and HEAD only');
  const path = url.split('?', 1)[0] ?? '';
  const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
  if (page === undefined) return plain(404, `there is ${Object.keys(pages).join(', ')}`);
  try {
    return await page();
  } catch (error) {
    log.error({ err: error, path }, 'a page cannot be made');
    return plain(500, 'see the log');
  }
}

const plain = (status: number, text: string): Page => ({
  status,
  type: 'text/plain; charset=utf-8',
  body: `${text}\n`,
});

function send({ status, type, body }: Page, { method }: IncomingMessage, response: ServerResponse): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(status === 405 ? { allow: 'GET, HEAD', connection: 'close' } : {}),
  });
  response.end(method === 'HEAD' ? undefined : body);
}
