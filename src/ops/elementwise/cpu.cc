// Elementwise kernels: one pass over memory, threaded by rows.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

// In the order of unaryFunctions and binaryFunctions in functions.ts.
enum UnaryFunction { kNegate, kExp, kLog, kSquare, kSqrt, kReciprocal, kSigmoid, kSilu, kSoftplus, kTanh, kRelu, kGelu, kGeluTanh };
enum BinaryFunction { kAdd, kSubtract, kMultiply, kDivide };

// Calls f with a callable vf → vf for the function, so that the choice is made once, outside of the loop.
template <class F>
ELAPID_INLINE void with_unary(i64 function, F f) {
  switch (function) {
    case kNegate: return f([](vf x) { return -x; });
    case kExp: return f([](vf x) { return exp(x); });
    case kLog: return f([](vf x) { return log(x); });
    case kSquare: return f([](vf x) { return x * x; });
    case kSqrt: return f([](vf x) { return sqrt(x); });
    case kReciprocal: return f([](vf x) { return 1.0f / x; });
    case kSigmoid: return f([](vf x) { return sigmoid(x); });
    case kSilu: return f([](vf x) { return silu(x); });
    case kSoftplus: return f([](vf x) { return softplus(x); });
    case kTanh: return f([](vf x) { return tanh(x); });
    case kRelu: return f([](vf x) { return max(x, vf{}); });
    case kGelu: return f([](vf x) { return gelu(x); });
    case kGeluTanh: return f([](vf x) { return gelu_tanh(x); });
  }
}

template <class F>
ELAPID_INLINE void with_derivative(i64 function, F f) {
  switch (function) {
    case kNegate: return f([](vf) { return splat(-1.0f); });
    case kExp: return f([](vf x) { return exp(x); });
    case kLog: return f([](vf x) { return 1.0f / x; });
    case kSquare: return f([](vf x) { return x + x; });
    case kSqrt: return f([](vf x) { return 0.5f / sqrt(x); });
    case kReciprocal: return f([](vf x) { return -1.0f / (x * x); });
    case kSigmoid: return f([](vf x) { const vf s = sigmoid(x); return s * (1.0f - s); });
    case kSilu: return f([](vf x) { const vf s = sigmoid(x); return s + x * s * (1.0f - s); });
    case kSoftplus: return f([](vf x) { return sigmoid(x); });
    case kTanh: return f([](vf x) { const vf t = tanh(x); return 1.0f - t * t; });
    case kRelu: return f([](vf x) { return x > vf{} ? splat(1.0f) : vf{}; });
    case kGelu: return f([](vf x) { return gelu_slope(x); });
    case kGeluTanh: return f([](vf x) { return gelu_tanh_slope(x); });
  }
}

template <class F>
ELAPID_INLINE void with_binary(i64 function, F f) {
  switch (function) {
    case kAdd: return f([](vf a, vf b) { return a + b; });
    case kSubtract: return f([](vf a, vf b) { return a - b; });
    case kMultiply: return f([](vf a, vf b) { return a * b; });
    case kDivide: return f([](vf a, vf b) { return a / b; });
  }
}

// Calls f(row, column, lanes) for vectors of columns; a single long row is cut as well.
template <class F>
ELAPID_INLINE void each_vector(Pool& pool, i64 rows, i64 columns, F f) {
  if (rows == 1) {
    each_block(pool, columns, kElementwiseGrain, [&](i64 begin, i64 end) {
      for (i64 c = begin; c < end; c += kLanes) f(i64(0), c, end - c);
    });
    return;
  }
  each_block(pool, rows, max(i64(1), kElementwiseGrain / max(columns, i64(1))), [&](i64 begin, i64 end) {
    for (i64 r = begin; r < end; r++)
      for (i64 c = 0; c < columns; c += kLanes) f(r, c, columns - c);
  });
}

void unary(const Unary& a, Pool& pool) {
  with_unary(a.function, [&](auto value) {
    each_vector(pool, a.rows, a.columns, [&](i64 r, i64 c, i64 n) {
      store_first(a.y + r * a.columns + c, value(load_first(a.x + r * a.xPitch + c, n, 1.0f)), n);
    });
  });
}

