import { fold, type GpuKernel } from '../../tensor/index.js';

const threads = 64;

/** A workgroup eliminates a system in a copy of its matrix, and its right sides in y. */
export const solveGpu: GpuKernel<'matrix' | 'right' | 'y', 'count' | 'size' | 'columns' | 'transposed'> = ({ parameters: { count, size, transposed } }) => ({
  scratch: { rows: { dtype: 'f32', size: Math.max(1, count * size * size) } },
  dispatches: [
    {
      variant: `solve ${transposed}`,
      buffers: ['matrix', 'right', 'y', 'rows'],
      workgroups: count === 0 ? [0] : fold(count),
      code: () => `
        var<workgroup> sizes: array<f32, ${threads}>;
        var<workgroup> places: array<u32, ${threads}>;
        @compute @workgroup_size(${threads})
        fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                @builtin(local_invocation_index) thread: u32) {
          let system = flat_workgroup(id, count);
          if (system >= p.count) { return; }
          let n = p.size;
          let m = p.columns;
          let start = p.matrix_at + system * n * n;
          let own = p.rows_at + system * n * n;
          let to = p.y_at + system * n * m;
          for (var i = thread; i < n * n; i += ${threads}u) {
            rows[own + i] = matrix[start + ${transposed === 1 ? '(i % n) * n + i / n' : 'i'}];
          }
          for (var i = thread; i < n * m; i += ${threads}u) { y[to + i] = right[p.right_at + system * n * m + i]; }
          storageBarrier();
          for (var k = 0u; k < n; k++) {
            // The largest element of the column from the diagonal on.
            var largest = -1.0;
            var place = k;
            for (var i = k + thread; i < n; i += ${threads}u) {
              let value = abs(rows[own + i * n + k]);
              if (value > largest) { largest = value; place = i; }
            }
            sizes[thread] = largest;
            places[thread] = place;
            workgroupBarrier();
            largest = sizes[0];
            place = places[0];
            for (var i = 1u; i < ${threads}u; i++) {
              if (sizes[i] > largest || (sizes[i] == largest && places[i] < place)) { largest = sizes[i]; place = places[i]; }
            }
            for (var j = thread; j < n + m; j += ${threads}u) {
              if (j < n) {
                let kept = rows[own + k * n + j];
                rows[own + k * n + j] = rows[own + place * n + j];
                rows[own + place * n + j] = kept;
              } else {
                let c = j - n;
                let kept = y[to + k * m + c];
                y[to + k * m + c] = y[to + place * m + c];
                y[to + place * m + c] = kept;
              }
            }
            workgroupBarrier();
            storageBarrier();
            // Below the diagonal; what is left in column k is read no more.
            let inverse = 1.0 / rows[own + k * n + k];
            let width = n - k - 1u + m;
            for (var i = thread; i < (n - k - 1u) * width; i += ${threads}u) {
              let row = k + 1u + i / width;
              let j = i % width;
              let factor = rows[own + row * n + k] * inverse;
              if (j < n - k - 1u) {
                rows[own + row * n + k + 1u + j] -= factor * rows[own + k * n + k + 1u + j];
              } else {
                let c = j - (n - k - 1u);
                y[to + row * m + c] -= factor * y[to + k * m + c];
              }
            }
            storageBarrier();
          }
          // An invocation has its own right sides.
          for (var c = thread; c < m; c += ${threads}u) {
            for (var back = 0u; back < n; back++) {
              let i = n - 1u - back;
              var value = y[to + i * m + c];
              for (var k = i + 1u; k < n; k++) { value -= rows[own + i * n + k] * y[to + k * m + c]; }
              y[to + i * m + c] = value / rows[own + i * n + i];
            }
          }
        }`,
    },
  ],
});
