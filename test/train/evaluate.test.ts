import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { validationBatches } from '../../src/data/index.js';
import { bitsPerByte, evaluate, evaluateSequence, perplexity, wordPerplexity } from '../../src/train/index.js';
import { ArgumentError } from '../../src/util/errors.js';
import { compiledKernels, useBackend } from '../support/backends.js';
import { tolerance } from '../support/compare.js';
import { goldenPath } from '../support/goldens.js';
import { idTensor, randomIds, read, smallModel } from '../support/models.js';
import { tinyText, TinyRun } from '../support/training.js';

const length = 53;
const text = randomIds(length, 23, 31);

/** −log softmax(logits)[target], in float64. */
function crossEntropy(logits: ArrayLike<number>, target: number): number {
  const values = Array.from(logits);
  const largest = Math.max(...values);
  return largest + Math.log(values.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)) - (values[target] ?? NaN);
}

describe.each(compiledKernels)('evaluation on %s', (kernels) => {
  const backend = useBackend('cpu', { kernels });

  test('of a sequence is the mean over one whole pass, whatever the chunks', async () => {
    const model = smallModel(backend());
    const logits = await read(() => model.forward(idTensor(backend(), text, [1, length])));
    let sum = 0;
    for (let t = 0; t + 1 < length; t++) sum += crossEntropy(logits.subarray(t * 23, (t + 1) * 23), text[t + 1] ?? NaN);
    for (const chunkLength of [1, 2, 7, 26, 51, 52, 53, 1000]) {
      const reports: [number, number][] = [];
      const onProgress = (predicted: number, loss: number) => reports.push([predicted, loss]);
      const { loss, tokens } = await evaluateSequence(model, text, { chunkLength, onProgress });
      expect(tokens).toBe(length - 1);
      expect(Math.abs(loss / (sum / tokens) - 1), `chunks of ${chunkLength}`).toBeLessThan(tolerance(length));
      expect(reports.map(([predicted]) => predicted)).toEqual(
        Array.from({ length: Math.ceil(tokens / chunkLength) }, (_, i) => Math.min(tokens, (i + 1) * chunkLength)),
      );
      expect(reports.at(-1)).toEqual([tokens, loss]);
    }
    model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('of a trainer is the mean over rows that each begin at nothing', async () => {
    const run = new TinyRun(backend());
    const { trainer } = run;
    await run.steps(2);
    const { validation } = run.dataset;
    const { length: row, batchSize } = trainer.options;
    let sum = 0;
    for (let start = 0; start + 1 < validation.length; start += row) {
      const inputs = validation.subarray(start, Math.min(start + row, validation.length - 1));
      const logits = await read(() => trainer.model.forward(idTensor(backend(), inputs, [1, inputs.length])));
      inputs.forEach((_, t) => (sum += crossEntropy(logits.subarray(t * 29, (t + 1) * 29), validation[start + t + 1] ?? NaN)));
    }
    const whole = await trainer.evaluate();
    expect(whole.tokens).toBe(validation.length - 1);
    expect(Math.abs(whole.loss / (sum / whole.tokens) - 1)).toBeLessThan(tolerance(row));

    const [first] = validationBatches(validation, trainer.options);
    const one = await trainer.evaluate(1);
    expect(one.tokens).toBe(batchSize * row);
    expect(one).toEqual(await evaluate(trainer.model, first === undefined ? [] : [first], trainer.options));
    run.dispose();
  });
});

describe('measures', () => {
  test('perplexity is e^loss, and uniform guesses over V ids have perplexity V', () => {
    expect(perplexity({ loss: 0, tokens: 5 })).toBe(1);
    expect(perplexity({ loss: Math.log(50), tokens: 5 })).toBeCloseTo(50, 10);
  });

  test('bits a byte are nats a token, times tokens, in base 2, by the bytes', () => {
    expect(bitsPerByte({ loss: Math.log(256), tokens: 10 }, 10)).toBeCloseTo(8, 12);
    expect(bitsPerByte({ loss: Math.log(2) * 6, tokens: 10 }, 30)).toBeCloseTo(2, 12);
  });

  test('MambaByte’s figures of PG-19: a loss a byte and a loss a subword as perplexities a word', () => {
    const { metrics: m } = JSON.parse(readFileSync(goldenPath('mambabyte/cases.json'), 'utf8')) as { metrics: Record<string, number> };
    const of = (name: string) => m[name] ?? NaN;
    const [bytes, words] = [of('pg19_test_bytes'), of('pg19_test_words')];
    expect(bitsPerByte({ loss: of('byte_ce'), tokens: bytes }, bytes)).toBeCloseTo(0.85139, 5);
    expect(wordPerplexity({ loss: of('byte_ce'), tokens: bytes }, words)).toBeCloseTo(of('word_ppl'), 9);
    expect(wordPerplexity({ loss: 0.59013873, tokens: bytes }, words)).toBeCloseTo(33.05, 2);
    expect(wordPerplexity({ loss: of('subword_ce'), tokens: of('pg19_test_subwords_32k') }, words)).toBeCloseTo(34.53, 2);
    expect(wordPerplexity({ loss: 2, tokens: 30 }, 10)).toBeCloseTo(Math.exp(6), 9);
  });
});

describe('evaluation of what cannot be', () => {
  const backend = useBackend('cpu');

  test('fewer than two tokens, ids of another vocabulary and an aborted signal', async () => {
    const model = smallModel(backend());
    for (const tokens of [[], [3]]) {
      await expect(evaluateSequence(model, tokens)).rejects.toThrow(/evaluate: the text is too short; expected a text or document of at least two tokens/);
    }
    await expect(evaluateSequence(model, [1, 2, 23, 4])).rejects.toThrow(/evaluate: ids\[2\] is 23; expected an integer in \[0, V\) = \[0, 23\)/);
    await expect(evaluateSequence(model, [1, 2.5])).rejects.toThrow(ArgumentError);
    const controller = new AbortController();
    const onProgress = (predicted: number) => {
      if (predicted >= 8) controller.abort(new Error('seen enough'));
    };
    await expect(evaluateSequence(model, text, { chunkLength: 4, onProgress, signal: controller.signal })).rejects.toThrow('seen enough');
    model.dispose();
    expect(backend().statistics().liveBuffers).toBe(0);
  });

  test('a text without a held-out part', () => {
    const run = new TinyRun(backend(), { text: tinyText.subarray(0, 40), options: { batchSize: 1 } });
    const { dataset, trainer: { options } } = run;
    expect(() => validationBatches(dataset.validation.subarray(0, 1), options)).toThrow(/expected at least 2 tokens\. Hint: a longer text/);
    run.dispose();
  });
});
