import path from 'node:path';
import js from '@eslint/js';
import { createNodeResolver, importX } from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

/**
 * The house rules for src/, as data: what a file (or folder) may import, and who owns what.
 * The longest matching name wins. Dependencies point down only:
 * bin -> cli -> commands -> consumer -> stomp, embedded -> stomp/frames; the leaves serve all.
 */
const leaves = ['errors', 'settings', 'log', 'context'];
const mayImport = {
  errors: [],
  context: [],
  settings: ['errors', 'dotenv'],
  log: ['errors', 'settings', 'context', 'pino', 'pino-pretty'],
  shutdown: ['errors', 'log'],
  'stomp/frames': ['errors'],
  'stomp/stompit': [],
  'stomp/destinations': ['errors', 'stomp/frames'],
  'stomp/dialects': ['errors', 'stomp/frames', 'stomp/destinations'],
  'stomp/session': [...leaves, 'stomp', 'stompit'],
  stomp: [...leaves, 'stomp'],
  embedded: [...leaves, 'embedded', 'stomp/frames'],
  'consumer/callback': [...leaves, 'consumer', 'jiti'],
  consumer: [...leaves, 'stomp', 'consumer'],
  commands: [...leaves, 'shutdown', 'stomp', 'consumer', 'embedded', 'commands'],
  cli: [...leaves, 'commands', 'commander'],
  index: [...leaves, 'stomp', 'consumer', 'commands'],
  testing: [...leaves, 'stomp', 'consumer', 'embedded', 'commands'],
};
const owners = {
  'process.argv': ['cli'],
  'process.exitCode': ['cli'],
  'process.exit': ['cli', 'shutdown'],
  'process.env': ['settings'],
  'process.on': ['shutdown'],
  'process.once': ['shutdown'],
};

const src = path.join(import.meta.dirname, 'src');
const within = (name, folder) => name === folder || name.startsWith(`${folder}/`);
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
    plugins: { house, 'import-x': importX },
    settings: {
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      'import-x/resolver-next': [
        createNodeResolver({ extensions: ['.ts', '.js'], extensionAlias: { '.js': ['.ts', '.js'] } }),
      ],
    },
    rules: {
      'house/dependencies': 'error',
      'house/owners': 'error',
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
      'import-x/no-default-export': 'error',
    },
  },
  { files: ['src/**/*.d.ts'], rules: { 'import-x/no-default-export': 'off' } },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts', 'callbacks/**/*.ts'],
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
