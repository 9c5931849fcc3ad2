import { expect, test } from 'vitest';
import { Decoder } from '../../src/generate/decoder.js';
import { zeros } from '../../src/ops/index.js';
import { useBackend } from '../support/backends.js';
import { smallModel } from '../support/models.js';

const backend = useBackend('cpu');

/** What happens to the layers of a model after a decoder was made. */
const changes: [name: string, change: (linears: ReturnType<typeof smallModel>['linears']) => void][] = [
  ['attached to a projection', (linears) => (must(linears.get('backbone.layers.0.mixer.in_proj')).added = (x) => zeros(x.backend, [x.rows, 80]))],
  ['attached to the selection', (linears) => (must(linears.get('backbone.layers.1.mixer.x_proj')).added = (x) => zeros(x.backend, [x.rows, 13]))],
  ['taken off', (linears) => (must(linears.get('backbone.layers.0.mixer.out_proj')).added = null)],
];

test.each(changes)('a captured step refuses to go on without an adapter that was %s', async (_, change) => {
  const model = smallModel(backend());
  must(model.linears.get('backbone.layers.0.mixer.out_proj')).added = (x) => zeros(x.backend, [x.rows, 20]);
  const state = model.newState(1);
  const decoder = new Decoder(model, state);
  await decoder.step([1]);
  change(model.linears);
  await expect(decoder.step([2])).rejects.toThrow(/model is changed: something was added to one, or taken off; expected linear layers as they were/);
  expect(state.position).toBe(1);
  const anew = new Decoder(model, state);
  await anew.step([2]);
  for (const one of [decoder, anew, state, model]) one.dispose();
});

function must<T>(value: T | undefined): T {
  return value ?? expect.fail('no such layer');
}
