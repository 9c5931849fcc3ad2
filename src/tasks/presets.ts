import { familyNamed, type DescribedModel } from '../models/index.js';
import { defaultFamily } from '../models/registry.js';
import { defaultTrainingOptions, type TrainingOptions } from '../train/index.js';
import { inductionHeads } from './induction-heads.js';
import { selectiveCopying } from './selective-copying.js';
import type { Task } from './task.js';

export const taskNames = ['selective-copying', 'induction-heads'] as const;
export type TaskName = (typeof taskNames)[number];

/** What the layers of a task's model select with: the selective scan, or nothing. */
export const taskLayers = ['s6', 'lti'] as const;
export type TaskLayer = (typeof taskLayers)[number];

export const presetNames = ['paper', 'quick'] as const;
export type PresetName = (typeof presetNames)[number];

/** Sizes of a run of a task. */
export interface TaskSizes {
  /** Positions of an example; selective copying asks for the tokens after them. */
  readonly length: number;
  /** Tokens to copy; only of selective copying. */
  readonly tokens: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Whether the learning rate stays where it is; otherwise it warms up and falls along a cosine. */
  readonly constantRate: boolean;
  /** Induction heads: the length at which the test ends. It begins at 64 and doubles. */
  readonly testLength: number;
}

/**
 * `paper`: the sizes of appendix E.1 (the learning rate of induction heads is one of the two tried there). `quick`: a minute
 * or two on two cores of a CPU.
 */
export const taskPresets: Readonly<Record<TaskName, Readonly<Record<PresetName, TaskSizes>>>> = {
  'selective-copying': {
    paper: { length: 4096, tokens: 16, steps: 400_000, batchSize: 64, learningRate: 1e-4, constantRate: true, testLength: 4096 },
    quick: { length: 256, tokens: 4, steps: 2000, batchSize: 16, learningRate: 6e-3, constantRate: false, testLength: 256 },
  },
  'induction-heads': {
    paper: { length: 256, tokens: 1, steps: 204_800, batchSize: 8, learningRate: 1e-3, constantRate: true, testLength: 2 ** 20 },
    quick: { length: 256, tokens: 1, steps: 2500, batchSize: 8, learningRate: 2e-3, constantRate: false, testLength: 2 ** 14 },
  },
};

/** The task of a name. @throws ArgumentError where a size does not fit */
export function makeTask(name: TaskName, { length, tokens }: Pick<TaskSizes, 'length' | 'tokens'>): Task {
  return name === 'selective-copying' ? selectiveCopying({ length, tokens }) : inductionHeads({ length });
}

/**
 * The paper's model for both tasks: two layers, D = 64. Embeddings start at a deviation of ¼ instead of 0.02: with so few
 * ids, and a head that shares them, the smaller start costs hundreds of steps before anything is learnt.
 */
export function taskModel({ vocabularySize }: Task, ssm: TaskLayer): DescribedModel {
  const family = familyNamed(defaultFamily);
  return { family, config: family.configOf({ vocabularySize, dModel: 64, layers: 2, ssm, embeddingDeviation: 0.25 }) };
}

/**
 * AdamW as for language models, without weight decay: examples never repeat. Gradients of a task that is solved at the length it
 * is trained on are far below the usual ε; with a smaller one, steps keep their size, and what is learnt goes on to hold for
 * longer and longer examples. A step that diverges is left out.
 */
export function taskTrainingOptions(task: Task, sizes: TaskSizes, seed: number): TrainingOptions {
  const { steps, batchSize, learningRate, constantRate } = sizes;
  const usual = defaultTrainingOptions(steps);
  const schedule = constantRate
    ? { peak: learningRate, warmupSteps: 0, totalSteps: steps, finalFraction: 1 }
    : { ...usual.schedule, peak: learningRate };
  return { ...usual, batchSize, length: task.length, weightDecay: 0, epsilon: 1e-16, schedule, seed, onDivergence: 'skip' };
}
