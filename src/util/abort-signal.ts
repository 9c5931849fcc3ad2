/** An `AbortSignal`, or what is enough of one: the name is not everywhere that programs are compiled for. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  throwIfAborted(): void;
}
