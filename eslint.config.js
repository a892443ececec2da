import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/**
 * The house rules for src/, as data: what the modules of a room may import beside each other, and who owns what. A room is
 * a folder or a file, with what stands in a folder of its name; a row may list rooms, modules and packages of earlier rows
 * only, so that dependencies point one way. What nobody uses is reported, and so is a circle between modules.
 */
const rooms = [
  [
    'errors context slots waiting-line aborted closest printable log-output optional read-ahead version trace-context stack',
    '',
  ],
  ['late-pino', 'pino'],
  ['settings', 'errors closest dotenv'],
  ['log', 'errors context settings printable log-output trace-context stack late-pino pino pino-pretty'],
  ['tracing', 'log optional trace-context version @opentelemetry/api'],
  ['progress', 'log cli-progress'],
  ['shutdown', 'settings log'],
  ['stomp', 'errors log slots stompit'],
  ['brokers', 'errors stomp/frames stomp/headers stomp/session-end'],
  [
    'sending',
    'errors context settings log slots aborted printable trace-context tracing brokers stomp waiting-line',
  ],
  [
    'consumer',
    'errors context settings log slots aborted optional read-ahead version trace-context tracing brokers stomp/frames stomp/headers stomp/session-end sending jiti',
  ],
  ['observing', 'errors settings log optional version consumer prom-client'],
  ['consume observe publish consumers', 'errors settings log aborted brokers sending consumer observing'],
  [
    'index',
    'errors context settings log late-pino pino sending consumer observing consume publish consumers',
  ],
  ['embedded', 'errors version stomp/frames stomp/headers'],
  ['testing', 'settings log late-pino pino brokers consumer consume embedded'],
  [
    'commands',
    'errors settings log tracing printable read-ahead progress shutdown stomp/frames brokers sending consumer consume observe publish consumers embedded chokidar',
  ],
  ['cli', 'errors closest settings log read-ahead version commands commander'],
].map(([members, targets]) => ({ members: words(members), targets: words(targets) }));

const owners = {
  'process.argv': ['cli'],
  'process.exitCode': ['cli'],
  'process.exit': ['cli', 'shutdown', 'consumer/workers/worker'],
  'process.env': [
    'settings/dotenv',
    'settings/environment',
    'settings/resolve',
    'consumer/workers/spawn',
    'consumer/code-cache',
    'read-ahead',
  ],
  'process.on': ['shutdown', 'consumer/workers/worker', 'consumer/workers/main', 'consumer/workers/print'],
  'process.once': [
    'shutdown',
    'consumer/workers/spawn',
    'consumer/workers/pool',
    'consumer/programs',
    'observing/health-file',
    'log-output',
  ],
  stompit: ['stomp/wire'],
};

function words(text) {
  return text.split(' ').filter((word) => word !== '');
}

const src = path.join(import.meta.dirname, 'src');
const nameOf = (file) => path.relative(src, file).replace(/\.(?:d\.)?ts$/, '');
const isWithin = (name, room) => name === room || name.startsWith(`${room}/`);
const roomOf = (name) => rooms.find(({ members }) => members.some((member) => isWithin(name, member)));
const resolveFrom = (name, source) =>
  source.startsWith('.') ? path.join(path.dirname(name), source).replace(/\.js$/, '') : source;

/** What each module of src/ imports, without what comes with Node. */
const imports = new Map(
  readdirSync(src, { recursive: true })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
    .map((file) => {
      const name = nameOf(path.join(src, file));
      const text = readFileSync(path.join(src, file), 'utf8');
      const sources = text.matchAll(/^(?:import|export)\b[^'";]*'([^']+)'|\bimport\('([^']+)'\)/gm);
      const targets = [...sources].map(([, fixed, late]) => fixed ?? late);
      return [
        name,
        targets.filter((target) => !target.startsWith('node:')).map((target) => resolveFrom(name, target)),
      ];
    }),
);

/** The way from a module back to itself, if there is one. */
function circleOf(name) {
  const ways = imports.get(name)?.map((target) => [target]) ?? [];
  const seen = new Set();
  for (const way of ways) {
    const last = way.at(-1);
    if (last === name) return way;
    if (seen.has(last)) continue;
    seen.add(last);
    for (const target of imports.get(last) ?? []) ways.push([...way, target]);
  }
  return undefined;
}

/** Rows of the table that list what nobody there imports, or what stands below them. */
function problemsOfTable() {
  return rooms.flatMap(({ members, targets }, row) => {
    const used = [...imports]
      .filter(([name]) => rooms.indexOf(roomOf(name)) === row)
      .flatMap(([, all]) => all);
    const later = rooms.slice(row).flatMap((room) => room.members);
    return targets.flatMap((target) => [
      ...(used.some((name) => isWithin(name, target))
        ? []
        : [`${members.join(', ')}: nobody imports ${target}`]),
      ...(later.some((room) => isWithin(target, room))
        ? [`${members.join(', ')}: ${target} stands below it`]
        : []),
    ]);
  });
}

const house = {
  rules: {
    dependencies: {
      create(context) {
        const name = nameOf(context.filename);
        const own = roomOf(name);
        const check = (node) => {
          const source = node.source?.value;
          if (typeof source !== 'string' || source.startsWith('node:')) return;
          const target = resolveFrom(name, source);
          const isNear = own !== undefined && roomOf(target) === own;
          const isListed = own?.targets.some((room) => isWithin(target, room)) === true;
          const isOwner = owners[target]?.includes(name) ?? true;
          if (!(isNear || isListed) || !isOwner)
            context.report({ node, message: `src/${name} must not import ${target}` });
        };
        return {
          Program(node) {
            const circle = circleOf(name);
            if (circle) context.report({ node, message: `circle: ${[name, ...circle].join(' -> ')}` });
          },
          ImportDeclaration: check,
          ImportExpression: check,
          ExportNamedDeclaration: check,
          ExportAllDeclaration: check,
        };
      },
    },
    table: {
      create(context) {
        return {
          Program(node) {
            for (const message of problemsOfTable()) context.report({ node, message });
          },
        };
      },
    },
    owners: {
      create(context) {
        const name = nameOf(context.filename);
        return {
          MemberExpression(node) {
            const used = context.sourceCode.getText(node);
            if (owners[used] && !owners[used].includes(name)) {
              context.report({ node, message: `${used} belongs to src/${owners[used].join(', src/')}` });
            }
          },
        };
      },
    },
  },
};

export default tseslint.config(
  { ignores: ['dist', 'node_modules', '.cache', 'test/projects'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { house },
    rules: { 'house/dependencies': 'error', 'house/owners': 'error' },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts', 'callbacks/**/*.ts', 'examples/**/*.ts'],
    rules: {
      'no-console': 'off',
      // node:test's describe/it/test return promises the runner itself awaits.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] },
          ],
        },
      ],
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['bin/*.js', 'scripts/*.js', 'eslint.config.js', 'test/fixtures/**'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly' } },
  },
  {
    files: ['eslint.config.js'],
    plugins: { house },
    rules: { 'house/table': 'error' },
  },
);
