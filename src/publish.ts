/** Publishing, for the library: a publisher by settings. */
import { log, type Logger } from './log.js';
import { misused } from './sending/misuse.js';
import { Publisher } from './sending/publisher.js';
import type { LibrarySettings } from './settings.js';
import { unknownOptions } from './settings/environment.js';
import { resolve } from './settings/resolve.js';

export interface PublisherOptions extends LibrarySettings {
  /** Default: the exported `log`. */
  readonly log?: Logger;
}

/**
 * A publisher; it connects when first used, and keeps the process alive until it is closed. Settings not given come from the
 * environment. Throws `invalid-setting` and `invalid-usage`.
 */
export function openPublisher(options: PublisherOptions = {}): Publisher {
  if (typeof options !== 'object' || (options as unknown) === null)
    throw misused('options', 'an object, like { url: "stomp://broker" }', options);
  const { log: logger = log, ...given } = options;
  for (const unknown of unknownOptions(given)) logger.warn(unknown, 'unknown option; is it misspelt?');
  return new Publisher(resolve(given), logger);
}
