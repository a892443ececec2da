/**
 * The brokers a test run has, as tests see them: where each listens, who may log in, what it can do. Hides how the
 * runner hands them to the test files: one variable of JSON per broker, TEST_RABBITMQ, TEST_ACTIVEMQ and so on.
 * A broker of the user's own is given as TEST_RABBITMQ_URL=stomp://user:passcode@host:port and used as it is.
 */
import { rabbitmqctl } from './rabbitmq.js';

export const brokerNames = ['rabbitmq', 'activemq', 'artemis', 'embedded'] as const;
export type BrokerName = (typeof brokerNames)[number];

/** What a broker does of its own, for tests to name when they skip. */
export interface Capabilities {
  /** Queues are declared with arguments (`x-dead-letter-…`) and a mismatch is refused. */
  readonly queueArguments: boolean;
  /** NACK with `requeue:true` puts the message back; without it every NACK dead-letters. */
  readonly nackRequeues: boolean;
  /** A message that is not persistent is dead-lettered like any other. */
  readonly deadLettersNonPersistent: boolean;
  /** A NACK may be part of a transaction. */
  readonly nackInTransaction: boolean;
  /** The RECEIPT of COMMIT means that all of the transaction is stored. */
  readonly commitIsDurable: boolean;
  /** AMQ_SCHEDULED_DELAY on a SEND delays its delivery. */
  readonly scheduledDelivery: boolean;
  /** A SUBSCRIBE with `browser:true` shows a queue without taking from it. */
  readonly browsing: boolean;
  /** The connection is closed after a CONNECT with a wrong passcode. */
  readonly closesOnBadLogin: boolean;
  /** A message that is NACKed is in a queue afterwards, its own or one for dead letters. */
  readonly nackKeeps: boolean;
  /** An ACK in a transaction that does not come to its COMMIT is undone, and the message comes again. */
  readonly undoesAcks: boolean;
  /** What was un-acked on a connection that is cut comes again, all of it and at once, as `redelivered`. */
  readonly returnsWhatWasCut: boolean;
  /** What has arrived by `ack:auto` is settled, even if the connection is cut right after. */
  readonly autoSettlesOnArrival: boolean;
  /** Prefetch is counted in messages. */
  readonly prefetchInMessages: boolean;
  /** A frame STOMP is taken as a CONNECT. */
  readonly takesStomp: boolean;
  /** A message that was delayed says so in `scheduledJobId`, and is not delayed again. */
  readonly delaysOnce: boolean;
  /** The queue of a virtual topic is reached by a full name only, that of its topic before its own. */
  readonly fullNames: boolean;
  /** The one that the tests start has a login with backslashes, too (odd-login.ts). */
  readonly oddLogin: boolean;
}

export interface BrokerUnderTest {
  readonly name: BrokerName;
  /** As the broker says in CONNECTED, e.g. `3.10.8`. */
  readonly version: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly vhost?: string;
  /** The settings by which a child process finds this broker. */
  readonly env: Readonly<Record<string, string>>;
  readonly capabilities: Capabilities;
  /** A destination that whoever logs in so may not send to. */
  readonly refusedDestination: string;
  /** RabbitMQ of our own only: runs `rabbitmqctl` (about a second), resolves with its stdout. */
  readonly ctl?: (...args: string[]) => Promise<string>;
}

/** What is told of a broker from process to process; the rest follows from it. */
export interface BrokerFacts {
  readonly name: BrokerName;
  readonly version: string;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly vhost?: string;
  readonly ctlEnv?: Readonly<Record<string, string>>;
}

