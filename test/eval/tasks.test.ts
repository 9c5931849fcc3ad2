import { writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { encodeRequest } from '../../src/eval/encode-request.js';
import { evalTasks, evaluateTask, loadItems, scoreContinuations, type EvalTask, type EvalTaskName, type ScoreRequest } from '../../src/eval/index.js';
import { estimate, judge } from '../../src/eval/judge.js';
import { familyNamed, LanguageModel, mambaFamily } from '../../src/models/index.js';
import { ByteTokenizer, type Tokenizer } from '../../src/tokenizer/index.js';
import { useBackend } from '../support/backends.js';
import { useFolder } from '../support/folders.js';
import { idTensor, read, smallConfig } from '../support/models.js';

const bytes = new ByteTokenizer();

describe('rows become requests', () => {
  const question = { question: 'Why?', choices: { text: ['a', 'b c'], label: ['A', 'B'] }, answerKey: 'B' };
  test.each<{ task: EvalTaskName; row: object; requests: (readonly [string, string])[]; gold?: number; choices?: string[] }>([
    { task: 'lambada_openai', row: { context: 'I do not care about', continuation: 'signs' }, requests: [['I do not care about', ' signs']] },
    { task: 'lambada_openai', row: { text: 'I do  not\ncare about signs' }, requests: [['I do  not\ncare about', ' signs']] },
    { task: 'piqa', row: { query: 'Question: How?\n', choices: ['so', 'thus'], gold: 1 }, requests: [['Question: How?\nAnswer:', ' so'], ['Question: How?\nAnswer:', ' thus']], gold: 1, choices: ['so', 'thus'] },
    { task: 'piqa', row: { goal: 'How?', sol1: 'so', sol2: 'thus', label: 0 }, requests: [['Question: How?\nAnswer:', ' so'], ['Question: How?\nAnswer:', ' thus']], gold: 0, choices: ['so', 'thus'] },
    { task: 'arc_easy', row: question, requests: [['Question: Why?\nAnswer:', ' a'], ['Question: Why?\nAnswer:', ' b c']], gold: 1, choices: ['a', 'b c'] },
    { task: 'arc_challenge', row: { ...question, choices: { text: ['a', 'b c'], label: ['1', '2'] }, answerKey: '1' }, requests: [['Question: Why?\nAnswer:', ' a'], ['Question: Why?\nAnswer:', ' b c']], gold: 0, choices: ['a', 'b c'] },
    { task: 'arc_challenge', row: { query: 'Question: Why?', choices: ['a', 'b'], gold: 0 }, requests: [['Question: Why?\nAnswer:', ' a'], ['Question: Why?\nAnswer:', ' b']], gold: 0, choices: ['a', 'b'] },
    { task: 'openbookqa', row: { question_stem: 'The sun', choices: question.choices, answerKey: ' A' }, requests: [['The sun', ' a'], ['The sun', ' b c']], gold: 0, choices: ['a', 'b c'] },
    { task: 'openbookqa', row: { query: 'The sun', choices: ['a', 'b'], gold: 1 }, requests: [['The sun', ' a'], ['The sun', ' b']], gold: 1, choices: ['a', 'b'] },
    { task: 'winogrande', row: { context_options: ['So Sarah', 'So Maria'], continuation: 'won.', gold: 1 }, requests: [['So Sarah', ' won.'], ['So Maria', ' won.']], gold: 1 },
    { task: 'winogrande', row: { sentence: 'So _ won _.', option1: 'Sarah', option2: 'Maria', answer: '2' }, requests: [['So Sarah', ' won _.'], ['So Maria', ' won _.']], gold: 1 },
    {
      task: 'hellaswag',
      row: { activity_label: 'Roof', ctx_a: 'A man [step] sits. [title] Then', ctx_b: 'he GOES', endings: [' stands [substeps] up.', 'falls  off.'], label: '1' },
      requests: [['Roof: A man sits.. Then He goes', ' stands up.'], ['Roof: A man sits.. Then He goes', ' falls off.']],
      gold: 1,
      choices: ['stands up.', 'falls off.'],
    },
    { task: 'hellaswag', row: { query: 'A man', choices: ['a', 'b'], gold: 0 }, requests: [['A man', ' a'], ['A man', ' b']], gold: 0, choices: ['a', 'b'] },
  ])('$task: $row', ({ task, row, requests, gold, choices }) => {
    expect(evalTasks[task].item(row, 'x.jsonl, line 1')).toEqual({
      requests: requests.map(([context, continuation]) => ({ context, continuation })),
      ...(gold === undefined ? {} : { gold }),
      ...(choices === undefined ? {} : { choices }),
    });
  });

  test.each<{ task: EvalTaskName; row: unknown; message: RegExp }>([
    { task: 'piqa', row: [], message: /x\.jsonl, line 7.*This is not a row of PIQA/ },
    { task: 'piqa', row: { goal: 'How?', sol1: 'so' }, message: /x\.jsonl, line 7, key 'sol2'.*This is not a row of PIQA/ },
    { task: 'piqa', row: { goal: 'How?', sol1: 'so', sol2: 'thus', label: -1 }, message: /x\.jsonl, line 7, key 'label': does not name one of the 2 choices\. Hint: test splits/ },
    { task: 'arc_easy', row: { question: 'a', choices: { text: ['a'], label: ['A'] }, answerKey: 'C' }, message: /key 'answerKey': does not name one of the 1 choices/ },
    { task: 'hellaswag', row: { activity_label: 'a', ctx_a: 'a', ctx_b: 'b', endings: ['a'], label: '' }, message: /label.*the number of an ending/ },
    { task: 'winogrande', row: { sentence: 'a', option1: 'b', option2: 'c', answer: '1' }, message: /key 'sentence': has no _/ },
    { task: 'winogrande', row: { context_options: ['a', 'b'], continuation: 'c', gold: 2 }, message: /key 'gold': does not name one of the 2 choices/ },
    { task: 'lambada_openai', row: { text: 3 }, message: /text.*expected a text.*This is not a row of LAMBADA/ },
  ])('$task refuses the row $row', ({ task, row, message }) => {
    expect(() => evalTasks[task].item(row, 'x.jsonl, line 7')).toThrow(message);
  });
});

describe('requests become ids', () => {
  const text = (request: ScoreRequest, tokenizer: Tokenizer = bytes) => {
    const { ids, continuationTokens } = encodeRequest(tokenizer, request);
    return [Array.from(ids.subarray(0, -continuationTokens)), Buffer.from(ids.subarray(-continuationTokens)).toString()];
  };
  test.each([
    { context: 'ab', continuation: ' c', before: 'ab', after: ' c' },
    { context: 'ab \n\u00a0', continuation: ' c', before: 'ab', after: ' \n\u00a0 c' },
    { context: 'ab\u001c', continuation: 'c', before: 'ab', after: '\u001cc' },
    // Python does not take it for a blank; JavaScript's \s does.
    { context: 'ab\ufeff', continuation: 'c', before: 'ab\ufeff', after: 'c' },
  ])('$context + $continuation', ({ before, after, ...request }) => {
    expect(text(request)).toEqual([[...Buffer.from(before)], after]);
  });

  const marked = (ids: Partial<Tokenizer>): Tokenizer => ({ vocabularySize: 258, encode: (one) => bytes.encode(one), decode: (one) => bytes.decode(one), stream: () => bytes.stream(), ...ids });
  test.each([
    { of: marked({ beginOfText: 256, endOfText: 257 }), context: '', start: 256, after: ' c' },
    { of: marked({ endOfText: 257 }), context: '', start: 257, after: ' c' },
    { of: marked({ endOfText: 257 }), context: ' \n', start: 257, after: ' \n c' },
  ])('a context of no tokens: $start', ({ of, context, start, after }) => {
    expect(text({ context, continuation: ' c' }, of)).toEqual([[start], after]);
  });

  test('what cannot be scored is refused', () => {
    expect(() => encodeRequest(bytes, { context: 'a', continuation: '' })).toThrow(/continuation is ""; expected a text that adds tokens/);
    expect(() => encodeRequest(bytes, { context: '', continuation: 'a' })).toThrow(/context is empty; expected at least one token\. Hint: the tokenizer has no id/);
  });
});

describe('scores', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const requests: ScoreRequest[] = ['', 'a', 'a longer one, ', 'x'.repeat(300)].flatMap((context, i) => [' b', ' of several bytes', 'é'].map((continuation) => ({ context: `${i}${context}`, continuation })));

  /** A family's model whose embeddings say something. */
  const modelOf = (name: string, contextLength?: number) => {
    const family = familyNamed(name);
    const config = family.configOf({ vocabularySize: 256, dModel: 16, layers: 2 });
    return LanguageModel.initial(family, contextLength === undefined ? config : { ...config, contextLength }, backend(), 3);
  };

  test.each([
    { name: 'mamba', contextLength: undefined, passes: 2 },
    { name: 'mamba2', contextLength: undefined, passes: 2 },
    { name: 'transformer', contextLength: 24, passes: 1 },
  ])('of $name are those of the logits of each request alone', async ({ name, contextLength, passes }) => {
    const model = modelOf(name, contextLength);
    const seen: number[] = [];
    const scores = await scoreContinuations(model, bytes, requests, { onProgress: (scored, total) => seen.push(scored / total) });
    expect(seen.at(-1)).toBe(1);
    expect(seen).toHaveLength(passes);
    for (const [i, request] of requests.entries()) {
      const all = encodeRequest(bytes, request);
      const { context: kept = all.ids.length } = { context: contextLength };
      const ids = all.ids.subarray(Math.max(0, all.ids.length - 1 - kept));
      const logits = await read(() => model.forward(idTensor(backend(), ids, [1, ids.length])));
      let [logLikelihood, greedy] = [0, true];
      for (let at = ids.length - all.continuationTokens; at < ids.length; at++) {
        const row = logits.subarray((at - 1) * 256, at * 256);
        logLikelihood += (row[ids[at] ?? 0] ?? NaN) - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
        greedy &&= row.indexOf(Math.max(...row)) === ids[at];
      }
      expect(scores[i]).toMatchObject({ greedy, tokens: all.ids.length, continuationTokens: all.continuationTokens });
      expect(scores[i]?.logLikelihood).toBeCloseTo(logLikelihood, 4);
    }
    model.dispose();
  });

  test('a continuation beyond the context, and an interruption', async () => {
    const model = modelOf('transformer', 8);
    await expect(scoreContinuations(model, bytes, [{ context: 'a', continuation: 'too long a one' }])).rejects.toThrow(/continuation of request 0 is 14 tokens; expected at most the 8 tokens/);
    const controller = new AbortController();
    const many = Array.from({ length: 200 }, () => ({ context: 'a context', continuation: 'b' }));
    const seen: number[] = [];
    const onProgress = (scored: number) => {
      seen.push(scored);
      controller.abort();
    };
    await expect(scoreContinuations(model, bytes, many, { signal: controller.signal, onProgress })).rejects.toThrow(/abort/i);
    expect(seen).toEqual([128]);
    model.dispose();
  });

  test('weights that are not finite are named', async () => {
    const model = LanguageModel.initial(mambaFamily, smallConfig({ vocabularySize: 256 }), backend(), 3);
    model.parameters[0]?.tensor.write(new Float32Array(model.parameters[0].tensor.size).fill(NaN));
    await expect(scoreContinuations(model, bytes, requests)).rejects.toThrow(/evaluate: .*embedd/);
    model.dispose();
  });

  test('a task of one’s own', async () => {
    const task: EvalTask = { name: 'own', metrics: ['acc', 'acc_norm', 'perplexity'], item: (row) => ({ requests: [{ context: 'a', continuation: String(row) }], gold: 0, choices: [String(row)] }) };
    const model = modelOf('mamba');
    const { metrics, scores } = await evaluateTask(model, bytes, task, ['x', 'yz', 'z'].map((row) => task.item(row, '')));
    const likelihoods = scores.map(([score]) => score?.logLikelihood ?? NaN);
    expect(metrics).toEqual({ acc: { value: 1, standardError: 0 }, acc_norm: { value: 1, standardError: 0 }, perplexity: estimate('perplexity', likelihoods) });
    await expect(evaluateTask(model, bytes, task, [])).rejects.toThrow(/items is none; expected at least one/);
    model.dispose();
  });
});

