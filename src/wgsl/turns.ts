/** Sine and cosine of a number of turns in [−½, ½], after reduction to an eighth; polynomials of the Cephes library, to 2⁻²³ or so. */
export const wgslTurns = `
  fn fraction(turns: f32) -> f32 { return turns - round(turns); }
  fn cosine_and_sine(turns: f32) -> vec2<f32> {
    let quarter = round(4.0 * turns);
    let x = ${2 * Math.PI} * (turns - 0.25 * quarter);
    let z = x * x;
    let s = x + x * z * (-0.16666654611 + z * (0.0083321608736 - z * 0.00019515295891));
    let c = 1.0 - 0.5 * z + z * z * (0.041666645683 + z * (-0.0013887316255 + z * 0.000024433157118));
    let whole = i32(quarter) & 3;
    let turned = select(vec2<f32>(c, s), vec2<f32>(-s, c), (whole & 1) == 1);
    return select(turned, -turned, whole >= 2);
  }`;
