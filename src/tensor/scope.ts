import { ArgumentError } from '../util/errors.js';
import { isTensor, Tensor } from './tensor.js';

/**
 * Runs `body` and frees every tensor made inside it except those in what it returns (a tensor, or arrays, maps, and plain
 * objects of tensors), which then belong to the enclosing scope, or to the caller where there is none.
 *
 * @throws ArgumentError when `body` is async: tensors made after an `await` would belong to whichever scope runs then
 */
export function scope<T>(body: () => T): T {
  const parent = Tensor.currentScope;
  const own = new Set<Tensor>();
  Tensor.currentScope = own;
  let result: T;
  try {
    result = body();
    if (result instanceof Promise) {
      throw new ArgumentError({ operation: 'scope', argument: 'body', expected: 'a synchronous function', got: 'async', hint: 'await outside of the scope' });
    }
    handOver(result, own, parent);
  } finally {
    Tensor.currentScope = parent;
    for (const tensor of own) tensor.dispose();
  }
  return result;
}

/** Takes a tensor out of its scope: it lives until `dispose()`. Returns it. */
export function keep<T extends Tensor>(tensor: T): T {
  Tensor.currentScope?.delete(tensor);
  return tensor;
}

/** Runs `body` outside of all scopes: what it makes lives until `dispose()`. */
export function withoutScope<T>(body: () => T): T {
  const outer = Tensor.currentScope;
  Tensor.currentScope = null;
  try {
    return body();
  } finally {
    Tensor.currentScope = outer;
  }
}

/** Moves the tensors in `value` from one scope to another. */
function handOver(value: unknown, own: Set<Tensor>, parent: Set<Tensor> | null): void {
  if (isTensor(value)) {
    if (own.delete(value)) parent?.add(value);
  } else if (Array.isArray(value)) {
    for (const item of value) handOver(item, own, parent);
  } else if (value instanceof Map) {
    for (const item of value.values()) handOver(item, own, parent);
  } else if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) handOver(item, own, parent);
  }
}
