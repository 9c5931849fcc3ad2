/**
 * WGSL functions of one number, exact where the naive forms are not. The language has no log1p, and lets exp and tanh overflow.
 */
export const wgslMath = `
  fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(min(-x, 88.0))); }
  fn silu(x: f32) -> f32 { return x * sigmoid(x); }
  // ln(1 + t) for t ≥ 0; the series where 1 + t would lose t's digits (its error is below 2⁻²⁵ there).
  fn log1p(t: f32) -> f32 {
    let series = t * (1.0 + t * (-0.5 + t * (0.33333334 + t * (-0.25 + t * (0.2 + t * (-0.16666667 + t * 0.14285715))))));
    return select(log(1.0 + t), series, t < 0.1);
  }
  fn softplus(x: f32) -> f32 { return select(log1p(exp(min(x, 20.0))), x, x > 20.0); }`;
