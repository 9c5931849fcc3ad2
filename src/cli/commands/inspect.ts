import { platform } from '#platform';
import type { Command } from 'commander';
import { PlanBackend } from '../../backend/plan/plan-backend.js';
import { Decoder } from '../../generate/index.js';
import { openCheckpoint } from '../../io/index.js';
import { MambaLM, parseMambaConfig, State, type MambaConfig } from '../../models/index.js';
import { countParameters } from '../../nn/index.js';
import { sizeOf } from '../../tensor/index.js';
import { CheckpointError } from '../../util/errors.js';
import { byteSize, compact, grouped } from '../format.js';

/** What `inspect` finds out about a model. */
interface Inspection {
  readonly config: MambaConfig;
  readonly parameters: { readonly total: number; readonly parts: Readonly<Record<string, number>> };
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
      'Shows a model’s config, its parameters by part, the size of its state, and what a decoded token costs: kernel\n' +
        'launches, bytes moved and floating-point operations. Computes nothing and reads no weights.',
    )
    .argument('<model>', 'folder of a Mamba checkpoint or of a training run, or a config.json')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  elapid inspect runs/austen')
    .action(run);
}

async function run(model: string, options: { readonly json?: boolean }): Promise<void> {
  const inspection = inspect(await readConfig(model));
  process.stdout.write(options.json === true ? `${JSON.stringify(inspection)}\n` : describe(inspection));
}

async function readConfig(path: string): Promise<MambaConfig> {
  if (path.endsWith('.json')) {
    let json: unknown;
    try {
      json = JSON.parse(new TextDecoder().decode(await platform.readFile(path)));
    } catch (cause) {
      throw new CheckpointError(`cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { file: path }, { cause });
    }
    return parseMambaConfig(json, path);
  }
  const checkpoint = await openCheckpoint(path);
  await checkpoint.close();
  return parseMambaConfig(checkpoint.config, checkpoint.configName);
}

function inspect(config: MambaConfig): Inspection {
  const backend = new PlanBackend();
  const model = MambaLM.initial(config, backend, 0);
  const parts: Record<string, number> = {};
  for (const { key, tensor } of model.parameters) {
    const part = key.replace(/^backbone\./, '').replace(/layers\.\d+\./, 'layers.*.').replace(/\.(weight|bias)$/, '');
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
  return { config, parameters: { total: countParameters(model.parameters), parts }, stateBytes: State.sizeBytes(config), decodeStep };
}

function describe({ config, parameters, stateBytes, decodeStep }: Inspection): string {
  const rows: [string, string][] = [
    ['layers', `${String(config.layers)} Mamba blocks, ${config.norm === 'rms' ? 'RMS' : 'layer'} norm`],
    ['sizes', `d_model ${String(config.dModel)}, d_inner ${String(config.dInner)}, d_state ${String(config.dState)}, d_conv ${String(config.dConv)}, dt_rank ${String(config.dtRank)}`],
    ['vocabulary', `${grouped(config.vocabularySize)} (${config.tiedHead ? 'tied' : 'untied'} head)`],
    ['', ''],
    ['parameters', grouped(parameters.total)],
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
