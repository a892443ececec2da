/** The files of examples/deploying, started as systemd and Kubernetes start them, and what they say of the time after. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { exitStatuses } from '../../src/errors.js';
import { settings } from '../../src/settings.js';
import { startBroker } from '../../src/testing.js';
import { packageRoot, run, runProgram, type Running } from '../support/process.js';
import { findProgram } from '../support/server-process.js';
import { temporaryFolder } from './commands.js';

/** What a supervisor is told of a consumer. */
interface Supervised {
  readonly words: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Variables that come from a secret. */
  readonly secrets: readonly string[];
  /** What it waits at a stop before it kills. */
  readonly graceSeconds: number;
  /** After which it is not started again. */
  readonly finalStatuses: readonly number[];
}

const read = (name: string) => readFileSync(join(packageRoot, 'examples/deploying', name), 'utf8');

function readUnit(): Supervised {
  const entries = [...read('orders-consumer.service').matchAll(/^(\w+)=(.*)$/gm)];
  const all = (key: string) => entries.filter(([, name]) => name === key).map(([, , value = '']) => value);
  const only = (key: string) => {
    const [value = '', ...others] = all(key);
    assert.deepEqual(others, []);
    return value;
  };
  const env = all('Environment').map((pair) => pair.split('=', 2) as [string, string]);
  return {
    words: only('ExecStart').split(' '),
    env: Object.fromEntries(env.filter(([, value]) => !value.startsWith('%'))),
    secrets: env.filter(([, value]) => value.startsWith('%')).map(([name]) => name),
    graceSeconds: Number(only('TimeoutStopSec')),
    finalStatuses: only('RestartPreventExitStatus').split(' ').map(Number),
  };
}

interface Pod {
  readonly terminationGracePeriodSeconds: number;
  readonly containers: readonly {
    readonly command: string[];
    readonly args?: string[];
    readonly env: { name: string; value?: string; valueFrom?: { secretKeyRef: object } }[];
    readonly ports?: { name: string; containerPort: number }[];
    readonly startupProbe?: Probe;
    readonly livenessProbe?: Probe;
    readonly readinessProbe?: Probe;
  }[];
}
interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}
interface Rule {
  readonly onExitCodes?: { readonly values: number[] };
}

function readPod(pod: Pod, rules: readonly Rule[] = []): Supervised {
  const { command, args = [], env } = pod.containers[0]!;
  const given = env.filter(({ value }) => value !== undefined);
  return {
    words: [...command, ...args],
    env: Object.fromEntries(given.map(({ name, value }) => [name, value])),
    secrets: env.filter(({ valueFrom }) => valueFrom?.secretKeyRef !== undefined).map(({ name }) => name),
    graceSeconds: pod.terminationGracePeriodSeconds,
    finalStatuses: rules.flatMap(({ onExitCodes }) => onExitCodes?.values ?? []),
  };
}

interface Job {
  readonly activeDeadlineSeconds: number;
  readonly podFailurePolicy: { readonly rules: Rule[] };
  readonly template: { readonly spec: Pod };
}
const deployment = parse(read('deployment.yaml')) as {
  spec: { template: { metadata: { annotations: Record<string, string> }; spec: Pod } };
};
const { jobTemplate } = (parse(read('cronjob.yaml')) as { spec: { jobTemplate: { spec: Job } } }).spec;
const job = jobTemplate.spec;

const files: Record<string, Supervised> = {
  'orders-consumer.service': readUnit(),
  'deployment.yaml': readPod(deployment.spec.template.spec),
  'cronjob.yaml': readPod(job.template.spec, job.podFailurePolicy.rules),
};

/** Starts what the file starts, in a project that has the callback it names, with `broker` for the one it names. */
function start({ words, env }: Supervised, brokerEnv: object, more: readonly string[] = []): Running {
  const [node = '', bin, destination = '', callback = '', ...flags] = words;
  assert.match(node, /(^|\/)node$/);
  assert.equal(bin, 'node_modules/.bin/pubsub');
  const [file = '', name = ''] = callback.split('#');
  const code = `export const ${name} = (payload) => { console.log('got', payload.body); return payload.ack(); };`;
  const cwd = temporaryFolder({ [file]: code, 'package.json': '{ "type": "module" }' });
  // Any free port, where it asks for one.
  const health = { STOMP_HEALTH_PORT: env.STOMP_HEALTH_PORT === undefined ? undefined : '0' };
  return run('pubsub', [destination, callback, ...flags, ...more], {
    ...{ cwd, env: { ...env, ...health, ...brokerEnv } },
  });
}

