import { expect, test } from 'vitest';
import { openBackend } from '../../src/backend/open.js';
import { Sampler } from '../../src/generate/index.js';
import { toFloat32 } from '../../src/io/index.js';
import { Mamba } from '../../src/mixers/index.js';
import { mambaConfig } from '../../src/models/index.js';
import * as ops from '../../src/ops/index.js';
import { scope, tensor, type Tensor } from '../../src/tensor/index.js';
import { ArgumentError, BackendError, CheckpointError, DisposedError, DTypeError, ElapidError, ShapeError, type Problem } from '../../src/util/errors.js';
import { useBackend } from '../support/backends.js';

const backend = useBackend('reference');
const of = (...shape: number[]): Tensor => tensor(backend(), new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);

/** What a caller catches. */
async function caught(body: () => unknown): Promise<unknown> {
  try {
    let given: unknown;
    scope(() => {
      given = body();
    });
    await given;
  } catch (error) {
    return error;
  }
  return undefined;
}

const freed = () => {
  const t = of(2);
  t.dispose();
  return t;
};

test.each<[body: () => unknown, type: unknown, problem: Problem]>([
  [() => ops.matmul(of(2, 4), of(3, 2)), ShapeError, { operation: 'matmul', argument: 'b', expected: '[K,N] = [4,N] for a = [2,4]', got: '[3,2]' }],
  [() => ops.reshape(of(2, 3), [4]), ShapeError, { operation: 'reshape', argument: 'shape', expected: '6 elements, as in [2,3]', got: '[4]' }],
  [() => ops.sum(of(2), 3), ArgumentError, { operation: 'sum', argument: 'axis', expected: 'an axis of [2]', got: '3' }],
  [() => ops.cast(of(2), 'f64' as 'f32'), DTypeError, { operation: 'cast', argument: 'dtype', expected: "'f32' or 'f16'", got: "'f64'" }],
  [() => ops.exp(freed()), DisposedError, { operation: 'exp', argument: 'x', expected: 'a tensor that lives', got: 'a tensor [2] that was freed', hint: 'return it from its scope(), or keep() it' }],
  [() => toFloat32(new Uint8Array(4), 'I32'), DTypeError, { operation: 'toFloat32', argument: 'dtype', expected: 'F64, F32, F16 or BF16', got: 'I32', hint: 'toInt32 converts stored integers.' }],
  [() => new Sampler({ topP: 2 }), ArgumentError, { operation: 'Sampler', argument: 'topP', expected: 'a number in (0, 1]', got: '2' }],
  [() => mambaConfig('3b' as '2.8b'), ArgumentError, { operation: 'mambaConfig', argument: 'the size', expected: 'one of 130m, 370m, 790m, 1.4b, 2.8b, mambabyte-353m, mambabyte-972m, mambabyte-1.6b', got: "'3b'" }],
  [() => mambaConfig({ vocabularySize: 8, dModel: 8, layers: 0 }), ArgumentError, { operation: 'mambaConfig', argument: 'layers', expected: 'an integer from 1 to 4096', got: '0' }],
  [() => mambaConfig({ vocabularySize: 8, dModel: 8, layers: 1, endOfText: [8] }), ArgumentError, { operation: 'mambaConfig', argument: 'endOfText[0]', expected: 'an id in [0, V) = [0, 8)', got: '8' }],
  [() => new Mamba({ dModel: 1.5 }, backend()), ArgumentError, { operation: 'Mamba', argument: 'dModel', expected: 'an integer from 1 to 16777216', got: '1.5' }],
  [() => openBackend('gpu' as 'cpu'), ArgumentError, { operation: 'openBackend', argument: 'kind', expected: "'cpu', 'webgpu', 'reference' or 'plan'", got: 'gpu' }],
])('an error keeps the parts of its message: %s', async (body, type, problem) => {
  const error = await caught(body);
  expect(error).toBeInstanceOf(type);
  if (!(error instanceof ElapidError)) throw error;
  const { operation, argument, expected, got, hint } = error;
  expect({ operation, argument, expected, got, ...(hint === undefined ? {} : { hint }) }).toEqual(problem);
  expect(error.message).toBe(`${operation ?? ''}: ${argument ?? ''} is ${got ?? ''}; expected ${expected ?? ''}.${hint === undefined ? '' : ` Hint: ${hint}`}`);
  expect(JSON.parse(JSON.stringify(error))).toEqual({ name: error.name, ...problem });
});

test.each<[ElapidError, object]>([
  [new ArgumentError('train: the run ended'), { name: 'ArgumentError' }],
  [new BackendError('openBackend: there is no WebGPU here'), { name: 'BackendError' }],
  [new CheckpointError('is not JSON', { file: 'config.json', key: 'a', offset: 7 }), { name: 'CheckpointError', file: 'config.json', key: 'a', offset: 7 }],
])('an error with a message alone has no such fields: %s', (error, fields) => {
  expect(JSON.parse(JSON.stringify(error))).toEqual(fields);
  expect([error.operation, error.argument, error.expected, error.got, error.hint]).toEqual(Array(5).fill(undefined));
  expect(Object.keys(error).sort()).toEqual(Object.keys(fields).sort());
});

test('an error of an argument keeps its cause', () => {
  const cause = new Error('ENOENT');
  expect(new ArgumentError({ operation: 'o', argument: 'a', expected: 'e', got: 'g' }, { cause })).toMatchObject({ cause, message: 'o: a is g; expected e.' });
});