void unary_backward(const UnaryBackward& a, Pool& pool) {
  with_derivative(a.function, [&](auto derivative) {
    each_vector(pool, a.rows, a.columns, [&](i64 r, i64 c, i64 n) {
      const vf x = load_first(a.x + r * a.xPitch + c, n, 1.0f);
      store_first(a.dx + r * a.columns + c, load_first(a.dy + r * a.dyPitch + c, n) * derivative(x), n);
    });
  });
}

// A vector of an operand whose column stride is 1, or 0 for a broadcast column.
ELAPID_INLINE vf load_operand(const float* p, i64 row, i64 column, i64 row_stride, i64 column_stride, i64 n) {
  return column_stride == 0 ? splat(p[row * row_stride]) : load_first(p + row * row_stride + column, n, 1.0f);
}

void binary(const Binary& a, Pool& pool) {
  with_binary(a.function, [&](auto value) {
    each_vector(pool, a.rows, a.columns, [&](i64 r, i64 c, i64 n) {
      const vf left = load_operand(a.a, r, c, a.aRow, a.aColumn, n), right = load_operand(a.b, r, c, a.bRow, a.bColumn, n);
      store_first(a.y + r * a.columns + c, value(left, right), n);
    });
  });
}

// Calls f with a callable (x, slope) → value for a function that gates; it sets slope to the derivative. What both share is computed once.
template <class F>
ELAPID_INLINE void with_gate(i64 function, F f) {
  switch (function) {
    case kSilu: return f([](vf x, vf& slope) { const vf s = sigmoid(x); slope = s + x * s * (1.0f - s); return silu(x); });
    case kGelu: return f([](vf x, vf& slope) { slope = gelu_slope(x); return gelu(x); });
    case kGeluTanh: return f([](vf x, vf& slope) { slope = gelu_tanh_slope(x); return gelu_tanh(x); });
    case kSigmoid: return f([](vf x, vf& slope) { const vf s = sigmoid(x); slope = s * (1.0f - s); return s; });
    case kRelu: return f([](vf x, vf& slope) { slope = x > vf{} ? splat(1.0f) : vf{}; return max(x, vf{}); });
  }
}

void gated(const Gated& a, Pool& pool) {
  with_gate(a.function, [&](auto value) {
    each_vector(pool, a.rows, a.columns, [&](i64 r, i64 c, i64 n) {
      vf slope;
      const vf gate = value(load_first(a.gate + r * a.gatePitch + c, n), slope);
      store_first(a.y + r * a.columns + c, gate * load_first(a.up + r * a.upPitch + c, n), n);
    });
  });
}

void gated_backward(const GatedBackward& a, Pool& pool) {
  with_gate(a.function, [&](auto value) {
    each_vector(pool, a.rows, a.columns, [&](i64 r, i64 c, i64 n) {
      vf slope;
      const vf gate = value(load_first(a.gate + r * a.gatePitch + c, n), slope);
      const vf dy = load_first(a.dy + r * a.dyPitch + c, n);
      store_first(a.dgate + r * a.columns + c, dy * load_first(a.up + r * a.upPitch + c, n) * slope, n);
      store_first(a.dup + r * a.columns + c, dy * gate, n);
    });
  });
}

void affine(const Affine& a, Pool& pool) {
  each_vector(pool, a.rows, a.columns, [&](i64 r, i64 c, i64 n) {
    store_first(a.y + r * a.columns + c, load_first(a.x + r * a.xPitch + c, n) * a.scale + a.shift, n);
  });
}

void accumulate(const Accumulate& a, Pool& pool) {
  each_vector(pool, a.rows, a.columns, [&](i64 r, i64 c, i64 n) {
    float* y = a.y + r * a.yPitch + c;
    store_first(y, load_first(y, n) + load_first(a.x + r * a.xPitch + c, n), n);
  });
}

}  // namespace ELAPID_TARGET
}  // namespace elapid
