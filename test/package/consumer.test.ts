import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { beforeAll, describe, expect, test } from 'vitest';
import { useFolder } from '../support/folders.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { dependencies, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
  exports: Record<string, string>;
};
const subpaths = Object.keys(exports).filter((path) => path !== './package.json');

/** A program of somebody else: every subpath, values typed by dtype, and `using` for all that has to be freed. */
const consumer = `
${subpaths.map((path, i) => `import * as part${i} from '${path.replace('.', 'elapid')}';`).join('\n')}
import { LanguageModel, mambaConfig, nn, openBackend, scope, tensor, add, linear, split, Tape, type Backend, type DType, type Program, type State, type Tensor, mambaFamily } from 'elapid';
import { splitText } from 'elapid/data';
import { Decoder } from 'elapid/generate';
import { defaultTrainingOptions, Trainer } from 'elapid/train';
declare const console: { log(...values: unknown[]): void };

export const parts = [${subpaths.map((_, i) => `part${i}`).join(', ')}];

const freed: string[] = [];
async function work(): Promise<Backend> {
  await using backend: Backend = await openBackend('reference');
  using ids = tensor(backend, [1, 2, 3], [1, 3], 'i32');
  using numbers = tensor(backend, [0.1, -2.5], [2]);
  const idValues: Int32Array = await ids.data();
  const floats: Float32Array = await numbers.data();
  const exact: Float64Array = await numbers.exactData();
  // @ts-expect-error ids are integers
  const wrong: Float32Array = await ids.data();
  using total = scope(() => {
    let sum = add(numbers, numbers);
    for (let i = 0; i < 2; i++) sum = add(sum, numbers);
    return sum;
  });
  const [left, right]: (Tensor<'i32'> | undefined)[] = split(ids, [1, 2]);
  const any: Tensor = ids;
  const dtype: DType = any.dtype;
  using model = LanguageModel.initial(mambaFamily, mambaConfig({ vocabularySize: 256, dModel: 8, layers: 1 }), backend, 1);
  using state: State = model.newState(1);
  using tape = new Tape(model.parameters.map((parameter: nn.Parameter) => parameter.tensor));
  using logits = model.forward(ids, { state });
  using loss: Tensor<'f32'> = model.loss(ids, ids);
  const logitValues: Float32Array = await logits.data();
  using decoder = new Decoder(model, state);
  const next: Float32Array = await decoder.step([7]);
  using program: Program = backend.capture(() => { add(numbers, numbers).dispose(); });
  using trainer = new Trainer(model, splitText(new Uint8Array(900)), { ...defaultTrainingOptions(1), length: 8, batchSize: 1 });
  console.log(numbers);
  console.log(String(ids));
  console.log([...idValues], [...floats], [...exact], logitValues.length, next.length, await loss.item(), dtype, program.launches, trainer.step);
  for (const one of [left, right]) one?.dispose();
  console.log(left);
  freed.push(typeof tape.dispose, typeof linear, String(wrong.length), String(total.size));
  return backend;
}
const backend = await work();
console.log('left:', backend.statistics().liveBuffers);
`;

/** The kinds of program that are compiled, each with every strict option and the declarations of libraries checked. */
const kinds = [
  { resolution: 'nodenext', lib: ['lib.es2022.d.ts'] },
  { resolution: 'nodenext', lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'] },
  { resolution: 'bundler', lib: ['lib.es2022.d.ts'] },
] as const;

function optionsOf({ resolution, lib }: (typeof kinds)[number], folder: string): ts.CompilerOptions {
  const { ModuleKind, ModuleResolutionKind } = ts;
  const [module, moduleResolution] =
    resolution === 'nodenext' ? [ModuleKind.NodeNext, ModuleResolutionKind.NodeNext] : [ModuleKind.ESNext, ModuleResolutionKind.Bundler];
  return {
    ...{ target: ts.ScriptTarget.ES2022, lib: [...lib], types: [], module, moduleResolution },
    ...{ strict: true, skipLibCheck: false, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
    outDir: join(folder, 'out'),
  };
}

describe('the package, as others get it', () => {
  const folder = useFolder();
  const file = () => folder('consumer.ts');

  beforeAll(() => {
    execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', folder()], { cwd: root, stdio: 'ignore', shell: process.platform === 'win32' });
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    execFileSync('tar', ['-xzf', `elapid-${version}.tgz`], { cwd: folder() });
    mkdirSync(folder('node_modules'));
    renameSync(folder('package'), folder('node_modules/elapid'));
    for (const name of Object.keys(dependencies)) {
      mkdirSync(dirname(folder('node_modules', name)), { recursive: true });
      symlinkSync(join(root, 'node_modules', name), folder('node_modules', name), 'junction');
    }
    writeFileSync(folder('package.json'), JSON.stringify({ type: 'module' }));
    writeFileSync(file(), consumer);
  });

  test.each(kinds)('compiles with $resolution resolution and $lib', (kind) => {
    const program = ts.createProgram([file()], optionsOf(kind, folder()));
    const problems = ts.getPreEmitDiagnostics(program);
    expect(problems.map(({ file: where, messageText }) => `${where?.fileName ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`)).toEqual([]);
    if (kind === kinds[0]) expect(program.emit().emitSkipped).toBe(false);
  });

  test('runs, and leaves nothing', () => {
    const output = execFileSync(process.execPath, [folder('out/consumer.js')], { encoding: 'utf8' });
    expect(output.trim().split('\n')).toEqual([
      'Tensor f32 [2] on reference',
      'Tensor i32 [1,3] on reference',
      expect.stringMatching(/^\[ 1, 2, 3 \] \[ 0\.1000000014\d+, -2\.5 \] \[ 0\.1, -2\.5 \] 768 256 \d\.\d+ i32 1 0$/),
      'Tensor i32 [1,1], disposed',
      'left: 0',
    ]);
  });

  test('holds what programs need, and no tests', () => {
    const names = ts.sys.readDirectory(folder('node_modules/elapid'));
    const inside = names.map((name) => name.slice(folder('node_modules/elapid').length + 1));
    for (const path of Object.values(exports)) expect(inside.concat('package.json')).toContain(path.replace('./', ''));
    expect(inside.filter((name) => /(^|\/)(test|bench|runs|build)\/|\.test\.|cases\.|\.tsbuildinfo$/.test(name))).toEqual([]);
  });
});
