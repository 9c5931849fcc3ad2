import type { Command } from 'commander';
import { PlanBackend } from '../../backend/plan/plan-backend.js';
import { Decoder } from '../../generate/index.js';
import { openCheckpoint } from '../../io/index.js';
import { MambaLM, packedParameters, readMambaCheckpoint, readMambaConfig, State, type MambaConfig, type WeightDType } from '../../models/index.js';
import { countParameters, initialParameters } from '../../nn/index.js';
import { bufferSize, itemSize, sizeOf } from '../../tensor/index.js';
import { ArgumentError, describeProblem } from '../../util/errors.js';
import { byteSize, compact, grouped } from '../format.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { dtypeOption, printWarning, verifyOption } from '../options.js';

/** What `inspect` finds out about a model. */
interface Inspection {
  readonly config: MambaConfig;
  /** Format of the large matrices. */
  readonly dtype: WeightDType;
  readonly parameters: { readonly total: number; readonly bytes: number; readonly parts: Readonly<Record<string, number>> };
  /** Of one sequence, in float32. */
  readonly stateBytes: number;
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
        'launches, bytes moved and floating-point operations. Computes nothing and reads no weights, but for --verify.',
    )
    .argument('<model>', `${modelArgument}; or a config.json`)
    .addOption(dtypeOption())
    .addOption(verifyOption())
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExamples:\n  elapid inspect stories\n  elapid inspect runs/austen')
    .action(run);
}

async function run(model: string, options: { readonly dtype?: WeightDType; readonly verify?: true; readonly json?: boolean }): Promise<void> {
  const { config, dtype } = await readConfig(await modelFolder(model), options.verify === true);
  const inspection = inspect(config, options.dtype ?? dtype);
  process.stdout.write(options.json === true ? `${JSON.stringify(inspection)}\n` : describe(inspection));
}

async function readConfig(path: string, verify: boolean): Promise<{ config: MambaConfig; dtype: WeightDType }> {
  if (path.endsWith('.json')) {
    if (verify) throw new ArgumentError(describeProblem({ operation: 'inspect', argument: '--verify', expected: 'a model with weights', got: `given with ${path}` }));
    return { config: await readMambaConfig(path, printWarning), dtype: 'f32' };
  }
  const checkpoint = await openCheckpoint(path);
  try {
    if (verify) await checkpoint.verify();
    return await readMambaCheckpoint(checkpoint, printWarning);
  } finally {
    await checkpoint.close();
  }
}

function inspect(config: MambaConfig, dtype: WeightDType): Inspection {
  const backend = new PlanBackend();
  const model = new MambaLM(config, backend, packedParameters(initialParameters(backend, 0), dtype));
  const parts: Record<string, number> = {};
  let bytes = 0;
  for (const { key, tensor } of model.parameters) {
    const part = key.replace(/^backbone\./, '').replace(/layers\.\d+\./, 'layers.*.').replace(/\.(weight|bias)$/, '');
    parts[part] = (parts[part] ?? 0) + sizeOf(tensor.shape);
    bytes += bufferSize(tensor.dtype, tensor.shape) * itemSize[tensor.dtype];
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
  return { config, dtype, parameters: { total: countParameters(model.parameters), bytes, parts }, stateBytes: State.sizeBytes(config), decodeStep };
}

function describe({ config, dtype, parameters, stateBytes, decodeStep }: Inspection): string {
  const rows: [string, string][] = [
    ['layers', `${String(config.layers)} Mamba blocks, ${config.norm === 'rms' ? 'RMS' : 'layer'} norm`],
    ['sizes', `d_model ${String(config.dModel)}, d_inner ${String(config.dInner)}, d_state ${String(config.dState)}, d_conv ${String(config.dConv)}, dt_rank ${String(config.dtRank)}`],
    ['vocabulary', `${grouped(config.vocabularySize)} (${config.tiedHead ? 'tied' : 'untied'} head)`],
    ['', ''],
    ['parameters', `${grouped(parameters.total)}, ${byteSize(parameters.bytes)} with weights in ${dtype}`],
    ...Object.entries(parameters.parts).map(([part, count]): [string, string] => [
      `  ${part}`,
      `${grouped(count).padStart(13)}  ${((100 * count) / parameters.total).toFixed(1).padStart(5)} %`,
    ]),
    ['', ''],
    ['state', `${byteSize(stateBytes)} a sequence, whatever its length`],
    ['', ''],
    ['a token', `${String(decodeStep.launches)} launches, ${byteSize(decodeStep.bytesRead)} read, ${byteSize(decodeStep.bytesWritten)} written, ${compact(decodeStep.operations)}FLOP`],
    ...Object.entries(decodeStep.kernels).map(([kernel, count]): [string, string] => [`  ${kernel}`, grouped(count).padStart(13)]),
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${`${label.padEnd(width)}  ${value}`.trimEnd()}\n`).join('');
}
