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

/** GELU, exact and by tanh; beside `wgslMath`. */
export const wgslGelu = `
  fn normal_density(x: f32) -> f32 { return 0.3989422804 * exp(-0.5 * x * x); }
  // Φ(x): its tail is a polynomial of (a − 2.5) / (a + 2.5), a = |x|, times e^(−a²/2) / (a + 2.5), as in native/math.h.
  fn normal_distribution(x: f32) -> f32 {
    let a = min(abs(x), 16.0);
    let t = 1.0 / (a + 2.5);
    let u = 1.0 - 5.0 * t;
    let r = 0.7066566348 + u * (-0.4336920083 + u * (0.1319867820 + u * (0.009235725738 + u * (-0.01638440602 + u * (-0.001599738607 + u * (0.002518497873 + u * (0.0006807514001 + u * (-0.0003063026816 + u * (-0.0001535079355)))))))));
    let tail = r * t * exp(-0.5 * a * a);
    return select(1.0 - tail, tail, x < 0.0);
  }
  fn gelu_tanh_argument(x: f32) -> f32 { return x * (1.5957691216 + 0.0713548162726 * x * x); }
  fn gelu_tanh_slope(x: f32, y: f32) -> f32 {
    let s = sigmoid(gelu_tanh_argument(x));
    return s + select(y * (1.0 - s) * (1.5957691216 + 0.214064448818 * x * x), 0.0, abs(x) > 16.0);
  }`;
