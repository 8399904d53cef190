// Copying a box of elements between two strided arrangements: what Transpose, Concat, Slice, Pad,
// Expand and their like come down to. Pure data movement: bit-exact.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dims.h"

namespace dunlin {

// y[i·y_strides] = x[i·x_strides] for every index i of the box, prepared once and run often.
//   Strides are in elements of 1, 2, 4 or 8 bytes; those of x may be 0 or negative, those of y are
//   positive and reach no element twice.
// Preparing merges extents, and chooses between one block, runs, fills, planes (transpose.h) and
// single elements. Immutable; Run is thread-safe on disjoint units.
class StridedCopy {
 public:
  StridedCopy(std::span<const int64_t> dims, std::span<const int64_t> x_strides,
              std::span<const int64_t> y_strides, int elem_bytes);

  int64_t units() const { return units_; }  // independent pieces of work
  int64_t bytes() const { return bytes_; }  // written by all of them
  // Units that make a chunk of work large enough to give to another thread.
  int64_t grain() const;
  void Run(const void* x, void* y, int64_t begin, int64_t end) const;
  void Run(const void* x, void* y) const { Run(x, y, 0, units_); }

 private:
  enum class Kind : uint8_t { kBlock, kRuns, kFill, kPlane, kElements };
  struct Axis {
    int64_t n = 1, x = 0, y = 0;  // extent and strides in bytes
  };
  void Core(const uint8_t* x, uint8_t* y, int64_t first, int64_t count) const;

  Kind kind_ = Kind::kBlock;
  int elem_bytes_;
  int64_t units_ = 0, bytes_ = 0;
  int64_t inner_units_ = 1;           // units inside one core
  Axis row_, element_;                // the core: rows of elements
  Dims outer_n_, outer_x_, outer_y_;  // around it
};

}  // namespace dunlin
