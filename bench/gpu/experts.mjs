// A layer of experts in training on the GPU, and the dense feed-forward layer that a token sees.
import { cast, experts, linear, Random, relu, routeTokens, tensor } from '../../dist/index.js';
import { constant } from './models.mjs';
import { runOf } from './sequences.mjs';

/** @typedef {{ tokens: number, D: number, F: number, E: number }} ExpertsShape */

/**
 * All tokens, each by the expert that the router chose among E: none is dropped.
 * @param {any} backend @param {ExpertsShape} shape @param {'f32' | 'f16'} dtype of activations; weights are f32, as in training
 */
export function switchRun(backend, { tokens, D, F, E }, dtype) {
  const random = new Random(1);
  // Tokens of many kinds, so that every expert has some.
  const few = Float32Array.from({ length: 65521 }, () => random.normal());
  const x = tensor(backend, Float32Array.from({ length: tokens * D }, (_, i) => few[i % few.length] ?? 0), [tokens, D]);
  const input = dtype === 'f16' ? cast(x, 'f16') : x;
  if (input !== x) x.dispose();
  const gate = tensor(backend, Float32Array.from({ length: D * E }, () => random.normal() * D ** -0.5), [D, E]);
  const [first, second, dy] = [constant(backend, [E, D, F], 0.01), constant(backend, [E, F, D], 0.01), constant(backend, [tokens, D], 0.1, dtype)];
  const forward = () => {
    const { gates, routing } = routeTokens(input, gate, { losses: { balance: 0.01, z: 0 } });
    return [experts(input, gates, routing, first, second)];
  };
  return runOf([input, gate, first, second], dy, forward, true);
}

/** @param {any} backend @param {ExpertsShape} shape @param {'f32' | 'f16'} dtype */
export function denseRun(backend, { tokens, D, F }, dtype) {
  const [x, dy] = [constant(backend, [tokens, D], 0.5, dtype), constant(backend, [tokens, D], 0.1, dtype)];
  const [up, down] = [constant(backend, [F, D], 0.01), constant(backend, [D, F], 0.01)];
  return runOf([x, up, down], dy, () => [linear(relu(linear(x, up)), down)], true);
}
