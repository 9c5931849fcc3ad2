import { describe, expect, test } from 'vitest';
import { splitText } from '../../src/data/index.js';
import { Decoder, generateText, generateTokens, prefill } from '../../src/generate/index.js';
import { loadModel, LanguageModel, saveModel, type State, mambaFamily } from '../../src/models/index.js';
import type { Backend } from '../../src/tensor/index.js';
import { ByteTokenizer } from '../../src/tokenizer/index.js';
import { evaluateSequence, Trainer } from '../../src/train/index.js';
import { DisposedError } from '../../src/util/errors.js';
import { memoryKinds, openMemoryKind, useMemoryKind } from '../support/backends.js';
import { useFolder } from '../support/folders.js';
import { randomIds, smallConfig } from '../support/models.js';
import { tinyOptions } from '../support/training.js';

const ids = randomIds(3000, 256);

interface Work {
  readonly backend: Backend;
  readonly model: LanguageModel;
  readonly state: State;
  /** Made when first asked for: it moves the model's weights. */
  readonly trainer: () => Trainer;
  /** Called when the work is well under way, and somewhere inside of it. */
  readonly begun: () => void;
  /** Calls `begun` at the next opportunity. */
  readonly soon: () => void;
}

/** What takes long, and calls `begun` on the way. */
const works: Record<string, (work: Work) => Promise<unknown>> = {
  async prompt({ model, state, soon }) {
    soon();
    await prefill(model, ids, state, { chunkLength: 4 });
  },
  async decoder({ model, state, soon }) {
    const decoder = new Decoder(model, state);
    try {
      for (const [step, id] of ids.entries()) {
        if (step === 3) soon();
        await decoder.step([id]);
      }
    } finally {
      decoder.dispose();
    }
  },
  async generation({ model, soon }) {
    let count = 0;
    for await (const id of generateTokens(model, [1, 2], { maxTokens: 3000 })) if (id >= 0 && ++count === 5) soon();
  },
  async 'text, half of it read'({ model, begun }) {
    const text = generateText(model, new ByteTokenizer(), 'a prompt', { temperature: 5, maxTokens: 3000 });
    for (let piece = 0; piece < 2; piece++) await text.next();
    begun();
    while ((await text.next()).done !== true);
  },
  async training({ trainer, soon }) {
    const running = trainer();
    for (let step = 0; step < 40; step++) {
      if (step === 1) soon();
      await running.trainStep();
    }
  },
  async 'training, steps begun at once'({ trainer, begun }) {
    const running = trainer();
    const steps = Array.from({ length: 10 }, () => running.trainStep());
    begun();
    const ends = await Promise.allSettled(steps);
    const failures = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as Error] : []));
    expect(failures.length).toBeGreaterThan(8);
    for (const failure of failures) expect(failure).toBeInstanceOf(DisposedError);
    throw failures[0] as Error;
  },
  async evaluation({ model, soon }) {
    await evaluateSequence(model, ids, {
      chunkLength: 4,
      onProgress: (predicted) => {
        if (predicted === 12) soon();
      },
    });
  },
};

const ends: Record<string, (work: Work) => void> = {
  model: ({ model }) => model.dispose(),
  state: ({ state }) => state.dispose(),
  trainer: ({ trainer }) => trainer().dispose(),
  backend: ({ backend }) => void backend.close(),
};

const cases = [
  ['prompt', 'model', /(forward(Last)?|loss|tokenLosses|prepare|version): the model was disposed/],
  ['prompt', 'state', /forward(Last)?: the state was disposed/],
  ['prompt', 'backend', /the backend was closed/],
  ['decoder', 'model', /step: the model was disposed/],
  ['decoder', 'state', /step: the state was disposed/],
  ['decoder', 'backend', /the backend was closed/],
  ['generation', 'model', /step: the model was disposed/],
  ['generation', 'backend', /the backend was closed/],
  ['text, half of it read', 'model', /(step|Decoder): the model was disposed/],
  ['text, half of it read', 'backend', /the backend was closed/],
  ['training', 'model', /trainStep: the model was disposed/],
  ['training', 'trainer', /trainStep: the trainer was disposed/],
  ['training', 'backend', /the backend was closed/],
  ['training, steps begun at once', 'model', /trainStep: the model was disposed/],
  ['training, steps begun at once', 'trainer', /trainStep: the trainer was disposed/],
  ['training, steps begun at once', 'backend', /the backend was closed/],
  ['evaluation', 'model', /(forward|version): the model was disposed/],
  ['evaluation', 'backend', /the backend was closed/],
] as const;

/** All on native kernels, where a fault ends the process; elsewhere what they are made of. */
const casesOn = (kind: (typeof memoryKinds)[number]) =>
  kind === 'native' ? cases : cases.filter(([name]) => ['prompt', 'decoder', 'training', 'evaluation'].includes(name));

describe.each(memoryKinds)('what is freed under work that goes on, %s', (kind) => {
  const path = useFolder();
  const shared = useMemoryKind(kind);

  test.each(casesOn(kind))('%s: the %s', async (name, end, message) => {
    const backend = end === 'backend' ? await openMemoryKind(kind) : shared();
    // Loaded from a file that is mapped: native kernels then have its pages for weights.
    const made = LanguageModel.initial(mambaFamily, smallConfig({ vocabularySize: 256, tiedHead: false }), backend, 3);
    await saveModel(made, path('model'));
    made.dispose();
    const model = await loadModel(path('model'), backend, { mapped: true });
    let trainer: Trainer | undefined;
    const work: Work = {
      backend,
      model,
      state: model.newState(1),
      trainer: () => (trainer ??= new Trainer(model, splitText(Uint8Array.from(ids)), tinyOptions)),
      begun: () => ends[end]?.(work),
      // The reference backend is done before it returns: it never lets timers run.
      soon: () => (kind === 'reference' ? queueMicrotask(work.begun) : setImmediate(work.begun)),
    };
    const failure = await works[name]?.(work).then(
      () => 'it ended',
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(DisposedError);
    expect((failure as Error).message).toMatch(message);
    trainer?.dispose();
    for (const one of [model, work.state]) one.dispose();
    expect(backend.statistics().liveBuffers).toBe(0);
    if (end === 'backend') await backend.close();
  });
});
