/** Of an image and its patches. */
export interface Extents {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  /** P: pixels along each side of a patch. */
  readonly side: number;
  readonly stride: number;
}

/** Rows and columns of patches. */
export const gridOf = ({ height, width, side, stride }: Pick<Extents, 'height' | 'width' | 'side' | 'stride'>): [rows: number, columns: number] => [
  Math.floor((height - side) / stride) + 1,
  Math.floor((width - side) / stride) + 1,
];

