/**
 * A private ActiveMQ Artemis from Maven Central. Hides the class path, the instance's files (an acceptor that maps /queue/ and
 * /topic/, one user) and the start of the virtual machine.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cachePath } from './cache.js';
import { fetchParcel, java, parcelMissing } from './maven.js';
import { type OwnBroker, startOwn } from './own-broker.js';
import { freePorts, privateDirectory, ServerProcess } from './server-process.js';

/** Characters that mean something in a STOMP header: a passcode must arrive as it is. */
const USER = 'app';
const PASSCODE = ':=123';
const VERSION = '2.40.0';
const name = `artemis-${VERSION}`;
const HOME = join(cachePath(name), `apache-artemis-${VERSION}`);

/** Why this machine cannot start one and what to type, or undefined when it can. */
export function artemisMissing(): string | undefined {
  return parcelMissing(name, `Artemis ${VERSION}`);
}

/** Resolves when one can be started. */
export async function fetchArtemis(): Promise<void> {
  await fetchParcel(name, { archive: `org.apache.activemq:apache-artemis:${VERSION}:zip:bin` });
}

/** Starts a broker with STOMP on a free port; resolves when it answers a CONNECT. Rejects with the tail of its log. */
export function startArtemis(): Promise<OwnBroker> {
  return startOwn(async () => {
    await fetchArtemis();
    const program = java();
    if (program === undefined) throw new Error(artemisMissing());
    const directory = privateDirectory('artemis');
    const [port] = (await freePorts(1)) as [number];
    for (const [file, text] of Object.entries(files(directory, port)))
      writeFileSync(join(directory, file), text);
    mkdirSync(join(directory, 'tmp'));
    return {
      facts: { name: 'artemis', host: '127.0.0.1', port, user: USER, password: PASSCODE },
      makeServer: (isReady) =>
        new ServerProcess(
          'Artemis',
          directory,
          {
            file: program,
            args: [
              '-Xmx512m',
              // Faster to start; a test run is too short to gain from the rest of the compiler.
              '-XX:TieredStopAtLevel=1',
              '-XX:+UseSerialGC',
              '-XX:-UsePerfData',
              `-Djava.io.tmpdir=${join(directory, 'tmp')}`,
              `-Duser.home=${directory}`,
              `-Djava.security.auth.login.config=${join(directory, 'login.config')}`,
              `-Dlog4j2.configurationFile=${join(directory, 'log4j2.properties')}`,
              `-Dartemis.home=${HOME}`,
              `-Dartemis.instance=${directory}`,
              `-Dartemis.instance.etc=${directory}`,
              `-Ddata.dir=${join(directory, 'data')}`,
              '-cp',
              join(HOME, 'lib/*'),
              'org.apache.activemq.artemis.boot.Artemis',
              'run',
            ],
            env: { PATH: process.env.PATH ?? '/usr/bin:/bin', HOME: directory, LANG: 'C.UTF-8' },
          },
          isReady,
        ),
    };
  });
}

const files = (directory: string, port: number): Readonly<Record<string, string>> => ({
  'bootstrap.xml': `<broker xmlns="http://activemq.apache.org/schema">
  <jaas-security domain="activemq"/>
  <server configuration="file:${join(directory, 'broker.xml')}"/>
</broker>
`,
  'management.xml': '<management-context xmlns="http://activemq.apache.org/schema"/>',
  'login.config': `activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.PropertiesLoginModule required
    org.apache.activemq.jaas.properties.user="users.properties"
    org.apache.activemq.jaas.properties.role="roles.properties";
};
`,
  'users.properties': `${USER}=${PASSCODE.replace(/[:=]/g, '\\$&')}\n`,
  'roles.properties': `users=${USER}\n`,
  'log4j2.properties': `rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
logger.audit.name = org.apache.activemq.audit
logger.audit.level = OFF
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5level %c - %msg%n
`,
  'broker.xml': configuration(directory, port),
});

const permissions = [
  ...['createNonDurableQueue', 'deleteNonDurableQueue', 'createDurableQueue', 'deleteDurableQueue'],
  ...['createAddress', 'deleteAddress', 'consume', 'browse', 'send'],
];

const configuration = (directory: string, port: number) => `<?xml version="1.0" encoding="UTF-8"?>
<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>localhost</name>
    <journal-type>NIO</journal-type>
    <paging-directory>${join(directory, 'data/paging')}</paging-directory>
    <bindings-directory>${join(directory, 'data/bindings')}</bindings-directory>
    <journal-directory>${join(directory, 'data/journal')}</journal-directory>
    <large-messages-directory>${join(directory, 'data/large')}</large-messages-directory>
    <journal-min-files>2</journal-min-files>
    <journal-file-size>1M</journal-file-size>
    <max-disk-usage>100</max-disk-usage>
    <acceptors>
      <acceptor name="stomp">tcp://127.0.0.1:${port}?protocols=STOMP;anycastPrefix=/queue/;multicastPrefix=/topic/</acceptor>
    </acceptors>
    <security-settings>
      <security-setting match="refused.#"/>
      <security-setting match="#">
        ${permissions.map((type) => `<permission type="${type}" roles="users"/>`).join('\n        ')}
      </security-setting>
    </security-settings>
    <address-settings>
      <address-setting match="#">
        <max-delivery-attempts>-1</max-delivery-attempts>
        <auto-delete-queues>false</auto-delete-queues>
        <auto-delete-addresses>false</auto-delete-addresses>
      </address-setting>
    </address-settings>
  </core>
</configuration>
`;
