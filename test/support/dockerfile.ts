/**
 * A Dockerfile without Docker: each stage is an empty folder, in which its COPYs are copies and its RUNs the same commands.
 * Knows the instructions that ours has, and refuses others, so that none is passed over.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { runProgram } from './process.js';

export interface Image {
  /** The folder that stands for `/` of the last stage, and where its processes start. */
  readonly root: string;
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
}

const BUILD_MS = 300_000;

/** Builds the image of a context into folders of `scratch`. Rejects when a command fails. */
export async function buildImage(context: string, scratch: string): Promise<Image> {
  const stages = new Map<string, string>();
  let image: Image | undefined;
  for (const [instruction, rest] of instructionsOf(readFileSync(join(context, 'Dockerfile'), 'utf8'))) {
    if (instruction === 'FROM') {
      const [, name = String(stages.size)] = / AS (\w+)$/.exec(rest) ?? [];
      const root = join(scratch, name);
      mkdirSync(root);
      stages.set(name, root);
      image = { root, workdir: root, env: {}, user: 'root', entrypoint: [], command: [] };
      continue;
    }
    assert.ok(image, `${instruction} stands before FROM`);
    image = await carryOut(instruction, rest, image, context, stages);
  }
  assert.ok(image);
  return image;
}

function instructionsOf(text: string): [instruction: string, rest: string][] {
  const lines = text.split('\n').filter((line) => !/^\s*(#|$)/.test(line));
  return lines.map((line) => {
    const [, instruction = line, rest = ''] = /^([A-Z]+) (.*)$/.exec(line) ?? [];
    return [instruction, rest.trim()];
  });
}

async function carryOut(
  instruction: string,
  rest: string,
  image: Image,
  context: string,
  stages: ReadonlyMap<string, string>,
): Promise<Image> {
  switch (instruction) {
    case 'WORKDIR': {
      const workdir = join(image.root, rest);
      mkdirSync(workdir, { recursive: true });
      return { ...image, workdir };
    }
    case 'ENV': {
      const [name = '', value = ''] = rest.split('=', 2);
      return { ...image, env: { ...image.env, [name]: value } };
    }
    case 'USER':
      return { ...image, user: rest };
    case 'ENTRYPOINT':
      return { ...image, entrypoint: JSON.parse(rest) as string[] };
    case 'CMD':
      return { ...image, command: JSON.parse(rest) as string[] };
    case 'COPY':
      copy(rest, image, context, stages);
      return image;
    case 'RUN': {
      const env = { ...image.env, npm_config_prefer_offline: 'true', npm_config_update_notifier: 'false' };
      const running = runProgram('/bin/sh', ['-c', rest], { cwd: image.workdir, env });
      const { code } = await running.exit(BUILD_MS);
      assert.equal(code, 0, `${rest}: ${running.stdout}${running.stderr}`);
      return image;
    }
    default:
      throw new Error(`the Dockerfile has ${instruction}, which this cannot carry out`);
  }
}

/** As Docker does: a folder gives what is in it, and of a context only what .dockerignore leaves. */
function copy(rest: string, image: Image, context: string, stages: ReadonlyMap<string, string>): void {
  const [, stage, paths = rest] = /^--from=(\w+) (.*)$/.exec(rest) ?? [];
  const words = paths.split(' ');
  const target = words.at(-1) ?? '';
  for (const source of words.slice(0, -1)) {
    const from = join(stage === undefined ? context : (stages.get(stage) ?? ''), source);
    const into = join(image.workdir, target);
    const names = source === '.' ? contextOf(context) : [''];
    for (const name of names) {
      const isFolder = statSync(join(from, name)).isDirectory();
      const to =
        name === '' && !isFolder && target.endsWith('/') ? join(into, basename(source)) : join(into, name);
      cpSync(join(from, name), to, { recursive: true, verbatimSymlinks: true });
    }
  }
}

/** What of the context is sent: .dockerignore leaves out everything but what it names. */
function contextOf(context: string): string[] {
  const rules = readFileSync(join(context, '.dockerignore'), 'utf8').split('\n');
  const [first, ...names] = rules.filter((line) => line !== '' && !line.startsWith('#'));
  assert.equal(first, '*');
  for (const name of names) assert.match(name, /^!\w/);
  return names.map((name) => name.slice(1));
}
