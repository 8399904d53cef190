#include "ops/elementwise/lower.h"

#include <numeric>

namespace dunlin {
namespace {

// Left-padded with ones to `rank`, both layouts order the elements alike.
bool SameInBothLayouts(const Dims& dims, size_t rank) {
  const size_t pad = rank - dims.size();
  const auto at = [&](size_t i) { return i < pad ? 1 : dims[i - pad]; };
  if (at(1) == 1) return true;
  for (size_t i = 2; i < rank; ++i)
    if (at(i) != 1) return false;
  return true;
}

// Extents of an operand in the memory order of an output of `rank` dimensions stored channels-last;
// nullopt when it is stored otherwise.
std::optional<Dims> ChannelsLastDims(const Dims& dims, size_t rank, Layout layout) {
  const bool stored = layout == Layout::kChannelsLast && dims.size() == rank;
  if (!stored && !SameInBothLayouts(dims, rank)) return std::nullopt;
  Dims d(rank, 1);
  std::copy(dims.begin(), dims.end(), d.begin() + (rank - dims.size()));
  std::rotate(d.begin() + 1, d.begin() + 2, d.end());  // [N, C, spatial…] to [N, spatial…, C]
  return d;
}

// What all blocks of a plan share.
template <size_t N>
Block<N> WholeRows(const BroadcastPlan<N>& plan) {
  const size_t last = plan.dims.size() - 1;
  Block<N> b;
  for (size_t k = 0; k < N; ++k) {
    b.col[k] = plan.strides[k][last];
    b.row[k] = last > 0 ? plan.strides[k][last - 1] : 0;
  }
  b.rows = 1;
  b.cols = plan.dims[last];
  return b;
}

// Points a block at column `col` of row `row`.
template <size_t N>
void MoveTo(const BroadcastPlan<N>& plan, int64_t row, int64_t col, Block<N>& b) {
  const size_t last = plan.dims.size() - 1;
  b.out = row * plan.dims[last] + col;
  for (size_t k = 0; k < N; ++k) b.offset[k] = col * b.col[k];
  for (size_t d = last; d-- > 0;) {
    const int64_t at = row % plan.dims[d];
    row /= plan.dims[d];
    for (size_t k = 0; k < N; ++k) b.offset[k] += at * plan.strides[k][d];
  }
}

// Rows [begin, end), in blocks along the last but one dimension.
template <size_t N>
void RunRows(const BroadcastPlan<N>& plan, int64_t begin, int64_t end, const BlockFn<N>& f,
             const Operands<N>& in, void* out) {
  const size_t last = plan.dims.size() - 1;
  const int64_t run = last > 0 ? plan.dims[last - 1] : 1;
  Block<N> b = WholeRows(plan);
  for (int64_t r = begin; r < end; r += b.rows) {
    b.rows = std::min(end - r, run - r % run);
    MoveTo(plan, r, 0, b);
    f(in, out, b);
  }
}

template <size_t N>
class BroadcastKernel final : public Kernel {
 public:
  BroadcastKernel(std::string_view name, BroadcastPlan<N> plan, int64_t grain, const BlockFn<N>& f)
      : name_(name), plan_(std::move(plan)), grain_(grain), f_(f) {}
  std::string_view name() const override { return name_; }
  Status Run(RunContext& ctx) const override {
    Operands<N> in;
    for (size_t k = 0; k < N; ++k) in[k] = ctx.in(int(k)).data;
    RunParallel(ctx, plan_, grain_, f_, in, ctx.out(0).data);
    return {};
  }

