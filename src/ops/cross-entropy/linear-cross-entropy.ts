import { fill } from '../../backend/memory/kernels.js';
import { empty, expectNumber, expectRank, expectShape, isPacked, isRecording, launch, operation, record, type Backend, type Operand, type Tensor } from '../../tensor/index.js';
import { gemmInto } from '../matmul/gemm.js';
import { linearInto } from '../matmul/linear.js';
import { noPackedGradient } from '../packed/packed.js';
import { contiguous } from '../view/view.js';
import { expectTargets } from './cross-entropy.js';
import * as kernels from './kernels.js';

/** Options of the losses that project to the vocabulary themselves. */
export interface LinearCrossEntropyOptions {
  /** [V] f32, added to every row of logits; differentiable. */
  readonly bias?: Tensor | null;
  /** Rows (tokens) whose logits exist at one time; default: see `defaultChunkRows`. */
  readonly chunkRows?: number;
}

/**
 * Rows of logits to hold at one time: as many as make the backend's `workingBytes`, which a cache can keep from the product that
 * writes them to the products that read them, but at least 128. Every chunk reads the weight twice and its gradient once and
 * writes it once, 16 bytes for 6 operations a row: with fewer rows than that, memory would set the pace.
 * @param vocabulary V
 */
export function defaultChunkRows({ workingBytes }: Pick<Backend, 'workingBytes'>, vocabulary: number): number {
  return Math.max(128, Math.floor(workingBytes / 4 / Math.max(1, vocabulary)));
}

/**
 * `crossEntropy` of the logits hidden·weightᵀ + bias, computed a chunk of rows at a time, so that [..., V] logits never
 * exist. While a tape records, each chunk's logits turn into their gradients in place and are multiplied into the gradients
 * of hidden, weight and bias at once; the gradient rule then only scales those by the loss's cotangent and the mean's 1/n.
 *
 * Besides its result it needs chunkRows·V floats, and while recording the gradients of all three inputs.
 *
 * @param hidden [...,D] f32 or f16, differentiable
 * @param weight [V,D] f32 or f16, differentiable: the vocabulary projection, often the embedding itself; packed where nothing records
 * @param targets [...] i32; −1 is left out, see `crossEntropy`
 * @returns []
 * @throws DTypeError, ShapeError when the arguments do not fit one another
 * @throws ArgumentError when chunkRows is not a positive integer
 *
 * Source: the idea of computing the gradients in the forward pass, chunk by chunk, is that of Liger Kernel's fused linear
 * cross-entropy (Hsu et al. 2024). Here nothing is rounded to half precision in between, and chunks are sized by bytes of
 * logits, not by the ratio V / D.
 */
export function linearCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor<'f32'> {
  const { bias = null } = options;
  return operation('linearCrossEntropy', operands({ hidden, weight, targets, bias }), () => {
    const { chunkRows = defaultChunkRows(hidden.backend, weight.rows) } = options;
    check('linearCrossEntropy', { hidden, weight, targets, bias }, chunkRows);
    if (isRecording() && isPacked(weight.dtype)) throw noPackedGradient('linearCrossEntropy', weight.dtype);
    const { backend, rows } = hidden;
    const dense = contiguous(targets);
    const scale = empty(backend, [1]);
    launch(kernels.countedScale, { targets: dense, scale }, { count: rows });
    const losses = empty(backend, [rows]);
    const loss = empty(backend, [], 'f32');
    const gradients = isRecording() ? emptyGradients(hidden, weight, bias) : null;
    forEachChunk({ hidden, weight, bias, chunkRows }, ({ start, count, rowsOf, logits }) => {
      const chunk = { targets: dense.aliased([count], start), losses: losses.aliased([count], start) };
      const extents = { rows: count, columns: weight.rows };
      if (gradients === null) {
        launch(kernels.tokenLosses, { logits, ...chunk }, { ...extents, logitsPitch: logits.pitch });
        return;
      }
      launch(kernels.tokenLossesInPlace, { logits, ...chunk }, extents);
      gemmInto(logits, weight, rowsOf(gradients.hidden));
      gemmInto(logits, rowsOf(hidden), gradients.weight, { transposeA: true, accumulate: start > 0 });
      if (gradients.bias) launch(kernels.columnSums, { x: logits, y: gradients.bias }, { ...extents, accumulate: start > 0 });
    });
    launch(kernels.scaledSum, { values: losses, scale, total: loss }, { count: rows });
    if (gradients === null) return loss;
    record({
      operation: 'linearCrossEntropy',
      inputs: [hidden, weight, bias],
      outputs: [loss],
      saved: { ...gradients, scale },
      backward({ cotangents: [upstream], saved, needed, sums }) {
        // The tape lets go of these after the rule, so they are scaled where they lie.
        return [saved.hidden, saved.weight, saved.bias].map((gradient, i) => {
          if (!upstream || !gradient || needed[i] !== true) return null;
          const sum = sums[i];
          if (sum) {
            const extents = { count: gradient.size, accumulate: !sum.empty };
            launch(kernels.scaleInto, { factor: upstream, scale: saved.scale, values: gradient, sums: sum.total }, extents);
            sum.empty = false;
            return null;
          }
          launch(kernels.multiplyInPlace, { factor: upstream, scale: saved.scale, values: gradient }, { count: gradient.size });
          return gradient;
        });
      },
    });
    return loss;
  });
}

