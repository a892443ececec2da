/** Java programs from Maven Central, fetched by Maven. Hides how it is told what to fetch and where to put it. */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cached, cachePath, isCached } from './cache.js';
import { packageRoot } from './process.js';
import { findProgram } from './server-process.js';

/** What is to be fetched: `group:artifact:version`, a jar with all that it needs, or an archive with all in it. */
export type Parcel = { readonly jars: readonly string[] } | { readonly archive: string };

const PLUGIN = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1';
/** About 60 MB over a slow line. */
const FETCH_DEADLINE_MS = 600_000;

export const java = () => findProgram('java', '/usr/lib/jvm/default-java/bin/java');

/** Why the parcel cannot be used here and what to type, or undefined when it can. */
export function parcelMissing(name: string, title: string): string | undefined {
  if (java() === undefined) return 'no java on this machine: apt-get install default-jre-headless';
  if (isCached(name)) return undefined;
  return `no ${title} in ${cachePath(name)}: it is fetched from Maven Central when TEST_BROKERS names it`;
}

/** Resolves with the folder that holds the jars, or what was in the archive. Rejects where Maven Central has no answer. */
export function fetchParcel(name: string, parcel: Parcel): Promise<string> {
  return cached(name, async (folder) => {
    if ('archive' in parcel) {
      await maven(folder, ['unpack', `-Dartifact=${parcel.archive}`, `-DoutputDirectory=${folder}`]);
      return;
    }
    const project = join(folder, 'project');
    await mkdir(project);
    await writeFile(join(project, 'pom.xml'), pom(parcel.jars));
    await maven(project, ['copy-dependencies', `-DoutputDirectory=${join(folder, 'lib')}`]);
  });
}

/** Does Maven Central answer this machine? If not, nothing that is missing can be fetched; if so, all of it must be. */
export async function hasMavenCentral(): Promise<boolean> {
  const artifact = '-Dartifact=org.apache.activemq:activemq-parent:6.1.7:pom';
  try {
    await maven(packageRoot, ['get', artifact, '-Dtransitive=false']);
    return true;
  } catch {
    return false;
  }
}

async function maven(cwd: string, [goal = '', ...options]: string[]): Promise<void> {
  const program = findProgram('mvn');
  if (program === undefined) throw new Error('no mvn on this machine: apt-get install maven');
  try {
    const args = ['--batch-mode', '--no-transfer-progress', `${PLUGIN}:${goal}`, ...options];
    await promisify(execFile)(program, args, { cwd, timeout: FETCH_DEADLINE_MS, maxBuffer: 1 << 26 });
  } catch (error) {
    const { stdout = '' } = error as { stdout?: string };
    const why = stdout.split('\n').find((line) => line.startsWith('[ERROR]')) ?? String(error);
    throw new Error(`mvn ${goal} failed: ${why}`, { cause: error });
  }
}

const pom = (jars: readonly string[]) => `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId>
  <artifactId>jars</artifactId>
  <version>1</version>
  <dependencies>${jars.map(dependency).join('')}</dependencies>
</project>
`;

function dependency(jar: string): string {
  const [group = '', artifact = '', version = ''] = jar.split(':');
  return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`;
}
