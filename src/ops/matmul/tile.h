// The innermost kernel of the matrix product: a tile of C, kept in registers, from a panel of A and one of B.
#pragma once
#include "../../backend/cpu/native/simd.h"

namespace elapid {
namespace ELAPID_TARGET {

// Rows and vectors of a tile. Its accumulators, a row of B and one broadcast element of A fill the register file (32
// registers with AVX-512 and NEON, else 16), so that a step of depth loads as little as possible for its products.
#if ELAPID_LANES == 16
constexpr int kTileRows = 14, kTileVectors = 2;
#elif ELAPID_LANES == 8
constexpr int kTileRows = 6, kTileVectors = 2;
#elif defined(__aarch64__)
constexpr int kTileRows = 8, kTileVectors = 3;
#elif defined(__wasm__)
// V8 keeps some of the 16 registers for itself, and multiplies apart from adding: with a larger tile it spills.
constexpr int kTileRows = 4, kTileVectors = 2;
#else
constexpr int kTileRows = 4, kTileVectors = 3;
#endif
constexpr int kTileColumns = kTileVectors * kLanes;

// A tile of C and what becomes of the sums: c = sums (+ bias) or, with `add`, c += sums (+ bias).
struct TileOutput {
  float* c;
  i64 ldc;
  const float* bias;  // of the tile's columns, or null
  i64 columns;
  bool add;
};

// Writes a tile whose last vector is cut. One copy for all tiles, as it is seldom run and would be long unrolled.
inline __attribute__((noinline)) void finish_edge(int rows, int vectors, const vf* sums, const TileOutput& to) {
  for (int i = 0; i < rows; i++) {
    for (int j = 0; j < vectors; j++) {
      float* c = to.c + i * to.ldc + j * kLanes;
      const i64 n = to.columns - j * kLanes;
      vf sum = sums[i * vectors + j];
      if (to.bias != nullptr) sum += load_first(to.bias + j * kLanes, n);
      if (to.add) sum += load_first(c, n);
      store_first(c, sum, n);
    }
  }
}

// sums[i, j] = Σ_k a[k·kTileRows + i]·b[k·bStep + j] for i < R and V vectors of columns, the last one cut at `columns`.
// Every element is summed in order of k whatever R and V are, so that results do not depend on how C is cut into tiles.
template <int R, int V>
void tile(i64 depth, const float* a, const float* b, i64 bStep, const TileOutput& to) {
  vf sums[R][V] = {};
  ELAPID_UNROLL
  for (int i = 0; i < R; i++) {
    ELAPID_UNROLL
    for (int j = 0; j < V * kLanes; j += 16) __builtin_prefetch(to.c + i * to.ldc + j);
  }
  for (i64 k = 0; k < depth; k++) {
    vf row[V];
    ELAPID_UNROLL
    for (int j = 0; j < V; j++) row[j] = load(b + j * kLanes);
    ELAPID_UNROLL
    for (int i = 0; i < R; i++) {
      const vf element = splat(a[i]);
      ELAPID_UNROLL
      for (int j = 0; j < V; j++) sums[i][j] += element * row[j];
    }
    a += kTileRows;
    b += bStep;
  }
  if (to.columns != V * kLanes) {
    vf spilled[R][V];  // a copy, so that the sums themselves have no address and stay in registers
    ELAPID_UNROLL
    for (int i = 0; i < R; i++) {
      ELAPID_UNROLL
      for (int j = 0; j < V; j++) spilled[i][j] = sums[i][j];
    }
    return finish_edge(R, V, &spilled[0][0], to);
  }
  ELAPID_UNROLL
  for (int i = 0; i < R; i++) {
    float* c = to.c + i * to.ldc;
    ELAPID_UNROLL
    for (int j = 0; j < V; j++) {
      vf sum = sums[i][j];
      if (to.bias != nullptr) sum += load(to.bias + j * kLanes);
      if (to.add) sum += load(c + j * kLanes);
      store(c + j * kLanes, sum);
    }
  }
}

using Tile = void (*)(i64, const float*, const float*, i64, const TileOutput&);

// tiles[R − 1][V − 1]: smaller ones serve the lower and right edges of C.
struct Tiles {
  Tile of[kTileRows][kTileVectors];
};

template <int R, int V>
constexpr void fill_tiles(Tiles& tiles) {
  tiles.of[R - 1][V - 1] = tile<R, V>;
  if constexpr (V > 1) fill_tiles<R, V - 1>(tiles);
  else if constexpr (R > 1) fill_tiles<R - 1, kTileVectors>(tiles);
}

constexpr Tiles make_tiles() {
  Tiles tiles{};
  fill_tiles<kTileRows, kTileVectors>(tiles);
  return tiles;
}

inline constexpr Tiles kTiles = make_tiles();

}  // namespace ELAPID_TARGET
}  // namespace elapid
