/**
 * What the broker refuses, as an ERROR frame says it: title (the `message` header), detail (the body) and whether the
 * connection goes on. Texts are those of RabbitMQ 3.10.8 with its line ends, seen on the wire, wherever it has one.
 */

export class Refusal extends Error {
  override name = 'Refusal';
  readonly title: string;
  readonly isFatal: boolean;
  /** The peer sees the end of its connection and no ERROR. */
  readonly isSilent: boolean;

  constructor(title: string, detail: string, isFatal: boolean, { isSilent = false } = {}) {
    super(detail);
    this.title = title;
    this.isFatal = isFatal;
    this.isSilent = isSilent;
  }
}

/** Of the ERROR frame, whose body is the detail. */
export function errorHeaders(title: string, detail: string): Record<string, string> {
  return {
    message: title,
    'content-type': 'text/plain',
    version: '1.0,1.1,1.2',
    'content-length': String(Buffer.byteLength(detail)),
  };
}

/** The connection stays open; RabbitMQ sends no RECEIPT for the refused frame. */
export function invalid(title: string, detail: string): Refusal {
  return new Refusal(title, detail, false);
}

/** What AMQP calls a channel error: RabbitMQ ends the connection. */
function channelError(title: string, detail: string): Refusal {
  return new Refusal(title, `${title.toUpperCase()} - ${detail}`, true);
}

/** The connection ends without a word; title and detail are for those who watch the broker. */
export function silent(title: string, detail: string): Refusal {
  return new Refusal(title, detail, true, { isSilent: true });
}

/** AMQP's bound on the names of queues and keys, in bytes; it keeps what a connection can make the broker remember small. */
const NAME_BYTES = 255;

/** Throws for a name that is too long to be kept. RabbitMQ 3.10.8 closes without a word. */
export function requireShort(what: string, name: string): void {
  if (Buffer.byteLength(name) <= NAME_BYTES) return;
  throw preconditionFailed(`${what} '${name.slice(0, 40)}...' is longer than ${NAME_BYTES} bytes`);
}

export const preconditionFailed = (detail: string): Refusal => channelError('precondition_failed', detail);
export const notFound = (detail: string): Refusal => channelError('not_found', detail);
/** Our own: RabbitMQ blocks its publishers instead. */
export const limitReached = (detail: string): Refusal => channelError('resource_error', detail);

export const processingError = (): Refusal => invalid('Processing error', 'Processing error');
export const queueNotFound = (name: string): Refusal => notFound(`no queue '${name}' in vhost '/'`);
export const unknownTag = (tag: number): Refusal => preconditionFailed(`unknown delivery tag ${tag}`);

export function resourceLocked(queue: string): Refusal {
  return channelError(
    'resource_locked',
    `cannot obtain exclusive access to locked queue '${queue}' in vhost '/'. It could be originally declared on ` +
      'another connection or the exclusive property value does not match that of the original declaration.',
  );
}
