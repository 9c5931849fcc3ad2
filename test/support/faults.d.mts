export interface Fault {
  readonly kind: string;
  readonly at: number;
}
export function arm(next: Fault | null, onDone?: (operation: string, path: string) => void): void;
export function disarm(): number;
