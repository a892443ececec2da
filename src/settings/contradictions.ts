/** What is wrong with settings that are right one by one: what contradicts each other, and what changes nothing. */
import { settings, type Settings } from '../settings.js';

/** One problem a line; `isPlainOnPurpose` when TLS was turned off by hand. */
export function contradictions(resolved: Settings, isPlainOnPurpose: boolean): string[] {
  const { caFile, certFile, keyFile, useSsl, sourceUseSsl } = resolved;
  const hasTlsFiles = caFile !== undefined || certFile !== undefined || keyFile !== undefined;
  const pairs: [boolean, string][] = [
    [
      (resolved.standbyHost === undefined) !== (resolved.standbyPort === undefined),
      'STOMP_SERVER_STANDBY_HOST and STOMP_SERVER_STANDBY_PORT: set both or neither',
    ],
    [
      (resolved.sourceHost === undefined) !== (resolved.sourcePort === undefined),
      'STOMP_SOURCE_HOST and STOMP_SOURCE_PORT: set both or neither',
    ],
    [
      hasTlsFiles && !useSsl && sourceUseSsl !== true && !isPlainOnPurpose,
      'DEFAULT_STOMP_CA_CERTS, DEFAULT_STOMP_CERT_FILE, DEFAULT_STOMP_KEY_FILE: given without TLS, and nothing is sent in clear ' +
        'text then; set STOMP_USE_SSL=true, or leave them away (--no-ssl for one command)',
    ],
    ...(
      [
        ['user', 'userFile'],
        ['password', 'passwordFile'],
        ['sourceUser', 'sourceUserFile'],
        ['sourcePassword', 'sourcePasswordFile'],
      ] as const
    ).map(([value, file]): [boolean, string] => [
      resolved[value] !== undefined && resolved[file] !== undefined,
      `${settings[value].variable} and ${settings[file].variable}: give one of them`,
    ]),
    [
      (resolved.certFile === undefined) !== (resolved.keyFile === undefined),
      'DEFAULT_STOMP_CERT_FILE and DEFAULT_STOMP_KEY_FILE: set both or neither',
    ],
    [
      resolved.servesMetrics && resolved.healthPort === undefined,
      'STOMP_METRICS: needs STOMP_HEALTH_PORT, the port that they are served on',
    ],
    [
      resolved.queueType === 'quorum' && resolved.exclusiveQueue,
      'STOMP_QUEUE_TYPE and STOMP_DEFAULT_EXCLUSIVE_QUEUE: a quorum queue cannot be exclusive',
    ],
    [
      resolved.retries > 0 && resolved.exclusiveQueue,
      'STOMP_RETRIES and STOMP_DEFAULT_EXCLUSIVE_QUEUE: an exclusive queue may be gone when a message comes back',
    ],
    [
      resolved.maxDeliveries !== undefined && resolved.exclusiveQueue,
      'STOMP_MAX_DELIVERIES and STOMP_DEFAULT_EXCLUSIVE_QUEUE: an exclusive queue is gone when its consumer is',
    ],
    [
      resolved.retries > 0 && resolved.subscribeHeaders['x-stream-offset'] !== undefined,
      'STOMP_RETRIES and x-stream-offset: RabbitMQ drops what is to come back to a stream',
    ],
    [
      !resolved.declare && resolved.exclusiveQueue,
      'STOMP_DECLARE=false and STOMP_DEFAULT_EXCLUSIVE_QUEUE: a queue that is not declared cannot be made exclusive',
    ],
    [
      !resolved.declare && Object.keys(resolved.queueArguments).length > 0,
      'STOMP_DECLARE=false and STOMP_QUEUE_ARGUMENTS: arguments are for queues that are declared',
    ],
    [
      resolved.durableTopicSubscription && resolved.clientId === undefined,
      'STOMP_DURABLE_TOPIC_SUBSCRIPTION: needs STOMP_LISTENER_CLIENT_ID, or every start would leave a subscription behind',
    ],
  ];
  return pairs.filter(([isWrong]) => isWrong).map(([, problem]) => problem);
}

/** Settings that were changed and change nothing, and why. */
export function ineffective({
  processOnBackground,
  processWorkers,
  retries,
  retryDelay,
}: Settings): string[] {
  const { processWorkers: workers, retryDelay: delay } = settings;
  return [
    ...(!processOnBackground && processWorkers !== workers.default
      ? [`${workers.variable} without worker processes (${settings.processOnBackground.variable}=false)`]
      : []),
    ...(retries === 0 && retryDelay !== delay.default
      ? [`${delay.variable} without ${settings.retries.variable}`]
      : []),
  ];
}