/**
 * The losses −ln softmax(hidden·weightᵀ + bias)[target] of each token, for evaluation: not differentiable. Chunked as
 * `linearCrossEntropy`.
 * @param hidden [...,D] f32 or f16
 * @param weight [V,D] f32, f16 or packed
 * @param targets [...] i32; the loss of −1 is 0
 * @returns [...]
 * @throws DTypeError, ShapeError, ArgumentError as `linearCrossEntropy`
 */
export function tokenLosses(
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor<'f32'> {
  const { bias = null } = options;
  return operation('tokenLosses', operands({ hidden, weight, targets, bias }), () => {
    const { chunkRows = defaultChunkRows(hidden.backend, weight.rows) } = options;
    check('tokenLosses', { hidden, weight, targets, bias }, chunkRows);
    const dense = contiguous(targets);
    const losses = empty(hidden.backend, targets.shape, 'f32');
    forEachChunk({ hidden, weight, bias, chunkRows }, ({ start, count, logits }) => {
      launch(
        kernels.tokenLosses,
        { logits, targets: dense.aliased([count], start), losses: losses.aliased([count], start) },
        { rows: count, columns: weight.rows, logitsPitch: logits.pitch },
      );
    });
    return losses;
  });
}

/** Some consecutive rows and their logits. */
interface Chunk {
  readonly start: number;
  readonly count: number;
  /** [count,V]; memory that the next chunk overwrites. */
  readonly logits: Tensor;
  /** The chunk's rows of a tensor [...,D]. */
  readonly rowsOf: (tensor: Tensor) => Tensor;
}

/** Calls `body` with the logits of chunk after chunk. To be called within a scope. */
function forEachChunk(
  { hidden, weight, bias, chunkRows }: { hidden: Tensor; weight: Tensor; bias: Tensor | null; chunkRows: number },
  body: (chunk: Chunk) => void,
): void {
  const { rows, columns } = hidden;
  const vocabulary = weight.rows;
  const memory = empty(hidden.backend, [Math.min(rows, chunkRows), vocabulary]);
  for (let start = 0; start < rows; start += chunkRows) {
    const first = start;
    const count = Math.min(chunkRows, rows - start);
    const logits = memory.aliased([count, vocabulary]);
    const rowsOf = (tensor: Tensor) => tensor.aliased([count, columns], first * tensor.pitch, tensor.pitch);
    linearInto(rowsOf(hidden), weight, logits, bias);
    body({ start, count, logits, rowsOf });
  }
  memory.dispose();
}

function emptyGradients(hidden: Tensor, weight: Tensor, bias: Tensor | null) {
  const { backend } = hidden;
  const gradients = {
    hidden: empty(backend, hidden.shape, hidden.dtype),
    weight: empty(backend, weight.shape, weight.dtype),
    bias: bias && empty(backend, bias.shape),
  };
  if (hidden.rows === 0) {
    // No chunk will write them.
    for (const values of [gradients.weight, gradients.bias]) {
      if (values) launch(fill, { values }, { value: 0, count: values.size });
    }
  }
  return gradients;
}

/** What the losses are given. */
interface LossInputs {
  readonly hidden: Tensor;
  readonly weight: Tensor;
  readonly targets: Tensor;
  readonly bias: Tensor | null;
}

const operands = ({ hidden, weight, targets, bias }: LossInputs): Record<keyof LossInputs, Operand> => ({
  ...{ hidden: [hidden, 'float'], weight: [weight, 'weight'], targets: [targets, 'i32'], bias: [bias, 'f32?'] },
});

function check(operation: string, { hidden, weight, targets, bias }: LossInputs, chunkRows: number): void {
  expectRank(operation, 'weight', weight.shape, 2, '[V,D]');
  expectShape(operation, 'weight', weight.shape, [weight.rows, hidden.columns], '[V,D]', 'D is the last extent of hidden');
  expectShape(operation, 'targets', targets.shape, hidden.shape.slice(0, -1), '[...] of hidden [...,D]');
  if (bias) expectShape(operation, 'bias', bias.shape, [weight.rows], '[V]');
  expectNumber(operation, 'chunkRows', chunkRows, (value) => Number.isInteger(value) && value >= 1, 'a positive integer');
  expectTargets(operation, targets, weight.rows);
}
