// Elementwise kernels: one pass over memory, threaded by rows.
#include "../../backend/cpu/native/kernel.h"

namespace elapid {
namespace ELAPID_TARGET {

// In the order of unaryFunctions and binaryFunctions in functions.ts.
enum UnaryFunction { kNegate, kExp, kLog, kSquare, kSqrt, kReciprocal, kSigmoid, kSilu, kSoftplus, kTanh, kRelu };
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
