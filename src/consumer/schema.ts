/**
 * Schemas that bodies are checked with before a callback sees them: the interface that zod, valibot, arktype and others share
 * (Standard Schema, version 1), so that none of them is needed here.
 */
import { PubsubError } from '../errors.js';

/** What a schema of such a library has; `Output` is what it makes of a body. */
export interface Schema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

export type SchemaResult<Output> =
  { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };

interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** Of a body that fits in many places not at all, so many are told. */
const MOST_PATHS = 5;
/** Names may be the sender's: they are told, and not at any length. */
const LONGEST_PATH = 100;

/** The value as a schema. Throws `callback-schema-invalid` for what is none. */
export function asSchema(value: unknown, name: string): Schema {
  const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function';
  const standard = isObject ? (value as Partial<Schema>)['~standard'] : undefined;
  if (standard?.version === 1 && typeof standard.validate === 'function') return value as Schema;
  throw new PubsubError(
    'callback-schema-invalid',
    `${name} is no schema that bodies can be checked with: make it with zod, valibot, arktype or another library of the ` +
      'Standard Schema interface, or give it another name',
  );
}

/** Where a body does not fit, and nothing of what is there. */
export function describeIssues(issues: readonly SchemaIssue[]): string {
  const paths = [...new Set(issues.map(({ path }) => describePath(path ?? [])))];
  const more = paths.length > MOST_PATHS ? ` and ${paths.length - MOST_PATHS} more` : '';
  return `the body does not fit the schema at ${paths.slice(0, MOST_PATHS).join(', ')}${more}`;
}

/** `items[0].price`. */
function describePath(path: NonNullable<SchemaIssue['path']>): string {
  const text = path
    .map((part) => (typeof part === 'object' ? part.key : part))
    .map((key, index) => {
      if (typeof key === 'number' || (typeof key === 'string' && /^\d+$/.test(key))) return `[${key}]`;
      const name = String(key);
      if (!/^[\p{L}_$][\p{L}\p{N}_$-]*$/u.test(name)) return `[${JSON.stringify(name)}]`;
      return index === 0 ? name : `.${name}`;
    })
    .join('');
  if (text === '') return 'its root';
  return text.length > LONGEST_PATH ? `${text.slice(0, LONGEST_PATH)}...` : text;
}
