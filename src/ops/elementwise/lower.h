// What the lowerings of elementwise operators share: layouts, the split over threads, and a kernel
// whose broadcasting is worked out once.
#pragma once

#include <cstring>
#include <type_traits>

#include "ops/elementwise/broadcast.h"
#include "ops/elementwise/numeric.h"
#include "ops/op.h"

namespace dunlin {

// Elements a thread should get at least: some 10 microseconds at one to three elements per
// nanosecond for loops of one vector operation, and at tens of vector operations.
inline constexpr int64_t kCheapGrain = 32768, kCostlyGrain = 8192;

// Operators that treat every element alike keep channels-last storage when an input has it and all
// operands can be read that way: same rank, or few enough extents that both layouts are the same
// memory.
LayoutPlan ElementwiseLayouts(const LayoutQuery& query);
LayoutPlan RowMajorLayouts(const LayoutQuery& query);

// Part of a plan: `rows` rows of `cols` elements. Element (r, c) of operand k lies at offset[k] + r
// * row[k] + c * col[k] (in elements), of the output at out + r * cols_of_plan + c; rows > 1 only
// with whole rows.
template <size_t N>
struct Block {
  std::array<int64_t, N> offset, row, col;
  int64_t out, rows, cols;
};

template <size_t N>
using Operands = std::array<const void*, N>;

// A loop over blocks with its arguments bound: void(const Operands<N>& in, void* out, const
// Block<N>&). Type-erased by hand so that what surrounds the loop is compiled once, not once per
// operator and element type.
template <size_t N>
class BlockFn {
 public:
  template <class F>
  BlockFn(const F& f)  // NOLINT: implicit on purpose, so that a lambda can be passed
      : call_([](const void* state, const Operands<N>& in, void* out, const Block<N>& b) {
          (*static_cast<const F*>(state))(in, out, b);
        }) {
    static_assert(std::is_trivially_copyable_v<F> && sizeof(F) <= sizeof(state_));
    std::memcpy(state_, &f, sizeof(F));
  }
  void operator()(const Operands<N>& in, void* out, const Block<N>& b) const {
    call_(state_, in, out, b);
  }

 private:
  void (*call_)(const void*, const Operands<N>&, void*, const Block<N>&);
  alignas(8) std::byte state_[16] = {};
};

// Runs f over all of the plan: on the calling thread, or on as many as its size deserves.
template <size_t N>
void RunSerial(const BroadcastPlan<N>& plan, const BlockFn<N>& f, const Operands<N>& in, void* out);
template <size_t N>
void RunParallel(RunContext& ctx, const BroadcastPlan<N>& plan, int64_t grain, const BlockFn<N>& f,
                 const Operands<N>& in, void* out);

// The plan of these inputs and output 0 in memory order; nullopt when the layouts do not go
// together.
template <size_t N>
std::optional<BroadcastPlan<N>> PlanLowered(const LowerContext& ctx,
                                            const std::array<int, N>& inputs);

// The reference's way: works the broadcasting out and runs f on inputs 0..N-1 and output 0,
// row-major.
template <size_t N>
Status RunReference(RunContext& ctx, const BlockFn<N>& f) {
  Operands<N> in;
  std::array<std::span<const int64_t>, N> dims;
  for (size_t k = 0; k < N; ++k) {
    in[k] = ctx.in(int(k)).data;
    dims[k] = ctx.in(int(k)).dims;
  }
  RunSerial(PlanBroadcast<N>(ctx.out(0).dims, dims), f, in, ctx.out(0).data);
  return {};
}

// The kernel's way: broadcasting is worked out now. nullptr when the layouts do not go together.
template <size_t N>
Result<KernelPtr> MakeBroadcastKernel(std::string_view name, const LowerContext& ctx, int64_t grain,
                                      const BlockFn<N>& f);

// The loop make(TypeTag<T>{}) gives for elements of type t.
template <size_t N, class Types, class F>
Result<BlockFn<N>> LoopFor(DType t, std::string_view name, const F& make) {
  std::optional<BlockFn<N>> loop;
  const Status s = VisitTypes<Types>(t, name, [&](auto tag) -> Status {
    loop = make(tag);
    return {};
  });
  if (!s) return Fail(s.error());
  return *loop;
}

// The kernel make(TypeTag<T>{}) builds for elements of type t.
template <class Types, class F>
Result<KernelPtr> LowerFor(DType t, std::string_view name, const F& make) {
  Result<KernelPtr> kernel;
  const Status s = VisitTypes<Types>(t, name, [&](auto tag) -> Status {
    kernel = make(tag);
    return {};
  });
  if (!s) return Fail(s.error());
  return kernel;
}

}  // namespace dunlin
