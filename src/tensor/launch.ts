import type { Backend, BufferView } from './backend.js';
import type { BufferSpecs, Kernel, ParameterSpecs, ParameterValues } from './kernel.js';
import type { Tensor } from './tensor.js';
import { noteKernelWrite } from './known-range.js';
import { ArgumentError, DTypeError } from '../util/errors.js';

/** The tensors of a launch by buffer name; optional ones may be null or left out. */
export type LaunchTensors<B extends BufferSpecs> = {
  readonly [K in keyof B as B[K]['optional'] extends true ? never : K]: Tensor;
} & { readonly [K in keyof B as B[K]['optional'] extends true ? K : never]?: Tensor | null | undefined };

/**
 * Launches a kernel on the backend of its tensors.
 * @throws DTypeError when a tensor is of another dtype than the kernel declares
 * @throws ArgumentError when the tensors belong to different backends
 */
export function launch<B extends BufferSpecs, P extends ParameterSpecs>(
  kernel: Kernel<B, P>,
  tensors: LaunchTensors<B>,
  parameters: ParameterValues<P>,
): void {
  let backend: Backend | undefined;
  const views: (BufferView | null)[] = [];
  for (const name in kernel.buffers) {
    const tensor = (tensors as Record<string, Tensor | null | undefined>)[name];
    if (tensor === null || tensor === undefined) {
      views.push(null);
      continue;
    }
    const { access, dtype, half, stored } = kernel.buffers[name] as BufferSpecs[string];
    if (tensor.dtype !== dtype) {
      const mayBeHalf = half && (stored || tensor.backend.kind !== 'cpu');
      const expected = mayBeHalf ? `${dtype} or f16` : dtype;
      if (!(mayBeHalf && tensor.dtype === 'f16')) throw new DTypeError({ operation: kernel.name, argument: name, expected, got: tensor.dtype });
    }
    backend ??= tensor.backend;
    if (tensor.backend !== backend) {
      throw new ArgumentError({
        operation: kernel.name,
        argument: name,
        expected: `on ${backend.description}`,
        got: `on ${tensor.backend.description}`,
      });
    }
    const { view } = tensor;
    if (access !== 'in' && dtype === 'i32') noteKernelWrite(view.buffer);
    views.push(view);
    if (access !== 'in') tensor.written();
  }
  const numbers: number[] = [];
  for (const name in kernel.parameters) numbers.push(Number(parameters[name]));
  backend?.launch(kernel as unknown as Kernel, views, numbers);
}
