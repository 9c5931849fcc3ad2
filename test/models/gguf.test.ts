/** GGUF files, both ways. That llama.cpp computes the same from them is tested at night (`test/nightly/llama-cpp.nightly.ts`). */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { loadModel, LanguageModel, mambaFamily, mambaConfig, saveGguf, saveModel, transformerFamily, mamba2Family, gptNeoxFamily, falconMambaFamily, type GgufOptions } from '../../src/models/index.js';
import { blockTypes } from '../../src/io/gguf/blocks.js';
import type { GgufSource } from '../../src/io/gguf/gguf-writer.js';
import { loadTokenizer } from '../../src/tokenizer/index.js';
import { Random } from '../../src/util/random.js';
import { absenceNote, sharedFixture } from '../fixtures.js';
import { useBackend } from '../support/backends.js';
import { expectClose } from '../support/compare.js';
import { useFolder } from '../support/folders.js';
import { contentOf, madeUpTokenizer, packers, writeContent } from '../support/gguf.js';
import { goldenPath } from '../support/goldens.js';
import { idTensor, randomIds, read } from '../support/models.js';
import { runHere } from '../support/run-here.js';

type Type = NonNullable<GgufOptions['type']>;

describe('GGUF', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();
  const logitsOf = (model: LanguageModel) => read(() => model.forward(idTensor(backend(), randomIds(12, model.config.vocabularySize), [1, 12])));

  const models = ['hf-mamba', 'state-spaces-mamba2', 'hf-llama', 'hf-gpt-neox'];
  // Relative to the largest logit: an f16 has 11 bits, q8_0 7 beside the sign.
  const bounds: Readonly<Record<Type, number>> = { f32: 2e-6, f16: 3e-3, q8_0: 8e-2 };
  const cases = models.flatMap((name) => (Object.keys(bounds) as Type[]).map((type) => ({ name, type })));

  test.each(cases)('$name in $type: config and logits come back', async ({ name, type }) => {
    const model = await loadModel(goldenPath(name), backend());
    const file = path(`${name}-${type}.gguf`);
    await saveGguf(model, file, { type });
    const back = await loadModel(file, backend());
    expect(back.family.name).toBe(model.family.name);
    expect(back.parameters.map(({ key }) => key).sort()).toEqual(model.parameters.map(({ key }) => key).sort());
    const initial = /deviation|initialisation|rescale/i;
    for (const [key, value] of Object.entries(model.config) as [string, unknown][]) if (!initial.test(key)) expect({ [key]: (back.config as unknown as Record<string, unknown>)[key] }).toEqual({ [key]: value });
    expectClose(await logitsOf(back), await logitsOf(model), bounds[type], name);
    for (const one of [model, back]) one.dispose();
  });

  test('a tied GPT-NeoX is written with a head, which llama.cpp wants', async () => {
    const config = { ...gptNeoxFamily.configOf({ vocabularySize: 40, dModel: 16, layers: 1, heads: 2 }), tiedHead: true };
    const model = LanguageModel.initial(gptNeoxFamily, config, backend(), 2);
    await saveGguf(model, path('tied.gguf'));
    const back = await loadModel(path('tied.gguf'), backend());
    expect([...(await logitsOf(back))]).toEqual([...(await logitsOf(model))]);
    for (const one of [model, back]) one.dispose();
  });

  describe('types of tensors', () => {
    const samples = { small: 0.02, one: 1, large: 300 };
    const inputs = Object.entries(samples).map(([size, scale]) => {
      const random = new Random(scale * 100);
      return { size, values: Float32Array.from({ length: 512 }, () => scale * (2 * random.uniform() - 1)) };
    });
    const kinds = Object.keys(packers) as (keyof typeof packers)[];
    test.each(kinds.flatMap((kind) => inputs.map((input) => ({ kind, ...input }))))('$kind, $size numbers, as ggml packs them', ({ kind, values }) => {
      const packed = packers[kind](values);
      const decoded = blockTypes[kind].decode(packed.bytes);
      expect(packed.bytes.length).toBe((512 / blockTypes[kind].values) * blockTypes[kind].bytes);
      expectClose(decoded, packed.values, 1e-6, kind);
      // And they are the numbers that were packed, as far as the bits go.
      const coarse = { bf16: 0.005, q8_0: 0.006, q4_0: 0.15, q4_k: 0.1, q6_k: 0.04 }[kind];
      expectClose(decoded, values, coarse, kind);
    });

    test.each([
      // d = 2; nibbles 0 and 15 of the first byte are numbers 0 and 16.
      { kind: 'q4_0' as const, bytes: { 0: 0, 1: 0x40, 2: 0xf0 }, at: { 0: -16, 16: 14, 1: -16 } },
      // d = 1, dmin = 0.5; group 0: scale 3, minimum 2; group 4: scale 0x21 (lower bits in byte 12, upper in byte 4), minimum 0x13.
      { kind: 'q4_k' as const, bytes: { 1: 0x3c, 3: 0x38, 4: 0x83, 8: 0x42, 12: 0x31, 16: 0x05, 80: 0x02 }, at: { 0: 14, 1: -1, 128: 56.5, 129: -9.5 } },
      // d = 0.5; group 0: scale −2. Number 0: lower bits 5, upper 3; number 64: lower bits 1, upper 0; its group, 4, has scale 1.
      { kind: 'q6_k' as const, bytes: { 0: 0x15, 128: 0x03, 192: 0xfe, 196: 1, 209: 0x38 }, at: { 0: -21, 1: 32, 64: -15.5, 65: -16 } },
    ])('$kind, by hand', ({ kind, bytes, at }) => {
      const block = new Uint8Array(blockTypes[kind].bytes);
      for (const [place, byte] of Object.entries(bytes)) block[Number(place)] = byte;
      const decoded = blockTypes[kind].decode(block);
      expect(Object.fromEntries(Object.keys(at).map((i) => [i, decoded[Number(i)]]))).toEqual(at);
    });

    test.each(kinds)('a model with matrices in %s', async (kind) => {
      const config = mambaConfig({ vocabularySize: 32, dModel: 256, dInner: 256, layers: 1, dtRank: 16 });
      const model = LanguageModel.initial(mambaFamily, config, backend(), 4);
      await saveGguf(model, path('whole.gguf'));
      const { pairs, tensors } = await contentOf(path('whole.gguf'));
      const expected = new Map<string, Float32Array>();
      const requantized = tensors.map((tensor): GgufSource => {
        if (tensor.shape.length !== 2 || (tensor.shape[1] ?? 0) % 256 !== 0) return tensor;
        const { bytes, values } = packers[kind](new Float32Array(tensor.bytes.buffer));
        expected.set(tensor.name, values);
        return { ...tensor, type: kind, bytes };
      });
      writeContent(path(`${kind}.gguf`), pairs, requantized);
      const back = await loadModel(path(`${kind}.gguf`), backend());
      const names = { embeddings: 'token_embd', in_proj: 'blk.0.ssm_in', x_proj: 'blk.0.ssm_x', out_proj: 'blk.0.ssm_out' };
      expect([...expected.keys()].sort()).toEqual(Object.values(names).map((name) => `${name}.weight`).sort());
      for (const [ours, theirs] of Object.entries(names)) {
        const parameter = back.parameters.find(({ key }) => key.endsWith(`${ours}.weight`));
        expectClose((await parameter?.tensor.data()) ?? [], expected.get(`${theirs}.weight`) ?? [], 1e-6, ours);
      }
      for (const one of [model, back]) one.dispose();
    });
  });

  describe('what is wrong with a file', () => {
    const write = async (name: string, change: (content: Awaited<ReturnType<typeof contentOf>>) => void) => {
      const config = mambaConfig({ vocabularySize: 32, dModel: 16, layers: 1 });
      const model = LanguageModel.initial(mambaFamily, config, backend(), 4);
      await saveGguf(model, path('sound.gguf'), { tokenizer: madeUpTokenizer(32) });
      model.dispose();
      const content = await contentOf(path('sound.gguf'));
      change(content);
      writeContent(path(name), content.pairs, content.tensors);
      return path(name);
    };
    type Content = Awaited<ReturnType<typeof contentOf>>;
    const setPair = (key: string, value: Content['pairs'][number][1] | undefined) => (content: Content) => {
      content.pairs = [...content.pairs.filter(([one]) => one !== key), ...(value === undefined ? [] : [[key, value] as Content['pairs'][number]])];
    };
    const changes: { what: string; change: (content: Content) => void; message: RegExp }[] = [
      { what: 'another architecture', change: setPair('general.architecture', 'rwkv6'), message: /'general\.architecture': is "rwkv6"; expected one of mamba, mamba2, llama, gptneox/ },
      { what: 'no architecture', change: setPair('general.architecture', undefined), message: /'general\.architecture': is missing/ },
      { what: 'no size', change: setPair('mamba.ssm.state_size', undefined), message: /'mamba\.ssm\.state_size': is missing; expected a whole number/ },
      { what: 'a size that is a text', change: setPair('mamba.block_count', 'one'), message: /'mamba\.block_count': is "one"; expected a whole number/ },
      { what: 'a size of 0', change: setPair('mamba.embedding_length', 0), message: /'mamba\.embedding_length': is 0; expected a whole number/ },
      { what: 'more layers than tensors', change: setPair('mamba.block_count', 2), message: /'blk\.1\.attn_norm\.weight': the tensor is missing/ },
      { what: 'another state size', change: setPair('mamba.ssm.state_size', 8), message: /'blk\.0\.ssm_x\.weight', byte \d+: has shape \[33, 32\]; expected \[17, 32\]/ },
      { what: "FalconMamba's norms", change: setPair('mamba.ssm.dt_b_c_rms', true), message: /'mamba\.ssm\.dt_b_c_rms': is true; expected false/ },
      { what: 'a norm without a number', change: setPair('mamba.attention.layer_norm_rms_epsilon', { f32: -1.5 }), message: /'mamba\.attention\.layer_norm_rms_epsilon': is -1\.5; expected a positive number/ },
      { what: 'a part of a model', change: setPair('split.count', 3), message: /'split\.count': the file is one of several/ },
      { what: 'an odd alignment', change: setPair('general.alignment', 12), message: /'general\.alignment', byte 0: is 12; expected a multiple of 8/ },
      { what: 'a tensor too many', change: ({ tensors }) => void tensors.push({ name: 'blk.0.extra', shape: [1], type: 'f32', bytes: new Uint8Array(4) }), message: /'blk\.0\.extra', byte \d+: is no tensor of the architecture mamba/ },
      { what: 'no embedding', change: (content) => void (content.tensors = content.tensors.slice(1)), message: /'token_embd\.weight': the tensor is missing/ },
      {
        what: 'A above 0',
        change: (content) => void (content.tensors = content.tensors.map((one) => (one.name === 'blk.0.ssm_a' ? { ...one, bytes: new Uint8Array(Float32Array.from({ length: 512 }, () => 1).buffer) } : one))),
        message: /'blk\.0\.ssm_a', byte \d+: holds 1; expected numbers below 0/,
      },
    ];
    test.each(changes)('$what', async ({ change, message }) => {
      const file = await write('wrong.gguf', change);
      await expect(loadModel(file, backend())).rejects.toThrow(message);
      await expect(loadModel(file, backend())).rejects.toMatchObject({ name: 'CheckpointError', file });
    });

    test.each([
      { what: 'empty', make: () => Buffer.alloc(0), message: /is empty \(0 bytes\)/ },
      { what: 'another format', make: (sound: Buffer) => Buffer.concat([Buffer.from('PK\x03\x04'), sound.subarray(4)]), message: /is no GGUF file; expected one that begins with 'GGUF'/ },
      { what: 'a web page', make: () => Buffer.from('<!doctype html><p>Sign in'), message: /is a web page/ },
      { what: 'version 1', make: (sound: Buffer) => (sound.writeUInt32LE(1, 4), sound), message: /byte 4: is GGUF of version 1; expected 2 or 3/ },
      { what: 'big-endian', make: (sound: Buffer) => (sound.writeUInt32BE(3, 4), sound), message: /is GGUF of version 50331648; expected 2 or 3, little-endian/ },
      { what: 'cut in the magic', make: (sound: Buffer) => sound.subarray(0, 3), message: /is no GGUF file/ },
      { what: 'cut in the header', make: (sound: Buffer) => sound.subarray(0, 200), message: /the file ends inside the header/ },
      { what: 'cut in the last tensor', make: (sound: Buffer) => sound.subarray(0, sound.length - 40), message: /the file ends inside the tensor; expected \d+ bytes/ },
      { what: 'a length beyond the file', make: (sound: Buffer) => (sound.writeBigUInt64LE(2n ** 62n, 24), sound), message: /the file ends inside the header/ },
      {
        what: 'an unread type',
        make: (sound: Buffer) => (sound.writeUInt32LE(13, sound.indexOf('token_embd.weight') + 17 + 4 + 16), sound),
        message: /'token_embd\.weight', byte \d+: is of type q5_k; expected one of f32, f16, bf16, q4_0, q8_0, q4_k, q6_k/,
      },
      {
        what: 'rows that are no whole blocks',
        make: (sound: Buffer) => (sound.writeUInt32LE(12, sound.indexOf('token_embd.weight') + 17 + 4 + 16), sound),
        message: /'token_embd\.weight', byte \d+: has shape \[32, 16\]; expected extents of at least 1, and rows of a multiple of 256 for q4_k/,
      },
    ])('$what', async ({ make, message }) => {
      const sound = readFileSync(await write('sound.gguf', () => undefined));
      writeFileSync(path('damaged.gguf'), make(sound));
      await expect(loadModel(path('damaged.gguf'), backend())).rejects.toThrow(message);
    });

    test.each([
      { what: 'SentencePiece', change: setPair('tokenizer.ggml.model', 'llama'), message: /'tokenizer\.ggml\.model': is 'llama', SentencePiece; expected 'gpt2', byte-level BPE/ },
      { what: 'another way to cut', change: setPair('tokenizer.ggml.pre', 'deepseek-r1-qwen'), message: /'tokenizer\.ggml\.pre': is "deepseek-r1-qwen"; expected one of default, gpt-2/ },
      { what: 'no merges', change: setPair('tokenizer.ggml.merges', undefined), message: /'tokenizer\.ggml\.merges': is missing/ },
      { what: 'an id of no token', change: setPair('tokenizer.ggml.eos_token_id', 32), message: /'tokenizer\.ggml\.eos_token_id': is 32; expected an id below 32/ },
      { what: 'no tokenizer', change: setPair('tokenizer.ggml.model', 'none'), message: /has no tokenizer; only a model of 256 ids reads plain bytes/ },
    ])('its tokenizer: $what', async ({ change, message }) => {
      await expect(loadTokenizer(await write('tokenizer.gguf', change), 32)).rejects.toThrow(message);
    });
  });

  test.each([
    { what: 'a FalconMamba', make: () => LanguageModel.initial(falconMambaFamily, falconMambaFamily.configOf({ vocabularySize: 32, dModel: 16, layers: 1 }), backend(), 1), message: /family 'falcon-mamba'/ },
    { what: 'a Mamba with layer norms', make: () => LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 32, dModel: 16, layers: 1, norm: 'layer' }), backend(), 1), message: /norm.*"rms": llama\.cpp has no other such model/ },
    {
      what: 'a Mamba-2 that norms two groups as one',
      make: () => LanguageModel.initial(mamba2Family, { ...mamba2Family.configOf({ vocabularySize: 32, dModel: 64, layers: 1 }), groups: 2 }, backend(), 1),
      message: /gatedNorm\.groups/,
    },
    {
      what: 'a window',
      make: () => LanguageModel.initial(transformerFamily, { ...transformerFamily.configOf({ vocabularySize: 32, dModel: 16, layers: 1, heads: 2 }), window: 8 }, backend(), 1),
      message: /window/,
    },
  ])('$what is refused', async ({ make, message }) => {
    const model = make();
    await expect(saveGguf(model, path('refused.gguf'))).rejects.toThrow(message);
    model.dispose();
  });

  const [vocabulary, json] = ['tokenizer/ggml-vocab-gpt-neox.gguf', 'tokenizer/gpt-neox-20b.tokenizer.json'];
  test.skipIf(sharedFixture(json) === undefined)(`the tokenizer of GPT-NeoX, there and back${absenceNote(json)}`, async () => {
    const definition = JSON.parse(readFileSync(sharedFixture(json) ?? '', 'utf8')) as Record<string, unknown>;
    const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 50280, dModel: 8, layers: 1 }), backend(), 1);
    await saveGguf(model, path('neox.gguf'), { tokenizer: { definition, config: { eos_token: '<|endoftext|>' } } });
    model.dispose();
    writeFileSync(path('tokenizer.json'), JSON.stringify(definition));
    const [ours, theirs] = [await loadTokenizer(path('neox.gguf'), 50280), await loadTokenizer(path())];
    expect(ours.endOfText).toBe(0);
    for (const text of ['Hello, world! 123456', "I'll  go\n\n\tthere", 'нещо 🦙 e\u0301', '<|endoftext|>a        b']) expect([...ours.encode(text)], text).toEqual([...theirs.encode(text)]);
    expect(ours.decode(ours.encode('Führer ½ 🦙'))).toBe('Führer ½ 🦙');
  });

  test.skipIf(sharedFixture(vocabulary) === undefined)(`llama.cpp's file of its vocabulary${absenceNote(vocabulary)}`, async () => {
    const tokenizer = await loadTokenizer(sharedFixture(vocabulary) ?? '');
    expect([...tokenizer.encode('Hello, world!')]).toEqual([12092, 13, 1533, 2]);
    expect(tokenizer.decode([12092, 13, 1533, 2])).toBe('Hello, world!');
  });

  test('elapid export writes a file that every command takes, and replaces none unasked', async () => {
    const model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 32, layers: 2, initialisation: { embeddingDeviation: 0.5 } }), backend(), 6);
    await saveModel(model, path('bytes'));
    model.dispose();
    const file = path('bytes.gguf');
    const done = await runHere('export', path('bytes'), '--type', 'f32', '--out', file, '--threads', '1');
    expect(done).toMatchObject({ code: 0, stdout: `wrote ${file}\n`, stderr: '' });
    const args = ['Once upon', '--max-tokens', '8', '--temperature', '0', '--threads', '1'];
    const [ours, theirs] = [await runHere('generate', file, ...args), await runHere('generate', path('bytes'), ...args)];
    expect(ours).toMatchObject({ code: 0, stderr: '' });
    expect(ours.stdout).toBe(theirs.stdout);
    expect(await runHere('inspect', file, '--json')).toMatchObject({ code: 0, stderr: '' });
    expect(await runHere('quantize', file, '--out', path('packed'), '--threads', '1')).toMatchObject({ code: 0, stderr: '' });
    expect((await loadTokenizer(path('packed'), 256)).decode([72, 105])).toBe('Hi');
    expect((await runHere('export', path('packed'), '--out', path('packed.gguf'))).stderr).toContain('expected weights in float32. Hint: export the checkpoint that it was packed from');
    const again = await runHere('export', path('bytes'), '--out', file);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('is there already. Hint: --overwrite replaces it');
    const other = await runHere('export', path('bytes'), '--out', path('bytes.bin'));
    expect(other.stderr).toContain('expected a name that ends in .gguf');
  });
});
