import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readMetrics } from '../support/cli.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

const tiny = ['--length', '12', '--steps', '4', '--batch-size', '2', '--examples', '4', '--threads', '1'];

describe('elapid task', () => {
  const path = useFolder();

  test('selective copying: a run’s folder, progress on stderr, the accuracy on stdout', async () => {
    const { code, stdout, stderr } = await runHere('task', 'selective-copying', '--out', path('copying'), '--tokens', '3', ...tiny);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(/^selective-copying {2}s6 {2}accuracy \d+\.\d\d % of 12 answers\n$/);
    expect(stderr).toMatch(/^selective-copying, length 12, 3 tokens, vocabulary 16; s6, [\d,]+ parameters, on cpu/);
    expect(stderr).toMatch(/^step 4\/4 {2}accuracy \d+\.\d\d % {2}loss \d\.\d{4} nats an answer$/m);
    expect(readdirSync(path('copying')).sort()).toEqual(['config.json', 'metrics.jsonl', 'model.safetensors', 'task.json', 'training.safetensors']);
    const lines = readMetrics(path('copying', 'metrics.jsonl'));
    expect(lines.filter((line) => line.loss !== undefined)).toHaveLength(4);
    expect(lines.at(-1)).toMatchObject({ step: 4, validationTokens: 12 });
    expect(lines.at(-1)).toHaveProperty('validationAccuracy');
  });

  test('induction heads with a time-invariant layer: a table of lengths, and a picture', async () => {
    const { code, stdout } = await runHere('task', 'induction-heads', '--ssm', 'lti', '--out', path('induction'), '--test-length', '130', ...tiny);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^induction-heads {2}lti {2}accuracy .* of 4 answers\n {3}length {2}accuracy\n {7}64 {2}[\d.]+ %\n {6}128 {2}[\d.]+ %\n$/);
    const lengths = JSON.parse(readFileSync(path('induction', 'lengths.json'), 'utf8')) as { length: number; accuracy: number }[];
    expect(lengths.map(({ length, accuracy }) => `${length} ${(100 * accuracy).toFixed(2)}`)).toEqual(
      [...stdout.matchAll(/^ +(\d+) {2}([\d.]+) %$/gm)].map(([, length = '', accuracy = '']) => `${length} ${accuracy}`),
    );
    const plotted = await runHere('plot', path('induction'), '--x', 'length', '--out', path('lengths.svg'));
    expect(plotted).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(path('lengths.svg'), 'utf8')).toMatch(/>2⁶<[^]*>2⁷<[^]*% right/);
    expect((await runHere('plot', path('induction'), '--out', path('loss.svg'))).code).toBe(0);
    expect(readFileSync(path('loss.svg'), 'utf8')).toContain('nats an answer');
    expect(JSON.parse(readFileSync(path('induction', 'config.json'), 'utf8'))).toMatchObject({ model_type: 'elapid-mamba-lti' });
  });

  test('goes on from its folder alone, and does not begin twice', async () => {
    const before = readFileSync(path('copying', 'model.safetensors'));
    const resumed = await runHere('task', '--resume', path('copying'), '--threads', '1');
    expect(resumed.stdout).toMatch(/^selective-copying {2}s6 {2}accuracy/);
    expect(readFileSync(path('copying', 'model.safetensors')).equals(before)).toBe(true);
    const again = await runHere('task', 'selective-copying', '--out', path('copying'));
    expect(again).toMatchObject({ code: 1, stdout: '' });
    expect(again.stderr).toMatch(/already holds a run\. Hint: --resume/);
  });
});
