// What the lowerings of elementwise operators share: layouts, the split over threads, and a kernel
// whose broadcasting is worked out once.
#pragma once

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

// The plan of inputs 0..N-1 and output 0 in memory order; nullopt when the layouts do not go
// together.
template <size_t N>
std::optional<BroadcastPlan<N>> PlanLowered(const LowerContext& ctx);

// Part of a plan: `rows` rows of `cols` elements. Element (r, c) of operand k lies at offset[k] + r
// * row[k] + c * col[k] (in elements), of the output at out + r * cols_of_plan + c; rows > 1 only
// with whole rows.
template <size_t N>
struct Block {
  std::array<int64_t, N> offset, row, col;
  int64_t out, rows, cols;
};

// Calls block(Block) for all of the plan, on as many threads as its size deserves.
template <size_t N, class F>
void RunBlocks(RunContext& ctx, const BroadcastPlan<N>& plan, int64_t grain, const F& block) {
  const size_t last = plan.dims.size() - 1;
  const int64_t cols = plan.dims[last], rows = plan.rows();
  if (rows * cols == 0) return;
  Block<N> whole;  // what all blocks share
  for (size_t k = 0; k < N; ++k) {
    whole.col[k] = plan.strides[k][last];
    whole.row[k] = last > 0 ? plan.strides[k][last - 1] : 0;
  }
  const int64_t run = last > 0 ? plan.dims[last - 1] : 1;  // rows one block can hold
  const auto do_rows = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end;) {
      Block<N> b = whole;
      b.rows = std::min(end - r, run - r % run);
      b.cols = cols;
      b.out = r * cols;
      b.offset.fill(0);
      int64_t rest = r;
      for (size_t d = last; d-- > 0;) {
        const int64_t at = rest % plan.dims[d];
        rest /= plan.dims[d];
        for (size_t k = 0; k < N; ++k) b.offset[k] += at * plan.strides[k][d];
      }
      block(b);
      r += b.rows;
    }
  };
  if (rows * cols <= grain) return do_rows(0, rows);
  if (cols <= grain) return ctx.ParallelFor(rows, std::max<int64_t>(1, grain / cols), do_rows);
  const int64_t pieces = (cols + grain - 1) / grain;  // of one row
  ctx.ParallelFor(rows * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t r = i / pieces, c = i % pieces * grain;
      Block<N> b = whole;
      b.rows = 1;
      b.cols = std::min(grain, cols - c);
      b.out = r * cols + c;
      int64_t rest = r;
      for (size_t k = 0; k < N; ++k) b.offset[k] = c * b.col[k];
      for (size_t d = last; d-- > 0;) {
        const int64_t at = rest % plan.dims[d];
        rest /= plan.dims[d];
        for (size_t k = 0; k < N; ++k) b.offset[k] += at * plan.strides[k][d];
      }
      block(b);
    }
  });
}

// F: void(const std::array<const void*, N>& in, void* out, const Block<N>&), stateless or constant.
template <size_t N, class F>
class BroadcastKernel final : public Kernel {
 public:
  BroadcastKernel(std::string_view name, BroadcastPlan<N> plan, int64_t grain, F f)
      : name_(name), plan_(std::move(plan)), grain_(grain), f_(std::move(f)) {}
  Status Run(RunContext& ctx) const override {
    std::array<const void*, N> in;
    for (size_t k = 0; k < N; ++k) in[k] = ctx.in(int(k)).data;
    void* out = ctx.out(0).data;
    RunBlocks(ctx, plan_, grain_, [&](const Block<N>& b) { f_(in, out, b); });
    return {};
  }
  std::string_view name() const override { return name_; }

 private:
  std::string_view name_;
  BroadcastPlan<N> plan_;
  int64_t grain_;
  F f_;
};

// nullptr when the layouts do not go together.
template <size_t N, class F>
Result<KernelPtr> MakeBroadcastKernel(std::string_view name, const LowerContext& ctx, int64_t grain,
                                      F f) {
  auto plan = PlanLowered<N>(ctx);
  if (!plan) return nullptr;
  return std::make_unique<BroadcastKernel<N, F>>(name, std::move(*plan), grain, std::move(f));
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

// ---- implementation ----

// Extents of an operand in the memory order of an output of `rank` dimensions stored channels-last;
// nullopt when it is stored otherwise.
std::optional<Dims> ChannelsLastDims(const Dims& dims, size_t rank, Layout layout);

template <size_t N>
std::optional<BroadcastPlan<N>> PlanLowered(const LowerContext& ctx) {
  const Type& y = ctx.output(0);
  const bool last = ctx.output_layout(0) == Layout::kChannelsLast && y.dims.rank() >= 3;
  std::array<Dims, N> dims;
  std::array<std::span<const int64_t>, N> spans;
  for (size_t k = 0; k < N; ++k) {
    const Dims& own = ctx.input(int(k)).dims;
    if (last) {
      auto physical = ChannelsLastDims(own, y.dims.size(), ctx.input_layout(int(k)));
      if (!physical) return std::nullopt;
      dims[k] = std::move(*physical);
    } else {
      // Stored channels-last, but only in name: both layouts are the same memory.
      if (ctx.input_layout(int(k)) == Layout::kChannelsLast && own.rank() >= 3 &&
          !ChannelsLastDims(own, own.size(), Layout::kRowMajor))
        return std::nullopt;
      dims[k] = own;
    }
    spans[k] = dims[k];
  }
  if (!last) return PlanBroadcast<N>(y.dims, spans);
  return PlanBroadcast<N>(*ChannelsLastDims(y.dims, y.dims.size(), Layout::kChannelsLast), spans);
}

}  // namespace dunlin
