import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../../src/util/random.js';
import { readMetrics, runCli, startCli, stepsOf, tinyRun, trainingText, type RunningCli } from '../support/cli.js';
import { useFolder } from '../support/folders.js';

const steps = 600;
const settings = [...tinyRun, '--steps', String(steps), '--evaluate-every', '50', '--save-every', '5'];

describe('a training run that is interrupted', () => {
  const path = useFolder();
  const begin = (folder: string): RunningCli => startCli(['train', path('text.txt'), '--out', path(folder), ...settings]);
  const resume = (folder: string): RunningCli => startCli(['train', '--resume', path(folder), '--threads', '1']);
  const modified = (folder: string) => statSync(path(folder, 'training.safetensors'), { throwIfNoEntry: false })?.mtimeMs;

  /** Waits until a command has saved a checkpoint, or ended. */
  async function saved(folder: string, { child }: RunningCli, before = modified(folder)): Promise<void> {
    while (modified(folder) === before && child.exitCode === null && child.signalCode === null) await delay(2);
  }

  function expectSameAsWhole(folder: string): void {
    expect(readFileSync(path(folder, 'model.safetensors')).equals(readFileSync(path('whole', 'model.safetensors')))).toBe(true);
    const metrics = path(folder, 'metrics.jsonl');
    expect(stepsOf(metrics).map(([step]) => step)).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
    expect(stepsOf(metrics)).toEqual(stepsOf(path('whole', 'metrics.jsonl')));
    expect(readdirSync(path(folder)).sort()).toEqual(readdirSync(path('whole')).sort());
  }

  const evaluationsOf = (folder: string) =>
    readMetrics(path(folder, 'metrics.jsonl')).flatMap(({ step, validationLoss }) => (validationLoss === undefined ? [] : [[step, validationLoss]]));

  beforeAll(async () => {
    writeFileSync(path('text.txt'), trainingText);
    const { code, stderr } = await begin('whole').result;
    expect(code, stderr).toBe(0);
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('by %s saves, exits with 130, and goes on as if nothing had happened', async (signal) => {
    const running = begin(signal);
    await saved(signal, running);
    running.child.kill(signal);
    const { code, stdout, stderr } = await running.result;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    const [, at] = /^interrupted at step (\d+) and saved\. Go on with: elapid train --resume \S+$/m.exec(stderr) ?? [];
    expect(stepsOf(path(signal, 'metrics.jsonl')).at(-1)?.[0]).toBe(Number(at));
    expect(Number(at)).toBeLessThan(steps);

    expect((await resume(signal).result).code).toBe(0);
    expectSameAsWhole(signal);
  });

  test('by a second Ctrl-C ends at once', async () => {
    const running = begin('twice');
    await saved('twice', running);
    running.child.kill('SIGINT');
    running.child.kill('SIGINT');
    expect((await running.result).code).toBe(130);
    expect((await resume('twice').result).code).toBe(0);
    expectSameAsWhole('twice');
  });

  test('by kill -9, again and again, ends as if nothing had happened', async () => {
    const random = new Random(1);
    let kills = 0;
    let running = begin('killed');
    await saved('killed', running, undefined);
    for (let life = 0; life < 5; life++) {
      await delay(150 * random.uniform());
      running.child.kill('SIGKILL');
      const { code, signal, stderr } = await running.result;
      expect(signal === 'SIGKILL' || code === 0, stderr).toBe(true);
      if (signal !== null) kills++;
      const before = modified('killed');
      running = resume('killed');
      if (life < 4) await saved('killed', running, before);
    }
    const { code, stderr } = await running.result;
    expect(code, stderr).toBe(0);
    expect(kills).toBeGreaterThan(0);
    expectSameAsWhole('killed');
    expect(evaluationsOf('killed')).toEqual(evaluationsOf('whole'));
  });

  test('before its first checkpoint can be begun anew, not resumed', async () => {
    const running = startCli(['train', path('text.txt'), '--out', path('early'), ...tinyRun, '--steps', '1000000', '--save-every', '1000000']);
    await once(running.child.stderr, 'data');
    running.child.kill('SIGKILL');
    await running.result;
    const resumed = await resume('early').result;
    expect(resumed.code).toBe(1);
    expect(resumed.stderr).toMatch(/early has no checkpoint yet: the run ended before its first. Hint: begin it again/);
    expect((await runCli('train', path('text.txt'), '--out', path('early'), ...tinyRun, '--steps', '2')).code).toBe(0);
    expect(stepsOf(path('early', 'metrics.jsonl')).map(([step]) => step)).toEqual([1, 2]);
  });
});
