/** `pubsub move-messages <source> <target> [source-host] [source-port]`: from queue to queue, within a broker or between two. */
import { lookup } from 'node:dns/promises';
import { PubsubError } from '../errors.js';
import { log } from '../log.js';
import type { Settings } from '../settings.js';
import {
  checkTarget,
  feedingTopicOf,
  isDeadLetterQueue,
  parseQueue,
  queueNameOf,
} from '../brokers/destinations.js';
import { openForwarder } from '../sending/forwarder.js';
import { readLogin } from '../sending/login.js';
import { noneTaken } from '../sending/take.js';
import {
  afterStop,
  deliveryLimitOf,
  leaveOversized,
  messages,
  perhaps,
  report,
  runTake,
  startOperation,
  unsureOf,
  wouldBe,
  type OperatorFlags,
} from './operating.js';

/**
 * Each message is sent to the target as it is and acked when that is confirmed: an interruption repeats messages and
 * loses none. Resolves at the end of the run; rejects with a PubsubError that says how many were moved.
 */
export async function moveMessages(
  source: string,
  target: string,
  host: string | undefined,
  port: string | undefined,
  flags: OperatorFlags,
): Promise<void> {
  if (host !== undefined && port === undefined)
    throw new PubsubError('invalid-usage', 'a source host needs a source port');
  const given = host === undefined ? {} : { sourceHost: host, sourcePort: port };
  const operation = await startOperation({ ...flags, ...given });
  const { settings, filter, isDryRun } = operation;
  const sourceSettings = settingsOfSource(settings);
  // Before anything is taken: the target is connected to when there is something to send.
  for (const login of [settings, sourceSettings]) readLogin(login);
  const queue = parseQueue(source);
  checkTarget(target);
  await refuseCircle(queue, target, sourceSettings, settings);
  if (queueNameOf(target) === undefined)
    log.warn({ target }, 'no queue: what is sent there is gone where nobody is subscribed');
  const keepsDeath = isDeadLetterQueue(target);

  const forwarder = openForwarder(settings, log);
  const counts = noneTaken();
  const describe = () => `${messages(counts.taken)} moved`;
  const errand = {
    ...{ queue, settings: sourceSettings, deliveryLimit: deliveryLimitOf(flags), describe },
    outcome: () => `${describe()}${perhaps(counts.unsure)}`,
  };
  try {
    const { done, left, ...ending } = await runTake(operation, errand, counts, (message) => {
      if (!filter.isMatch(message.headers)) return 'leave';
      return leaveOversized(message) ?? (() => forwarder.send(target, message, { keepsDeath }));
    });
    const result = { command: 'move-messages', source, target, isDryRun, moved: done, left };
    const moved = `${messages(done)} ${wouldBe(operation, 'moved')} from ${queue} to ${target}`;
    const rest = `${left === 0 ? '' : `; ${messages(left)} left`}${afterStop(ending.stopped, queue)}`;
    await report(
      { ...result, ...unsureOf(counts.unsure), ...ending },
      `${moved}${perhaps(counts.unsure)}${rest} (${ending.seconds} s)`,
    );
  } finally {
    await forwarder.close();
  }
}

/** The source is reached as the target is, but for what the user says of the source. */
function settingsOfSource(settings: Settings): Settings {
  const { sourceHost, sourcePort, sourceUser, sourcePassword, sourceVhost, sourceUseSsl } = settings;
  const { sourceUserFile, sourcePasswordFile } = settings;
  const hasUser = sourceUser !== undefined || sourceUserFile !== undefined;
  const hasPassword = sourcePassword !== undefined || sourcePasswordFile !== undefined;
  const login = {
    user: hasUser ? sourceUser : settings.user,
    userFile: hasUser ? sourceUserFile : settings.userFile,
    password: hasPassword ? sourcePassword : settings.password,
    passwordFile: hasPassword ? sourcePasswordFile : settings.passwordFile,
    vhost: sourceVhost ?? settings.vhost,
    useSsl: sourceUseSsl ?? settings.useSsl,
  };
  if (sourceHost === undefined || sourcePort === undefined) return { ...settings, ...login };
  const server = {
    host: sourceHost,
    port: sourcePort,
    ...{ url: undefined, standbyHost: undefined, standbyPort: undefined },
  };
  return { ...settings, ...login, ...server, broker: 'auto' };
}

/** A queue that gets what is taken from it would never be empty. */
async function refuseCircle(queue: string, target: string, source: Settings, own: Settings): Promise<void> {
  const topic = feedingTopicOf(queue);
  const isFed = topic !== undefined && target === `/topic/${topic}`;
  if ((queueNameOf(target) !== queue && !isFed) || !(await isSameBroker(source, own))) return;
  throw new PubsubError(
    'invalid-usage',
    `moving ${queue} to ${target} would never end: ${isFed ? 'the topic feeds that queue' : 'they are one queue'}`,
  );
}

async function isSameBroker(a: Settings, b: Settings): Promise<boolean> {
  if (a.port !== b.port || a.vhost !== b.vhost) return false;
  if (a.host === b.host) return true;
  const addresses = async ({ host }: Settings) =>
    (await lookup(host, { all: true }).catch(() => [])).map(({ address }) => address);
  const [ofA, ofB] = await Promise.all([addresses(a), addresses(b)]);
  return ofA.some((address) => ofB.includes(address));
}
