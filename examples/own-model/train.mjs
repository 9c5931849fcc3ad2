// Registers the family, trains it as any other, saves, loads and generates:  node examples/own-model/train.mjs TEXT FOLDER [STEPS]
import { readFileSync } from 'node:fs';
import { LanguageModel, loadModel, openBackend, registerFamily, saveModel } from 'elapid';
import { splitText } from 'elapid/data';
import { generateText } from 'elapid/generate';
import { ByteTokenizer } from 'elapid/tokenizer';
import { defaultTrainingOptions, Trainer } from 'elapid/train';
import { movingAverageFamily } from './moving-average.mjs';

const [text = 'data/pride-and-prejudice.txt', folder = 'runs/moving-average', steps = '200'] = process.argv.slice(2);
registerFamily(movingAverageFamily);
const backend = await openBackend('cpu');
const model = LanguageModel.initial(movingAverageFamily, movingAverageFamily.configOf({ vocabularySize: 256 }), backend, 1);
const trainer = new Trainer(model, splitText(readFileSync(text)), { ...defaultTrainingOptions(Number(steps)), length: 128 });
for (let i = 0; i < Number(steps); i++) {
  const { step, loss } = await trainer.trainStep();
  if (step === 1 || step === Number(steps)) console.log(`step ${step}: loss ${loss.toFixed(3)}`);
}
console.log(`held-out loss ${(await trainer.evaluate(8)).loss.toFixed(3)}`);
trainer.dispose();
await saveModel(model, folder);
model.dispose();

// Whoever has registered the family reads its checkpoints.
const loaded = await loadModel(folder, backend);
process.stdout.write('It is a truth');
for await (const piece of generateText(loaded, new ByteTokenizer(), 'It is a truth', { maxTokens: 40, temperature: 0 })) process.stdout.write(piece);
process.stdout.write('\n');
loaded.dispose();
await backend.close();
