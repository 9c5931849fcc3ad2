/**
 * A reader for Python pickles that executes nothing. It knows the opcodes that torch.save needs for dictionaries of
 * tensors (pickle protocol 2) and only the global names its caller lists; it refuses everything else.
 * Source: CPython's Lib/pickletools.py, which describes every opcode.
 */
import { CheckpointError } from '../util/errors.js';
import { viewOf } from './checked-file.js';
import { brief } from './validate.js';

/** Objects that the caller makes from global names or persistent ids extend this. */
export abstract class PickleObject {
  /** What it is, for error messages. */
  abstract readonly kind: string;
}

/** A Python tuple. */
export class PickleTuple extends PickleObject {
  readonly kind = 'a tuple';
  constructor(readonly items: readonly PickleValue[]) {
    super();
  }
}

/** Reports a fault at the opcode being read. */
export type Fail = (problem: string) => never;

/** A global name that may occur in the pickle. */
export class PickleGlobal extends PickleObject {
  readonly kind: string;
  /** @param call what calling it gives, or that it is a class whose objects are not read; without it, it may only be mentioned */
  constructor(
    readonly name: string,
    readonly call?: ((args: readonly PickleValue[], fail: Fail) => PickleValue) | 'unread',
  ) {
    super();
    this.kind = `the global ${name}`;
  }
}

/** An object of a class that is known by name alone: what it holds is dropped. */
class Unread extends PickleObject {
  readonly kind: string;
  constructor(name: string) {
    super();
    this.kind = `an object of ${name}`;
  }
}

/** A Python dict or OrderedDict. */
export type PickleDict = Map<string | number, PickleValue>;

/** What a pickle may hold. */
export type PickleValue = null | boolean | number | string | PickleValue[] | PickleDict | PickleObject;

/** What the reader may know and where it is, for messages. */
export interface PickleOptions {
  readonly globals: readonly PickleGlobal[];
  /** The object that a persistent id stands for (for PyTorch: a storage). */
  loadPersistent(id: PickleValue, fail: Fail): PickleValue;
  readonly file: string;
  /** Where the pickle starts in the file, in bytes. */
  readonly offset: number;
}

/**
 * Limits. No opcode makes more memory than it has bytes, or than one small object, and none copies what it refers to:
 * limiting the opcodes limits the memory, the stack and the memo table. 2²⁰ opcodes describe some 30,000 tensors.
 */
const maxOpcodes = 1 << 20;
const maxOpenMarks = 100;
const maxKeyLength = 1000;
const maxGlobalNameLength = 200;

const hintResave = '. Hint: save the weights alone, with torch.save(model.state_dict(), path), or as safetensors.';

const Opcode = {
  mark: 0x28, // (
  emptyTuple: 0x29, // )
  stop: 0x2e, // .
  binFloat: 0x47, // G
  binInt: 0x4a, // J
  binInt1: 0x4b, // K
  binInt2: 0x4d, // M
  none: 0x4e, // N
  binPersistentId: 0x51, // Q
  reduce: 0x52, // R
  binUnicode: 0x58, // X
  emptyList: 0x5d, // ]
  append: 0x61, // a
  build: 0x62, // b
  global: 0x63, // c
  appends: 0x65, // e
  binGet: 0x68, // h
  longBinGet: 0x6a, // j
  binPut: 0x71, // q
  longBinPut: 0x72, // r
  setItem: 0x73, // s
  tuple: 0x74, // t
  setItems: 0x75, // u
  emptyDict: 0x7d, // }
  proto: 0x80,
  tuple1: 0x85,
  tuple2: 0x86,
  tuple3: 0x87,
  newObject: 0x81,
  newTrue: 0x88,
  newFalse: 0x89,
  long1: 0x8a,
} as const;

/**
 * Reads a pickle that fills `bytes`.
 * @throws CheckpointError with the byte offset of the opcode at fault
 */
export function readPickle(bytes: Uint8Array, options: PickleOptions): PickleValue {
  const { value, sizeBytes } = readFirstPickle(bytes, options);
  if (sizeBytes !== bytes.length) {
    const location = { file: options.file, offset: options.offset + sizeBytes - 1 };
    throw new CheckpointError(`the pickle stops ${bytes.length - sizeBytes} bytes before its end`, location);
  }
  return value;
}

/**
 * Reads the pickle that `bytes` begin with.
 * @returns its value, and how long it is
 * @throws CheckpointError with the byte offset of the opcode at fault
 */
export function readFirstPickle(bytes: Uint8Array, options: PickleOptions): { value: PickleValue; sizeBytes: number } {
  return new PickleReader(bytes, options).run();
}

class PickleReader {
  private readonly view: DataView;
  private position = 0;
  /** Where the current opcode is. */
  private opcodeAt = 0;
  /** The values since the innermost open mark. */
  private stack: PickleValue[] = [];
  /** The stacks below each open mark. */
  private readonly below: PickleValue[][] = [];
  private readonly memo = new Map<number, PickleValue>();

