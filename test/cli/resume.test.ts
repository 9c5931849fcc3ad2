import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { learningRateAt } from '../../src/train/index.js';
import { readMetrics, trainingText } from '../support/cli.js';
import { useFolder } from '../support/folders.js';
import { runHere } from '../support/run-here.js';

const tiny = ['--d-model', '8', '--layers', '1', '--d-state', '2', '--batch-size', '2', '--length', '8', '--threads', '1', '--save-every', '1'];

describe('elapid train --resume', () => {
  const path = useFolder();
  const settings = (folder: string) => JSON.parse(readFileSync(path(folder, 'run.json'), 'utf8')) as Record<string, unknown> & { training: { steps: number } };
  const resume = (folder: string, ...more: readonly string[]) => runHere('train', '--resume', path(folder), '--threads', '1', ...more);
  /** A run of 3 steps on a text beside it, named as from the test's working folder; a copy for each test. */
  const copy = (to: string) => {
    mkdirSync(path(to));
    cpSync(path('first'), path(to), { recursive: true });
  };

  beforeAll(async () => {
    mkdirSync(path('first', 'data'), { recursive: true });
    writeFileSync(path('first', 'data', 'text.txt'), trainingText.slice(0, 1000));
    writeFileSync(path('first', 'data', 'held.txt'), trainingText.slice(1000, 1500));
    const from = relative(process.cwd(), path('first', 'data'));
    const made = await runHere('train', `${from}/text.txt`, '--validation', `${from}/held.txt`, '--out', relative(process.cwd(), path('first', 'runs', 'x')), ...tiny, '--steps', '3');
    expect(made.code, made.stderr).toBe(0);
  });

  test('keeps absolute paths: the working folder does not matter', async () => {
    expect(settings('first/runs/x')).toMatchObject({ folder: path('first', 'runs', 'x'), text: path('first', 'data', 'text.txt'), validation: path('first', 'data', 'held.txt') });
    copy('elsewhere');
    expect((await resume('elsewhere/runs/x', '--steps', '4')).code).toBe(0);
  });

  test('finds the text that moved along with the run', async () => {
    copy('copied');
    renameSync(path('first'), path('away'));
    const { code, stderr } = await resume('copied/runs/x', '--steps', '5');
    renameSync(path('away'), path('first'));
    expect(code, stderr).toBe(0);
    expect(settings('copied/runs/x')).toMatchObject({ folder: path('copied', 'runs', 'x'), text: path('copied', 'data', 'text.txt') });
  });

  test('finds the text where it was, when the run alone moved', async () => {
    cpSync(path('first', 'runs', 'x'), path('alone'), { recursive: true });
    expect((await resume('alone', '--steps', '5')).code).toBe(0);
    expect(settings('alone')).toMatchObject({ text: path('first', 'data', 'text.txt') });
  });

  test.each([
    { what: 'from the working folder', text: () => relative(process.cwd(), path('first/data/text.txt')) },
    { what: 'from a folder above the run', text: () => 'data/text.txt' },
    { what: 'absolute', text: () => path('first/data/text.txt') },
  ])('reads settings of earlier versions, with a path $what', async ({ what, text }) => {
    const folder = `older ${what}`;
    copy(folder);
    const older = { ...settings(`${folder}/runs/x`), folder: undefined, text: text(), validation: path('first/data/held.txt') };
    writeFileSync(path(folder, 'runs', 'x', 'run.json'), JSON.stringify(older));
    const { code, stderr } = await resume(`${folder}/runs/x`, '--steps', '6');
    expect(code, stderr).toBe(0);
  });

  test('says which text is not there, and another text is not taken for it', async () => {
    copy('without');
    const held = path('without', 'data', 'held.txt');
    rmSync(held);
    renameSync(path('first'), path('away'));
    const gone = await resume('without/runs/x', '--steps', '5');
    renameSync(path('away'), path('first'));
    expect(gone).toMatchObject({
      code: 1,
      stderr: `elapid: train: the run reads ${held}, which is not there. Hint: put it back, or write where it is to ${path('without', 'runs', 'x', 'run.json')}\n`,
    });
    writeFileSync(path('without', 'data', 'text.txt'), trainingText.slice(1, 1001));
    const other = await resume('without/runs/x', '--steps', '5');
    expect(other.code).toBe(1);
    expect(other.stderr).toContain('was made with another text');
    expect(settings('without/runs/x').training.steps).toBe(3);
  });

  test('--steps prolongs a finished run, along the schedule of a run of so many steps', async () => {
    copy('longer');
    const { code, stderr } = await resume('longer/runs/x', '--steps', '8');
    expect(code, stderr).toBe(0);
    const rates = readMetrics(path('longer', 'runs', 'x', 'metrics.jsonl')).flatMap((line) => ('learningRate' in line ? [(line as unknown as { learningRate: number }).learningRate] : []));
    const schedule = { peak: 3e-3, warmupSteps: 1, finalFraction: 0.05 };
    expect(rates).toEqual(Array.from({ length: 8 }, (_, step) => learningRateAt({ ...schedule, totalSteps: step < 3 ? 3 : 8 }, step)));
    expect(settings('longer/runs/x').training.steps).toBe(8);
    expect((await resume('longer/runs/x')).code).toBe(0);
  });

  test('--recompute is kept, may be given anew, and changes nothing but memory', async () => {
    const text = path('first', 'data', 'text.txt');
    const begin = (folder: string, ...more: readonly string[]) => runHere('train', text, '--out', path(folder), ...tiny, '--steps', '4', ...more);
    const weights = (folder: string) => readFileSync(path(folder, 'model.safetensors'));
    expect((await begin('plain')).code).toBe(0);
    expect((await begin('recomputed', '--recompute')).code).toBe(0);
    expect(settings('recomputed').training).toMatchObject({ recompute: true });
    expect(settings('plain').training).not.toHaveProperty('recompute');
    expect(weights('recomputed').equals(weights('plain'))).toBe(true);
    expect((await resume('recomputed', '--steps', '6')).code).toBe(0);
    expect((await resume('plain', '--steps', '6', '--recompute')).code).toBe(0);
    for (const folder of ['recomputed', 'plain']) expect(settings(folder).training).toMatchObject({ recompute: true, steps: 6 });
    expect(weights('recomputed').equals(weights('plain'))).toBe(true);
  });

  test.each(['1', '2'])('--steps %s, fewer than are done, changes nothing', async (steps) => {
    const before = readFileSync(path('first', 'runs', 'x', 'run.json'), 'utf8');
    const done = readMetrics(path('first', 'runs', 'x', 'metrics.jsonl')).at(-1)?.step ?? 0;
    const { code, stderr } = await resume('first/runs/x', '--steps', steps);
    expect({ code, stderr: stderr.split('\n').at(-2) }).toEqual({
      code: 1,
      stderr: `elapid: train: the number of steps is ${steps}; expected at least the ${done} that are done.`,
    });
    expect(readFileSync(path('first', 'runs', 'x', 'run.json'), 'utf8')).toBe(before);
  });

  test('elapid task --resume --steps prolongs; other settings are refused, not ignored', async () => {
    const sizes = ['--length', '8', '--tokens', '2', '--batch-size', '2', '--examples', '2', '--steps', '1'];
    expect((await runHere('task', 'selective-copying', '--out', path('task'), ...sizes, '--threads', '1')).code).toBe(0);
    expect((await runHere('task', '--resume', path('task'), '--steps', '3', '--threads', '1')).code).toBe(0);
    expect(readMetrics(path('task', 'metrics.jsonl')).at(-1)).toMatchObject({ step: 3 });
    expect((await runHere('task', '--resume', path('task'), '--seed', '2')).code).toBe(2);
  });
});
