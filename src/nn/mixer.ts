import type { FloatDType, Shape, Tensor } from '../tensor/index.js';
import type { AuxiliarySink } from './auxiliary.js';
import type { Linear, Norm } from './layers.js';

/** A tensor of a mixer's memory. */
export interface Slot {
  /** Of one sequence, without the batch axis; float32, or what the state keeps entries for each position in. */
  readonly shape: Shape;
  /** Whether there is one of that shape for each position, as of keys and values: memory then grows with the sequence. */
  readonly perPosition?: true;
}

/**
 * A mixer's slots, by name: tensors [B, …slot], or where there is one for each position [pages, 64, …slot], which `Places` says how to
 * read; or other tensors that belong to a mixer, by name.
 */
export type Memory = Readonly<Record<string, Tensor>>;

/** Where the positions of a pass are: what mixers need that have memory for each position. All integers are i32. */
export interface Places {
  /** [B], how many positions came before; none: 0. */
  readonly positions?: Tensor | undefined;
  /** [B,L], or [B] in a step: for each position, the one at which its document starts; none: 0. */
  readonly begins?: Tensor | undefined;
  /** [B,n]: the page that holds positions 64·i to 64·i + 63 of a sequence; none: nothing is remembered. */
  readonly pages?: Tensor | undefined;
}

/** What a pass over a sequence may be told besides its input. */
export interface Pass {
  /** The memory of what came before; none: zeros. */
  readonly before?: Memory | undefined;
  /** Where the memory after the last position is written, other tensors than `before`'s, but for slots with an entry for each position; none: nobody wants it. */
  readonly after?: Memory | undefined;
  readonly places?: Places | undefined;
  /** [B,L] i32, nonzero where a document starts: nothing of an earlier document reaches a later one. */
  readonly starts?: Tensor | undefined;
  /** What `constants()` gave: no gradient goes through it. Default: worked out anew. */
  readonly constants?: Memory | undefined;
  /**
   * Given in training, to mixers that have more to say of a pass than their output. Who is given it computes as in training: experts have
   * their capacity. Without it a position's output depends on no later one and on no other sequence, and steps give the same.
   */
  readonly auxiliary?: AuxiliarySink | undefined;
}

/** What a step by one position is told besides its input. */
export interface StepPass {
  /** Updated in place. */
  readonly memory: Memory;
  /** Where the position is; of a model whose mixers have memory for each position. */
  readonly places?: Places | undefined;
  /** What `constants()` gave. */
  readonly constants: Memory;
}

/** A normed input that is not there yet: a projection that asks for its product can have both in one launch. */
export interface Normed {
  /** norm(x), [B,D] */
  value(): Tensor<FloatDType>;
  /** linear(norm(x)), [B,outputs] */
  project(linear: Linear): Tensor<FloatDType>;
}

/** The residual stream as norms take it up: its sum is still to be made, within the next norm's launch. */
export interface Stream {
  /** What the last sublayer gave, or, of a fused step, its parts [P,B,…]. */
  readonly x: Tensor<FloatDType>;
  /** The stream before it. */
  readonly residual: Tensor<FloatDType>;
}

/** A step of norm, mixer and residual sum in as few launches as the backend has kernels for. */
export interface FusedStep {
  /** Names the form of the parts in which it takes x and may return it: a step that returns parts needs one of the same form after it. */
  readonly parts: string;
  /**
   * @param x [B,D], what the sublayer before added, or its parts [P,B,…], to be added up
   * @param residual [B,D], the stream before that; null for the first
   * @param parts whether the x it returns may be in parts
   */
  run(x: Tensor, residual: Tensor | null, pass: StepPass, parts: boolean): Stream;
}

/** A part of a layer that transforms whole sequences: all that an encoder asks of one. */
export interface SequenceMixer {
  /** A whole sequence or a piece of one: [B,L,D] → [B,L,D], recorded for gradients. */
  forward(x: Tensor, pass: Pass): Tensor<FloatDType>;
}

/** A part of a layer that transforms the stream: it mixes positions (a scan, attention) or channels (a feed-forward). */
export interface Mixer extends SequenceMixer {
  /** What it remembers of a sequence; empty for one that mixes channels alone. */
  readonly slots: Readonly<Record<string, Slot>>;
  /** How many of its parameters a token passes by, as those of the experts that it did not choose. Default: 0. */
  readonly idleParameters?: number;
  /**
   * One position: [B,D] → [B,D]. Launches only, so that it can be captured; not recorded. The block's scope frees what it makes: x is
   * asked for in no scope of the mixer's own, since the block goes on with the residual stream that comes of it.
   */
  step(x: Normed, pass: StepPass): Tensor<FloatDType>;
  /** What follows from the weights alone and a step need not work out again. The caller frees it. */
  constants?(): Memory;
  /** A fused step; null where the weights have another form than its kernels know. */
  fuse?(norm: Norm): FusedStep | null;
}
