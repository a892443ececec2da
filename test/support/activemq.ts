/**
 * A private ActiveMQ Classic: from Debian's jars (5.17), or with TEST_ACTIVEMQ_VERSION=6 from Maven Central's. Hides the
 * class path, the configuration (dead-letter queues named `DLQ.<queue>`, message scheduler, one user) and the start of the
 * virtual machine.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cachePath } from './cache.js';
import { fetchParcel, java, parcelMissing } from './maven.js';
import { oddLogin } from './odd-login.js';
import { type OwnBroker, startOwn } from './own-broker.js';
import { freePorts, privateDirectory, ServerProcess } from './server-process.js';

/** Characters that mean something in a STOMP header: a passcode must arrive as it is. */
const USER = 'app';
const PASSCODE = ':=123';

interface Jars {
  readonly home: string;
  /** Folders of jars, in it. */
  readonly folders: readonly string[];
  readonly missing: () => string | undefined;
  readonly fetch: () => Promise<unknown>;
}

const HOME = '/usr/share/activemq';
const ofDebian: Jars = {
  home: HOME,
  folders: ['lib', 'lib/optional'],
  missing: () =>
    java() !== undefined && existsSync(join(HOME, 'lib/activemq-stomp.jar'))
      ? undefined
      : 'no activemq on this machine: apt-get install activemq',
  fetch: () => Promise.resolve(),
};

const SIX = '6.1.7';
const six = `activemq-${SIX}`;
const ofMavenCentral: Jars = {
  home: cachePath(six),
  folders: ['lib'],
  missing: () => parcelMissing(six, `ActiveMQ ${SIX}`),
  fetch: () =>
    fetchParcel(six, {
      jars: [
        ...['spring', 'stomp', 'kahadb-store', 'console', 'jaas'].map(
          (part) => `org.apache.activemq:activemq-${part}:${SIX}`,
        ),
        'org.springframework:spring-context:6.1.21',
        'org.slf4j:slf4j-simple:2.0.16',
      ],
    }),
};

/** Those of this run. Throws for a version that nobody knows. */
function activemqJars(version = process.env.TEST_ACTIVEMQ_VERSION ?? ''): Jars {
  if (version !== '' && version !== '6')
    throw new Error(`TEST_ACTIVEMQ_VERSION: "${version}" is not 6, the only other one`);
  return version === '6' ? ofMavenCentral : ofDebian;
}

/** Why this machine cannot start one and what to type, or undefined when it can. */
export function activemqMissing(): string | undefined {
  return activemqJars().missing();
}

/** Resolves when one can be started, of this run's version unless another is named. */
export async function fetchActivemq(version?: '6'): Promise<void> {
  await activemqJars(version).fetch();
}

export interface ActivemqOptions {
  readonly hasScheduler?: boolean;
  /** Further entries of the destination policy, as XML. */
  readonly policies?: string;
  /** What a queue has no room for is refused; otherwise its sender's connection is read no more. */
  readonly sendFailIfNoSpace?: boolean;
}

/** Starts a broker with STOMP on a free port; resolves when it answers a CONNECT. Rejects with the tail of its log. */
export function startActivemq(options: ActivemqOptions = {}): Promise<OwnBroker> {
  return startOwn(async () => {
    const { home, folders, fetch, missing } = activemqJars();
    await fetch();
    const program = java();
    if (program === undefined || missing() !== undefined) throw new Error(missing());
    const directory = privateDirectory('activemq');
    const [port] = (await freePorts(1)) as [number];
    writeFileSync(join(directory, 'activemq.xml'), configuration(directory, port, options));
    writeFileSync(join(directory, 'log4j.properties'), logging);
    mkdirSync(join(directory, 'tmp'));
    return {
      facts: { name: 'activemq', host: '127.0.0.1', port, user: USER, password: PASSCODE },
      makeServer: (isReady) =>
        new ServerProcess(
          'ActiveMQ',
          directory,
          {
            file: program,
            args: [
              '-Xmx256m',
              // Faster to start; a test run is too short to gain from the rest of the compiler.
              '-XX:TieredStopAtLevel=1',
              '-XX:+UseSerialGC',
              '-XX:-UsePerfData',
              `-Djava.io.tmpdir=${join(directory, 'tmp')}`,
              `-Duser.home=${directory}`,
              `-Dactivemq.home=${home}`,
              `-Dactivemq.base=${directory}`,
              `-Dactivemq.data=${join(directory, 'data')}`,
              '-cp',
              [directory, ...folders.map((folder) => join(home, folder, '*'))].join(':'),
              'org.apache.activemq.console.command.ShellCommand',
              'start',
              `xbean:file:${join(directory, 'activemq.xml')}`,
            ],
            env: { PATH: process.env.PATH ?? '/usr/bin:/bin', HOME: directory, LANG: 'C.UTF-8' },
          },
          isReady,
        ),
    };
  });
}

/** Virtual topics (`VirtualTopic.>` to `Consumer.*.VirtualTopic.>`) need no line here: they are on by default. */
const configuration = (
  directory: string,
  port: number,
  { hasScheduler = true, policies = '', sendFailIfNoSpace = false }: ActivemqOptions,
) => `<?xml version="1.0" encoding="UTF-8"?>
<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans.xsd
         http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="localhost" useJmx="false"
          schedulerSupport="${hasScheduler}" dataDirectory="${join(directory, 'data')}">
    <destinationPolicy>
      <policyMap>
        <policyEntries>
          <policyEntry queue="&gt;" maxBrowsePageSize="100000">
            <deadLetterStrategy>
              <individualDeadLetterStrategy queuePrefix="DLQ." useQueueForQueueMessages="true"/>
            </deadLetterStrategy>
          </policyEntry>
          ${policies}
        </policyEntries>
      </policyMap>
    </destinationPolicy>
    <persistenceAdapter>
      <kahaDB directory="${join(directory, 'data', 'kahadb')}"/>
    </persistenceAdapter>
    <plugins>
      <simpleAuthenticationPlugin>
        <users>
          <authenticationUser username="${USER}" password="${PASSCODE}" groups="users"/>
          <authenticationUser username="${oddLogin.user}" password="${oddLogin.password}" groups="users"/>
        </users>
      </simpleAuthenticationPlugin>
    </plugins>
    <systemUsage>
      <systemUsage sendFailIfNoSpace="${sendFailIfNoSpace}">
        <memoryUsage><memoryUsage limit="128 mb"/></memoryUsage>
        <storeUsage><storeUsage limit="1 gb"/></storeUsage>
        <tempUsage><tempUsage limit="256 mb"/></tempUsage>
      </systemUsage>
    </systemUsage>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:${port}"/>
    </transportConnectors>
  </broker>
</beans>
`;

const logging = `log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %-5p %c - %m%n
`;
