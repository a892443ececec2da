/** The image of the Dockerfile, made without Docker, and what docker-compose.yml makes of it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { startBroker } from '../../src/testing.js';
import { settings } from '../../src/settings.js';
import { buildImage, type Image } from '../support/dockerfile.js';
import { packageRoot, runProgram } from '../support/process.js';
import { findProgram } from '../support/server-process.js';
import { temporaryFolder } from './commands.js';

interface Service {
  readonly image?: string;
  readonly build?: string;
  readonly command?: string[];
  readonly environment?: Record<string, string>;
  readonly stop_grace_period?: string;
  readonly depends_on?: Record<string, { condition: string }>;
  readonly healthcheck?: object;
  readonly configs?: { source: string }[];
  readonly volumes?: string[];
}
interface Compose {
  readonly services: Record<string, Service>;
  readonly configs: Record<string, { content: string }>;
  readonly volumes: Record<string, unknown>;
}

const compose = parse(readFileSync(join(packageRoot, 'docker-compose.yml'), 'utf8')) as Compose;
/** An account that owns nothing, as the image's `node` owns nothing of the image. */
const NOBODY = '65534';
const asNobody = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--'];
/** Where it can be done: this Node may lie in a folder that nobody else may enter. */
const setpriv = process.getuid?.() === 0 ? findProgram('setpriv') : undefined;
const canBeNobody =
  setpriv !== undefined &&
  spawnSync(setpriv, [...asNobody, 'sh', '-c', '"$0" --version', process.execPath]).status === 0;

/** Starts what a container of the image starts; as another user where that can be done here. */
function start({ env, workdir, entrypoint, command }: Image, given: string[] | undefined, more: object) {
  const words = [...entrypoint, ...(given ?? command)].map((word) =>
    word === 'node' ? process.execPath : word,
  );
  const [program = '', ...args] = canBeNobody ? [setpriv, ...asNobody, ...words] : words;
  return runProgram(program, args, { cwd: workdir, env: { ...env, ...more, HOME: '/nonexistent' } });
}

describe('the image', () => {
  const scratch = temporaryFolder();
  let image: Image;
  before(async () => {
    chmodSync(scratch, 0o755);
    image = await buildImage(packageRoot, scratch);
  });

  it('has what runs and not what builds, and no root', () => {
    const { dependencies, devDependencies } = JSON.parse(
      readFileSync(join(packageRoot, 'package.json'), 'utf8'),
    ) as { dependencies: object; devDependencies: object };
    const has = (name: string) => existsSync(join(image.workdir, 'node_modules', name));
    assert.deepEqual(
      Object.keys(dependencies).filter((name) => !has(name)),
      [],
    );
    assert.deepEqual(Object.keys(devDependencies).filter(has), []);
    const names = readdirSync(image.workdir).toSorted();
    assert.deepEqual(names, ['bin', 'callbacks', 'dist', 'node_modules', 'package.json']);
    assert.notEqual(image.user, 'root');
  });

  it('shows the help', async () => {
    const running = start(image, undefined, {});
    assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
    assert.match(running.stdout, /^Usage: pubsub /);
  });

  it('consumes as docker-compose.yml says, and drains on the SIGTERM of a stop', async () => {
    await using broker = await startBroker();
    const { command, environment } = compose.services.consumer!;
    broker.publish('/queue/xpto', { key: 'value' }, { 'correlation-id': 'c' });
    const consumer = start(image, command, { ...environment, ...broker.env });
    await consumer.waitFor(/received \{ key: 'value' \}/);
    consumer.signal('SIGTERM');
    assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
    assert.equal(consumer.said('stopped')[0]?.acked, 1);
    assert.equal(broker.depth('xpto'), 0);
  });
});

describe('docker-compose.yml', () => {
  it('builds the consumer of the checkout, and gives it longer to stop than it takes', () => {
    const { build, environment = {}, stop_grace_period: grace = '' } = compose.services.consumer!;
    assert.equal(build, '.');
    const variables: string[] = Object.values(settings).map(({ variable }) => variable);
    for (const name of Object.keys(environment)) assert.ok(variables.includes(name), name);
    assert.ok(Object.hasOwn(compose.services, environment.STOMP_SERVER_HOST!));
    assert.ok(Number.parseInt(grace) > Number(environment.STOMP_GRACEFUL_WAIT_SECONDS));
    assert.match(grace, /^\d+s$/);
  });

  it('names nothing that it does not define, and pins its images', () => {
    for (const [name, service] of Object.entries(compose.services)) {
      assert.ok(service.build !== undefined || /:\d+\.\d+/.test(service.image ?? ''), name);
      for (const { source } of service.configs ?? []) assert.ok(compose.configs[source]?.content, source);
      for (const volume of service.volumes ?? [])
        assert.ok(Object.hasOwn(compose.volumes, volume.split(':')[0]!), volume);
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {}))
        assert.ok(condition !== 'service_healthy' || compose.services[other]?.healthcheck, other);
    }
  });
});
