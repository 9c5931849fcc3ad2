import { PlanBackend } from '../backend/plan/plan-backend.js';
import { expectTargets, logitLosses } from '../ops/cross-entropy/cross-entropy.js';
import { add, crossEntropy, documentBegins, linear, linearCrossEntropy, reshape, tokenLosses } from '../ops/index.js';
import { countParameters, initialParameters, ParameterStore, type Block, type Embedding, type Linear, type Memory, type Mixer, type Norm } from '../nn/index.js';
import type { Auxiliary, Parameter, Pass, StepPass, TensorSource } from '../nn/index.js';
import { forwardRecomputed } from '../nn/recomputed-block.js';
import { expectIntegersIn, expectShape, expectTensors, inModule, isRecording, keep, scope, tensor, withoutScope, type Backend, type FloatDType, type Operand, type Tensor } from '../tensor/index.js';
import { platform } from '#platform';
import type { AbortSignalLike } from '../util/abort-signal.js';
import { disposeSymbol } from '../util/disposal.js';
import { ArgumentError, DisposedError } from '../util/errors.js';
import type { BaseConfig, ModelFamily } from './family.js';
import { fingerprintOf } from './fingerprint.js';
import { Prepared } from './prepared.js';
import { State, type StateOptions, type StateOwner, type StatePass } from './state.js';

/** What a forward pass may be told besides the ids. */
export interface ForwardOptions {
  /**
   * The state before the first id; afterwards it is the state after the last one. Not differentiated: gradients stop at it,
   * which truncates back-propagation through time to the ids of this call.
   */
  readonly state?: State;
  /** [B,L] i32, nonzero where a document starts: nothing of an earlier document reaches a later one. */
  readonly sequenceStarts?: Tensor;
  /** What `prepare()` gave, which saves working it out at every call; no gradient goes through it. */
  readonly prepared?: Prepared;
  /** Keeps of each block only what goes into it: the gradients run the block again. Default false. */
  readonly recompute?: boolean;
  /**
   * Runs the pass as in training, and collects what it gives besides: experts drop tokens beyond their capacity, and `loss` adds their losses to
   * the cross-entropy. Default: no expert has a capacity.
   */
  readonly auxiliary?: Auxiliary | undefined;
}

/** How `LanguageModel.read` goes about it. */
export interface ReadOptions {
  /** Positions a pass; default 512. */
  readonly chunkLength?: number;
  readonly signal?: AbortSignalLike | undefined;
}

const idsHint = 'is this the tokenizer of this model?';

/** A language model of any family: embedding, blocks of residual sublayers, norm, head. */
export class LanguageModel<C extends BaseConfig = BaseConfig> implements StateOwner, Disposable {
  readonly family: ModelFamily<C>;
  readonly config: C;
  readonly backend: Backend;
  /** All parameters, in the order the model was built, under their checkpoint keys. */
  readonly parameters: readonly Parameter[];
  /** The linear layers, by key: what adapters attach to. */
  readonly linears: ReadonlyMap<string, Linear>;
  readonly embeddings: Embedding;
  readonly blocks: readonly Block[];
  /** Of all blocks' sublayers, in order. */
  readonly mixers: readonly Mixer[];
  /** Null: the head reads the stream as it is. */
  readonly finalNorm: Norm | null;
  readonly #head: Linear | null;
  readonly #tables: readonly Tensor[];
  #disposed = false;

  /**
   * @param source where the parameters come from; `loadModel` and `LanguageModel.initial` give the usual ones
   * @throws ArgumentError when the config's sizes are beyond what there can be
   */
  constructor(family: ModelFamily<C>, config: C, backend: Backend, source: TensorSource) {
    expectSound('LanguageModel', family, config);
    const store = new ParameterStore(source);
    const { embeddings, blocks, finalNorm, head } = family.build(store, config);
    this.family = family;
    this.config = config;
    this.backend = backend;
    this.embeddings = embeddings;
    this.blocks = blocks;
    this.mixers = blocks.flatMap(({ sublayers }) => sublayers.map(({ mixer }) => mixer));
    this.finalNorm = finalNorm;
    this.#head = head;
    this.parameters = store.all;
    this.linears = store.linears;
    this.#tables = store.tables;
  }

