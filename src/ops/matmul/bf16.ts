const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The bfloat16 nearest to a float32 number, ties to even: the upper half of its bits. */
export function roundToBf16(x: number): number {
  float[0] = x;
  const whole = bits[0] ?? 0;
  if (x !== x) return NaN;
  bits[0] = (whole + 0x7fff + ((whole >>> 16) & 1)) & 0xffff0000;
  return float[0];
}
