import js from '@eslint/js';
import tseslint from 'typescript-eslint';

// Imports point one way: base <- encoder <- evaluation <- trainer; encoder, evaluation <- server; everything <- cli.
const mayImport = {
  base: [],
  encoder: ['base'],
  evaluation: ['base', 'encoder'],
  trainer: ['base', 'encoder', 'evaluation'],
  server: ['base', 'encoder', 'evaluation'],
  models: ['base'],
};
const rooms = ['base', 'encoder', 'evaluation', 'trainer', 'server', 'cli', 'models', 'bench', 'test', 'web'];

const tensorflow = {
  group: ['@tensorflow/*'],
  message: 'Only trainer/ knows TensorFlow (docs/ARCHITECTURE.md).',
};

const boundaries = Object.entries(mayImport).map(([room, allowed]) => ({
  files: [`${room}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            group: rooms.filter((r) => r !== room && !allowed.includes(r)).flatMap((r) => [`**/../${r}/**`]),
            message: `${room}/ may import only from ${['itself', ...allowed].join(', ')} (docs/ARCHITECTURE.md).`,
          },
          ...(room === 'trainer' ? [] : [tensorflow]),
        ],
      },
    ],
  },
}));
boundaries.push({
  files: ['web/**/*.{ts,tsx}'],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            regex: `^(\\.\\./)+(?!server/http/openapi\\.js$)(${rooms.filter((r) => r !== 'web').join('|')})/`,
            message: 'web/ knows only openapi.yaml, and the types generated from it (docs/ARCHITECTURE.md).',
          },
        ],
      },
    ],
  },
});
boundaries.push({
  files: ['cli/**/*.ts', 'bench/**/*.ts', 'test/**/*.ts'],
  rules: { 'no-restricted-imports': ['error', { patterns: [tensorflow] }] },
});

export default tseslint.config(
  { ignores: ['dist/', '.build/', 'node_modules/', 'server/http/openapi.ts'] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      eqeqeq: 'error',
    },
  },
  {
    files: ['**/*.js', '**/*.mjs'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
  ...boundaries,
);
