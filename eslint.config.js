import path from 'node:path';
import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/**
 * The house rules for src/, as data: what a module may import, and who owns what. Dependencies point down only, and here
 * down is up: a module may list packages and modules that stand above it, so the table cannot hold a cycle.
 * bin -> cli -> commands -> consumer -> stomp -> stompit; embedded -> stomp/frames; the first four serve all.
 */
const leaves = ['errors', 'context', 'settings', 'log'];
const inEmbedded = (names) => names.split(' ').map((name) => `embedded/${name}`);
const inStomp = (names) => names.split(' ').map((name) => `stomp/${name}`);
const mayImport = {
  errors: [],
  context: [],
  settings: ['errors', 'dotenv'],
  log: ['errors', 'context', 'settings', 'pino', 'pino-pretty'],
  progress: ['log', 'cli-progress'],
  leave: [],
  shutdown: ['settings', 'log', 'leave'],
  'stomp/frames': ['errors'],
  'stomp/destinations': ['errors', 'stomp/frames'],
  'stomp/dialects': ['errors', 'stomp/frames', 'stomp/destinations'],
  'stomp/writer': ['errors', 'stomp/frames'],
  'stomp/session-end': ['errors', 'stomp/frames', 'stomp/dialects'],
  'stomp/session': [...leaves, ...inStomp('frames dialects writer session-end'), 'stompit'],
  'stomp/connect': [...leaves, 'stomp/session', 'stomp/session-end'],
  'stomp/declare': [...leaves, 'stomp/dialects', 'stomp/session', 'stomp/session-end'],
  'stomp/outgoing': ['errors', 'context', 'stomp/frames', 'stomp/destinations', 'stomp/dialects'],
  'stomp/transaction': ['errors', 'log', 'stomp/session'],
  'stomp/outbox': [...leaves, 'stomp/session', 'stomp/session-end', 'stomp/connect'],
  'stomp/scheduler': [...leaves, 'stomp/frames', 'stomp/session', 'stomp/session-end'],
  'stomp/outlet': [
    ...leaves,
    'stomp/frames',
    'stomp/dialects',
    'stomp/declare',
    'stomp/outgoing',
    'stomp/session',
    'stomp/session-end',
    'stomp/connect',
  ],
  'stomp/publisher': [...leaves, 'stomp/outgoing', 'stomp/session', 'stomp/connect', 'stomp/transaction'],
  'stomp/copies': ['stomp/frames'],
  'stomp/origins': ['stomp/frames'],
  'stomp/take': [
    ...leaves,
    'stomp/frames',
    'stomp/dialects',
    'stomp/session',
    'stomp/session-end',
    'stomp/connect',
  ],
  'stomp/forwarder': [...leaves, ...inStomp('frames destinations dialects session connect declare copies')],
  'consumer/payload': ['errors', 'context', 'stomp/dialects', 'stomp/outgoing'],
  'consumer/slots': [],
  'consumer/verdicts': ['consumer/payload'],
  'consumer/runner': [
    ...leaves,
    ...inStomp('dialects frames outgoing session'),
    'consumer/payload',
    'consumer/slots',
  ],
  'consumer/callback': [...leaves, 'consumer/payload', 'jiti'],
  'consumer/thread-protocol': [
    ...leaves,
    'stomp/dialects',
    'stomp/outgoing',
    'consumer/payload',
    'consumer/verdicts',
  ],
  'consumer/thread-main': [
    ...leaves,
    'consumer/payload',
    'consumer/slots',
    'consumer/callback',
    'consumer/thread-protocol',
    'consumer/verdicts',
  ],
  'consumer/thread': [
    ...leaves,
    'leave',
    'stomp/dialects',
    'stomp/outgoing',
    'consumer/payload',
    'consumer/slots',
    'consumer/runner',
    'consumer/thread-protocol',
    'consumer/verdicts',
  ],
  'consumer/threads': [...leaves, 'consumer/payload', 'consumer/runner', 'consumer/thread'],
  'consumer/retries': [...leaves, 'stomp'],
  'consumer/delivery': [...leaves, 'stomp', 'consumer/payload', 'consumer/retries'],
  'consumer/recent': [],
  'consumer/idleness': ['stomp/session'],
  'consumer/consumer': [
    ...leaves,
    'stomp',
    'consumer/payload',
    'consumer/slots',
    'consumer/runner',
    'consumer/delivery',
    'consumer/recent',
    'consumer/retries',
    'consumer/idleness',
  ],
  'embedded/clock': [],
  'embedded/limits': [],
  'embedded/topics': [],
  'embedded/refusal': ['errors'],
  'embedded/output': ['errors', 'stomp/frames'],
  'embedded/message': ['stomp/frames'],
  'embedded/arguments': ['stomp/frames', 'embedded/refusal'],
  'embedded/connect': ['stomp/frames', 'embedded/refusal'],
  'embedded/ready': ['embedded/message'],
  'embedded/destinations': ['stomp/frames', 'embedded/message', 'embedded/refusal'],
  'embedded/queue': ['embedded/clock', 'embedded/message', 'embedded/arguments', 'embedded/ready'],
  'embedded/queues': [
    ...['errors', 'stomp/frames'],
    ...inEmbedded('clock limits topics refusal message arguments destinations queue'),
  ],
  'embedded/channel': ['stomp/frames', ...inEmbedded('refusal message queue queues')],
  'embedded/commands': [
    'stomp/frames',
    ...inEmbedded('refusal message arguments destinations queue queues channel'),
  ],
  'embedded/connection': [
    'errors',
    'stomp/frames',
    ...inEmbedded('refusal output message connect queues channel commands'),
  ],
  'embedded/broker': [
    ...['errors', 'stomp/frames'],
    ...inEmbedded(
      'clock limits refusal message arguments destinations queue queues channel commands connection',
    ),
  ],
  'commands/broker': [...leaves, 'shutdown', 'embedded'],
  'commands/consume': [...leaves, 'shutdown', 'stomp', 'consumer', 'commands/broker'],
  'commands/documents': ['errors'],
  'commands/publish-run': [...leaves, 'stomp', 'commands/documents'],
  'commands/publish': [
    ...leaves,
    'progress',
    'shutdown',
    'stomp',
    'commands/documents',
    'commands/publish-run',
  ],
  'commands/operating': [...leaves, 'progress', 'shutdown', 'stomp'],
  'commands/records': ['errors', 'stomp/frames'],
  'commands/move': [...leaves, 'stomp', 'commands/operating'],
  'commands/ack-all': [...leaves, 'stomp', 'commands/operating', 'commands/records'],
  'commands/peek': [...leaves, 'stomp', 'commands/operating', 'commands/records'],
  'commands/restore': [...leaves, 'progress', 'shutdown', 'stomp', 'commands/operating', 'commands/records'],
  'commands/redrive': [...leaves, 'stomp', 'commands/operating'],
  'commands/demo': [
    ...leaves,
    'consumer',
    'embedded',
    'commands/broker',
    'commands/consume',
    'commands/publish',
  ],
  cli: [...leaves, 'leave', 'commands', 'commander'],
  index: [...leaves, 'stomp', 'consumer', 'commands'],
  testing: [...leaves, 'stomp', 'consumer', 'embedded', 'commands'],
};
const within = (name, folder) => name === folder || name.startsWith(`${folder}/`);
const modules = Object.keys(mayImport);
for (const [name, allowed] of Object.entries(mayImport)) {
  const isAbove = (other) => modules.indexOf(name) > modules.findLastIndex((module) => within(module, other));
  const wrong = allowed.find((other) => modules.some((module) => within(module, other)) && !isAbove(other));
  if (wrong) throw new Error(`eslint.config.js: ${name} lists ${wrong}, which does not stand above it`);
}
const owners = {
  'process.argv': ['cli'],
  'process.exitCode': ['cli'],
  'process.exit': ['leave', 'consumer/thread-main'],
  'process.env': ['settings'],
  'process.on': ['shutdown', 'consumer/thread-main'],
  'process.once': ['shutdown'],
};

