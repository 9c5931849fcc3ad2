import type { GpuKernel } from '../../tensor/index.js';
import { axisSums } from '../../wgsl/axis-sums.js';
import { firstLargest, orderedKey } from '../../wgsl/largest.js';
import { perElement } from '../../wgsl/per-element.js';
import { perRow } from '../../wgsl/rows.js';

type Extents = 'outer' | 'length' | 'inner';

export const reduceSumGpu: GpuKernel<'x' | 'y', Extents | 'scale'> = ({ gpu, parameters: { outer, length, inner }, dtype }) => {
  const { dispatches, partials } = axisSums({
    gpu,
    variant: 'sum',
    ...{ outer, length, inner },
    from: ['x'],
    to: ['y'],
    load: 'f32(x[p.x_at + at])',
    store: `y[p.y_at + i] = ${dtype('y') ?? 'f32'}(p.scale * sum);`,
  });
  return { dispatches, scratch: { partial: { dtype: 'f32', size: partials } } };
};

export const broadcastGpu: GpuKernel<'x' | 'y', Extents | 'scale'> = ({ parameters: { outer, length, inner }, dtype }) => ({
  dispatches: [
    perElement({
      variant: 'broadcast',
      count: outer * length * inner,
      buffers: ['x', 'y'],
      body: `
        let source = i / (p.length * p.inner) * p.inner + i % p.inner;
        y[p.y_at + i] = ${dtype('y') ?? 'f32'}(p.scale * f32(x[p.x_at + source]));`,
    }),
  ],
});

export const reduceMaxGpu: GpuKernel<'x' | 'y' | 'positions', Extents> = ({ gpu, parameters, dtype, has }) => {
  const { outer, length, inner } = parameters;
  const buffers = ['x', 'y', ...(has('positions') ? ['positions'] : [])];
  const store = (i: string, at: string) => `
    y[p.y_at + ${i}] = ${dtype('y') ?? 'f32'}(x[p.x_at + ${at}]);
    ${has('positions') ? `positions[p.positions_at + ${i}] = i32(best.y);` : ''}`;
  if (inner === 1) {
    return {
      dispatches: [
        perRow({
          variant: 'max-rows',
          gpu,
          rows: outer,
          items: length,
          buffers,
          functions: orderedKey,
          reductions: [firstLargest],
          values: {},
          body: (pass) => `
            var own = vec2<u32>(0u, 0xffffffffu);
            ${pass(`
              let key = ordered_key(f32(x[p.x_at + row * p.length + c]));
              if (key > own.x) { own = vec2<u32>(key, c); }`)}
            let best = first_largest(thread, own);
            if (live && member == 0u) { ${store('row', 'row * p.length + best.y')} }`,
        }),
      ],
    };
  }
  return {
    dispatches: [
      perElement({
        variant: 'max-columns',
        count: outer * inner,
        buffers,
        functions: orderedKey,
        body: `
          let first = i / p.inner * p.length * p.inner + i % p.inner;
          var best = vec2<u32>(0u, 0u);
          for (var l = 0u; l < p.length; l++) {
            let key = ordered_key(f32(x[p.x_at + first + l * p.inner]));
            if (key > best.x) { best = vec2<u32>(key, l); }
          }
          ${store('i', 'first + best.y * p.inner')}`,
      }),
    ],
  };
};

export const scatterToMaxGpu: GpuKernel<'dy' | 'positions' | 'dx', Extents> = ({ parameters: { outer, length, inner }, dtype }) => ({
  dispatches: [
    perElement({
      variant: 'scatter',
      count: outer * length * inner,
      buffers: ['dy', 'positions', 'dx'],
      body: `
        let source = i / (p.length * p.inner) * p.inner + i % p.inner;
        let here = u32(positions[p.positions_at + source]) == i / p.inner % p.length;
        dx[p.dx_at + i] = ${dtype('dx') ?? 'f32'}(select(0.0, f32(dy[p.dy_at + source]), here));`,
    }),
  ],
});