describe('figures', () => {
  const scored = (...likelihoods: number[]) => likelihoods.map((logLikelihood) => ({ logLikelihood, greedy: logLikelihood > -1, tokens: 2, continuationTokens: 1 }));
  test.each([
    { metric: 'acc' as const, gold: 1, choices: ['aaaa', 'b'], scores: scored(-4, -3), value: 1 },
    { metric: 'acc_norm' as const, gold: 1, choices: ['aaaa', 'b'], scores: scored(-4, -3), value: 0 },
    // Two characters of eight UTF-16 units and bytes in all: −4/2 beats −9/4.
    { metric: 'acc_norm' as const, gold: 0, choices: ['😀😀', 'bbbb'], scores: scored(-4.4, -9), value: 1 },
    { metric: 'acc' as const, gold: 1, choices: ['a', 'b'], scores: scored(-3, -3), value: 0 },
    { metric: 'acc' as const, gold: undefined, choices: undefined, scores: scored(-0.5), value: 1 },
    { metric: 'acc' as const, gold: undefined, choices: undefined, scores: scored(-1.5), value: 0 },
    { metric: 'perplexity' as const, gold: undefined, choices: undefined, scores: scored(-1.5), value: -1.5 },
  ])('$metric of $choices, gold $gold', ({ metric, gold, choices, scores, value }) => {
    expect(judge(metric, { requests: [], ...(gold === undefined ? {} : { gold }), ...(choices === undefined ? {} : { choices }) }, scores)).toBe(value);
  });

  test.each([
    { metric: 'acc' as const, values: [1, 0, 0, 1], value: 0.5, standardError: Math.sqrt(1 / 3 / 4) },
    { metric: 'acc_norm' as const, values: [1, 1, 1], value: 1, standardError: 0 },
    { metric: 'acc' as const, values: [1], value: 1, standardError: NaN },
    { metric: 'perplexity' as const, values: [-1, -3], value: Math.exp(2), standardError: Math.exp(2) },
  ])('$metric of $values', ({ metric, values, value, standardError }) => {
    const found = estimate(metric, values);
    expect(found.value).toBeCloseTo(value, 12);
    if (Number.isNaN(standardError)) expect(found.standardError).toBeNaN();
    else expect(found.standardError).toBeCloseTo(standardError, 12);
  });
});

