import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

const path = useFolder();
const json = (...parts: string[]) => JSON.parse(readFileSync(path(...parts), 'utf8')) as Record<string, unknown>;

test('every command takes a GRU', async () => {
  writeFileSync(path('text.txt'), trainingText.slice(0, 1500));
  const run = async (...args: readonly string[]) => {
    const { code, stdout, stderr } = await runHere(...args);
    expect(code, stderr).toBe(0);
    return stdout;
  };
  const sizes = ['--d-model', '16', '--layers', '2', '--batch-size', '2', '--length', '8', '--threads', '1'];
  await run('train', path('text.txt'), '--out', path('run'), '--model', 'gru', '--steps', '2', ...sizes);
  expect(json('run', 'run.json')['model']).toEqual({ family: 'gru', dModel: 16, layers: 2 });
  expect(json('run', 'config.json')).toMatchObject({ model_type: 'elapid-gru', hidden_size: 16, num_hidden_layers: 2, tie_word_embeddings: true });
  await run('train', '--resume', path('run'), '--steps', '3', '--threads', '1');
  expect(await run('generate', path('run'), 'A', '-t', '0', '--max-tokens', '4', '--threads', '1')).toMatch(/^A/);
  expect(JSON.parse(await run('eval', path('run'), path('text.txt'), '--json', '--threads', '1'))).toHaveProperty('bitsPerByte');
  expect(await run('inspect', path('run'))).toMatch(/family +gru\n.*layers +2 GRU blocks[^]*state +128 B a sequence/);
  await run('quantize', path('run'), '--out', path('small'), '--dtype', 'int4', '--threads', '1');
  expect(await run('inspect', path('small'))).toMatch(/with weights in int4/);
});

test.each([
  { name: 'mamba', sizes: [], expected: { state_size: 16, conv_kernel: 4, intermediate_size: 16 }, kept: { dModel: 8, layers: 1 } },
  { name: 'mamba', sizes: ['--d-state', '3'], expected: { state_size: 3, conv_kernel: 4 }, kept: { dModel: 8, layers: 1, dState: 3 } },
  { name: 'falcon-mamba', sizes: ['--d-conv', '2', '--expand', '3'], expected: { state_size: 16, conv_kernel: 2, intermediate_size: 24 }, kept: { family: 'falcon-mamba', dModel: 8, layers: 1, dConv: 2, expand: 3 } },
  {
    name: 'transformer', sizes: ['--set', 'heads=2', '--set', 'kv-heads=1'],
    expected: { num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 8 }, kept: { family: 'transformer', dModel: 8, layers: 1, set: { heads: 2, kvHeads: 1 } },
  },
])('sizes that are not given are those of $name: $sizes', async ({ name, sizes, expected, kept }) => {
  const folder = `${name} ${sizes.join()}`;
  writeFileSync(path('sizes.txt'), trainingText.slice(0, 300));
  const few = ['--d-model', '8', '--layers', '1', '--batch-size', '1', '--length', '8', '--threads', '1', '--steps', '1'];
  const { code, stderr } = await runHere('train', path('sizes.txt'), '--out', path(folder), '--model', name, ...sizes, ...few);
  expect(code, stderr).toBe(0);
  expect(json(folder, 'config.json')).toMatchObject(expected);
  expect(json(folder, 'run.json')['model']).toEqual(kept);
});
