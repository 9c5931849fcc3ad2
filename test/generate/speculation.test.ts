import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { generateText, generateTokens, prefill, type DraftOptions, type GenerateOptions, type SpeculationRound } from '../../src/generate/index.js';
import { speculate, type Draft, type Drafter, type SpeculationOptions } from '../../src/generate/speculation.js';
import { SubwordDrafter } from '../../src/generate/subword-drafter.js';
import { LanguageModel, loadModel, mambaConfig, mambaFamily, transformerFamily } from '../../src/models/index.js';
import { tensor, type Backend } from '../../src/tensor/index.js';
import { BytePairTrainer, ByteTokenizer, HuggingFaceTokenizer, type Tokenizer } from '../../src/tokenizer/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { trainingText } from '../support/cli.js';
import { expectClose } from '../support/compare.js';
import { Goldens, goldenPath } from '../support/goldens.js';
import { idTensor, read, smallModel } from '../support/models.js';
import { modelThatSays } from '../support/scripted-model.js';

interface GoldenRound {
  readonly draft_tokens: readonly number[];
  readonly draft_bytes: readonly number[];
  readonly ranks: readonly number[];
  readonly bifurcation: number;
  readonly accepted: readonly number[];
  readonly correction: readonly number[];
}
interface GoldenCases {
  readonly prompt: readonly number[];
  readonly greedy: readonly number[];
  readonly subwords: readonly (readonly number[])[];
  readonly boundary_byte: number;
  readonly subwords_per_draft: number;
  readonly target_bytes: number;
  readonly cases: Readonly<Record<string, { readonly output: readonly number[]; readonly iterations: readonly GoldenRound[] }>>;
}
const golden = new Goldens(goldenPath('mambabyte/golden.safetensors'));
const cases = JSON.parse(readFileSync(goldenPath('mambabyte/cases.json'), 'utf8')) as GoldenCases;

/** Guesses by the last byte alone. */
const tableDrafter: Drafter = {
  propose(text, subwords) {
    const [table, [, count = 0]] = [golden.floats('drafter_table'), golden.shape('drafter_table')];
    const [tokens, bytes]: [number[], number[]] = [[], []];
    for (let i = 0; i < subwords; i++) {
      const last = bytes.at(-1) ?? text.at(-1) ?? 0;
      const row = table.subarray(last * count, (last + 1) * count);
      const token = row.indexOf(Math.max(...row));
      tokens.push(token);
      bytes.push(...(cases.subwords[token] ?? []));
    }
    return Promise.resolve({ tokens, bytes });
  },
  dispose: () => undefined,
};

/** Guesses what it is told to, whatever the text. */
const drafterOf = (next: (text: readonly number[]) => readonly number[]): Drafter => ({
  propose: (text): Promise<Draft> => Promise.resolve({ tokens: [], bytes: next(text) }),
  dispose: () => undefined,
});

async function collect(tokens: AsyncIterable<number>): Promise<number[]> {
  const all: number[] = [];
  for await (const token of tokens) all.push(token);
  return all;
}

describe.each(compiledKernels)('speculative decoding as MambaByte’s, on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test('the model’s logits and loss', async () => {
    const model = await loadModel(goldenPath('mambabyte'), backend());
    const ids = golden.integers('input_ids');
    const input = (values: ArrayLike<number>) => idTensor(backend(), values, [1, ids.length]);
    expectClose(await read(() => model.forward(input(ids))), golden.floats('logits'), 1e-5, 'logits');
    expectClose(await read(() => model.loss(input(ids), input([...ids.subarray(1), -1]))), golden.floats('loss'), 1e-5, 'loss');
    model.dispose();
  });

  test.each([1, 2, 3])('every round with β = %i', async (lossyRank) => {
    const model = await loadModel(goldenPath('mambabyte'), backend());
    const { liveBuffers } = backend().statistics();
    const rounds: SpeculationRound[] = [];
    const options = { ...{ temperature: 0, subwords: cases.subwords_per_draft, boundary: cases.boundary_byte, maxTokens: cases.target_bytes, lossyRank }, onRound: (round: SpeculationRound) => rounds.push(round) };
    const output = await collect(speculate(model, cases.prompt, tableDrafter, options));
    const { output: expected, iterations } = cases.cases[`beta_${lossyRank}`] ?? expect.fail();
    expect(output).toEqual(expected);
    if (lossyRank === 1) expect(output).toEqual(cases.greedy);
    expect(rounds.map(({ tokens, bytes, ranks, accepted, correction }) => ({ draft_tokens: tokens, draft_bytes: bytes, ranks, bifurcation: accepted, accepted: bytes.slice(0, accepted), correction }))).toEqual(
      // What comes after the first that was refused is not looked at.
      iterations.map((round) => ({ ...round, ranks: round.ranks.slice(0, round.bifurcation + 1) })),
    );
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });
});