describe('files', () => {
  const path = useFolder();
  const row = '{"goal":"é","sol1":"a","sol2":"b","label":0}';
  test.each([
    { content: `${row}\n${row}\n`, limit: undefined, items: 2 },
    { content: `\ufeff${row}\r\n\r\n${row}`, limit: undefined, items: 2 },
    { content: `${row}\n${row}\nnot JSON`, limit: 2, items: 2 },
  ])('$content', async ({ content, limit, items }) => {
    writeFileSync(path('piqa.jsonl'), content);
    const loaded = await loadItems(evalTasks.piqa, path('piqa.jsonl'), limit === undefined ? {} : { limit });
    expect(loaded).toEqual(Array.from({ length: items }, () => evalTasks.piqa.item(JSON.parse(row), '')));
  });

  test.each([
    { content: `${row}\nnot JSON`, message: /piqa\.jsonl is something else on line 2; expected a JSON object on every line/ },
    { content: '\n\n', message: /piqa\.jsonl is empty; expected rows of piqa/ },
    { content: `${row}\n\n{"goal":1}`, message: /piqa\.jsonl, line 3, key 'goal': is 1; expected a text/ },
    { content: Buffer.from([0x22, 0xe9, 0x22]), message: /piqa\.jsonl is not UTF-8/ },
    { content: Buffer.from([0x1f, 0x8b, 8, 0]), message: /compressed with gzip/ },
  ])('that are wrong: $content', async ({ content, message }) => {
    writeFileSync(path('piqa.jsonl'), content);
    await expect(loadItems(evalTasks.piqa, path('piqa.jsonl'))).rejects.toThrow(message);
  });
});
