// Runs in the browser: the built package, imported as a user's page would. Leaves its results in globalThis.results.
import { LanguageModel, loadModel, mambaConfig, openBackend, scope, tensor, mambaFamily } from 'elapid';
import { generateTokens } from 'elapid/generate';
import { splitText } from 'elapid/data';
import { defaultTrainingOptions, Trainer } from 'elapid/train';

async function run() {
  const kind = /** @type {'cpu' | 'webgpu'} */ (new URL(location.href).searchParams.get('backend'));
  const backend = await openBackend(kind, { threads: 2, poison: true });
  const { description } = backend;

  const model = await loadModel(new URL('/test/fixtures/goldens/hf-mamba/', location.href).href, backend);
  const ids = Int32Array.from({ length: 37 }, (_, i) => (i * 31 + 5) % 97);
  const logitsTensor = scope(() => model.forward(tensor(backend, ids, [1, 37], 'i32')));
  const logits = [...(await logitsTensor.data())];
  logitsTensor.dispose();
  const greedy = [];
  for await (const id of generateTokens(model, ids.subarray(0, 8), { temperature: 0, maxTokens: 16 })) greedy.push(id);
  model.dispose();

  const trained = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 16, dModel: 20, layers: 2 }), backend, 1);
  const text = Uint8Array.from({ length: 2000 }, (_, i) => (i * i + 3 * i) % 16);
  const trainer = new Trainer(trained, splitText(text), { ...defaultTrainingOptions(10), batchSize: 2, length: 32 });
  const losses = [];
  const steps = Number(new URL(location.href).searchParams.get('steps'));
  for (let step = 0; step < steps; step++) losses.push((await trainer.trainStep()).loss);
  trainer.dispose();
  trained.dispose();

  const { liveBuffers } = backend.statistics();
  await backend.close();
  return { description, logits, greedy, losses, liveBuffers };
}

globalThis.results = run();
