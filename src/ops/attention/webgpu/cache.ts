/** What goes with attention: keys and values into pages, where documents begin, positions that move on. */
import type { GpuKernel } from '../../../tensor/index.js';
import { perElement } from '../../../wgsl/per-element.js';
import { saturated, vectorOf } from '../../../wgsl/vectors.js';
import { pageLength } from '../reference.js';

type AppendBuffers = 'keys' | 'values' | 'positions' | 'pages' | 'keyPool' | 'valuePool';
type AppendParameters = 'batch' | 'length' | 'heads' | 'size' | 'pagesPerRow' | 'keyPitch' | 'valuePitch';

export const appendPositionsGpu: GpuKernel<AppendBuffers, AppendParameters> = ({ parameters, dtype, aligned }) => {
  const { batch, length, heads, size, keyPitch, valuePitch } = parameters;
  const lanes = [size, keyPitch, valuePitch].every((extent) => extent % 4 === 0) && aligned(4, 'keys', 'values', 'keyPool', 'valuePool') ? 4 : 1;
  const vectors = `(p.size / ${lanes}u)`;
  const type = dtype('keyPool') ?? 'f32';
  const v = vectorOf(lanes, type);
  const put = (from: 'keys' | 'values', to: string) => {
    const element = `${from}[p.${from}_at + from_row * (p.${from === 'keys' ? 'keyPitch' : 'valuePitch'} / ${lanes}u) + c]`;
    // Halves go as they are, NaN too; float32 is rounded.
    const kept = dtype(from) === type ? element : saturated(lanes, type, `${vectorOf(lanes)}(${element})`);
    return `${to}[p.${to}_at + (row * p.heads + head) * ${vectors} + c] = ${kept};`;
  };
  return {
    dispatches: [
      perElement({
        variant: `append${lanes}`,
        count: (batch * length * heads * size) / lanes,
        buffers: [
          { name: 'keys', as: vectorOf(lanes, dtype('keys')) },
          { name: 'values', as: vectorOf(lanes, dtype('values')) },
          ...['positions', 'pages'],
          { name: 'keyPool', as: v },
          { name: 'valuePool', as: v },
        ],
        body: `
        let c = i % ${vectors};
        let from_row = i / ${vectors};
        let head = from_row % p.heads;
        let b = from_row / p.heads / p.length;
        let position = u32(positions[p.positions_at + b]) + from_row / p.heads % p.length;
        let row = u32(pages[p.pages_at + b * p.pagesPerRow + position / ${pageLength}u]) * ${pageLength}u + position % ${pageLength}u;
        ${put('keys', 'keyPool')}
        ${put('values', 'valuePool')}`,
      }),
    ],
  };
};

export const advanceGpu: GpuKernel<'positions', 'count' | 'by'> = ({ parameters: { count } }) => ({
  dispatches: [perElement({ variant: 'advance', count, buffers: ['positions'], body: 'positions[p.positions_at + i] += i32(p.by);' })],
});

const threads = 256;
/** Neighbouring positions of an invocation. */
const together = 8;

/** A workgroup goes along a row: the last start so far is the largest position of one, which is found by doubling distances. */
export const documentBeginsGpu: GpuKernel<'starts' | 'positions' | 'before' | 'begins' | 'after', 'batch' | 'length' | 'startsPitch'> = ({
  parameters: { batch },
  has,
}) => ({
  dispatches: [
    {
      variant: 'begins',
      buffers: (['starts', 'positions', 'before', 'begins', 'after'] as const).filter((name) => has(name)),
      workgroups: batch === 0 ? [0] : [Math.min(batch, 65535), Math.ceil(batch / 65535)],
      numbers: { rows: batch },
      code: () => `
        var<workgroup> largest: array<i32, ${threads}>;
        @compute @workgroup_size(${threads})
        fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
          let b = flat_workgroup(id, count);
          if (b >= p.rows) { return; }
          let first_position = ${has('positions') ? 'positions[p.positions_at + b]' : '0'};
          let carried = ${has('before') ? 'before[p.before_at + b]' : '0'};
          // The last start before a tile; −1 where there was none.
          var last = -1;
          for (var tile = 0u; tile < p.length; tile += ${threads * together}u) {
            let first = tile + thread * ${together}u;
            var own = -1;
            ${has('starts') ? `for (var t = first; t < min(first + ${together}u, p.length); t++) {
              if (starts[p.starts_at + b * p.startsPitch + t] != 0) { own = i32(t); }
            }` : ''}
            largest[thread] = own;
            workgroupBarrier();
            for (var distance = 1u; distance < ${threads}u; distance *= 2u) {
              let other = select(-1, largest[max(thread, distance) - distance], thread >= distance);
              workgroupBarrier();
              largest[thread] = max(largest[thread], other);
              workgroupBarrier();
            }
            var at = max(last, select(-1, largest[max(thread, 1u) - 1u], thread > 0u));
            for (var t = first; t < min(first + ${together}u, p.length); t++) {
              ${has('starts') ? 'if (starts[p.starts_at + b * p.startsPitch + t] != 0) { at = i32(t); }' : ''}
              begins[p.begins_at + b * p.length + t] = select(first_position + at, carried, at < 0);
            }
            last = max(last, largest[${threads - 1}]);
            workgroupBarrier();
          }
          ${has('after') ? 'if (thread == 0u) { after[p.after_at + b] = select(first_position + last, carried, last < 0); }' : ''}
        }`,
    },
  ],
});