  constructor(
    private readonly bytes: Uint8Array,
    private readonly options: PickleOptions,
  ) {
    this.view = viewOf(bytes);
  }

  run(): { value: PickleValue; sizeBytes: number } {
    for (let count = 0; count < maxOpcodes; count++) {
      this.opcodeAt = this.position;
      const opcode = this.view.getUint8(this.take(1));
      if (opcode === Opcode.stop) return { value: this.finish(), sizeBytes: this.position };
      this.execute(opcode);
    }
    return this.fail(`the pickle has more than ${maxOpcodes} opcodes`);
  }

  private execute(opcode: number): void {
    const { stack, view } = this;
    switch (opcode) {
      case Opcode.proto: {
        const version = view.getUint8(this.take(1));
        if (version !== 2) this.fail(`the pickle has protocol ${version}; expected 2, the default of torch.save`);
        break;
      }
      case Opcode.none:
        stack.push(null);
        break;
      case Opcode.newTrue:
        stack.push(true);
        break;
      case Opcode.newFalse:
        stack.push(false);
        break;
      case Opcode.binInt:
        stack.push(view.getInt32(this.take(4), true));
        break;
      case Opcode.binInt1:
        stack.push(view.getUint8(this.take(1)));
        break;
      case Opcode.binInt2:
        stack.push(view.getUint16(this.take(2), true));
        break;
      case Opcode.long1:
        stack.push(this.longInteger());
        break;
      case Opcode.binFloat:
        stack.push(view.getFloat64(this.take(8), false));
        break;
      case Opcode.binUnicode:
        stack.push(this.text(view.getUint32(this.take(4), true)));
        break;
      case Opcode.emptyTuple:
        stack.push(new PickleTuple([]));
        break;
      case Opcode.tuple1:
        stack.push(this.tupleOf(1));
        break;
      case Opcode.tuple2:
        stack.push(this.tupleOf(2));
        break;
      case Opcode.tuple3:
        stack.push(this.tupleOf(3));
        break;
      case Opcode.tuple: {
        const items = this.popToMark();
        this.stack.push(new PickleTuple(items));
        break;
      }
      case Opcode.emptyList:
        stack.push([]);
        break;
      case Opcode.append: {
        const item = this.pop();
        this.topList().push(item);
        break;
      }
      case Opcode.appends: {
        const items = this.popToMark();
        const list = this.topList();
        for (const item of items) list.push(item);
        break;
      }
      case Opcode.emptyDict:
        stack.push(new Map());
        break;
      case Opcode.setItem: {
        const value = this.pop();
        const key = this.pop();
        this.setItems([key, value]);
        break;
      }
      case Opcode.setItems:
        this.setItems(this.popToMark());
        break;
      case Opcode.mark:
        if (this.below.length === maxOpenMarks) this.fail(`the pickle is nested more than ${maxOpenMarks} deep`);
        this.below.push(stack);
        this.stack = [];
        break;
      case Opcode.binPut:
        this.memo.set(view.getUint8(this.take(1)), this.top());
        break;
      case Opcode.longBinPut:
        this.memo.set(view.getUint32(this.take(4), true), this.top());
        break;
      case Opcode.binGet:
        stack.push(this.recall(view.getUint8(this.take(1))));
        break;
      case Opcode.longBinGet:
        stack.push(this.recall(view.getUint32(this.take(4), true)));
        break;
      case Opcode.global:
        stack.push(this.global());
        break;
      case Opcode.reduce:
        stack.push(this.call());
        break;
      case Opcode.binPersistentId:
        stack.push(this.options.loadPersistent(this.pop(), this.fail));
        break;
      case Opcode.newObject:
        stack.push(this.newObject());
        break;
      case Opcode.build:
        this.dropAttributes();
        break;
      default:
        this.fail(
          `the pickle has opcode 0x${opcode.toString(16).padStart(2, '0')}, which a dictionary of tensors does not need` +
            hintResave,
        );
    }
  }

  private finish(): PickleValue {
    const [value, ...rest] = this.stack;
    if (value === undefined || rest.length > 0 || this.below.length > 0) {
      return this.fail('the pickle stops with an untidy stack; expected one value');
    }
    return value;
  }

  private readonly fail: Fail = (problem) => {
    throw new CheckpointError(problem, { file: this.options.file, offset: this.options.offset + this.opcodeAt });
  };

  /** Steps over `count` bytes and returns where they start. */
  private take(count: number): number {
    const start = this.position;
    if (start + count > this.bytes.length) {
      const left = this.bytes.length - start;
      this.fail(`the pickle ends inside an opcode; expected ${count} more bytes, got ${left}`);
    }
    this.position += count;
    return start;
  }

  private text(sizeBytes: number): string {
    const start = this.take(sizeBytes);
    try {
      const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
      return decoder.decode(this.bytes.subarray(start, start + sizeBytes));
    } catch {
      return this.fail('a string in the pickle is not valid UTF-8');
    }
  }

