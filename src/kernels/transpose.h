// Transposing planes of memory, for any element of 1, 2, 4 or 8 bytes. Pure data movement:
// bit-exact.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dunlin {

// y[c][r] = x[r][c] for r < rows, c < cols. Row strides are in bytes. x and y do not overlap.
// elem_bytes is 1, 2, 4 or 8. Thread-safe; split over `cols` (rows of y) or `rows` to use threads.
void Transpose2D(const void* x, int64_t x_stride_bytes, void* y, int64_t y_stride_bytes,
                 int64_t rows, int64_t cols, int elem_bytes);

// Positions [begin, end) of the N*S positions of x [N, C, S], stored as y [N, S, C].
// Split positions over threads in multiples of 64, so that no cache line of x is read twice.
void ReorderToChannelsLast(const void* x, void* y, int elem_bytes, int64_t N, int64_t C, int64_t S,
                           int64_t begin, int64_t end);
inline void ReorderToChannelsLast(const void* x, void* y, int elem_bytes, int64_t N, int64_t C,
                                  int64_t S) {
  ReorderToChannelsLast(x, y, elem_bytes, N, C, S, 0, N * S);
}

// The way back: positions [begin, end) of the N*S positions of x [N, S, C], stored as y [N, C, S].
void ReorderToRowMajor(const void* x, void* y, int elem_bytes, int64_t N, int64_t C, int64_t S,
                       int64_t begin, int64_t end);
inline void ReorderToRowMajor(const void* x, void* y, int elem_bytes, int64_t N, int64_t C,
                              int64_t S) {
  ReorderToRowMajor(x, y, elem_bytes, N, C, S, 0, N * S);
}

}  // namespace dunlin
