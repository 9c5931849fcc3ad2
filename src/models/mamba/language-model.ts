import { expectTargets } from '../../ops/cross-entropy/cross-entropy.js';
import { linear, linearCrossEntropy, reshape, tokenLosses } from '../../ops/index.js';
import { Embedding, Linear, Norm, ParameterStore, initialParameters, normal, type Parameter, type TensorSource } from '../../nn/index.js';
import { expectIntegersIn, expectNumber, expectShape, expectTensors, inModule, isRecording, keep, scope, withoutScope, type Backend, type FloatDType, type Operand, type Tensor } from '../../tensor/index.js';
import { disposeSymbol } from '../../util/disposal.js';
import { ArgumentError, describeProblem, DisposedError } from '../../util/errors.js';
import { fingerprintOf } from '../fingerprint.js';
import { MambaBlock } from './block.js';
import { checkConfig, expectRoom, type MambaConfig } from './config.js';
import type { MixerState } from './mixer.js';
import { State } from './state.js';

/** What a forward pass may be told besides the ids. */
export interface ForwardOptions {
  /**
   * The state before the first id; afterwards it is the state after the last one. Not differentiated: gradients stop at it,
   * which truncates back-propagation through time to the ids of this call.
   */
  readonly state?: State;
  /** [B,L] i32, nonzero where a document starts: nothing of an earlier document reaches a later one. */
  readonly sequenceStarts?: Tensor;
  /** What `transitions()` gave, which saves working it out at every call; no gradient reaches A_log then. */
  readonly transitions?: readonly Tensor[];
}

const idsHint = 'is this the tokenizer of this model?';

/** Mamba as a language model: embedding, blocks, norm, head. Keys as in transformers' `MambaForCausalLM`. */
export class MambaLM implements Disposable {
  readonly config: MambaConfig;
  readonly backend: Backend;
  /** All parameters, in the order the model was built. */
  readonly parameters: readonly Parameter[];
  readonly embeddings: Embedding;
  readonly blocks: readonly MambaBlock[];
  readonly finalNorm: Norm;
  readonly #untiedHead: Linear | null;
  #disposed = false;

  /**
   * @param source where the parameters come from; `loadMamba` and `MambaLM.initial` give the usual ones
   * @throws ArgumentError when the config's sizes are beyond what there can be
   */
  constructor(config: MambaConfig, backend: Backend, source: TensorSource) {
    checkConfig('MambaLM', config);
    const { vocabularySize, dModel, layers, norm, normEpsilon, tiedHead, initialisation } = config;
    const store = new ParameterStore(source);
    const backbone = store.at('backbone');
    const { embeddingDeviation } = initialisation;
    this.config = config;
    this.backend = backend;
    this.embeddings = new Embedding(backbone.at('embeddings'), { count: vocabularySize, size: dModel, deviation: embeddingDeviation });
    this.blocks = Array.from({ length: layers }, (_, i) => new MambaBlock(backbone.at('layers').at(String(i)), config));
    this.finalNorm = new Norm(backbone.at('norm_f'), { size: dModel, kind: norm, epsilon: normEpsilon });
    this.#untiedHead = tiedHead
      ? null
      : new Linear(store.at('lm_head'), { inputs: dModel, outputs: vocabularySize, bias: false, initialiser: normal(embeddingDeviation) });
    this.parameters = store.all;
  }

