/** The product of normed rows and a weight in f16, 16 rows at a time on matrix units. */
import { subgroupSize, type GpuFeatures } from '../tensor/index.js';
import { teamSum } from './rows.js';
import { repeat } from './vectors.js';

/** Rows, columns and depth of a matrix; rows of a workgroup. */
export const matrixSide = 16;
const threads = 256;
const subgroups = 8;
/** Threads that share a row of the norm. */
const team = threads / matrixSide;
/** Vectors of four sums of a matrix. */
const matrixVectors = matrixSide ** 2 / 4;
/** Vectors of eight numbers that a thread keeps from the norm to the product: of longer rows it reads them again. */
const mostHeld = 8;
/** Workgroups that fill a GPU. */
const enough = 96;

interface Extents {
  /** Of a row: the product's depth. */
  readonly columns: number;
  /** Rows of the weight. */
  readonly outputs: number;
}

/** Columns that may be in workgroup memory at a time, and how many are; 0: they are no whole number of matrices for each subgroup. */
const mostChunk = 8 * subgroups * matrixSide;
const chunkOf = (columns: number): number =>
  [8, 7, 6, 5, 4, 3, 2, 1].map((steps) => steps * subgroups * matrixSide).find((chunk) => columns > 0 && columns % chunk === 0) ?? 0;

/** Matrices side by side that a workgroup makes. */
const tilesOf = (outputs: number): number => (outputs >= 2 * matrixSide * enough ? 2 : 1);

/** Vectors of eight halves from one row to the next: one more than a chunk has keeps banks apart. */
const pitchOf = (chunk: number): number => chunk / 8 + 1;

const memoryOf = ({ columns, outputs }: Extents): number =>
  Math.max(matrixSide * pitchOf(chunkOf(columns)), subgroups * tilesOf(outputs) * matrixVectors);

/** Bytes of workgroup memory, with two matrices side by side. */
const mostBytes = 16 * (Math.max(matrixSide * pitchOf(mostChunk), subgroups * 2 * matrixVectors) + 2 * matrixVectors);

/** Whether the GPU has what the code needs. */
export const hasNormMatrices = (gpu: GpuFeatures): boolean =>
  gpu.matrices && subgroupSize(gpu) === threads / subgroups && mostBytes <= gpu.workgroupBytes;

/** Whether there is code for a dense weight [outputs, columns] in f16: rows are whole matrices for each subgroup. */
export const fitNormMatrices = ({ columns, outputs }: Extents): boolean => chunkOf(columns) > 0 && outputs >= matrixSide;

/** x and y of the workgroups. */
export const normMatrixGroups = (rows: number, { outputs }: Extents): [x: number, y: number] => [
  Math.ceil(outputs / matrixSide / tilesOf(outputs)),
  Math.ceil(rows / matrixSide),
];

/**
 * The code. p.epsilon is the norm's, normWeight [columns] is bound as vec4<f32>.
 * @param options.weight the name of the weight, bound as vec4<u32>
 * @param options.rows WGSL of the number of rows
 * @param options.ahead WGSL that asks for what `store` needs, of row `b`; names that it declares end in `suffix`
 * @param options.load WGSL that adds to `low` and `high`, which are zero, the numbers 8·octet to 8·octet + 7 of row `b`
 * @param options.sum WGSL that stores them, called once for each; none where nobody wants them
 * @param options.store WGSL for each result `value`, of row `b` and column `output`
 */
