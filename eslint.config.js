import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

// Folders of src in the order they may import one another: a folder sees itself and those in its list.
const below = (...names) => names;
const util = below('util');
const platform = below('util', 'platform');
const tensor = below('util', 'tensor');
const wgsl = below('util', 'tensor', 'wgsl');
const backend = below('util', 'platform', 'tensor', 'wgsl', 'backend');
const ops = below('util', 'tensor', 'wgsl', 'backend', 'ops');
const autograd = below(...ops, 'autograd');
const nn = below(...autograd, 'nn');
const mixers = below(...nn, 'mixers');
const models = below(...mixers, 'platform', 'io', 'models');
const data = below('util', 'platform', 'io', 'tokenizer', 'data');
const generate = below(...models, 'tokenizer', 'generate');
const train = below(...generate, 'data', 'train');
const tasks = below(...train, 'tasks');
const layers = {
  util,
  platform,
  tensor,
  wgsl,
  backend,
  ops,
  autograd,
  nn,
  mixers,
  io: below('util', 'platform', 'io'),
  tokenizer: below('util', 'platform', 'io', 'tokenizer'),
  models,
  data,
  generate,
  train,
  tasks,
  eval: below(...train, 'eval'),
  cli: below(...tasks, 'eval', 'cli'),
};

const importRules = Object.entries(layers).map(([folder, allowed]) => {
  const forbidden = Object.keys(layers).filter((name) => !allowed.includes(name) && name !== folder);
  const patterns = [
    {
      regex: `^(\\.\\./)+(${forbidden.join('|')})/`,
      message: `${folder}/ may import only ${allowed.join(', ')} (ARCHITECTURE.md, layers).`,
    },
  ];
  if (!allowed.includes('platform')) patterns.push({ regex: '^#platform$', message: `${folder}/ must not know the platform.` });
  if (folder === 'ops') {
    patterns.push({
      regex: '^(\\.\\./)+[a-z0-9-]+/webgpu(/|\\.js$)',
      message: 'An operation’s GPU code is its own: what several operations share is in src/wgsl.',
    });
  }
  if (folder !== 'platform') patterns.push({ regex: '^node:', message: 'Only platform/ may use Node’s modules.' });
  return { files: [`src/${folder}/**/*.ts`], rules: { 'no-restricted-imports': ['error', { patterns }] } };
});

export default defineConfig(
  { ignores: ['dist/', '.dist-*/', 'build/', 'node_modules/', 'runs/', 'wasm/'] },
  ...tseslint.configs.strictTypeChecked,
  ...tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { project: './tsconfig.test.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: 'error',
      'max-lines': ['error', { max: 500, skipBlankLines: true, skipComments: true }],
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowAny: false, allowBoolean: false, allowNever: false, allowNullish: false, allowRegExp: false }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // `x as T` after a check reads better than `x!`, which the strict set forbids anyway.
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/platform/**'],
    rules: { 'no-restricted-globals': ['error', { name: 'navigator', message: 'Only platform/ may ask the browser.' }] },
  },
  ...importRules,
  {
    // Matrices A, B, C, D and the like keep their names; index signatures of kernels and cases are read by name.
    files: ['src/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts'],
    rules: { '@typescript-eslint/dot-notation': 'off' },
  },
  { files: ['**/*.js', '**/*.mjs'], extends: [tseslint.configs.disableTypeChecked] },
);
