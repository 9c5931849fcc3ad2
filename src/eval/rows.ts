/** Rows of data sets as items: each in the Hugging Face hub's shape, or in LLM Foundry's. */
import * as v from 'valibot';
import { CheckpointError } from '../util/errors.js';
import { checked } from '../util/schema.js';
import type { EvalItem } from './item.js';

const text = v.string();
const index = v.pipe(v.number(), v.integer(), v.minValue(0));

const chosen = v.object({ query: text, choices: v.array(text), gold: index });
const lettered = { choices: v.object({ text: v.array(text), label: v.array(text) }), answerKey: text };

const has = (row: unknown, key: string): boolean => typeof row === 'object' && row !== null && key in row;

/** An item of choices; each is scored after the prompt and a blank. */
function choiceItem(prompt: string, choices: readonly string[], gold: number, place: string, key: string): EvalItem {
  expectChoice(gold, choices.length, place, key);
  return { requests: choices.map((choice) => ({ context: prompt, continuation: ` ${choice}` })), gold, choices };
}

function expectChoice(gold: number, count: number, file: string, key: string): void {
  if (gold >= 0 && gold < count) return;
  const hint = 'test splits without answers cannot be scored';
  throw new CheckpointError(`does not name one of the ${count} choices. Hint: ${hint}`, { file, key });
}

export function lambada(row: unknown, place: string): EvalItem {
  const what = 'a row of LAMBADA';
  if (has(row, 'continuation')) {
    const { context, continuation } = checked(v.object({ context: text, continuation: text }), row, { file: place }, what);
    return { requests: [{ context, continuation: ` ${continuation}` }] };
  }
  const words = checked(v.object({ text }), row, { file: place }, what).text.split(' ');
  return { requests: [{ context: words.slice(0, -1).join(' '), continuation: ` ${words.at(-1) ?? ''}` }] };
}

export function piqa(row: unknown, place: string): EvalItem {
  const what = 'a row of PIQA';
  if (has(row, 'query')) return answered(row, place, what);
  const { goal, sol1, sol2, label } = checked(v.object({ goal: text, sol1: text, sol2: text, label: v.number() }), row, { file: place }, what);
  return choiceItem(`Question: ${goal}\nAnswer:`, [sol1, sol2], label, place, 'label');
}

export function arc(row: unknown, place: string): EvalItem {
  const what = 'a row of ARC';
  if (has(row, 'query')) return answered(row, place, what);
  const { question, choices, answerKey } = checked(v.object({ question: text, ...lettered }), row, { file: place }, what);
  return choiceItem(`Question: ${question}\nAnswer:`, choices.text, choices.label.indexOf(answerKey), place, 'answerKey');
}

export function openBookQa(row: unknown, place: string): EvalItem {
  const what = 'a row of OpenBookQA';
  if (has(row, 'query')) return asked(row, place, what);
  const { question_stem: stem, choices, answerKey } = checked(v.object({ question_stem: text, ...lettered }), row, { file: place }, what);
  return choiceItem(stem, choices.text, choices.label.indexOf(answerKey.trimStart()), place, 'answerKey');
}

export function winoGrande(row: unknown, place: string): EvalItem {
  const what = 'a row of WinoGrande';
  const item = (contexts: readonly string[], rest: string, gold: number, key: string): EvalItem => {
    expectChoice(gold, contexts.length, place, key);
    return { requests: contexts.map((context) => ({ context, continuation: ` ${rest}` })), gold };
  };
  if (has(row, 'context_options')) {
    const { context_options: contexts, continuation, gold } = checked(v.object({ context_options: v.array(text), continuation: text, gold: index }), row, { file: place }, what);
    return item(contexts, continuation, gold, 'gold');
  }
  const { sentence, option1, option2, answer } = checked(v.object({ sentence: text, option1: text, option2: text, answer: text }), row, { file: place }, what);
  const blank = sentence.indexOf('_');
  if (blank < 0) throw new CheckpointError('has no _ for the options to stand at', { file: place, key: 'sentence' });
  const start = sentence.slice(0, blank);
  return item([start + option1, start + option2], sentence.slice(blank + 1).trim(), ['1', '2'].indexOf(answer), 'answer');
}

export function hellaSwag(row: unknown, place: string): EvalItem {
  const what = 'a row of HellaSwag';
  if (has(row, 'query')) return asked(row, place, what);
  const schema = v.object({ activity_label: text, ctx_a: text, ctx_b: text, endings: v.array(text), label: v.union([v.pipe(text, v.regex(/^\d+$/)), v.number()], 'the number of an ending') });
  const { activity_label: activity, ctx_a: first, ctx_b: second, endings, label } = checked(schema, row, { file: place }, what);
  const context = `${activity}: ${first} ${second.slice(0, 1).toUpperCase()}${second.slice(1).toLowerCase()}`;
  return choiceItem(withoutMarks(context), endings.map(withoutMarks), Number(label), place, 'label');
}

/** Texts of WikiHow hold marks of their layout. */
const withoutMarks = (marked: string): string =>
  marked
    .trim()
    .replaceAll(' [title]', '. ')
    .replace(/\[.*?\]/g, '')
    .replaceAll('  ', ' ');

/** LLM Foundry's rows: `query` is the question, without the word that asks for an answer. */
function answered(row: unknown, place: string, what: string): EvalItem {
  const { query, choices, gold } = checked(chosen, row, { file: place }, what);
  return choiceItem(`${query.replace(/\n+$/, '')}\nAnswer:`, choices, gold, place, 'gold');
}

/** LLM Foundry's rows: `query` is all of the prompt. */
function asked(row: unknown, place: string, what: string): EvalItem {
  const { query, choices, gold } = checked(chosen, row, { file: place }, what);
  return choiceItem(query, choices, gold, place, 'gold');
}