  /**
   * A model with the official initialisation. The same seed gives the same weights on every backend.
   * @throws ArgumentError when the sizes are beyond what there can be, or the parameters beyond the memory of the machine
   */
  static initial(config: MambaConfig, backend: Backend, seed: number): MambaLM {
    checkConfig('MambaLM.initial', config);
    if (backend.kind === 'cpu' || backend.kind === 'reference') expectRoom('MambaLM.initial', config);
    return new MambaLM(config, backend, initialParameters(backend, seed));
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Grows whenever a weight is written to: what was worked out from weights, as `transitions()`, is then out of date. */
  get version(): number {
    this.expectLive('version');
    let sum = 0;
    for (const { tensor } of this.parameters) sum += tensor.version;
    return sum;
  }

  /**
   * Throws when a weight was written to since `version` was that.
   * @throws ArgumentError
   */
  expectUnchanged(operation: string, version: number): void {
    if (this.version === version) return;
    throw new ArgumentError(
      describeProblem({
        operation,
        argument: 'model',
        expected: 'weights that stay as they are meanwhile',
        got: 'changed by a training step, or a write',
        hint: 'wait for trainStep() first; the trainer’s own methods do',
      }),
    );
  }

  /**
   * One name for these weights: 32 hexadecimal digits that follow from the parameters' keys, formats, shapes and values, the same
   * on every backend and from every file that holds them in float32. A model packed otherwise, or trained a step further, has another.
   * Worked out when first asked for, unless the model's file has its checksums; of other files it is kept in the system's folder
   * for caches, by their path, size and time of writing.
   */
  fingerprint(): Promise<string> {
    return fingerprintOf(this.parameters);
  }

  /** Ids that end a text, beside the tokenizer's own. */
  get endOfText(): readonly number[] {
    return this.config.endOfText;
  }

  /** W of logits = hidden·Wᵀ, [V,D]. */
  get headWeight(): Tensor {
    return (this.#untiedHead ?? this.embeddings).weight.tensor;
  }

  /**
   * The last hidden state, after the final norm.
   * @param ids [B,L] i32, in [0, V)
   * @returns [B,L,D]
   */
  hidden(ids: Tensor, options: ForwardOptions = {}): Tensor<FloatDType> {
    return this.#run('hidden', ids, options, null);
  }

  /**
   * Logits of the next token at every position.
   * @param ids [B,L] i32, in [0, V)
   * @returns [B,L,V]
   */
  forward(ids: Tensor, options: ForwardOptions = {}): Tensor<FloatDType> {
    return scope(() => this.#logits(this.#run('forward', ids, options, null)));
  }

  /**
   * Logits after the last position only, without working out the others.
   * @returns [B,V]
   */
  forwardLast(ids: Tensor, options: ForwardOptions = {}): Tensor<FloatDType> {
    return scope(() => {
      const hidden = this.#run('forwardLast', ids, options, null);
      const [batch = 0, length = 0, dModel = 0] = hidden.shape;
      // [B, L·D] with rows as they lie: the last D columns are the last position.
      const rows = reshape(hidden, [batch, length * dModel]);
      return this.#logits(rows.aliased([batch, dModel], (length - 1) * dModel, rows.pitch));
    });
  }

  /**
   * Mean cross-entropy in nats of `targets` under the model; the logits are never all in memory.
   * @param ids [B,L] i32
   * @param targets [B,L] i32; −1 is not counted
   * @returns a scalar
   */
  loss(ids: Tensor, targets: Tensor, options: ForwardOptions = {}): Tensor<'f32'> {
    this.#checkTargets('loss', ids, targets);
    return scope(() => {
      const hidden = this.#run('loss', ids, options, null);
      return inModule('lm_head', () => linearCrossEntropy(hidden, this.headWeight, targets));
    });
  }

  /** Cross-entropy of every position, [B,L], 0 where the target is −1; for evaluation, without gradient. */
  tokenLosses(ids: Tensor, targets: Tensor, options: ForwardOptions = {}): Tensor<'f32'> {
    this.#checkTargets('tokenLosses', ids, targets);
    return scope(() => tokenLosses(this.#run('tokenLosses', ids, options, null), this.headWeight, targets));
  }

  /** The residual stream after each block [B,L,D], then the normed last one: what transformers calls hidden states. */
  hiddenStates(ids: Tensor): Tensor<FloatDType>[] {
    const residuals: Tensor<FloatDType>[] = [];
    const last = this.#run('hiddenStates', ids, {}, residuals);
    return [...residuals, last];
  }

  /**
   * One token for each of B sequences; not recorded for gradients, fit to be captured.
   * @param ids [B] i32
   * @param state updated in place, except `position`, which a captured step cannot count
   * @param transitions what `transitions()` gave
   * @returns logits [B,V]
   */
  step(ids: Tensor, state: State, transitions: readonly Tensor[]): Tensor<FloatDType> {
    this.expectLive('step');
    this.#checkIds('step', ids);
    state.expectOf('step', this, ids.size);
    expectShape('step', 'ids', ids.shape, [ids.size], '[B]', 'B is the number of sequences of the state');
    this.#checkTransitions('step', transitions);
    return scope(() => {
      let x = this.embeddings.forward(ids);
      let residual: Tensor | null = null;
      this.blocks.forEach((block, i) => {
        ({ x, residual } = block.step(x, residual, state.layers[i] as MixerState, transitions[i] as Tensor, i + 1 < this.blocks.length));
      });
      return this.finalNorm.project(x, residual, { weight: this.headWeight, bias: null, dtype: 'f32' }).y;
    });
  }

  /** A of every layer, for `step` and `forward`, while the parameters stay as they are. The caller disposes them. */
  transitions(): Tensor<FloatDType>[] {
    this.expectLive('transitions');
    return withoutScope(() => scope(() => this.blocks.map(({ mixer }) => scope(() => mixer.transition()))));
  }

  /** The state before the first token of `batch` sequences. The caller disposes it. */
  newState(batch: number): State {
    this.expectLive('newState');
    return State.zero(this, batch);
  }

  /**
   * Throws unless all ids are in [0, V): device kernels cannot.
   * @throws ArgumentError naming the first id that is not
   */
  checkIds(operation: string, ids: ArrayLike<number>): void {
    const { vocabularySize } = this.config;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] ?? NaN;
      if (Number.isInteger(id) && id >= 0 && id < vocabularySize) continue;
      throw new ArgumentError(
        describeProblem({
          operation,
          argument: `ids[${String(i)}]`,
          expected: `an integer in [0, V) = [0, ${String(vocabularySize)})`,
          got: String(id),
          hint: idsHint,
        }),
      );
    }
  }

  /**
   * Throws when the model was disposed.
   * @throws DisposedError
   */
  expectLive(operation: string): void {
    if (this.#disposed) throw new DisposedError(`${operation}: the model was disposed`);
  }

  /** Frees the parameters. What is in the stream ends; what uses the model afterwards, a decoder too, throws DisposedError. */
  dispose(): void {
    this.#disposed = true;
    for (const { tensor } of this.parameters) tensor.dispose();
  }

  [disposeSymbol](): void {
    this.dispose();
  }

  /** Throws unless `ids` are such numbers as the embedding has, as far as the host knows, and of this model's backend. */
  #checkIds(operation: string, ids: Tensor, more: Record<string, Operand> = {}): void {
    const { vocabularySize: limit } = this.config;
    expectTensors(operation, { model: [this.embeddings.weight.tensor, 'weight'], ids: [ids, 'i32'], ...more });
    expectIntegersIn(operation, 'ids', ids, { least: 0, limit, symbols: '[0, V)', hint: idsHint });
  }

  #checkTargets(operation: string, ids: Tensor, targets: Tensor): void {
    this.#checkIds(operation, ids, { targets: [targets, 'i32'] });
    expectShape(operation, 'targets', targets.shape, ids.shape, '[B,L] of ids');
    expectTargets(operation, targets, this.config.vocabularySize);
  }

  #checkTransitions(operation: string, transitions: readonly Tensor[]): void {
    const expected = `${String(this.blocks.length)}, one for each layer`;
    expectNumber(operation, 'transitions.length', transitions.length, (length) => length === this.blocks.length, expected);
  }

  /** [..., V] f32, whatever the activations are. */
  #logits(hidden: Tensor): Tensor<FloatDType> {
    return linear(hidden, this.headWeight, null, { dtype: 'f32' });
  }

