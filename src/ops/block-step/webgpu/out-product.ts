import { gather, repeat } from '../../../wgsl/vectors.js';
import { channelsOut, threads } from './extents.js';
import { wide, wideDot } from './wide.js';

/** Turns of out_proj whose sums are in workgroup memory at a time, and how many of those are asked for at the very start. */
const turnsOfChunk = 12;
const chunksAhead = 2;

/**
 * The product of a workgroup's channels of out_proj and what they give, which the caller puts into `gates`; `ahead` asks for the weights.
 * @param yPitch numbers from one row of a part of y to the next
 */
export function outProduct(width: number, dtype: string | undefined, yPitch = width): { declarations: string; ahead: string; body: string } {
  const { lanes } = wide(dtype);
  const rowLanes = channelsOut / lanes;
  const rowsOfTurn = threads / rowLanes;
  const turns = Math.ceil(width / rowsOfTurn);
  const chunks = Math.ceil(turns / turnsOfChunk);
  const rowsOfChunk = Math.min(turns, turnsOfChunk) * rowsOfTurn;
  // The threads of 32 write to as many banks.
  const pitch = rowsOfChunk + 32 / rowLanes;
  const turnsOf = (chunk: number) =>
    Array.from({ length: Math.min(turnsOfChunk, turns - chunk * turnsOfChunk) }, (_, i) => chunk * turnsOfChunk + i);
  const load = (chunk: number) =>
    turnsOf(chunk).map((turn) => {
      const row = `out_row + ${turn * rowsOfTurn}u`;
      const clamped = (turn + 1) * rowsOfTurn <= width ? `(${row})` : `min(${row}, ${width - 1}u)`;
      return `let o${turn} = outProj[out_at + ${clamped} * (p.channels / ${lanes}u)];`;
    }).join('\n');
  const multiply = (chunk: number) => `
        ${chunk < chunksAhead ? '' : load(chunk)}
        ${chunk === 0 ? '' : 'workgroupBarrier();'}
        ${turnsOf(chunk)
          .map((turn, i) => {
            const values = (j: number) => `own${j}`;
            return `products[out_lane * ${pitch}u + ${i * rowsOfTurn}u + out_row] = ${wideDot(dtype, `o${turn}`, values)};`;
          })
          .join('\n')}
        workgroupBarrier();
        for (var row = thread; row < ${Math.min(rowsOfChunk, width - chunk * rowsOfChunk)}u; row += ${threads}u) {
          var sum = products[row];
          ${repeat(rowLanes - 1, (lane) => `sum += products[${(lane + 1) * pitch}u + row];`)}
          y[p.y_at + (id.x * p.batch + b) * ${yPitch}u + ${chunk * rowsOfChunk}u + row] = sum;
        }`;
  return {
    declarations: `
      var<workgroup> gates: array<f32, ${channelsOut}>;
      var<workgroup> products: array<f32, ${rowLanes * pitch}>;`,
    ahead: `
        let out_lane = thread % ${rowLanes}u;
        let out_row = thread / ${rowLanes}u;
        let out_at = p.outProj_at + id.x * ${rowLanes}u + out_lane;
        ${Array.from({ length: Math.min(chunks, chunksAhead) }, (_, chunk) => load(chunk)).join('\n')}`,
    body: `
        ${repeat(lanes / 4, (j) => {
          const values = gather(4, (lane) => `gates[out_lane * ${lanes}u + ${4 * j + lane}u]`);
          return `let own${j} = ${values};`;
        })}
        ${Array.from({ length: chunks }, (_, chunk) => multiply(chunk)).join('\n')}`,
  };
}
