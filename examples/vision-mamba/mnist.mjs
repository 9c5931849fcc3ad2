// Vision Mamba learns digits.  node examples/vision-mamba/mnist.mjs IMAGES OUT [--steps 400] [--directions both]
// IMAGES is a folder with MNIST's four files, or Fashion-MNIST's, as they are published (gzip). A second call with the same OUT goes on where the first
// one stopped. The last tenth of the training images is held out.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { openBackend, Random, saveVisionMamba, scope, tensor, VisionMamba, visionMambaConfig } from 'elapid';
import { classify, defaultTrainingOptions, runTraining, Trainer } from 'elapid/train';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: 'string', default: '400' }, directions: { type: 'string', default: 'both' }, width: { type: 'string', default: '64' }, backend: { type: 'string', default: 'cpu' } },
});
const [folder, out] = positionals;
if (out === undefined) throw new Error('expected a folder of images and a folder for the run');
const [steps, dModel, batchSize, size] = [Number(values.steps), Number(values.width), 50, 28];

/** The items of the IDX file whose name has both words. */
function idx(...words) {
  const name = readdirSync(folder).find((file) => words.every((word) => file.includes(word)));
  if (name === undefined) throw new Error(`no file of ${words.join(' ')} in ${folder}`);
  const bytes = gunzipSync(readFileSync(join(folder, name)));
  return bytes.subarray(4 + 4 * bytes[3]);
}
const load = (part) => ({ pixels: idx(part, 'images'), labels: idx(part, 'labels') });
const [training, test] = [load('train'), load('t10k')];
const heldOut = Math.floor(training.labels.length / 10);
const taught = training.labels.length - heldOut;
const batchOf = ({ pixels, labels }, chosen) => ({
  inputs: Float32Array.from({ length: chosen.length * size ** 2 }, (_, i) => (pixels[chosen[Math.floor(i / size ** 2)] * size ** 2 + (i % size ** 2)] / 255 - 0.1306) / 0.3081),
  labels: Int32Array.from(chosen, (i) => labels[i]),
});

const backend = await openBackend(values.backend);
const config = visionMambaConfig({ imageSize: size, channels: 1, patch: 4, classes: 10, dModel, layers: 4, directions: values.directions, mean: values.directions === 'both' });
const model = VisionMamba.initial(config, backend, 1);

/** Batches in an order that follows from their number. */
const source = {
  position: 0,
  next: () => batchOf(training, Array.from({ length: batchSize }, ((random) => () => random.integer(taught))(new Random(3, source.position++)))),
  state: () => ({ position: source.position }),
  restore: ({ position }) => void (source.position = position),
};

/** Mean loss, and the share of images that are named rightly. */
async function evaluate(_, limit = Infinity, images = training, first = taught) {
  let [loss, right, seen] = [0, 0, 0];
  for (let at = first; at < images.labels.length && seen < limit * batchSize; at += batchSize) {
    const { inputs, labels } = batchOf(images, Array.from({ length: Math.min(batchSize, images.labels.length - at) }, (_, i) => at + i));
    const logits = scope(() => model.forward(tensor(backend, inputs, [labels.length, 1, size, size])));
    const rows = await logits.data();
    logits.dispose();
    labels.forEach((label, i) => {
      const own = rows.subarray(10 * i, 10 * i + 10);
      const largest = Math.max(...own);
      loss += Math.log(own.reduce((sum, score) => sum + Math.exp(score - largest), 0)) + largest - own[label];
      right += own[label] === largest;
    });
    seen += labels.length;
  }
  return { loss: loss / seen, tokens: seen, accuracy: right / seen };
}

const schedule = { peak: 2e-3, warmupSteps: Math.ceil(steps / 20), totalSteps: steps, finalFraction: 0.01 };
const options = { ...defaultTrainingOptions(steps), schedule, batchSize, length: 1, beta2: 0.999, weightDecay: 0.05 };
const trainer = new Trainer(classify(model, [1, size, size]), { source, fingerprint: `${taught} images`, continuous: false, evaluate }, options);
const resume = existsSync(join(out, 'training.safetensors'));
const { seconds } = await runTraining(trainer, {
  ...{ folder: out, resume, evaluateEvery: Math.ceil(steps / 10) },
  onEvaluation: ({ loss, accuracy }, step) => console.log(`step ${step}: held-out loss ${loss.toFixed(3)}, ${(100 * accuracy).toFixed(1)} % right`),
});
await saveVisionMamba(model, out);
const { accuracy } = await evaluate(model, Infinity, test, 0);
const count = model.parameters.reduce((sum, { tensor: { size: numbers } }) => sum + numbers, 0);
console.log(`${(100 * accuracy).toFixed(2)} % of the ${test.labels.length} test images; ${count} parameters, ${Math.round(seconds)} s of training`);
trainer.dispose();
model.dispose();
await backend.close();