const capabilities: Readonly<Record<BrokerName, Capabilities>> = {
  rabbitmq: {
    queueArguments: true,
    nackRequeues: true,
    deadLettersNonPersistent: true,
    nackInTransaction: true,
    commitIsDurable: false,
    scheduledDelivery: false,
    browsing: false,
    closesOnBadLogin: false,
    nackKeeps: true,
    undoesAcks: true,
    returnsWhatWasCut: true,
    autoSettlesOnArrival: true,
    prefetchInMessages: true,
    takesStomp: true,
    delaysOnce: false,
    fullNames: false,
    oddLogin: true,
  },
  activemq: {
    queueArguments: false,
    nackRequeues: false,
    deadLettersNonPersistent: false,
    nackInTransaction: false,
    commitIsDurable: true,
    scheduledDelivery: true,
    browsing: true,
    closesOnBadLogin: true,
    nackKeeps: true,
    undoesAcks: true,
    returnsWhatWasCut: true,
    autoSettlesOnArrival: true,
    prefetchInMessages: true,
    takesStomp: true,
    delaysOnce: true,
    fullNames: false,
    oddLogin: true,
  },
  artemis: {
    queueArguments: false,
    nackRequeues: false,
    deadLettersNonPersistent: true,
    nackInTransaction: true,
    commitIsDurable: true,
    scheduledDelivery: true,
    browsing: false,
    closesOnBadLogin: true,
    nackKeeps: false,
    undoesAcks: false,
    returnsWhatWasCut: false,
    autoSettlesOnArrival: false,
    prefetchInMessages: false,
    takesStomp: false,
    delaysOnce: false,
    fullNames: true,
    oddLogin: false,
  },
  embedded: {
    queueArguments: true,
    nackRequeues: true,
    deadLettersNonPersistent: true,
    nackInTransaction: true,
    commitIsDurable: false,
    scheduledDelivery: true,
    browsing: false,
    closesOnBadLogin: true,
    nackKeeps: true,
    undoesAcks: true,
    returnsWhatWasCut: true,
    autoSettlesOnArrival: true,
    prefetchInMessages: true,
    takesStomp: true,
    delaysOnce: true,
    fullNames: false,
    oddLogin: true,
  },
};

/** Completes the facts. */
export function describeBroker(facts: BrokerFacts): BrokerUnderTest {
  const { ctlEnv, ...rest } = facts;
  return {
    ...rest,
    env: {
      STOMP_SERVER_HOST: facts.host,
      STOMP_SERVER_PORT: String(facts.port),
      STOMP_SERVER_USER: facts.user,
      STOMP_SERVER_PASSWORD: facts.password,
    },
    capabilities: capabilities[facts.name],
    // Artemis makes what it does not know; of its private broker nobody may send there.
    refusedDestination:
      facts.name === 'artemis' ? '/queue/refused.to-all' : '/remote-temp-queue/ID:nobody-1-1:1:1',
    ...(ctlEnv !== undefined && { ctl: (...args: string[]) => rabbitmqctl(ctlEnv, args) }),
  };
}

/** The broker of that name in this run, or undefined: then the test skips. */
export function brokerUnderTest(name: BrokerName): BrokerUnderTest | undefined {
  const json = process.env[variableOf(name)];
  const facts = json === undefined ? factsFromUrl(name) : (JSON.parse(json) as BrokerFacts);
  return facts && describeBroker(facts);
}

/** The option by which a test that needs a capability skips on a broker without it. */
export function needs(
  { capabilities }: BrokerUnderTest,
  capability: keyof Capabilities,
): { skip: string | false } {
  return { skip: !capabilities[capability] && `needs ${capability}` };
}

/** All of them. */
export function brokersUnderTest(): BrokerUnderTest[] {
  return brokerNames.map(brokerUnderTest).filter((broker) => broker !== undefined);
}

/** The variables by which child processes get the same answer from brokerUnderTest. */
export function exportBroker(facts: BrokerFacts): Record<string, string> {
  return { [variableOf(facts.name)]: JSON.stringify(facts) };
}

/** The user's own broker, or undefined. Throws when its URL is no URL. */
export function factsFromUrl(name: BrokerName): BrokerFacts | undefined {
  const variable = `${variableOf(name)}_URL`;
  const text = process.env[variable];
  if (text === undefined || text === '') return undefined;
  if (!URL.canParse(text))
    throw new Error(`${variable} is not like stomp://user:passcode@host:port: "${text}"`);
  const url = new URL(text);
  return {
    name,
    version: 'unknown',
    host: url.hostname,
    port: Number(url.port || '61613'),
    user: decodeURIComponent(url.username || 'guest'),
    password: decodeURIComponent(url.password || 'guest'),
  };
}

function variableOf(name: BrokerName): string {
  return `TEST_${name.toUpperCase()}`;
}