for (const [name, supervised] of Object.entries(files)) {
  describe(name, () => {
    const { env, secrets, graceSeconds, finalStatuses, words } = supervised;

    it('sets variables that there are, waits longer than the consumer, and knows its exit statuses', () => {
      const variables: string[] = Object.values(settings).map(({ variable }) => variable);
      const set = [...Object.keys(env), ...secrets].filter((variable) => variable !== 'NODE_ENV');
      assert.ok(set.length >= 4);
      assert.deepEqual(
        set.filter((variable) => !variables.includes(variable)),
        [],
      );
      assert.ok(secrets.some((variable) => variable.startsWith('STOMP_SERVER_PASSWORD')));
      assert.ok(graceSeconds > Number(env.STOMP_GRACEFUL_WAIT_SECONDS));
      for (const status of finalStatuses) assert.ok(Object.hasOwn(exitStatuses, status), String(status));
    });

    it('starts a consumer, which drains at its SIGTERM', async () => {
      await using broker = await startBroker();
      broker.publish(words[2]!, { id: 1 }, { 'correlation-id': 'c' });
      const consumer = start(supervised, broker.env);
      await consumer.waitFor(/got \{ id: 1 \}/);
      consumer.signal('SIGTERM');
      assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
      assert.equal(broker.depth(words[2]!), 0);
      assert.doesNotMatch(consumer.stderr, /unknown variable|changes nothing/);
    });
  });
}

describe('the nightly job', () => {
  it('ends by itself when its queue is empty, and has time for that', async () => {
    await using broker = await startBroker();
    const consumer = start(files['cronjob.yaml']!, broker.env, ['--until-idle', '0.5']);
    assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
    const { env } = files['cronjob.yaml']!;
    const limit = settings.timeLimitSeconds.parse('1h')!;
    assert.ok(files['cronjob.yaml']!.words.join(' ').includes('--time-limit 1h'));
    assert.ok(job.activeDeadlineSeconds > limit + Number(env.STOMP_GRACEFUL_WAIT_SECONDS));
  });
});

describe('the deployment', () => {
  it('asks pages that there are, on the port that the consumer answers on', async () => {
    const { metadata, spec } = deployment.spec.template;
    const { startupProbe, livenessProbe, readinessProbe, ports = [] } = spec.containers[0]!;
    await using broker = await startBroker();
    const consumer = start(files['deployment.yaml']!, broker.env);
    await consumer.says('subscribed');
    const { port } = await consumer.says('answering');
    const probes = [startupProbe, livenessProbe, readinessProbe].map((probe) => probe!.httpGet);
    for (const { port: named } of probes) assert.equal(named, ports[0]?.name);
    const own = String(ports[0]?.containerPort);
    assert.deepEqual(
      [files['deployment.yaml']!.env.STOMP_HEALTH_PORT, metadata.annotations['prometheus.io/port']],
      [own, own],
    );
    const paths = [...probes.map(({ path }) => path), metadata.annotations['prometheus.io/path'] ?? ''];
    assert.deepEqual([...new Set(paths)].toSorted(), ['/live', '/metrics', '/ready']);
    for (const path of paths)
      assert.equal((await fetch(`http://127.0.0.1:${String(port)}${path}`)).status, 200, path);
  });
});

describe('the unit', () => {
  const analyze = findProgram('systemd-analyze');
  it('is one that systemd takes', { skip: analyze === undefined && 'no systemd-analyze' }, async () => {
    const unit = read('orders-consumer.service').replace('/usr/bin/node', process.execPath);
    const folder = temporaryFolder({ 'orders-consumer.service': unit });
    const running = runProgram(analyze!, ['verify', '--man=no', join(folder, 'orders-consumer.service')]);
    await running.exit();
    const complaints = running.stderr.split('\n').filter((line) => line.includes('orders-consumer.service'));
    assert.deepEqual(complaints, []);
  });
});
