import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

const path = useFolder();
const json = (...parts: string[]) => JSON.parse(readFileSync(path(...parts), 'utf8')) as Record<string, unknown>;

test.each([
  { name: 'gru', config: { model_type: 'elapid-gru', hidden_size: 16, num_hidden_layers: 2, tie_word_embeddings: true }, facts: /family +gru\n.*layers +2 GRU blocks[^]*state +128 B a sequence/ },
  { name: 's4d', config: { model_type: 'elapid-s4d', d_model: 16, n_layer: 2, d_state: 64, init: 'diag-lin' }, facts: /family +s4d\n.*layers +2 S4D blocks[^]*diag-lin, zoh[^]*state +8\.19 kB a sequence/ },
  { name: 'transformer', config: { model_type: 'llama', hidden_size: 16, max_position_embeddings: 8 }, facts: /family +transformer\n[^]*state +256 B more for each token: 256 kB after 1k tokens/ },
  { name: 'bamba', config: { model_type: 'bamba', mamba_d_head: 32, attn_layer_indices: [1], max_position_embeddings: 8 }, facts: /family +bamba\n.*layers +1 of Mamba-2, 1 of attention \(1\)[^]*state +128 B more for each token/ },
  { name: 'moe-mamba', config: { model_type: 'elapid-moe-mamba', d_model: 16, n_blocks: 2, n_experts: 8, expert_size: 48 }, facts: /family +moe-mamba\n[^]*experts +8 of width 48[^]*of them for a token\n/ },
])('every command takes a $name', async ({ name, config, facts }) => {
  writeFileSync(path('text.txt'), trainingText.slice(0, 1500));
  const run = async (...args: readonly string[]) => {
    const { code, stdout, stderr } = await runHere(...args);
    expect(code, stderr).toBe(0);
    return stdout;
  };
  const sizes = ['--d-model', '16', '--layers', '2', '--batch-size', '2', '--length', '8', '--threads', '1'];
  await run('train', path('text.txt'), '--out', path(name), '--model', name, '--steps', '2', ...sizes);
  expect(json(name, 'run.json')['model']).toEqual({ family: name, dModel: 16, layers: 2 });
  expect(json(name, 'config.json')).toMatchObject(config);
  await run('train', '--resume', path(name), '--steps', '3', '--threads', '1');
  expect(await run('generate', path(name), 'A', '-t', '0', '--max-tokens', '4', '--threads', '1')).toMatch(/^A/);
  expect(JSON.parse(await run('eval', path(name), path('text.txt'), '--json', '--threads', '1'))).toHaveProperty('bitsPerByte');
  expect(await run('inspect', path(name))).toMatch(facts);
  await run('quantize', path(name), '--out', path(`${name}-small`), '--dtype', 'int4', '--threads', '1');
  expect(await run('inspect', path(`${name}-small`))).toMatch(/with weights in int4/);
});

test.each([
  { name: 'mamba', sizes: [], expected: { state_size: 16, conv_kernel: 4, intermediate_size: 16 }, kept: { dModel: 8, layers: 1 } },
  { name: 'mamba', sizes: ['--d-state', '3'], expected: { state_size: 3, conv_kernel: 4 }, kept: { dModel: 8, layers: 1, dState: 3 } },
  { name: 'falcon-mamba', sizes: ['--d-conv', '2', '--expand', '3'], expected: { state_size: 16, conv_kernel: 2, intermediate_size: 24 }, kept: { family: 'falcon-mamba', dModel: 8, layers: 1, dConv: 2, expand: 3 } },
  {
    name: 'mamba2', sizes: ['--d-state', '6', '--set', 'attention-layers=0'],
    expected: { attn_layer_idx: [0], attn_cfg: { num_heads: 1, d_conv: 4 }, ssm_cfg: { layer: 'Mamba2', d_state: 6 } }, kept: { family: 'mamba2', dModel: 8, layers: 1, dState: 6, set: { attentionLayers: 0 } },
  },
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