  /** @param residuals gets the residual stream after each block, for the caller to dispose; null when nobody looks */
  #run(operation: string, ids: Tensor, { state, sequenceStarts, transitions }: ForwardOptions, residuals: Tensor<FloatDType>[] | null): Tensor<FloatDType> {
    this.expectLive(operation);
    this.#checkIds(operation, ids, { sequenceStarts: [sequenceStarts, 'i32?'] });
    const [batch = 0, length = 0] = ids.shape;
    if (transitions !== undefined) this.#checkTransitions(operation, transitions);
    if (sequenceStarts !== undefined) expectShape(operation, 'sequenceStarts', sequenceStarts.shape, ids.shape, '[B,L] of ids');
    if (ids.rank !== 2 || length === 0) {
      throw new ArgumentError(
        describeProblem({ operation, argument: 'ids', expected: '[B,L] with L ≥ 1', got: `[${ids.shape.join(',')}]` }),
      );
    }
    state?.expectOf(operation, this, batch);
    return scope(() => {
      let x = inModule('embeddings', () => this.embeddings.forward(ids));
      let residual: Tensor | null = null;
      // The gradient rules read the state as it was, and `state` is overwritten below: they get a copy.
      const before = isRecording() ? state?.like() : state;
      if (state && before !== state) before?.assign(state);
      const after = state?.like();
      this.blocks.forEach((block, i) => {
        const options = {
          initialState: before?.layers[i],
          finalState: after?.layers[i],
          sequenceStarts,
          transition: transitions?.[i],
        };
        // A scope for each block: what only the forward pass needs is freed before the next block.
        const result = scope(() => inModule(`layers.${String(i)}`, () => block.forward(x, residual, options)));
        // What a block returns as residual is the stream after the block before it.
        if (residual !== null) residuals?.push(keep(result.residual.retain()));
        x.dispose();
        residual?.dispose();
        ({ x, residual } = result);
      });
      if (state && after) {
        after.position += length;
        state.assign(after);
      }
      if (before !== state) before?.dispose();
      const { y, residual: last } = inModule('norm_f', () => this.finalNorm.forward(x, residual));
      residuals?.push(keep(last.retain()));
      return y;
    });
  }
}