  /** A two's complement integer of up to 8 bytes, which is what a size above 2³¹ takes. */
  private longInteger(): number {
    const sizeBytes = this.view.getUint8(this.take(1));
    if (sizeBytes > 8) this.fail(`an integer in the pickle has ${sizeBytes} bytes; expected at most 8`);
    const start = this.take(sizeBytes);
    let value = 0n;
    for (let i = 0; i < sizeBytes; i++) value |= BigInt(this.view.getUint8(start + i)) << BigInt(8 * i);
    const signed = Number(BigInt.asIntN(8 * sizeBytes, value));
    if (!Number.isSafeInteger(signed)) this.fail(`an integer in the pickle is ${signed}; expected below 2^53`);
    return signed;
  }

  private pop(): PickleValue {
    const value = this.stack.pop();
    return value === undefined ? this.fail('the pickle takes a value from an empty stack') : value;
  }

  private top(): PickleValue {
    const value = this.stack.at(-1);
    return value === undefined ? this.fail('the pickle needs a value, but the stack is empty') : value;
  }

  private topList(): PickleValue[] {
    const list = this.top();
    return Array.isArray(list) ? list : this.fail(`the pickle appends to ${describePickled(list)}; expected a list`);
  }

  private popToMark(): PickleValue[] {
    const outer = this.below.pop();
    if (outer === undefined) return this.fail('the pickle needs a mark, but none is set');
    const items = this.stack;
    this.stack = outer;
    return items;
  }

  private tupleOf(count: number): PickleTuple {
    const items = Array.from({ length: count }, () => this.pop());
    return new PickleTuple(items.reverse());
  }

  private setItems(items: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof Map)) return this.fail(`the pickle sets items of ${describePickled(dict)}; expected a dict`);
    if (items.length % 2 !== 0) return this.fail('the pickle sets a dict key without a value');
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      const value = items[i + 1];
      if (typeof key !== 'string' && typeof key !== 'number') {
        return this.fail(`a dict key in the pickle is ${describePickled(key)}; expected a string or a number`);
      }
      if (typeof key === 'string' && key.length > maxKeyLength) {
        return this.fail(`a dict key is ${key.length} characters long; expected at most ${maxKeyLength}`);
      }
      if (dict.has(key)) return this.fail(`a dict in the pickle has the key '${String(key)}' twice`);
      if (value !== undefined) dict.set(key, value);
    }
  }

  private recall(index: number): PickleValue {
    const value = this.memo.get(index);
    return value === undefined ? this.fail(`the pickle refers to memo ${index}, which is not set`) : value;
  }

  private global(): PickleGlobal {
    const name = `${this.line()}.${this.line()}`;
    const known = this.options.globals.find((global) => global.name === name);
    return (
      known ??
      this.fail(
        `the pickle asks for the global ${brief(name)}, which is not on the short list of harmless ones; ` +
          `nothing was executed${hintResave}`,
      )
    );
  }

  /** The text up to the next line feed. */
  private line(): string {
    const window = this.bytes.subarray(this.position, this.position + maxGlobalNameLength + 1);
    const length = window.indexOf(0x0a);
    if (length < 0) this.fail(`a global name in the pickle does not end within ${maxGlobalNameLength} bytes`);
    const text = this.text(length);
    this.take(1);
    return text;
  }

  private call(): PickleValue {
    const args = this.pop();
    const callee = this.pop();
    if (!(args instanceof PickleTuple)) return this.fail(`the pickle calls with ${describePickled(args)}; expected a tuple`);
    if (!(callee instanceof PickleGlobal) || typeof callee.call !== 'function') {
      return this.fail(`the pickle calls ${describePickled(callee)}, which cannot be called`);
    }
    return callee.call(args.items, this.fail);
  }

  private newObject(): PickleValue {
    this.pop();
    const made = this.pop();
    if (made instanceof PickleGlobal && made.call === 'unread') return new Unread(made.name);
    return this.fail(`the pickle makes an object of ${describePickled(made)} (opcode 0x81), which a dictionary of tensors does not need${hintResave}`);
  }

  /** `Module.state_dict()` hangs version numbers on its OrderedDict as an attribute; nothing here needs them, nor what an unread object holds. */
  private dropAttributes(): void {
    const attributes = this.pop();
    const of = this.top();
    if (!(attributes instanceof Map) || !(of instanceof Map || of instanceof Unread)) {
      this.fail(`the pickle sets attributes of ${describePickled(of)}; expected a dict`);
    }
  }
}

/** `value` in a few words; never descends into it, as it may contain itself. */
export function describePickled(value: PickleValue | undefined): string {
  if (value instanceof PickleObject) return value.kind;
  if (value instanceof Map) return 'a dict';
  if (Array.isArray(value)) return 'a list';
  return brief(value);
}
