import { describe, expect, test } from 'vitest';
import { familyNamed, familyNames, falconMambaFamily, mambaFamily, publishedModel, publishedNames, registerFamily, type ModelFamily } from '../../src/models/index.js';

describe('the registry of families', () => {
  test('has the families of the package, by name', () => {
    expect(familyNames()).toEqual(expect.arrayContaining(['mamba', 'falcon-mamba', 'gru']));
    expect(familyNamed('falcon-mamba')).toBe(falconMambaFamily);
  });

  test.each<[ModelFamily, RegExp]>([
    [{ ...mambaFamily, modelTypes: ['another'] }, /registerFamily: name is 'mamba', which is known; expected a new one/],
    [{ ...mambaFamily, name: 'another', modelTypes: ['another', 'falcon_mamba'] }, /modelTypes is 'falcon_mamba', a type of the family 'falcon-mamba'; expected a new one/],
    [{ ...falconMambaFamily, modelTypes: [] }, /name is 'falcon-mamba', which is known/],
  ])('refuses what is known already', (family, message) => {
    const names = familyNames();
    expect(() => {
      registerFamily(family);
    }).toThrow(message);
    expect(familyNames()).toEqual(names);
  });

  test.each([
    ['mambo', /familyNamed: name is 'mambo'; expected one of mamba, falcon-mamba.*did you mean 'mamba'/],
    ['perceiver', /familyNamed: name is 'perceiver'; expected one of mamba, falcon-mamba/],
  ])('has no family %s', (name, message) => {
    expect(() => familyNamed(name)).toThrow(message);
  });

  test.each([
    ['mamba-130m', 768, 24, 50280],
    ['mamba-2.8b', 2560, 64, 50280],
    ['mambabyte-353m', 1024, 53, 256],
    ['mambabyte-972m', 1792, 48, 256],
    ['mambabyte-1.6b', 2304, 48, 256],
    ['falcon-mamba-7b', 4096, 64, 65024],
    ['mamba2-130m', 768, 24, 50288],
    ['mamba2-2.7b', 2560, 64, 50288],
    ['bamba-9b', 4096, 32, 128256],
  ])('knows the sizes of %s', (name, dModel, layers, vocabularySize) => {
    expect(publishedModel(name)?.config).toMatchObject({ dModel, layers, vocabularySize });
  });

  test('MambaByte has layer norms and a head of its own, and reads bytes alone', () => {
    const { config } = publishedModel('mambabyte-353m') ?? expect.fail();
    expect(config).toMatchObject({ norm: 'layer', normEpsilon: 1e-5, tiedHead: false, dtRank: 64, dState: 16, dConv: 4, dInner: 2048, endOfText: [] });
    expect(publishedNames()).toEqual(expect.arrayContaining(['mamba-130m', 'mambabyte-353m', 'mambabyte-972m', 'mambabyte-1.6b']));
    for (const vocabularySize of [255, 264, 4096]) {
      expect(() => mambaFamily.configOf({ size: 'mambabyte-353m', vocabularySize })).toThrow(new RegExp(`vocabularySize is ${vocabularySize}; expected 256: mambabyte-353m reads bytes`));
    }
    expect(mambaFamily.configOf({ size: 'mambabyte-1.6b', vocabularySize: 256 })).toMatchObject({ dModel: 2304, layers: 48, dtRank: 144 });
  });

  test.each(['mamba-131m', 'mamba-mambabyte-353m', 'falcon-mamba', '130m'])('knows no sizes of %s', (name) => {
    expect(publishedModel(name)).toBeUndefined();
  });
});
