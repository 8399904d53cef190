// Operators that only move elements, described once: an operator says which boxes of its inputs
// land where (Moves), and Moving<T> makes its reference (plain loops, every element type) and its
// kernel (StridedCopy, any layout) from that.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/copy.h"
#include "ops/movement/axes.h"
#include "ops/op.h"

namespace dunlin {

// A box of elements copied from an input to an output; strides and offsets in elements.
struct BoxCopy {
  int input = 0;  // -1: a zero (or empty string); its strides are 0
  int output = 0;
  Dims dims;
  Dims x_strides, y_strides;
  int64_t x_offset = 0, y_offset = 0;
};

// A value's extents and where they lie in memory.
struct Placed {
  Dims dims;
  Dims strides;
  bool channels_last = false;
};

// What Moves sees of a node: before it runs (some integers may not be known) or while it runs.
class MoveQuery {
 public:
  virtual ~MoveQuery() = default;
  virtual int input_count() const = 0;
  virtual int output_count() const = 0;
  virtual bool has(int i) const = 0;
  virtual bool wants(int output) const = 0;
  virtual Placed in(int i) const = 0;
  virtual Placed out(int i) const = 0;
  virtual Result<std::vector<int64_t>> ints(int i) = 0;
};

// The boxes of output `output`, of extents `whole`, outside the box [begin, begin + inner), filled
// with the first element of input `fill` (-1: zero).
void FillOutside(const Placed& whole, std::span<const int64_t> begin,
                 std::span<const int64_t> inner, int output, int fill,
                 std::vector<BoxCopy>& copies);

using MovesFn = Result<std::vector<BoxCopy>> (*)(const Attrs&, MoveQuery&);

// The reference: every copy, element by element.
Status RunMoves(const std::vector<BoxCopy>& copies, RunContext& ctx);
Result<std::vector<BoxCopy>> MovesOf(MovesFn moves, const Attrs& attrs, RunContext& ctx);
// The kernel; nullptr for elements that are not 1, 2, 4 or 8 bytes and when `moves` is
// kUnimplemented. Takes a copy of the attributes when the boxes are known only at run time.
Result<KernelPtr> LowerMoves(MovesFn moves, const Attrs& attrs, LowerContext& ctx);

// Elements of 1, 2, 4 or 8 bytes.
bool CanLowerMoves(DType t);

LayoutPlan AllRowMajor(const LayoutQuery& q);
// All inputs as they are; the outputs as `output`. Row-major for elements without a kernel.
LayoutPlan InputsAsTheyAre(const LayoutQuery& q, Layout output);
// The output as the first input, when both have the same rank.
LayoutPlan LikeFirstInput(const LayoutQuery& q);

template <class T>
struct Moving : T {
  using A = typename T::Attrs;
  static Result<std::vector<BoxCopy>> Erased(const dunlin::Attrs& a, MoveQuery& q) {
    return T::Moves(As<A>(a), q);
  }
  static Status Reference(const A& a, RunContext& ctx) {
    const auto copies = TRY(MovesOf(&Erased, AttrsOf<A>(a), ctx));
    return RunMoves(copies, ctx);
  }
  static Result<KernelPtr> Lower(const A& a, LowerContext& ctx) {
    return LowerMoves(&Erased, AttrsOf<A>(a), ctx);
  }
};

}  // namespace dunlin
