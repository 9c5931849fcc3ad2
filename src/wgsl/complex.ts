import { wgslTurns } from './turns.js';

/** Complex numbers as vec2<f32>. Angles of any size are reduced in parts that are exact. */
export const wgslComplex = `
  ${wgslTurns}
  fn conjugate(z: vec2<f32>) -> vec2<f32> { return vec2<f32>(z.x, -z.y); }
  fn times(x: vec2<f32>, y: vec2<f32>) -> vec2<f32> { return vec2<f32>(x.x * y.x - x.y * y.y, x.x * y.y + x.y * y.x); }
  fn inverse(z: vec2<f32>) -> vec2<f32> { return conjugate(z) / dot(z, z); }
  // x without whole turns of 2π, for |x| < 2²¹: the first parts of 2π have so few bits that their products are exact.
  fn reduced(x: f32) -> f32 {
    let n = round(x * 0.15915494309);
    return (((x - n * 6.25) - n * 0.032958984375) - n * 0.00022602081298828125) - n * 3.01991598e-07;
  }
  // The upper 12 of a number's 24 bits.
  fn upper(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }
  // e^(i·n·x) for a whole number n < 2²⁴: products of halves are exact.
  fn turned(n: u32, x: f32) -> vec2<f32> {
    let high = f32(n & 0xfff000u);
    let low = f32(n & 0xfffu);
    let x_high = upper(x);
    let x_low = x - x_high;
    let angle = reduced(high * x_high) + reduced(high * x_low) + reduced(low * x_high) + low * x_low;
    return cosine_and_sine(fraction(reduced(angle) * 0.15915494309));
  }
  fn exponential(z: vec2<f32>) -> vec2<f32> {
    return exp(z.x) * cosine_and_sine(fraction(reduced(z.y) * 0.15915494309));
  }
  // (e^z − 1) / z; by its series where the difference would cancel.
  fn phi(z: vec2<f32>) -> vec2<f32> {
    if (dot(z, z) < 1.0) {
      var value = vec2<f32>(1.0, 0.0);
      for (var k = 12.0; k >= 2.0; k -= 1.0) { value = vec2<f32>(1.0, 0.0) + times(value, z) / k; }
      return value;
    }
    return times(exponential(z) - vec2<f32>(1.0, 0.0), inverse(z));
  }
  // Its derivative.
  fn phi_slope(z: vec2<f32>) -> vec2<f32> {
    if (dot(z, z) < 1.0) {
      var sum = vec2<f32>(0.0);
      var power = vec2<f32>(1.0, 0.0);
      var factorial = 1.0;
      for (var k = 0.0; k < 12.0; k += 1.0) {
        factorial *= k + 1.0;
        sum += power * ((k + 1.0) / (factorial * (k + 2.0)));
        power = times(power, z);
      }
      return sum;
    }
    return times(exponential(z) - phi(z), inverse(z));
  }`;

/** A buffer of complex numbers as vec2<f32>. */
export const complexBuffer = (name: string, access?: 'read') => ({ name, as: 'vec2<f32>', ...(access === undefined ? {} : { access }) });