const src = path.join(import.meta.dirname, 'src');
const ruleFor = (name) =>
  Object.keys(mayImport)
    .filter((key) => within(name, key))
    .sort((a, b) => b.length - a.length)[0];

const house = {
  rules: {
    dependencies: {
      create(context) {
        const name = path.relative(src, context.filename).replace(/\.ts$/, '');
        const key = ruleFor(name);
        const check = (node) => {
          const source = node.source?.value;
          if (typeof source !== 'string' || source.startsWith('node:')) return;
          const target = source.startsWith('.')
            ? path.relative(src, path.resolve(path.dirname(context.filename), source)).replace(/\.js$/, '')
            : source;
          if (key === undefined || !mayImport[key].some((allowed) => within(target, allowed))) {
            context.report({ node, message: `src/${name} must not import ${target}` });
          }
        };
        return {
          ImportDeclaration: check,
          ImportExpression: check,
          ExportNamedDeclaration: check,
          ExportAllDeclaration: check,
        };
      },
    },
    owners: {
      create(context) {
        const name = path.relative(src, context.filename).replace(/\.ts$/, '');
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
  { ignores: ['dist', 'node_modules'] },
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
    files: ['bin/*.js', 'eslint.config.js', 'test/fixtures/**'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly' } },
  },
);