export function normMatrices(
  gpu: GpuFeatures,
  extents: Extents,
  options: { weight: string; rows: string; functions: string; ahead?: (suffix: string, output: string) => string; load: string; sum: string; store: (suffix: string) => string },
): string {
  const { columns, outputs } = extents;
  const { weight, rows, functions, ahead = () => '', load, sum, store } = options;
  const [chunk, tiles] = [chunkOf(columns), tilesOf(outputs)];
  const chunks = columns / chunk;
  const steps = chunk / subgroups / matrixSide;
  const turns = columns / 8 / team;
  const turnsOfChunk = chunk / 8 / team;
  const held = turns <= mostHeld;
  const size = threads / subgroups;
  const depth = (c: number, s: number) => `${c * chunk + s * matrixSide}u + subgroup * ${steps * matrixSide}u`;
  const names = Array.from({ length: tiles * steps }, (_, i) => ({ tile: Math.floor(i / steps), step: i % steps }));
  const loads = (c: number) =>
    names
      .map(
        ({ tile, step }) =>
          `let weight${c}_${tile}_${step} = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&${weight}, p.${weight}_at + (row${tile} * ${columns}u + ${depth(c, step)}) / 8u, ${columns / 8}u);`,
      )
      .join('\n');
  const read = (t: number) => `let octet = member + ${t * team}u; var low = vec4<f32>(); var high = vec4<f32>(); ${load}`;
  return `
      ${functions}
      ${teamSum(gpu, 'total', team, threads)}
      // A chunk of the normed rows in halves; then the sums of all subgroups.
      var<workgroup> memory: array<vec4<u32>, ${memoryOf(extents)}>;
      // The product, a matrix after another.
      var<workgroup> product: array<vec4<f32>, ${tiles * matrixVectors}>;
      @compute @workgroup_size(${threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
        let subgroup = thread / ${size}u;
        let sequence = thread / ${team}u;
        let member = thread % ${team}u;
        // Threads beyond the last row norm that one again.
        let live = id.y * ${matrixSide}u + sequence < ${rows};
        let b = min(id.y * ${matrixSide}u + sequence, ${rows} - 1u);
        // The last matrix may begin before its turn, so that it ends with the weight.
        ${repeat(tiles, (tile) => `let row${tile} = min((id.x * ${tiles}u + ${tile}u) * ${matrixSide}u, ${outputs - matrixSide}u);`)}
        ${loads(0)}
        ${repeat(tiles, (tile) => ahead(String(tile), `(row${tile} + member)`))}
        var squares = 0.0;
        ${repeat(
          turns,
          (t) => `${held ? `var low${t}: vec4<f32>; var high${t}: vec4<f32>;` : ''}
        {
          ${read(t)}
          ${sum === '' ? '' : `if (id.x == 0u && live) { ${sum} }`}
          squares += dot(low, low) + dot(high, high);
          ${held ? `low${t} = low; high${t} = high;` : ''}
        }`,
        )}
        let scale = inverseSqrt(total(thread, squares) / ${columns}.0 + p.epsilon);
        ${repeat(tiles, (tile) => `var sum${tile} = subgroup_matrix_result<f32, 16, 16>();`)}
        ${repeat(
          chunks,
          (c) => `
        ${c === 0 ? '' : `workgroupBarrier();\n${loads(c)}`}
        ${repeat(turnsOfChunk, (i) => {
          const t = c * turnsOfChunk + i;
          return `{
          ${held ? `let octet = member + ${t * team}u; var low = low${t}; var high = high${t};` : read(t)}
          low *= scale * normWeight[p.normWeight_at + 2u * octet];
          high *= scale * normWeight[p.normWeight_at + 2u * octet + 1u];
          memory[sequence * ${pitchOf(chunk)}u + member + ${i * team}u] =
            vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
        }`;
        })}
        workgroupBarrier();
        ${repeat(
          steps,
          (s) => `{
          let left = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&memory, (subgroup * ${steps * matrixSide}u + ${s * matrixSide}u) / 8u, ${pitchOf(chunk)}u);
          ${repeat(tiles, (tile) => `sum${tile} = subgroupMatrixMultiplyAccumulate(left, weight${c}_${tile}_${s}, sum${tile});`)}
        }`,
        )}`,
        )}
        workgroupBarrier();
        ${repeat(
          tiles,
          (tile) =>
            `subgroupMatrixStore<row_major>(&memory, (subgroup * ${tiles}u + ${tile}u) * ${matrixVectors}u, sum${tile}, ${matrixSide / 4}u);`,
        )}
        workgroupBarrier();
        if (thread < ${tiles * matrixVectors}u) {
          var all = bitcast<vec4<f32>>(memory[thread]);
          ${repeat(subgroups - 1, (s) => `all += bitcast<vec4<f32>>(memory[thread + ${(s + 1) * tiles * matrixVectors}u]);`)}
          product[thread] = all;
        }
        workgroupBarrier();
        ${repeat(
          tiles,
          (tile) => `
        if (live && row${tile} + member >= (id.x * ${tiles}u + ${tile}u) * ${matrixSide}u) {
          let output = row${tile} + member;
          let value = product[${tile * matrixVectors}u + thread / 4u][thread % 4u];
          ${store(String(tile))}
        }`,
        )}
      }`;
}