 private:
  std::string_view name_;
  BroadcastPlan<N> plan_;
  int64_t grain_;
  BlockFn<N> f_;
};

}  // namespace

template <size_t N>
std::optional<BroadcastPlan<N>> PlanLowered(const LowerContext& ctx,
                                            const std::array<int, N>& inputs) {
  const Type& y = ctx.output(0);
  const bool last = ctx.output_layout(0) == Layout::kChannelsLast && y.dims.rank() >= 3;
  std::array<Dims, N> dims;
  std::array<std::span<const int64_t>, N> spans;
  for (size_t k = 0; k < N; ++k) {
    const Dims& own = ctx.input(inputs[k]).dims;
    if (last) {
      auto physical = ChannelsLastDims(own, y.dims.size(), ctx.input_layout(inputs[k]));
      if (!physical) return std::nullopt;
      dims[k] = std::move(*physical);
    } else {
      // Stored channels-last only in name: both layouts must be the same memory.
      if (ctx.input_layout(inputs[k]) == Layout::kChannelsLast && own.rank() >= 3 &&
          !SameInBothLayouts(own, own.size()))
        return std::nullopt;
      dims[k] = own;
    }
    spans[k] = dims[k];
  }
  if (!last) return PlanBroadcast<N>(y.dims, spans);
  return PlanBroadcast<N>(*ChannelsLastDims(y.dims, y.dims.size(), Layout::kChannelsLast), spans);
}

template <size_t N>
void RunSerial(const BroadcastPlan<N>& plan, const BlockFn<N>& f, const Operands<N>& in,
               void* out) {
  if (plan.cols() > 0) RunRows(plan, 0, plan.rows(), f, in, out);
}

template <size_t N>
void RunParallel(RunContext& ctx, const BroadcastPlan<N>& plan, int64_t grain, const BlockFn<N>& f,
                 const Operands<N>& in, void* out) {
  const int64_t cols = plan.cols(), rows = plan.rows();
  if (rows * cols <= grain) return RunSerial(plan, f, in, out);
  if (cols <= grain)
    return ctx.ParallelFor(
        rows, std::max<int64_t>(1, grain / cols),
        [&](int64_t begin, int64_t end) { RunRows(plan, begin, end, f, in, out); });
  const int64_t pieces = (cols + grain - 1) / grain;  // of one row
  ctx.ParallelFor(rows * pieces, 1, [&](int64_t begin, int64_t end) {
    Block<N> b = WholeRows(plan);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t col = i % pieces * grain;
      b.cols = std::min(grain, cols - col);
      MoveTo(plan, i / pieces, col, b);
      f(in, out, b);
    }
  });
}

template <size_t N>
Result<KernelPtr> MakeBroadcastKernel(std::string_view name, const LowerContext& ctx, int64_t grain,
                                      const BlockFn<N>& f) {
  std::array<int, N> inputs;
  std::iota(inputs.begin(), inputs.end(), 0);
  auto plan = PlanLowered(ctx, inputs);
  if (!plan) return nullptr;
  return std::make_unique<BroadcastKernel<N>>(name, std::move(*plan), grain, f);
}

template std::optional<BroadcastPlan<2>> PlanLowered(const LowerContext&,
                                                     const std::array<int, 2>&);
template void RunParallel(RunContext&, const BroadcastPlan<2>&, int64_t, const BlockFn<2>&,
                          const Operands<2>&, void*);
template void RunSerial(const BroadcastPlan<1>&, const BlockFn<1>&, const Operands<1>&, void*);
template void RunSerial(const BroadcastPlan<2>&, const BlockFn<2>&, const Operands<2>&, void*);
template void RunSerial(const BroadcastPlan<3>&, const BlockFn<3>&, const Operands<3>&, void*);
template Result<KernelPtr> MakeBroadcastKernel(std::string_view, const LowerContext&, int64_t,
                                               const BlockFn<1>&);
template Result<KernelPtr> MakeBroadcastKernel(std::string_view, const LowerContext&, int64_t,
                                               const BlockFn<2>&);
template Result<KernelPtr> MakeBroadcastKernel(std::string_view, const LowerContext&, int64_t,
                                               const BlockFn<3>&);

LayoutPlan RowMajorLayouts(const LayoutQuery& q) {
  LayoutPlan plan;
  plan.inputs.assign(q.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(q.outputs.size(), Layout::kRowMajor);
  return plan;
}

LayoutPlan ElementwiseLayouts(const LayoutQuery& q) {
  LayoutPlan plan = RowMajorLayouts(q);
  const Type& y = q.outputs[0];
  if (!y.ranked || y.dims.rank() < 3) return plan;
  const size_t rank = y.dims.size();
  bool wanted = false;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    const Type& x = q.inputs[i];
    if (x.dtype == DType::kUndefined) continue;
    if (!x.ranked || (x.dims.size() != rank && !SameInBothLayouts(x.dims, rank))) return plan;
    wanted |= x.dims.size() == rank && q.current[i] == Layout::kChannelsLast &&
              !SameInBothLayouts(x.dims, rank);
  }
  if (!wanted) return plan;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    const Type& x = q.inputs[i];
    if (x.dtype == DType::kUndefined || x.dims.size() != rank) continue;
    plan.inputs[i] = SameInBothLayouts(x.dims, rank) ? q.current[i] : Layout::kChannelsLast;
  }
  std::fill(plan.outputs.begin(), plan.outputs.end(), Layout::kChannelsLast);
  return plan;
}

}  // namespace dunlin
