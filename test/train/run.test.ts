import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { learningRateAt, runTraining, type RunOptions } from '../../src/train/index.js';
import { metricsName } from '../../src/train/metrics.js';
import { trainingCheckpointName } from '../../src/train/training-checkpoint.js';
import { ElapidError } from '../../src/util/errors.js';
import { useBackend } from '../support/backends.js';
import { useFolder } from '../support/folders.js';
import { tinyOptions, TinyRun } from '../support/training.js';
import { mixerOf } from '../support/models.js';

const schedule = { ...tinyOptions.schedule, totalSteps: 9 };

describe('runTraining', () => {
  const backend = useBackend('cpu');
  const path = useFolder();
  const options = (folder: string, more: Partial<RunOptions> = {}): RunOptions => ({
    folder: path(folder),
    evaluateEvery: 3,
    saveEvery: 4,
    resume: false,
    ...more,
  });
  const run = () => new TinyRun(backend(), { options: { schedule } });
  const bytes = (folder: string, file: string) => readFileSync(path(folder, file));
  const metrics = (folder: string) =>
    bytes(folder, metricsName)
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { step: number; loss?: number; validationLoss?: number });

  test('logs every step once, evaluates and saves when it should', async () => {
    const tiny = run();
    const [steps, evaluations]: [number[], number[]] = [[], []];
    const result = await runTraining(
      tiny.trainer,
      options('whole', {
        onStep: ({ step }) => steps.push(step),
        onEvaluation: (_, step) => evaluations.push(step),
      }),
    );
    expect(result.interrupted).toBe(false);
    expect(result.evaluation).toEqual(await tiny.trainer.evaluate());
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(evaluations).toEqual([3, 6, 9]);
    const lines = metrics('whole');
    expect(lines.flatMap(({ step, loss }) => (loss === undefined ? [] : [step]))).toEqual(steps);
    expect(lines.flatMap(({ step, validationLoss }) => (validationLoss === undefined ? [] : [step]))).toEqual(evaluations);
    expect(readdirSync(path('whole')).sort()).toEqual(['config.json', metricsName, 'model.safetensors', trainingCheckpointName]);
    tiny.dispose();
  });

  test.each([1, 4, 5, 8])('an interruption after %i steps saves; resumed, the run ends as if there had been none', async (stopAfter) => {
    const folder = `interrupted-${stopAfter}`;
    const stop = new AbortController();
    const early = run();
    const onStep = ({ step }: { step: number }) => {
      if (step === stopAfter) stop.abort();
    };
    expect((await runTraining(early.trainer, options(folder, { signal: stop.signal, onStep }))).interrupted).toBe(true);
    expect(early.trainer.step).toBe(stopAfter);
    early.dispose();

    const late = run();
    expect((await runTraining(late.trainer, options(folder, { resume: true }))).interrupted).toBe(false);
    late.dispose();
    expect(bytes(folder, 'model.safetensors').equals(bytes('whole', 'model.safetensors'))).toBe(true);
    const losses = (of: string) => metrics(of).flatMap(({ step, loss }) => (loss === undefined ? [] : [[step, loss]]));
    expect(losses(folder)).toEqual(losses('whole'));
  });

  test('resuming a finished run changes nothing', async () => {
    const before = bytes('whole', 'model.safetensors');
    const tiny = run();
    expect((await runTraining(tiny.trainer, options('whole', { resume: true }))).interrupted).toBe(false);
    expect(tiny.trainer.step).toBe(9);
    expect(bytes('whole', 'model.safetensors').equals(before)).toBe(true);
    tiny.dispose();
  });

  test('half a line at the end of metrics.jsonl, and lines after the checkpoint, are made again', async () => {
    const early = run();
    const stop = new AbortController();
    const onStep = ({ step }: { step: number }) => {
      if (step === 5) stop.abort();
    };
    await runTraining(early.trainer, options('torn', { signal: stop.signal, onStep }));
    early.dispose();
    writeFileSync(path('torn', metricsName), `${bytes('torn', metricsName).toString()}{"step":6,"loss":1}\n{"step":7,"lo`);
    const late = run();
    await runTraining(late.trainer, options('torn', { resume: true }));
    late.dispose();
    expect(metrics('torn').flatMap(({ step, loss }) => (loss === undefined ? [] : [step]))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test('temporary files of a killed process do not stay', async () => {
    const early = run();
    const stop = new AbortController();
    await runTraining(early.trainer, options('killed', { signal: stop.signal, onStep: () => stop.abort() }));
    early.dispose();
    for (const name of ['model.safetensors.tmp-12345', 'training.safetensors.tmp-7', 'config.json.tmp-7', 'metrics.jsonl.tmp-7', 'notes.tmp-7']) {
      writeFileSync(path('killed', name), 'half');
    }
    const late = run();
    await runTraining(late.trainer, options('killed', { resume: true }));
    late.dispose();
    expect(readdirSync(path('killed')).filter((name) => name.includes('.tmp-'))).toEqual(['notes.tmp-7']);
  });

  test('a loss that is not a number ends the run; the last checkpoint stays as it was', async () => {
    const tiny = run();
    let checkpoint: Buffer[] = [];
    const files = [trainingCheckpointName, 'model.safetensors', 'config.json'];
    const poison = ({ step }: { step: number }) => {
      if (step !== 5) return;
      checkpoint = files.map((file) => bytes('poisoned', file));
      const { tensor } = mixerOf(tiny.trainer.model, 1).skip;
      tensor.write(new Float32Array(tensor.size).fill(NaN));
    };
    const error = await runTraining(tiny.trainer, options('poisoned', { onStep: poison })).then(
      () => expect.fail('expected the run to fail'),
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(ElapidError);
    expect(String(error)).toMatch(/step 6 has loss NaN and gradient norm NaN; NaN was there before the step: backbone\.layers\.1\.mixer\.D, which selectiveScan in/);
    expect(String(error)).toMatch(/The checkpoint of step 4 is untouched\. Hint: a lower learning rate/);
    expect(files.map((file) => bytes('poisoned', file))).toEqual(checkpoint);
    tiny.dispose();

    const late = run();
    await runTraining(late.trainer, options('poisoned', { resume: true }));
    expect(bytes('poisoned', 'model.safetensors').equals(bytes('whole', 'model.safetensors'))).toBe(true);
    late.dispose();
  });

  test.each([
    { what: 'a checkpoint that is due', more: {}, message: /step 9 has loss NaN.*The checkpoint of step 4 is untouched/ },
    { what: 'an interruption', more: { signal: true }, message: /after step 8, the weights do not give a loss.*The checkpoint of step 4 is untouched/ },
  ])('weights that the last update spoilt are not saved: $what', async ({ what, more, message }) => {
    const [tiny, stop] = [run(), new AbortController()];
    const onStep = ({ step }: { step: number }) => {
      if (step !== 8) return;
      const { tensor } = mixerOf(tiny.trainer.model, 0).skip;
      tensor.write(new Float32Array(tensor.size).fill(Infinity));
      stop.abort();
    };
    const settings = options(what, { onStep, ...('signal' in more ? { signal: stop.signal } : {}) });
    await expect(runTraining(tiny.trainer, settings)).rejects.toThrow(message);
    tiny.dispose();
    const late = run();
    await runTraining(late.trainer, options(what, { resume: true }));
    expect(bytes(what, 'model.safetensors').equals(bytes('whole', 'model.safetensors'))).toBe(true);
    late.dispose();
  });

  test('an evaluation that fails loses nothing: the steps before the first are saved, and it is made up for', async () => {
    const tiny = run();
    const failing = { ...tiny.trainer.data, evaluate: () => Promise.reject(new ElapidError('the held-out data are gone')) };
    Object.assign(tiny.trainer, { data: failing });
    await expect(runTraining(tiny.trainer, options('unevaluated', { saveEvery: 100 }))).rejects.toThrow('the held-out data are gone');
    tiny.dispose();
    const late = run();
    const evaluations: number[] = [];
    await runTraining(late.trainer, options('unevaluated', { resume: true, saveEvery: 100, onEvaluation: (_, step) => evaluations.push(step) }));
    late.dispose();
    expect(evaluations).toEqual([3, 6, 9]);
    expect(bytes('unevaluated', 'model.safetensors').equals(bytes('whole', 'model.safetensors'))).toBe(true);
    expect(metrics('unevaluated').flatMap(({ step, loss }) => (loss === undefined ? [] : [step]))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test('resuming what is not there is refused before anything is written', async () => {
    const tiny = run();
    await expect(runTraining(tiny.trainer, options('nowhere', { resume: true }))).rejects.toThrow(/nowhere.*training\.safetensors/);
    expect(existsSync(path('nowhere', metricsName))).toBe(false);
    tiny.dispose();
  });
});

describe('a run that ends at a time', () => {
  const backend = useBackend('cpu');
  const path = useFolder();
  const endless = { ...tinyOptions.schedule, totalSteps: Infinity };
  let now = 0;

  /** A run for which a step takes a second, and an evaluation a hundred. */
  function timedRun(totalSteps = Infinity): TinyRun {
    const tiny = new TinyRun(backend(), { options: { schedule: { ...endless, totalSteps } } });
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    const { trainer } = tiny;
    const [step, evaluate] = [trainer.trainStep.bind(trainer), trainer.evaluate.bind(trainer)];
    trainer.trainStep = (share) => ((now += 1000), step(share));
    trainer.evaluate = () => ((now += 100_000), evaluate());
    return tiny;
  }
  afterEach(() => {
    vi.restoreAllMocks();
  });

  interface Line {
    readonly step: number;
    readonly seconds: number;
    readonly loss?: number;
    readonly learningRate?: number;
    readonly validationLoss?: number;
  }
  const linesOf = (folder: string) => readFileSync(path(folder, metricsName), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Line);
  const stepsOf = (folder: string) => linesOf(folder).filter(({ loss }) => loss !== undefined);
  const evaluatedAt = (folder: string) => linesOf(folder).flatMap(({ step, validationLoss }) => (validationLoss === undefined ? [] : [step]));

  test.each([
    { maxSeconds: 5, totalSteps: Infinity, steps: 5, evaluated: [1, 2, 3, 4, 5] },
    { maxSeconds: 24.5, totalSteps: Infinity, steps: 25, evaluated: [3, 5, 8, 10, 13, 15, 18, 20, 23, 25] },
    { maxSeconds: 100, totalSteps: 8, steps: 8, evaluated: [1, 2, 3, 4, 5, 6, 7, 8] },
  ])('of $maxSeconds s and $totalSteps steps takes $steps; evaluations do not count', async ({ maxSeconds, totalSteps, steps, evaluated }) => {
    const folder = `of-${maxSeconds}`;
    const tiny = timedRun(totalSteps);
    const result = await runTraining(tiny.trainer, { folder: path(folder), resume: false, maxSeconds });
    tiny.dispose();
    expect(result).toMatchObject({ interrupted: false, seconds: steps });
    expect(result.evaluation?.loss).toBeGreaterThan(0);
    expect(evaluatedAt(folder)).toEqual(evaluated);
    const expected = Array.from({ length: steps }, (_, i) => ({
      ...{ step: i + 1, seconds: i + 1 },
      learningRate: learningRateAt({ ...endless, totalSteps }, i, i / maxSeconds),
    }));
    expect(stepsOf(folder)).toMatchObject(expected);
  });

  test.each([1, 3, 7])('goes on after %i steps with the time that is left', async (stopAfter) => {
    const folder = `interrupted-${stopAfter}`;
    const options = { folder: path(folder), evaluateEvery: 4, maxSeconds: 9 };
    const stop = new AbortController();
    const early = timedRun();
    const onStep = ({ step }: { step: number }) => {
      if (step === stopAfter) stop.abort();
    };
    expect(await runTraining(early.trainer, { ...options, resume: false, signal: stop.signal, onStep })).toMatchObject({ interrupted: true, seconds: stopAfter });
    early.dispose();
    const late = timedRun();
    expect(await runTraining(late.trainer, { ...options, resume: true })).toMatchObject({ interrupted: false, seconds: 9 });
    late.dispose();
    const whole = timedRun();
    await runTraining(whole.trainer, { ...options, folder: path('whole'), resume: false });
    whole.dispose();
    expect(stepsOf(folder)).toEqual(stepsOf('whole'));
    expect(readFileSync(path(folder, 'model.safetensors')).equals(readFileSync(path('whole', 'model.safetensors')))).toBe(true);
  });

  test.each([
    { totalSteps: Infinity, maxSeconds: undefined, message: /the number of steps is Infinity; expected a finite one, or a time/ },
    { totalSteps: 5, maxSeconds: 0, message: /maxSeconds is 0; expected a number above 0/ },
    { totalSteps: 5, maxSeconds: NaN, message: /maxSeconds is NaN/ },
  ])('is refused: $totalSteps steps, $maxSeconds s', async ({ totalSteps, maxSeconds, message }) => {
    const tiny = timedRun(totalSteps);
    const options = { folder: path('refused'), resume: false, ...(maxSeconds === undefined ? {} : { maxSeconds }) };
    await expect(runTraining(tiny.trainer, options)).rejects.toThrow(message);
    tiny.dispose();
  });
});