/** Ids 0 to 22 as bytes; untied, so that it does not repeat the last one. */
const lively = (backend: Backend) => smallModel(backend, { tiedHead: false });
const prompt = [3, 1, 4, 1, 5];

describe('drafts of any quality give the text of plain generation', () => {
  const backend = useBackend('cpu');

  const settings: readonly GenerateOptions[] = [
    { temperature: 0 },
    { temperature: 0, repetitionPenalty: 1.3 },
    { seed: 1 },
    { seed: 2, temperature: 0.7, topK: 9 },
    { seed: 3, topP: 0.8, minP: 0.02, repetitionPenalty: 1.1 },
  ];
  test.each(settings)('%j', async (options) => {
    const model = lively(backend());
    const { liveBuffers } = backend().statistics();
    const plain = await collect(generateTokens(model, prompt, { ...options, maxTokens: 40 }));
    const right = (text: readonly number[]) => plain.slice(text.length - prompt.length);
    const drafters: Record<string, (text: readonly number[]) => readonly number[]> = {
      nothing: () => [],
      'always the same': () => [7, 7, 7],
      'all of it': right,
      'all right but the fourth': (text) => right(text).map((byte, i) => (i === 3 ? (byte + 1) % 23 : byte)),
      'right, then a byte that the model lacks': (text) => [...right(text).slice(0, 2), 200, 7],
      'right, one or none': (text) => right(text).slice(0, text.length % 2),
    };
    for (const [name, next] of Object.entries(drafters)) {
      for (const boundary of [plain[2] ?? 0, 30]) {
        const speculated: SpeculationOptions = { ...options, maxTokens: 40, boundary };
        expect(await collect(speculate(model, prompt, drafterOf(next), speculated)), name).toEqual(plain);
      }
    }
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });

  test('a draft is taken whole, in one round', async () => {
    const model = lively(backend());
    const plain = await collect(generateTokens(model, prompt, { seed: 5, maxTokens: 20 }));
    const rounds: SpeculationRound[] = [];
    await collect(speculate(model, prompt, drafterOf(() => plain), { seed: 5, maxTokens: 20, onRound: (round) => rounds.push(round) }));
    expect(rounds).toMatchObject([{ bytes: plain, accepted: 20, correction: [] }]);
    model.dispose();
  });

  test('a tie is the lower byte, drafted or not', async () => {
    // Two bytes of the scripted model are equally likely after each other one.
    const twin = (backend: Backend) => new LanguageModel(mambaFamily, mambaConfig({ vocabularySize: 8, dModel: 8, layers: 1, dInner: 4, dState: 2, dtRank: 1, tiedHead: false }), backend, (key, { shape }) => {
      const size = shape.reduce((product, extent) => product * extent, 1);
      const values = new Float32Array(size);
      if (key.endsWith('norm_f.weight')) values.fill(1);
      if (key.includes('embeddings')) for (let id = 0; id < 8; id++) values[id * 8 + id] = 1;
      if (key === 'lm_head.weight') for (let id = 0; id < 8; id++) for (const next of [(id + 1) % 6, (id + 3) % 6]) values[next * 8 + id] = 10;
      return tensor(backend, values, shape);
    });
    const model = twin(backend());
    const plain = await collect(generateTokens(model, [0], { temperature: 0, maxTokens: 12 }));
    for (const byte of [1, 3, 4, 5]) {
      expect(await collect(speculate(model, [0], drafterOf(() => [byte, byte]), { temperature: 0, maxTokens: 12 }))).toEqual(plain);
    }
    model.dispose();
  });

  test('the first two bytes are distributed as the model says: χ² of 800 draws', async () => {
    const model = smallModel(backend(), { vocabularySize: 3, tiedHead: false, layers: 1 });
    const temperature = 6;
    // The draft is refused as often as not, in either place.
    const drafter = drafterOf((text) => [text.length % 3, 1]);
    const expected: number[] = [];
    const probabilities = async (ids: readonly number[]): Promise<number[]> => {
      const state = model.newState(1);
      const weights = Array.from(await prefill(model, ids, state), (logit) => Math.exp(logit / temperature));
      state.dispose();
      const sum = weights.reduce((a, b) => a + b, 0);
      return weights.map((weight) => weight / sum);
    };
    for (const [first, p] of (await probabilities([2])).entries()) for (const q of await probabilities([2, first])) expected.push(p * q);
    const counts = new Float64Array(9);
    const draws = 800;
    for (let seed = 0; seed < draws; seed++) {
      const [first = 0, second = 0] = await collect(speculate(model, [2], drafter, { seed, temperature, maxTokens: 2 }));
      counts[3 * first + second] = (counts[3 * first + second] ?? 0) + 1;
    }
    const statistic = expected.reduce((sum, p, i) => sum + ((counts[i] ?? 0) - draws * p) ** 2 / (draws * p), 0);
    // Eight degrees of freedom: above 26.1 once in a thousand times.
    expect(statistic).toBeLessThan(26.1);
    expect(Math.min(...counts)).toBeGreaterThan(8);
    model.dispose();
  });

  test.each([0, 1, 5, 9])('leaving the loop or an abort after %i bytes frees everything', async (count) => {
    const model = lively(backend());
    const { liveBuffers } = backend().statistics();
    const controller = new AbortController();
    if (count === 0) controller.abort('enough');
    const seen: number[] = [];
    const draft = drafterOf(() => [7, 7]);
    const loop = async () => {
      for await (const id of speculate(model, prompt, draft, { seed: 1, maxTokens: 30, signal: controller.signal })) if (seen.push(id) === count) controller.abort('enough');
    };
    await expect(loop()).rejects.toBe('enough');
    expect(seen).toHaveLength(count);
    for await (const id of speculate(model, prompt, draft, { seed: 1, maxTokens: 30 })) if (id >= 0) break;
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    model.dispose();
  });
});

