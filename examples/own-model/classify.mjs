// An objective of one's own: a head on a Mamba layer says how fast a noisy wave swings.  node examples/own-model/classify.mjs [STEPS]
import { crossEntropy, Mamba, mean, nn, openBackend, Random, scope, tensor } from 'elapid';
import { defaultTrainingOptions, Trainer } from 'elapid/train';

const [batch, length, classes, dModel] = [16, 64, 3, 16];
const steps = Number(process.argv[2] ?? 150);
const backend = await openBackend('cpu');
const store = new nn.ParameterStore(nn.initialParameters(backend, 1));
const input = new nn.Linear(store.at('input'), { inputs: 1, outputs: dModel, bias: true });
const head = new nn.Linear(store.at('head'), { inputs: dModel, outputs: classes, bias: true });
const layer = new Mamba({ dModel, seed: 2 }, backend);

/** Batches that can go on from where they were: a position and a seed are all that they depend on. */
const waves = {
  position: 0,
  next() {
    const random = new Random(7, this.position++);
    const labels = Int32Array.from({ length: batch }, () => random.integer(classes));
    const wave = (row, t) => Math.sin(0.2 * (labels[row] + 1) * t + 6 * row) + 0.2 * random.normal();
    return { labels, values: Float32Array.from({ length: batch * length }, (_, i) => wave(Math.floor(i / length), i % length)) };
  },
  state: () => ({ position: waves.position }),
  restore: ({ position }) => void (waves.position = position),
};
const logitsOf = (values) => head.forward(mean(layer.forward(input.forward(tensor(backend, values, [batch, length, 1]))), 1));
const objective = {
  model: { backend, parameters: [...store.all, ...layer.parameters] },
  loss: ({ values, labels }) => scope(() => crossEntropy(logitsOf(values), tensor(backend, labels, [batch], 'i32'))),
  countTargets: () => batch,
};
const options = { ...defaultTrainingOptions(steps), batchSize: batch, length };
const trainer = new Trainer(objective, { source: waves, fingerprint: 'waves', continuous: false }, options);
for (let i = 0; i < steps; i++) {
  const { step, loss } = await trainer.trainStep();
  if (step === 1 || step === steps) console.log(`step ${step}: loss ${loss.toFixed(3)}`);
}
const { values, labels } = waves.next();
const logits = scope(() => logitsOf(values));
const rows = await logits.data();
logits.dispose();
const found = Array.from(labels, (_, i) => [0, 1, 2].reduce((best, k) => (rows[3 * i + k] > rows[3 * i + best] ? k : best)));
console.log(`${labels.filter((label, i) => label === found[i]).length} of ${batch} waves are named rightly`);
trainer.dispose();
for (const { tensor: weight } of objective.model.parameters) weight.dispose();
console.log(`live buffers ${backend.statistics().liveBuffers}`);
await backend.close();
