import { platform } from '#platform';
import type { Command } from 'commander';
import { PlanBackend } from '../../backend/plan/plan-backend.js';
import { Decoder } from '../../generate/index.js';
import { openCheckpoint } from '../../io/index.js';
import { LanguageModel, publishedModel, publishedNames, readConfigFile, State, type BaseConfig, type DescribedModel, type Fact, type WeightDType } from '../../models/index.js';
import { usualKeys } from '../../models/family.js';
import { packedParameters } from '../../models/packing.js';
import { readCheckpoint } from '../../models/checkpoint.js';
import { countParameters, initialParameters } from '../../nn/index.js';
import { sizeOf } from '../../tensor/index.js';
import { ArgumentError } from '../../util/errors.js';
import { byteSize, compact, grouped } from '../format.js';
import { weightBytes } from '../measure-model.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { dtypeOption, printWarning, verifyOption } from '../options.js';

/** What `inspect` finds out about a model. */
interface Inspection {
  /** The family's name. */
  readonly family: string;
  readonly config: BaseConfig;
  /** Format of the large matrices. */
  readonly dtype: WeightDType;
  /** `active`: those that a token uses. */
  readonly parameters: { readonly total: number; readonly active: number; readonly bytes: number; readonly parts: Readonly<Record<string, number>> };
  /** Of one sequence, in float32, before the first token. */
  readonly stateBytes: number;
  /** What each token more adds to it; 0 where its size is fixed. */
  readonly stateBytesPerToken: number;
  /** One token of one sequence. */
  readonly decodeStep: {
    readonly launches: number;
    readonly bytesRead: number;
    readonly bytesWritten: number;
    readonly operations: number;
    readonly kernels: Readonly<Record<string, number>>;
  };
}

/** `elapid inspect MODEL` */
export function addInspect(program: Command): void {
  program
    .command('inspect')
    .summary('show what a model is made of')
    .description(
      'Shows a model’s config, its parameters by part, the size of its state, and what a decoded token costs: kernel ' +
        'launches, bytes moved and floating-point operations. It computes nothing, and reads weights only for --verify.',
    )
    .argument('<model>', `${modelArgument}; or a config.json; or a published model whose sizes are known: ${publishedNames().join(', ')}`)
    .addOption(dtypeOption())
    .addOption(verifyOption())
    .option('--json', 'print one JSON object')
    .addHelpText('after', `\nExamples:\n  elapid inspect stories\n  elapid inspect runs/austen\n  elapid inspect ${publishedNames()[0] ?? ''}`)
    .action(run);
}

async function run(model: string, options: { readonly dtype?: WeightDType; readonly verify?: true; readonly json?: boolean }): Promise<void> {
  const { family, config, dtype } = await readModel(model, options.verify === true);
  const inspection = inspect({ family, config }, options.dtype ?? dtype);
  process.stdout.write(options.json === true ? `${JSON.stringify(inspection)}\n` : describe(inspection, family.facts(config)));
}

async function readModel(name: string, verify: boolean): Promise<DescribedModel & { readonly dtype: WeightDType }> {
  const published = (await platform.pathKind(name)) === undefined ? publishedModel(name) : undefined;
  const path = published === undefined ? await modelFolder(name, publishedNames()) : name;
  if (published !== undefined || path.endsWith('.json')) {
    if (verify) throw new ArgumentError({ operation: 'inspect', argument: '--verify', expected: 'a model with weights', got: `given with ${name}` });
    return { ...(published ?? (await readConfigFile(path, printWarning))), dtype: 'f32' };
  }
  const checkpoint = await openCheckpoint(path);
  try {
    if (verify) await checkpoint.verify();
    return await readCheckpoint(checkpoint, printWarning);
  } finally {
    await checkpoint.close();
  }
}

function inspect({ family, config }: DescribedModel, dtype: WeightDType): Inspection {
  const backend = new PlanBackend();
  const model = new LanguageModel(family, config, backend, packedParameters(initialParameters(backend, 0), dtype));
  const { trunk, layers } = family.keys ?? usualKeys;
  const block = new RegExp(`${layers}\\.\\d+\\.`);
  const parts: Record<string, number> = {};
  for (const { key, tensor } of model.parameters) {
    const part = key.replace(`${trunk}.`, '').replace(block, `${layers}.*.`).replace(/\.(weight|bias)$/, '');
    parts[part] = (parts[part] ?? 0) + sizeOf(tensor.shape);
  }
  const state = model.newState(1);
  const decoder = new Decoder(model, state);
  backend.resetStatistics();
  void decoder.step([0]).catch(() => undefined);
  const sum = (pick: 'bytesRead' | 'bytesWritten' | 'operations') => backend.launches.reduce((total, launch) => total + launch[pick], 0);
  const kernels: Record<string, number> = {};
  for (const { kernel } of backend.launches) kernels[kernel] = (kernels[kernel] ?? 0) + 1;
  const decodeStep = {
    launches: backend.launches.length,
    bytesRead: sum('bytesRead'),
    bytesWritten: sum('bytesWritten'),
    operations: sum('operations'),
    kernels,
  };
  const total = countParameters(model.parameters);
  const active = total - model.mixers.reduce((idle, { idleParameters = 0 }) => idle + idleParameters, 0);
  const pages = 2 ** 10;
  const stateBytesPerToken = (State.sizeBytes(model, 64 * pages) - State.sizeBytes(model)) / (64 * pages);
  return { family: family.name, config, dtype, parameters: { total, active, bytes: weightBytes(model), parts }, stateBytes: State.sizeBytes(model), stateBytesPerToken, decodeStep };
}

function describe({ family, config, dtype, parameters, stateBytes, stateBytesPerToken, decodeStep }: Inspection, facts: readonly Fact[]): string {
  const rows: Fact[] = [
    ['family', family],
    ...facts,
    ['vocabulary', `${grouped(config.vocabularySize)} (${config.tiedHead ? 'tied' : 'untied'} head)`],
    ['', ''],
    ['parameters', `${grouped(parameters.total)}, ${byteSize(parameters.bytes)} with weights in ${dtype}${parameters.active === parameters.total ? '' : `; ${grouped(parameters.active)} of them for a token`}`],
    ...Object.entries(parameters.parts).map(([part, count]): Fact => [
      `  ${part}`,
      `${grouped(count).padStart(13)}  ${((100 * count) / parameters.total).toFixed(1).padStart(5)} %`,
    ]),
    ['', ''],
    ['state', describeState(stateBytes, stateBytesPerToken)],
    ['', ''],
    ['a token', `${decodeStep.launches} launches, ${byteSize(decodeStep.bytesRead)} read, ${byteSize(decodeStep.bytesWritten)} written, ${compact(decodeStep.operations).replace(/[kMGT]?$/, ' $&FLOP')}`],
    ...Object.entries(decodeStep.kernels).map(([kernel, count]): Fact => [`  ${kernel}`, grouped(count).padStart(13)]),
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${`${label.padEnd(width)}  ${value}`.trimEnd()}\n`).join('');
}

/** The size of a sequence's state, in words. */
function describeState(bytes: number, perToken: number): string {
  if (perToken === 0) return `${byteSize(bytes)} a sequence, whatever its length`;
  const after = (tokens: number) => `${byteSize(bytes + tokens * perToken)} after ${compact(tokens)} tokens`;
  return `${byteSize(perToken)} more for each token: ${[1000, 128_000, 1_000_000].map(after).join(', ')}`;
}