describe('a model of subwords drafts', () => {
  const backend = useBackend('cpu');
  const bytes = new ByteTokenizer();
  const text = 'It is a truth universally acknowledged, that a single man — naïve 東京 🙂 — must be in want of a wife. ';

  /** A byte model, and a drafter with random weights. */
  async function models(make: (vocabularySize: number) => LanguageModel = (vocabularySize) => smallModel(backend(), { vocabularySize, tiedHead: false })) {
    const trainer = new BytePairTrainer();
    trainer.add(trainingText + text.repeat(30));
    const tokenizer = new HuggingFaceTokenizer(await trainer.train({ vocabularySize: 400 }));
    return { target: smallModel(backend(), { vocabularySize: 256, tiedHead: false }), draft: { model: make(400), tokenizer } };
  }

  const said = async (model: LanguageModel, from: string, options: GenerateOptions & { readonly stop?: readonly string[] }): Promise<string> => {
    let all = '';
    for await (const piece of generateText(model, bytes, from, { maxTokens: 60, ...options })) all += piece;
    return all;
  };

  test.each<GenerateOptions & { readonly stop?: readonly string[] }>([{ temperature: 0 }, { seed: 4 }, { seed: 9, maxTokens: 7 }, { seed: 4, stop: ['q', '\u0002'] }])('%j: the text of plain generation', async (options) => {
    const { target, draft } = await models();
    const { liveBuffers } = backend().statistics();
    for (const subwords of [1, 3]) {
      expect(await said(target, 'It is ', { ...options, draft: { ...draft, subwords } })).toBe(await said(target, 'It is ', options));
    }
    expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    for (const model of [target, draft.model]) model.dispose();
  });

  test('a Transformer drafts as well, and goes back where it was refused', async () => {
    const { target, draft } = await models((vocabularySize) => LanguageModel.initial(transformerFamily, transformerFamily.configOf({ vocabularySize, dModel: 16, layers: 1, heads: 2 }), backend(), 3));
    expect(await said(target, 'It', { seed: 4, draft })).toBe(await said(target, 'It', { seed: 4 }));
    for (const model of [target, draft.model]) model.dispose();
  });

  test('a model that knows what comes is taken at its word, characters of several bytes too', async () => {
    const script = 'aé€😀z';
    const [target, model] = [modelThatSays(backend(), script), modelThatSays(backend(), script)];
    const rounds: SpeculationRound[] = [];
    const draft: DraftOptions = { model, tokenizer: bytes, subwords: 5, onRound: (round) => rounds.push(round) };
    const pieces: string[] = [];
    for await (const piece of generateText(target, bytes, 'z', { temperature: 0, maxTokens: 22, draft })) pieces.push(piece);
    expect(pieces).toEqual(Array.from(script.repeat(2)));
    expect(rounds.map(({ accepted }) => accepted)).toEqual([5, 5, 5, 5, 2]);
    for (const one of [target, model]) one.dispose();
  });

  test('what a draft is made of is the text so far, wherever it was cut', async () => {
    const { target, draft } = await models();
    const { tokenizer } = draft;
    const table = tokenizer.tokenBytes?.() ?? expect.fail();
    const all = [...bytes.encode(text.repeat(12))];
    // Each way to the same text: at once, after a draft that was refused, and in the middle of a word or character.
    const drafter = new SubwordDrafter(draft.model, tokenizer);
    for (let length = 1; length < 250; length += 1 + (length % 5)) {
      const so = all.slice(0, length);
      const { tokens, bytes: drafted } = await drafter.propose(so, 3);
      const pieces = tokens.flatMap((id) => [...(table[id] ?? [])]);
      // Bytes that were not read begin the first token.
      const begun = pieces.length - drafted.length;
      expect(pieces).toEqual([...so.slice(length - begun), ...drafted]);
      expect(begun).toBeLessThanOrEqual(3);
      if (so.at(-1) === 0x20 && length > 1) expect(begun).toBe(1);
    }
    drafter.dispose();
    const greedy = async (from: number, to: number) => {
      const fresh = new SubwordDrafter(draft.model, tokenizer);
      try {
        if (from > 0) await fresh.propose(all.slice(0, from), 3);
        return await fresh.propose(all.slice(0, to), 3);
      } finally {
        fresh.dispose();
      }
    };
    // A text that is cut before a blank is the same tokens; the last is longer than a pass.
    for (const [from, to] of [[6, 14], [8, 40], [0, 40], [0, all.length]] as const) {
      const ids = tokenizer.encode(bytes.decode(all.slice(0, to - 1)));
      if (to === all.length) expect(ids.length).toBeGreaterThan(64);
      const state = draft.model.newState(1);
      const logits = await prefill(draft.model, ids, state);
      const best = table.reduce((top, token, id) => (token?.[0] === 0x20 && (logits[id] ?? NaN) > (logits[top] ?? -Infinity) ? id : top), -1);
      expect(all[to - 1]).toBe(0x20);
      expect((await greedy(from, to)).tokens[0]).toBe(best);
      state.dispose();
    }
    for (const model of [target, draft.model]) model.dispose();
  });

  test('what cannot be', async () => {
    const { target, draft } = await models();
    const { model, tokenizer } = draft;
    const words: Tokenizer = { vocabularySize: 400, encode: (from) => tokenizer.encode(from), decode: (ids) => tokenizer.decode(ids), stream: () => tokenizer.stream() };
    const state = target.newState(1);
    const { liveBuffers } = backend().statistics();
    const wrong: readonly [LanguageModel, GenerateOptions, RegExp][] = [
      [model, { draft }, /model is one of 400 ids; expected a model of bytes, of at most 256 ids, where another drafts/],
      [target, { draft: { model, tokenizer: words } }, /draft\.tokenizer is one whose ids say nothing without their neighbours; expected one whose ids are bytes.*Hint: elapid tokenizer train makes one/],
      [target, { draft: { model: target, tokenizer } }, /draft\.tokenizer is one of 400 ids; expected that of draft\.model, which has 256 ids/],
      [target, { draft, state }, /state is given; expected none where another model drafts/],
      [target, { draft: { ...draft, subwords: 0 } }, /draft\.subwords is 0; expected an integer ≥ 1/],
      [target, { draft: { ...draft, subwords: 1.5 } }, /draft\.subwords is 1\.5/],
      [target, { temperature: 0, draft: { ...draft, lossyRank: 0 } }, /draft\.lossyRank is 0; expected an integer ≥ 1/],
      [target, { draft: { ...draft, lossyRank: 3 } }, /draft\.lossyRank is 3 at temperature 1; expected 1, or temperature 0/],
      [target, { temperature: 0.5, draft: { ...draft, lossyRank: 2 } }, /draft\.lossyRank is 2 at temperature 0\.5/],
      [target, { temperature: 0, repetitionPenalty: 2, draft: { ...draft, lossyRank: 2 } }, /draft\.lossyRank is 2 with a penalty of 2/],
      [target, { temperature: -1, draft }, /temperature is -1/],
      [target, { maxTokens: -1, draft }, /maxTokens is -1/],
    ];
    for (const [one, options, message] of wrong) {
      const failed = collect(generateTokens(one, [1, 2], options));
      await expect(failed).rejects.toThrow(message);
      await expect(failed).rejects.toBeInstanceOf(ArgumentError);
      expect(backend().statistics().liveBuffers).toBe(liveBuffers);
    }
    await expect(generateText(model, tokenizer, 'It', { draft }).next()).rejects.toThrow(/tokenizer is one of 400 ids; expected bytes where another model drafts/);
    expect(await collect(generateTokens(target, [1], { maxTokens: 0, draft }))).toEqual([]);
    for (const one of [state, target, model]) one.dispose();
  });
});
