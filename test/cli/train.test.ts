import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { readMetrics, stepsOf, tinyRun, trainingText } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

const runFiles = ['config.json', 'metrics.jsonl', 'model.safetensors', 'run.json', 'training.safetensors'];

describe('elapid train', () => {
  const path = useFolder();

  beforeAll(() => {
    writeFileSync(path('text.txt'), trainingText);
  });

  const train = (folder: string, ...more: readonly string[]) => runHere('train', path('text.txt'), '--out', path(folder), ...tinyRun, ...more);

  test('makes a run’s folder, says what it did on stderr and nothing on stdout', async () => {
    const { code, stdout, stderr } = await train('run', '--steps', '6', '--evaluate-every', '3');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toMatch(/^[\d,]+ parameters, 5,700 training and 300 held-out tokens, on cpu \(/);
    expect(stderr).toMatch(/^step 3\/6 {2}held-out loss \d\.\d{4} nats a token$/m);
    expect(stderr).toMatch(/^done in \d+s of training: held-out loss \d\.\d{4} nats a token, model in .* \(tensors took \d+(\.\d+)? [kMG]B at most\)$/m);
    expect(readdirSync(path('run')).sort()).toEqual(runFiles);
    const lines = readMetrics(path('run', 'metrics.jsonl'));
    expect(lines.map(({ step, validationLoss }) => [step, validationLoss === undefined])).toEqual([
      ...[[1, true], [2, true], [3, true], [3, false], [4, true], [5, true], [6, true], [6, false]],
    ]);
    expect(JSON.parse(readFileSync(path('run', 'config.json'), 'utf8'))).toMatchObject({ model_type: 'mamba', vocab_size: 256, hidden_size: 16 });
    expect(JSON.parse(readFileSync(path('run', 'run.json'), 'utf8'))).toMatchObject({
      text: path('text.txt'),
      tokenizer: null,
      model: { dModel: 16, layers: 2, dState: 4 },
      training: { steps: 6, batchSize: 2, length: 24, accumulation: 1, learningRate: 0.01, seed: 1 },
      evaluateEvery: 3,
      saveEvery: 3,
    });
  });

  test('a folder that holds a run is not touched', async () => {
    const before = runFiles.map((file) => readFileSync(path('run', file)));
    const { code, stderr } = await train('run', '--steps', '6');
    expect(code).toBe(1);
    expect(stderr).toMatch(/^elapid: train: \S+run already holds a run\. Hint: --resume \S+run goes on with it; --overwrite replaces it; or name another folder\n$/);
    expect(runFiles.map((file) => readFileSync(path('run', file)))).toEqual(before);
  });

  test('resuming a run that is done leaves its model as it is', async () => {
    const model = readFileSync(path('run', 'model.safetensors'));
    const { code, stderr } = await runHere('train', '--resume', path('run'), '--threads', '1');
    expect(code).toBe(0);
    expect(stderr).toContain('done in');
    expect(readFileSync(path('run', 'model.safetensors')).equals(model)).toBe(true);
  });

  test('--max-minutes ends the run after the first step past that time; more minutes go on with it', async () => {
    const fileOf = () => JSON.parse(readFileSync(path('timed', 'run.json'), 'utf8')) as { training: object };
    const secondsOf = () => readMetrics(path('timed', 'metrics.jsonl')).flatMap(({ loss, seconds }) => (loss === undefined ? [] : [seconds]));
    const run = async (minutes: number, ...args: readonly string[]) => {
      const { code, stderr } = await runHere('train', ...args, '--max-minutes', String(minutes));
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/^done in \d+s of training: held-out loss /m);
      expect(stderr).not.toMatch(/Infinity|NaN|undefined/);
      expect(fileOf().training).toMatchObject({ maxMinutes: minutes });
      const seconds = secondsOf();
      expect(seconds.at(-1)).toBeGreaterThanOrEqual(60 * minutes);
      for (const before of seconds.slice(0, -1)) expect(before).toBeLessThan(60 * minutes);
      return seconds;
    };
    const first = await run(0.002, path('text.txt'), '--out', path('timed'), ...tinyRun);
    expect(fileOf()).not.toHaveProperty('evaluateEvery');
    expect(fileOf().training).not.toHaveProperty('steps');
    const all = await run(0.004, '--resume', path('timed'), '--threads', '1');
    expect(all.slice(0, first.length)).toEqual(first);
    // Steps end it too, where they are given.
    const counted = await runHere('train', path('text.txt'), '--out', path('counted'), ...tinyRun, '--max-minutes', '60', '--steps', '3');
    expect(counted.code, counted.stderr).toBe(0);
    expect(stepsOf(path('counted', 'metrics.jsonl')).map(([step]) => step)).toEqual([1, 2, 3]);
  });

  test('equal seeds give equal models, with any number of threads; another seed gives another', async () => {
    expect((await train('again', '--steps', '6', '--evaluate-every', '2', '--threads', '2')).code).toBe(0);
    expect((await train('other', '--steps', '6', '--seed', '2')).code).toBe(0);
    const model = (folder: string) => readFileSync(path(folder, 'model.safetensors'));
    expect(model('again').equals(model('run'))).toBe(true);
    expect(model('other').equals(model('run'))).toBe(false);
    expect(stepsOf(path('again', 'metrics.jsonl'))).toEqual(stepsOf(path('run', 'metrics.jsonl')));
  });

  test('learns: the held-out loss falls below that of guessing', async () => {
    expect((await train('learns', '--steps', '120')).code).toBe(0);
    const losses = readMetrics(path('learns', 'metrics.jsonl')).flatMap(({ validationLoss }) => validationLoss ?? []);
    expect(losses[0]).toBeLessThan(Math.log(256));
    expect(losses.at(-1)).toBeLessThan(4);
  });

  test('a text that has changed is refused by --resume', async () => {
    writeFileSync(path('text.txt'), `${trainingText.slice(1)}!`);
    const { code, stderr } = await runHere('train', '--resume', path('run'));
    writeFileSync(path('text.txt'), trainingText);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^elapid: .*training\.safetensors: was made with another text\. Hint: /m);
  });

  test('settings that were damaged are refused, by name', async () => {
    const good = readFileSync(path('run', 'run.json'), 'utf8');
    for (const [bad, message] of [
      [good.replace('"steps": 6', '"steps": "six"'), /run\.json, key 'training\.steps': is "six"; expected an integer of at least 1/],
      [good.replace('"seed": 1', '"seeed": 1'), /run\.json, key 'training\.seed': is missing/],
      [good.slice(0, -10), /run\.json, byte 0: the text is not valid JSON/],
    ] as const) {
      writeFileSync(path('run', 'run.json'), bad);
      const { code, stderr } = await runHere('train', '--resume', path('run'));
      expect(code).toBe(1);
      expect(stderr).toMatch(message);
    }
    writeFileSync(path('run', 'run.json'), good);
  });
});
