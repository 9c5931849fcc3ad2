// jax-js on its wasm backend. Node has no Worker in the sense of the web, so that it runs on one thread.
import { serve } from './serve.mjs';

/**
 * The little of @jax-js/jax that is used here.
 * @typedef {{ref: JaxArray, data(): Promise<Float32Array>}} JaxArray
 * @typedef {{
 *   init(device: string): Promise<unknown>, defaultDevice(device: string): unknown,
 *   blockUntilReady(array: JaxArray): Promise<unknown>,
 *   numpy: {array(data: Float32Array, options: {shape: number[]}): JaxArray, matmul(a: JaxArray, b: JaxArray): JaxArray},
 * }} Jax
 */
const name = '@jax-js/jax';
/** @type {Jax} */
const jax = await import(name);
await jax.init('wasm');
jax.defaultDevice('wasm');

/** @type {Map<number, JaxArray>} */
const matrices = new Map();

serve({
  /** Milliseconds of a product of two square matrices, the mean of `count` of them. */
  async matmul(/** @type {number} */ size, /** @type {number} */ count) {
    let matrix = matrices.get(size);
    if (matrix === undefined) {
      const values = Float32Array.from({ length: size * size }, (_, i) => Math.sin(i));
      matrices.set(size, (matrix = jax.numpy.array(values, { shape: [size, size] })));
    }
    const start = performance.now();
    for (let i = 0; i < count; i++) await jax.numpy.matmul(matrix.ref, matrix.ref).data();
    return (performance.now() - start) / count;
  },
});
