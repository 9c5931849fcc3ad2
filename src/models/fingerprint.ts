/**
 * Fingerprints of weights: one for the names, formats, shapes and values of a model's parameters, as they are in memory. Float
 * weights count as float32, whatever they were stored in; packed ones as their bytes.
 */
import { platform } from '#platform';
import * as v from 'valibot';
import { readJsonFile } from '../io/json-file.js';
import type { Parameter } from '../nn/index.js';
import { formatShape, isPacked, type Tensor } from '../tensor/index.js';
import { checksumOf } from '../util/checksum.js';
import { ArgumentError } from '../util/errors.js';

const algorithm = 'xxh128';

interface Remembered {
  readonly tensor: Tensor;
  readonly version: number;
  readonly checksum: string;
}

/** Of parameters whose checksum is known: of which values it is. */
const checksums = new WeakMap<Parameter, Remembered>();

/**
 * Tells the checksum of a parameter's values as they are now, from a file that has it, so that it need not be worked out.
 * @param checksum XXH128 of the values in float32, or of a packed weight's bytes
 */
export function rememberChecksum(parameter: Parameter, checksum: string): void {
  const { tensor } = parameter;
  checksums.set(parameter, { tensor, version: tensor.version, checksum });
}

/** Of the parameters of models that were loaded from files: the files' version, and the parameters as they were then. */
const origins = new WeakMap<readonly Parameter[], { readonly stamp: string; readonly loaded: ReadonlyMap<Parameter, { readonly tensor: Tensor; readonly version: number }> }>();

/** Tells which files have exactly these values, so that their fingerprint is worked out once for as long as the files stay. */
export function rememberOrigin(parameters: readonly Parameter[], stamp: string): void {
  origins.set(parameters, { stamp, loaded: new Map(parameters.map((parameter) => [parameter, { tensor: parameter.tensor, version: parameter.tensor.version }])) });
}

/**
 * The fingerprint of parameters: 32 hexadecimal digits. Worked out from their values where no file tells, which reads each once;
 * then remembered until one is written to.
 * @throws ArgumentError when a parameter is written to meanwhile
 */
export async function fingerprintOf(parameters: readonly Parameter[]): Promise<string> {
  const known = parameters.every((parameter) => current(parameter, checksums.get(parameter)));
  const origin = origins.get(parameters);
  if (known || origin === undefined || !parameters.every((parameter) => current(parameter, origin.loaded.get(parameter)))) return workOut(parameters);
  const identity = [origin.stamp, ...parameters.map(describe)].join('\n');
  return cached(identity, () => workOut(parameters));
}

const current = ({ tensor }: Parameter, of: Pick<Remembered, 'tensor' | 'version'> | undefined): boolean =>
  of?.tensor === tensor && of.version === tensor.version;

const describe = ({ key, tensor: { dtype, shape } }: Parameter): string => `${key} ${isPacked(dtype) ? dtype : 'f32'} ${formatShape(shape)}`;

async function workOut(parameters: readonly Parameter[]): Promise<string> {
  const lines: string[] = [];
  for (const parameter of parameters) lines.push(`${describe(parameter)} ${await checksumOfValues(parameter)}`);
  const changed = parameters.find((parameter) => !current(parameter, checksums.get(parameter)));
  if (changed !== undefined) {
    throw new ArgumentError({
      operation: 'fingerprint',
      argument: `'${changed.key}'`,
      expected: 'weights that stay as they are meanwhile',
      got: 'changed by a training step, or a write',
    });
  }
  return checksumOf(algorithm, new TextEncoder().encode(lines.sort().join('\n')));
}

async function checksumOfValues(parameter: Parameter): Promise<string> {
  const remembered = checksums.get(parameter);
  if (remembered !== undefined && current(parameter, remembered)) return remembered.checksum;
  const { tensor } = parameter;
  const { version } = tensor;
  const values = await tensor.data();
  const exact = values instanceof Float32Array || values instanceof Uint8Array ? values : Float32Array.from(values);
  const checksum = await checksumOf(algorithm, new Uint8Array(exact.buffer, exact.byteOffset, exact.byteLength));
  checksums.set(parameter, { tensor, version, checksum });
  return checksum;
}

const inMemory = new Map<string, string>();
const entrySchema = v.object({ identity: v.string(), fingerprint: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)) });

/** What was found out for `identity` before, in this process or another; else what `find` finds. A cache that fails is as none. */
async function cached(identity: string, find: () => Promise<string>): Promise<string> {
  const before = inMemory.get(identity);
  if (before !== undefined) return before;
  const cache = platform.cacheFolder();
  const folder = cache === undefined ? undefined : platform.joinPath(cache, 'fingerprints');
  const file = folder === undefined ? undefined : platform.joinPath(folder, `${await checksumOf(algorithm, new TextEncoder().encode(identity))}.json`);
  const fingerprint = (await readEntry(identity, file)) ?? (await find());
  if (folder !== undefined && file !== undefined) await writeEntry({ identity, fingerprint }, folder, file);
  inMemory.set(identity, fingerprint);
  return fingerprint;
}

async function readEntry(identity: string, file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    const entry = v.parse(entrySchema, (await readJsonFile(file)).value);
    return entry.identity === identity ? entry.fingerprint : undefined;
  } catch {
    return undefined;
  }
}

async function writeEntry(entry: v.InferOutput<typeof entrySchema>, folder: string, file: string): Promise<void> {
  try {
    if ((await platform.pathKind(file)) !== undefined) return;
    await platform.makeFolder(folder);
    await platform.writeFileAtomically(file, [new TextEncoder().encode(JSON.stringify(entry))]);
  } catch {
    // A full or read-only disk: it is worked out again the next time.
  }
}