  /**
   * A model with its family's initialisation. The same seed gives the same weights on every backend.
   * @throws ArgumentError when the sizes are beyond what there can be, or the parameters beyond the memory of the machine
   */
  static initial<C extends BaseConfig>(family: ModelFamily<C>, config: C, backend: Backend, seed: number): LanguageModel<C> {
    expectSound('LanguageModel.initial', family, config);
    if (backend.kind === 'cpu' || backend.kind === 'reference') expectRoom('LanguageModel.initial', family, config);
    return new LanguageModel(family, config, backend, initialParameters(backend, seed));
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Grows whenever a weight is written to: what was worked out from weights, as by `prepare()`, is then out of date. */
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
    throw new ArgumentError({
      operation,
      argument: 'model',
      expected: 'weights that stay as they are meanwhile',
      got: 'changed by a training step, or a write',
      hint: 'wait for trainStep() first; the trainer’s own methods do',
    });
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

  /** Whether memory grows with the sequence: some mixer has an entry for each position. */
  get remembersPositions(): boolean {
    return this.mixers.some(({ slots }) => Object.values(slots).some(({ perPosition }) => perPosition === true));
  }

  /** Ids that end a text, beside the tokenizer's own. */
  get endOfText(): readonly number[] {
    return this.config.endOfText;
  }

  /**
   * The last hidden state, after the final norm where there is one.
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
   * Logits of hidden states, as `hidden` gives them; of some positions alone, where these are all that is asked for.
   * @param hidden [...,D]
   * @returns [...,V] f32
   */
  logits(hidden: Tensor): Tensor<FloatDType> {
    this.expectLive('logits');
    return scope(() => this.#logits(hidden));
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
   * Reads one sequence into a state, a chunk at a time: memory does not grow with the sequence.
   * @param ids at least one, in [0, V)
   * @param state for one sequence; afterwards the state after the last id
   * @returns logits [1,V] after the last id, for the caller to dispose
   * @throws ArgumentError when there is no id, or one is outside of the vocabulary; when the state is another model's
   * @throws DisposedError when model, state or backend are disposed, meanwhile too
   */
  async read(ids: ArrayLike<number>, state: State, { chunkLength = 512, signal }: ReadOptions = {}): Promise<Tensor<FloatDType>> {
    if (ids.length === 0) throw new ArgumentError({ operation: 'read', argument: 'ids', expected: 'at least one id', got: 'empty' });
    if (!Number.isInteger(chunkLength) || chunkLength < 1) {
      throw new ArgumentError({ operation: 'read', argument: 'chunkLength', expected: 'an integer ≥ 1', got: String(chunkLength) });
    }
    this.checkIds('read', ids);
    const all = Int32Array.from(ids);
    const prepared = this.prepare();
    let logits: Tensor<FloatDType> | undefined;
    try {
      for (let start = 0; start < all.length; start += chunkLength) {
        signal?.throwIfAborted();
        logits?.dispose();
        const chunk = all.subarray(start, start + chunkLength);
        logits = withoutScope(() => scope(() => this.forwardLast(tensor(this.backend, chunk, [1, chunk.length], 'i32'), { state, prepared })));
        // One chunk in flight: an abort takes effect within a chunk, and the queue stays short.
        await this.backend.synchronize();
      }
      return logits as Tensor<FloatDType>;
    } catch (error) {
      logits?.dispose();
      throw error;
    } finally {
      prepared.dispose();
    }
  }

  /**
   * Mean cross-entropy in nats of `targets` under the model, and the losses of `auxiliary`; the logits are never all in memory.
   * @param ids [B,L] i32
   * @param targets [B,L] i32; −1 is not counted
   * @returns a scalar
   */
  loss(ids: Tensor, targets: Tensor, options: ForwardOptions = {}): Tensor<'f32'> {
    this.#checkTargets('loss', ids, targets);
    return scope(() => {
      const hidden = this.#run('loss', ids, options, null);
      const loss = inModule('lm_head', () => {
        const weight = this.#headWeight();
        return weight === null ? crossEntropy(this.#logits(hidden), targets) : linearCrossEntropy(hidden, weight, targets);
      });
      return (options.auxiliary?.addTo(loss) ?? loss) as Tensor<'f32'>;
    });
  }

  /** Cross-entropy of every position, [B,L], 0 where the target is −1; for evaluation, without gradient. */
  tokenLosses(ids: Tensor, targets: Tensor, options: ForwardOptions = {}): Tensor<'f32'> {
    this.#checkTargets('tokenLosses', ids, targets);
    return scope(() => {
      const hidden = this.#run('tokenLosses', ids, options, null);
      const weight = this.#headWeight();
      return weight === null ? logitLosses(this.#logits(hidden), targets) : tokenLosses(hidden, weight, targets);
    });
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
   * @param state updated in place
   * @param prepared what `prepare()` gave
   * @returns logits [B,V]
   */
  step(ids: Tensor, state: State, prepared: Prepared): Tensor<FloatDType> {
    this.expectLive('step');
    this.#checkIds('step', ids);
    state.expectOf('step', this, ids.size);
    expectShape('step', 'ids', ids.shape, [ids.size], '[B]', 'B is the number of sequences of the state');
    prepared.expectOf('step', this);
    return scope(() => {
      let x = this.embeddings.forward(ids);
      let residual: Tensor | null = null;
      state.reserve(1);
      const { layers, places } = state;
      const passes = this.#passes((i): StepPass => ({ memory: layers[i] as Memory, places, constants: prepared.constants[i] as Memory }));
      this.blocks.forEach((block, i) => {
        ({ x, residual } = block.step(x, residual, passes[i] as StepPass[], this.blocks[i + 1]?.parts() ?? null));
      });
      state.advance();
      state.position++;
      const weight = this.#headWeight();
      if (weight === null || this.finalNorm === null) return this.#logits(this.#normed(x, residual));
      return this.finalNorm.projectBy(x, residual, { weight, bias: null, dtype: 'f32' }).y;
    });
  }

  /** What `step` and `forward` work out from the weights alone, while these stay as they are. The caller disposes it. */
  prepare(): Prepared {
    this.expectLive('prepare');
    return new Prepared(this);
  }

  /**
   * The state before the first token of `batch` sequences. The caller disposes it.
   * @throws ArgumentError when an option is not one; BackendError when the backend has no f16 that is asked for
   */
  newState(batch: number, options: StateOptions = {}): State {
    this.expectLive('newState');
    return State.zero(this, batch, options);
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
      throw new ArgumentError({
        operation,
        argument: `ids[${i}]`,
        expected: `an integer in [0, V) = [0, ${vocabularySize})`,
        got: String(id),
        hint: idsHint,
      });
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
    for (const table of this.#tables) table.dispose();
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

  /** W of logits = hidden·Wᵀ, [V,D]; null where the head does more than multiply by it. */
  #headWeight(): Tensor | null {
    if (this.#head === null) return this.embeddings.weight.tensor;
    return this.#head.bias === null ? this.#head.plain() : null;
  }

  /** [..., V] f32, whatever the activations are. */
  #logits(hidden: Tensor): Tensor<FloatDType> {
    if (this.#head !== null) return this.#head.forward(hidden, { dtype: 'f32' });
    return linear(hidden, this.embeddings.weight.tensor, null, { dtype: 'f32' });
  }

  /** What `of` gives for each sublayer of each block, by the sublayer's place among all. */
  #passes<T>(of: (i: number) => T): T[][] {
    let i = 0;
    return this.blocks.map(({ sublayers }) => sublayers.map(() => of(i++)));
  }

  /** @param residuals gets the residual stream after each block, for the caller to dispose; null when nobody looks */
  #run(operation: string, ids: Tensor, { state, sequenceStarts, prepared, recompute = false, auxiliary }: ForwardOptions, residuals: Tensor<FloatDType>[] | null): Tensor<FloatDType> {
    this.expectLive(operation);
    this.#checkIds(operation, ids, { sequenceStarts: [sequenceStarts, 'i32?'] });
    const [batch = 0, length = 0] = ids.shape;
    prepared?.expectOf(operation, this);
    if (sequenceStarts !== undefined) expectShape(operation, 'sequenceStarts', sequenceStarts.shape, ids.shape, '[B,L] of ids');
    if (ids.rank !== 2 || length === 0) {
      throw new ArgumentError({ operation, argument: 'ids', expected: '[B,L] with L ≥ 1', got: `[${ids.shape.join(',')}]` });
    }
    state?.expectOf(operation, this, batch);
    return scope(() => {
      const memory = state?.pass(length, sequenceStarts, isRecording());
      try {
        const y = this.#through(ids, { memory, starts: sequenceStarts, prepared, recompute, auxiliary }, residuals);
        memory?.end();
        return y;
      } finally {
        memory?.close();
      }
    });
  }

  #through(
    ids: Tensor,
    { memory, starts, prepared, recompute, auxiliary }: { memory: StatePass | undefined; starts: Tensor | undefined; prepared: Prepared | undefined; recompute: boolean; auxiliary: Auxiliary | undefined },
    residuals: Tensor<FloatDType>[] | null,
  ): Tensor<FloatDType> {
    let x = inModule('embeddings', () => this.embeddings.forward(ids));
    let residual: Tensor | null = null;
    const places = memory?.places ?? (starts !== undefined && this.remembersPositions ? { begins: documentBegins(starts) } : undefined);
    const passes = this.#passes((i): Pass => ({
      ...{ before: memory?.before[i], after: memory?.after[i], places, starts, constants: prepared?.constants[i], auxiliary },
    }));
    for (const [i, block] of this.blocks.entries()) {
      // A scope for each block: what only the forward pass needs is freed before the next block.
      const result = scope(() => inModule(`layers.${i}`, () => (recompute ? forwardRecomputed(block, x, residual, passes[i] as Pass[]) : block.forward(x, residual, passes[i] as Pass[]))));
      residuals?.push(keep(add(result.residual, result.x)));
      x.dispose();
      residual?.dispose();
      ({ x, residual } = result);
    }
    return this.#normed(x, residual);
  }

  /** The stream as the head reads it. */
  #normed(x: Tensor, residual: Tensor | null): Tensor<FloatDType> {
    const { finalNorm } = this;
    if (finalNorm !== null) return inModule('norm_f', () => finalNorm.forward(x, residual).y);
    return residual === null ? (x as Tensor<FloatDType>) : add(residual, x);
  }
}

function expectSound<C extends BaseConfig>(operation: string, family: ModelFamily<C>, config: C): void {
  const problem = family.problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation, ...problem });
}

/** Throws when the parameters would take more memory than the machine has: making them would end in swapping, or in death. */
function expectRoom<C extends BaseConfig>(operation: string, family: ModelFamily<C>, config: C): void {
  const [needed, there] = [4 * countParameters(LanguageModel.initial(family, config, new PlanBackend(), 0).parameters), platform.memoryBytes];
  if (needed <= there) return;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  throw new ArgumentError(`${operation}: the parameters would take ${gigabytes(needed)}; this machine has ${gigabytes(there)}`);
}
