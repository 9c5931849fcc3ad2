// llama.cpp through node-llama-cpp: the prebuilt library of the npm package, no GPU, greedy.
//   fork('llama.mjs', [model.gguf, threads])
import { serve } from './serve.mjs';

const [modelPath, threads] = process.argv.slice(2);

/**
 * The little of node-llama-cpp that is used here; the package need not be installed for types to be checked.
 * @typedef {{
 *   clearHistory(): Promise<void>,
 *   evaluate(ids: number[], options: {temperature: number, yieldEogToken: boolean}): AsyncIterable<number>,
 * }} Sequence
 * @typedef {{loadModel(options: object): Promise<{createContext(options: object): Promise<{getSequence(): Sequence}>}>}} Llama
 */
const name = 'node-llama-cpp';
/** @type {{getLlama(options: object): Promise<Llama>}} */
const { getLlama } = await import(name);
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, maxThreads: Number(threads), logLevel: 'error' });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 1024, batchSize: 512, threads: Number(threads) });
const sequence = context.getSequence();
const greedy = { temperature: 0, yieldEogToken: true };

serve({
  /** Milliseconds from a prompt to the token after it. */
  async prefill(/** @type {number[]} */ ids) {
    await sequence.clearHistory();
    const start = performance.now();
    await sequence.evaluate(ids, greedy)[Symbol.asyncIterator]().next();
    return performance.now() - start;
  },
  /** Milliseconds a token, from the first after the prompt to the last of `count` more. */
  async decode(/** @type {number[]} */ ids, /** @type {number} */ count) {
    await sequence.clearHistory();
    const tokens = sequence.evaluate(ids, greedy)[Symbol.asyncIterator]();
    await tokens.next();
    const start = performance.now();
    for (let i = 0; i < count; i++) await tokens.next();
    return (performance.now() - start) / count;
  },
  /** The next `count` tokens. */
  async tokens(/** @type {number[]} */ ids, /** @type {number} */ count) {
    await sequence.clearHistory();
    const generated = sequence.evaluate(ids, greedy)[Symbol.asyncIterator]();
    const tokens = [];
    while (tokens.length < count) tokens.push((await generated.next()).value);
    return tokens;
  },
});
