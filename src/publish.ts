/** Publishing, for the library: a publisher by settings. */
import { log, type Logger } from './log.js';
import { Publisher } from './sending/publisher.js';
import { resolve, unknownOptions, type LibrarySettings } from './settings.js';

export interface PublisherOptions extends LibrarySettings {
  /** Default: the exported `log`. */
  readonly log?: Logger;
}

/** A publisher; it connects when first used. Settings not given come from the environment. Throws `invalid-setting`. */
export function openPublisher({ log: logger = log, ...given }: PublisherOptions = {}): Publisher {
  for (const option of unknownOptions(given)) logger.warn({ option }, 'unknown option; is it misspelt?');
  return new Publisher(resolve(given), logger);
}
