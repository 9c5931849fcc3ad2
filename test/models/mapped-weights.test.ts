import { appendFileSync, copyFileSync, mkdirSync, readFileSync, realpathSync, truncateSync, utimesSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { Decoder } from '../../src/generate/index.js';
import { loadModel, saveModel, type LanguageModel } from '../../src/models/index.js';
import { countParameters } from '../../src/nn/index.js';
import type { Backend } from '../../src/tensor/index.js';
import { CheckpointError, DisposedError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { checkpointErrorOf } from '../support/checkpoints.js';
import { useFolder } from '../support/folders.js';
import { goldenPath } from '../support/goldens.js';
import { idTensor, randomIds, read } from '../support/models.js';

const linux = process.platform === 'linux';
const ids = randomIds(20, 97);

/** What Linux says of this process's mappings of a file: how many bytes are mapped, and how many of them are copies. */
function mappingsOf(file: string): { bytes: number; copied: number } {
  const sum = { bytes: 0, copied: 0 };
  const header = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ +(.*)$/;
  let counting = false;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const [, start = '', end = '', name] = header.exec(line) ?? [];
    if (name !== undefined) {
      counting = name === file || name === `${file} (deleted)`;
      if (counting) sum.bytes += parseInt(end, 16) - parseInt(start, 16);
    } else if (counting && line.startsWith('Private_Dirty:')) {
      sum.copied += 1024 * Number(/\d+/.exec(line)?.[0]);
    }
  }
  return sum;
}

const logitsOf = (model: LanguageModel, backend: Backend) => read(() => model.forward(idTensor(backend, ids, [1, ids.length])));

/** Writes a model of the same sizes and other weights into a folder that holds one. */
async function replace(folder: string, backend: Backend): Promise<void> {
  const model = await loadModel(folder, backend);
  for (const { tensor } of model.parameters) tensor.write(new Float32Array(tensor.size).fill(0.25));
  await saveModel(model, folder);
  model.dispose();
}

describe.each(compiledKernels)('weights in a file, on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });
  const path = useFolder();

  function goldenIn(folder: string): string {
    mkdirSync(path(folder));
    for (const file of ['config.json', 'model.safetensors']) copyFileSync(goldenPath(`hf-mamba/${file}`), path(folder, file));
    return realpathSync(path(folder, 'model.safetensors'));
  }

  const note = linux ? '' : ' [skipped: only Linux tells what is mapped]';
  test.skipIf(!linux)(`float32 weights are ${kernels === 'wasm' ? 'copied' : 'mapped, not copied'}, and let go${note}`, async () => {
    const file = goldenIn('mapped');
    expect(mappingsOf(file).bytes).toBe(0);
    const model = await loadModel(path('mapped'), backend(), { mapped: true });
    await logitsOf(model, backend());
    const { bytes, copied } = mappingsOf(file);
    if (kernels === 'wasm') expect(bytes).toBe(0);
    else expect(bytes).toBeGreaterThanOrEqual(4 * countParameters(model.parameters));
    expect(copied).toBe(0);
    model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
    await backend().synchronize();
    await vi.waitFor(() => expect(mappingsOf(file).bytes).toBe(0));
  });

  test.skipIf(!linux || kernels === 'wasm')(`a decoder keeps the pages of a model that was freed${note}`, async () => {
    const file = goldenIn('decoded');
    const model = await loadModel(path('decoded'), backend(), { mapped: true });
    const state = model.newState(1);
    const decoder = new Decoder(model, state);
    for (let step = 0; step < 3; step++) await decoder.step([step]);
    const { liveBuffers } = backend().statistics();
    model.dispose();
    await backend().synchronize();
    // All but A_log, of which the decoder has what it needs.
    expect(backend().statistics().liveBuffers).toBe(liveBuffers - model.blocks.length);
    expect(mappingsOf(file).bytes).toBeGreaterThan(0);
    await expect(decoder.step([1])).rejects.toThrow(DisposedError);
    decoder.dispose();
    await vi.waitFor(() => expect(mappingsOf(file).bytes).toBe(0));
    state.dispose();
  });

  test('replacing the file does not disturb a model that was loaded from it', async () => {
    goldenIn('replaced');
    const model = await loadModel(path('replaced'), backend(), { mapped: true });
    const golden = await loadModel(goldenPath('hf-mamba'), backend());
    await replace(path('replaced'), backend());
    const logits = await logitsOf(golden, backend());
    expect(await logitsOf(model, backend())).toEqual(logits);
    const later = await loadModel(path('replaced'), backend());
    expect(await logitsOf(later, backend())).not.toEqual(logits);
    for (const one of [model, golden, later]) one.dispose();
  });

  test.each([undefined, false])('of a small file are read, and then it does not matter what happens to it (mapped: %s)', async (mapped) => {
    const file = goldenIn(`read-${String(mapped)}`);
    const model = await loadModel(path(`read-${String(mapped)}`), backend(), { mapped });
    const golden = await loadModel(goldenPath('hf-mamba'), backend());
    if (linux) expect(mappingsOf(file).bytes).toBe(0);
    truncateSync(file, 100);
    expect(await logitsOf(model, backend())).toEqual(await logitsOf(golden, backend()));
    for (const one of [model, golden]) one.dispose();
  });

  test.each<[string, (file: string) => void, RegExp]>([
    ['cut', (file) => truncateSync(file, 200), /(became shorter while it was read|its size was \d+ bytes and is 200)/],
    ['longer', (file) => appendFileSync(file, 'x'), /the file changed while it was loaded: its size was \d+ bytes and is \d+\. Hint: load it when/],
    ['written to', (file) => utimesSync(file, 1e9, 1e9), /the file changed while it was loaded: it was written to at 2001-09-09T01:46:40/],
  ])('a file that is %s while it is loaded is refused, and nothing stays', async (name, change, message) => {
    const file = goldenIn(name);
    const sync = backend().synchronize.bind(backend());
    // bf16 is packed weight by weight, with a wait after each: the file changes at the first.
    const spy = vi.spyOn(backend(), 'synchronize').mockImplementationOnce(() => {
      change(file);
      return sync();
    });
    const error = await checkpointErrorOf(() => loadModel(path(name), backend(), { dtype: 'bf16' }));
    spy.mockRestore();
    expect(error.message).toMatch(message);
    expect(error.file).toBe(path(name, 'model.safetensors'));
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test.skipIf(kernels === 'wasm').each([0, 4096, 40_000])(`a mapped file that is cut to %i bytes is an error where it is used${kernels === 'wasm' ? ' [skipped: wasm maps nothing]' : ''}`, async (size) => {
    const file = goldenIn(`cut-${size}`);
    // Its backend is lost with it.
    const own = await openBackend('cpu', { kernels, threads: 2 });
    const model = await loadModel(path(`cut-${size}`), own, { mapped: true });
    truncateSync(file, size);
    const error = await checkpointErrorOf(() => logitsOf(model, own));
    expect(error.message).toMatch(/the file was cut while its weights were in use; .* Hint: load the model on a new backend, with mapped: false/);
    expect(error.file).toBe(file);
    await expect(logitsOf(model, own)).rejects.toThrow(CheckpointError);
    model.dispose();
    await own.close().catch(() => undefined);
    const golden = await loadModel(goldenPath('hf-mamba'), backend());
    expect(await logitsOf(golden, backend())).toHaveLength(97 * ids.length);
    golden.dispose();
  });

  test('writing to a loaded weight changes the model, not the file', async () => {
    const file = goldenIn('written');
    const before = readFileSync(file);
    const load = () => loadModel(path('written'), backend(), { mapped: true });
    const [model, other] = [await load(), await load()];
    const { tensor } = (model.finalNorm as NonNullable<typeof model.finalNorm>).weight;
    const ones = new Float32Array(tensor.size).fill(1);
    const old = await tensor.data();
    tensor.write(ones);
    expect(await tensor.data()).toEqual(ones);
    expect(await other.finalNorm?.weight.tensor.data()).toEqual(old);
    expect(readFileSync(file).equals(before)).toBe(true);
    for (const one of [model, other]) one.dispose();
  });
});
