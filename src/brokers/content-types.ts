/**
 * What a message says of its body: which kind of content it is, in which characters, and how it was packed. Pure facts about
 * two headers, `content-type` and `content-encoding`.
 */

/** What a body is taken for, or sent as. */
export type Content = 'json' | 'text' | 'bytes';

/** `auto`: what its content type says. */
export type BodyKind = Content | 'auto';

export const defaultTypes: Readonly<Record<Content, string>> = {
  json: 'application/json;charset=utf-8',
  text: 'text/plain;charset=utf-8',
  bytes: 'application/octet-stream',
};

/** What a content type announces; what nobody announces is bytes. */
export function kindOf(contentType: string | undefined): Content {
  const type = (contentType ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  if (type === 'application/json' || type.endsWith('+json')) return 'json';
  return /^text\/|\/xml$|\+xml$/.test(type) ? 'text' : 'bytes';
}

/** The charset that a content type names, in lower case; `utf-8` when it names none. */
export function charsetOf(contentType: string | undefined): string {
  const [, charset = 'utf-8'] = /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(contentType ?? '') ?? [];
  return charset.toLowerCase().replace(/^utf8$/, 'utf-8');
}

/** The codings of a `content-encoding`, in the order in which they were applied. */
export function codingsOf(contentEncoding: string): string[] {
  return contentEncoding.split(',').map((coding) =>
    coding
      .trim()
      .toLowerCase()
      .replace(/^x-gzip$/, 'gzip'),
  );
}
