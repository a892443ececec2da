/** Commands whose processes record spans: a project with an API of OpenTelemetry of its own, and what they recorded. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../support/process.js';
import { temporaryFolder } from './commands.js';

const sdk = join(packageRoot, 'test/fixtures/otel.mjs');
/** The API that this package is developed with. */
export const ownApi = join(packageRoot, 'node_modules/@opentelemetry/api');
/** Of SpanKind. */
export const [producer, consumer] = [3, 4];

export interface Span {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId?: string;
  readonly links: readonly string[];
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly status: { readonly code: number; readonly message?: string };
  readonly durationMs: number;
}

/** A project with an API of its own, and where its processes record their spans. */
export function tracedProject(files: Readonly<Record<string, string>>, api = ownApi) {
  const folder = temporaryFolder(files);
  mkdirSync(join(folder, 'node_modules/@opentelemetry'), { recursive: true });
  symlinkSync(api, join(folder, 'node_modules/@opentelemetry/api'));
  const file = join(folder, 'spans');
  writeFileSync(file, '');
  const imports = `--import ${pathToFileURL(sdk).href}`;
  const env = { NODE_OPTIONS: imports, SPANS: file, TRACE_API: api };
  const spans = () =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Span);
  const named = (name: string) => spans().filter((span) => span.name === name);
  return {
    ...{ folder, env, spans, named, options: { env, cwd: folder } },
    callback: (name: string) => `${join(folder, 'callbacks.mjs')}#${name}`,
  };
}
