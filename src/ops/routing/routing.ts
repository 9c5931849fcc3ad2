import { ArgumentError } from '../../util/errors.js';
import { empty, expectNumber, expectRank, expectShape, formatShape, launch, operation, record, sizeOf, type FloatDType, type Tensor } from '../../tensor/index.js';
import { gemmInto } from '../matmul/gemm.js';
import { contiguous } from '../view/view.js';
import * as kernels from './kernels.js';

/** Which expert has which tokens, on the device; n tokens, E experts. */
export interface Routing {
  /** [n], the expert that each token chose. */
  readonly choice: Tensor<'i32'>;
  /** [E], how many tokens chose each, those it did not take included. */
  readonly counts: Tensor<'i32'>;
  /** [E+1], where each expert's tokens begin in `order`. */
  readonly offsets: Tensor<'i32'>;
  /** [n], the tokens by expert, in their own order within each; −1 from the last expert's end on. */
  readonly order: Tensor<'i32'>;
  /** [n], where each token stands in `order`; −1: no expert took it. */
  readonly place: Tensor<'i32'>;
}

/** What `routeTokens` has made: kernels go where its numbers say, and nobody else's are known to lead anywhere. */
const made = new WeakSet<Routing>();

/** Throws unless `routeTokens` made it. @throws ArgumentError */
export function expectRouting(operation: string, routing: Routing): void {
  if (made.has(routing)) return;
  throw new ArgumentError({ operation, argument: 'routing', expected: 'what routeTokens gave', got: 'another object', hint: 'pass its routing on as it is' });
}

/** Options of `routeTokens`. */
export interface RouteOptions {
  /** An expert takes min(n, ⌊factor·n/E⌋) tokens, those that come first; the others are dropped. Default: all that choose it. */
  readonly capacityFactor?: number | undefined;
  /** Works out the auxiliary losses, with these weights. */
  readonly losses?: { readonly balance: number; readonly z: number } | undefined;
}

/** What `routeTokens` gives. */
export interface Routed {
  readonly routing: Routing;
  /** [n], the probability of each token's choice. */
  readonly gates: Tensor<'f32'>;
  /** With `losses`. */
  readonly auxiliary: RouterLosses | null;
}

/** Scalars. */
export interface RouterLosses {
  readonly balance: Tensor<'f32'>;
  readonly z: Tensor<'f32'>;
  /** The share of tokens that no expert took; not differentiable. */
  readonly dropped: Tensor<'f32'>;
}

/**
 * Top-1 routing, as of Switch Transformers (Fedus et al. 2021): p = softmax(x·gate), each token chooses the expert with the largest p, the first of
 * those. Tokens come in the order in which they lie in x. In float32, whatever the precision. Differentiable through `gates` and the losses by x and gate.
 *
 * The losses, with their weights w: balance = w·E·Σₑ (meanₜ p[t, e])·(share of tokens that chose e, dropped ones included), of which p alone is
 * differentiated; z = w·meanₜ (ln Σₑ e^(x·gate))².
 *
 * @param x [..., D] f32 or f16
 * @param gate [D,E] f32
 * @throws ShapeError when the shapes do not fit; ArgumentError for a capacityFactor that is not above 0
 */
export function routeTokens(x: Tensor, gate: Tensor, { capacityFactor, losses }: RouteOptions = {}): Routed {
  const name = 'routeTokens';
  return operation(name, { x: [x, 'float'], gate: [gate, 'f32'] }, () => {
    expectRank(name, 'gate', gate.shape, 2, '[D,E]');
    const [width = 0, experts = 0] = gate.shape;
    expectShape(name, 'x', x.shape, [...x.shape.slice(0, -1), width], '[…,D]', 'gate is [D,E]');
    const tokens = sizeOf(x.shape.slice(0, -1));
    if (tokens === 0 || experts === 0) throw new ArgumentError({ operation: name, argument: 'x and gate', expected: 'tokens and experts', got: `${formatShape(x.shape)} and ${formatShape(gate.shape)}` });
    if (capacityFactor !== undefined) expectNumber(name, 'capacityFactor', capacityFactor, (value) => value > 0, 'a number above 0');
    const { backend } = x;
    const f32 = (...shape: number[]) => empty(backend, shape, 'f32');
    const i32 = (...shape: number[]) => empty(backend, shape, 'i32');

    const logits = f32(tokens, experts);
    gemmInto(x, gate, logits, { exact: true });
    const [probabilities, choice, gates, logSum] = [f32(tokens, experts), i32(tokens), f32(tokens), f32(tokens)];
    launch(kernels.route, { logits, probabilities, choice, gate: gates, logSum }, { tokens, experts });
    const routing: Routing = { choice, counts: i32(experts), offsets: i32(experts + 1), order: i32(tokens), place: i32(tokens) };
    const { counts, offsets, order, place } = routing;
    const capacity = capacityFactor === undefined ? tokens : Math.min(tokens, Math.floor((capacityFactor * tokens) / experts));
    launch(kernels.groupTokens, { choice, counts, offsets, order, place }, { tokens, experts, capacity });
    const auxiliary = losses === undefined ? null : { balance: f32(), z: f32(), dropped: f32() };
    const weights = { balanceWeight: losses?.balance ?? 0, zWeight: losses?.z ?? 0 };
    if (auxiliary !== null) launch(kernels.routerLosses, { probabilities, logSum, counts, offsets, ...auxiliary }, { tokens, experts, ...weights });

    record({
      operation: name,
      inputs: [x, gate],
      outputs: auxiliary === null ? [gates] : [gates, auxiliary.balance, auxiliary.z],
      saved: { x, gate, probabilities, choice, logSum, counts },
      backward({ cotangents: [dGate, dBalance, dZ], saved, needed, sums: [, gateSum] }) {
        const dLogits = f32(tokens, experts);
        const given = { dGate: dGate ? contiguous(dGate) : null, dBalance: dBalance ?? null, dZ: dZ ?? null };
        const { x: input, gate: weight, ...rest } = saved;
        launch(kernels.routeBackward, { ...rest, ...given, dLogits }, { tokens, experts, total: tokens, ...weights });
        const dx = needed[0] ? empty(backend, input.shape, input.dtype as FloatDType) : null;
        if (dx) gemmInto(dLogits, weight, dx, { transposeB: true, exact: true });
        const dWeight = needed[1] ? (gateSum?.total ?? empty(backend, weight.shape, 'f32')) : null;
        if (dWeight) gemmInto(input, dLogits, dWeight, { transposeA: true, exact: true, accumulate: gateSum?.empty === false });
        if (!dWeight || !gateSum) return [dx, dWeight];
        gateSum.empty = false;
        return [dx, null];
      },
    });
    made.add(routing);
    return { routing, gates, auxiliary };
  });
}
