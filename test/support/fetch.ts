/**
 * `node dist/test/support/fetch.js NAME...`: fetches what tests can use and a machine may be unable to have. Prints, for
 * .ci/run, the names of those that are there now, one a line, and on stderr why the others are not: their registry does not
 * answer. Fails when it does answer and has not given what it should.
 */
import { fetchActivemq } from './activemq.js';
import { fetchArtemis } from './artemis.js';
import { fetchDjangoStomp, hasPypi } from './django-stomp.js';
import { hasMavenCentral } from './maven.js';

interface Registry {
  readonly title: string;
  readonly answers: () => Promise<boolean>;
}

const mavenCentral: Registry = { title: 'Maven Central', answers: once(hasMavenCentral) };
const pypi: Registry = { title: 'PyPI', answers: once(hasPypi) };

const things: Readonly<Record<string, { from: Registry; fetch: () => Promise<void> }>> = {
  'activemq-6': { from: mavenCentral, fetch: () => fetchActivemq('6') },
  artemis: { from: mavenCentral, fetch: fetchArtemis },
  'django-stomp': { from: pypi, fetch: fetchDjangoStomp },
};

function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  return () => (answer ??= ask());
}

/** Is it there? Rejects when it should be and is not. */
async function obtain(name: string): Promise<boolean> {
  const thing = things[name];
  if (thing === undefined) throw new Error(`"${name}" is none of ${Object.keys(things).join(', ')}`);
  try {
    await thing.fetch();
    return true;
  } catch {
    if (await thing.from.answers()) {
      // A line that breaks once is no reason to fail.
      await thing.fetch();
      return true;
    }
    console.error(`${name}: NOT EXERCISED: ${thing.from.title} does not answer here`);
    return false;
  }
}

try {
  for (const name of process.argv.slice(2)) if (await obtain(name)) console.log(name);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
