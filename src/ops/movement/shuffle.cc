#include "ops/movement/shuffle.h"

#include <algorithm>

#include "kernels/interleave.h"

namespace dunlin {
namespace {

// Channels-last f32.
class InterleaveKernel final : public Kernel {
 public:
  InterleaveKernel(int groups, int64_t channels, int64_t pixels)
      : groups_(groups), channels_(channels), pixels_(pixels) {}
  std::string_view name() const override { return "interleave"; }
  bool reads_strided(int) const override { return true; }
  bool writes_strided(int) const override { return true; }
  Status Run(RunContext& ctx) const override {
    InterleaveArgs a;
    a.images = groups_;
    a.channels = channels_;
    for (int i = 0; i < groups_; ++i) {
      const bool one = ctx.input_count() == 1;
      const TensorView& x = ctx.in(one ? 0 : i);
      a.x[i] = x.as<float>() + (one ? i * channels_ : 0);
      a.x_stride[i] = x.pixel_step();
    }
    a.y = ctx.out(0).mut<float>();
    a.y_stride = ctx.out(0).pixel_step();
    // 128 KiB take some 5 microseconds.
    const int64_t grain = std::max<int64_t>(1, (1 << 15) / (groups_ * channels_));
    ctx.ParallelFor(pixels_, grain,
                    [&](int64_t begin, int64_t end) { InterleaveChannels(a, begin, end); });
    return {};
  }

 private:
  int groups_;
  int64_t channels_, pixels_;
};

}  // namespace

Status ChannelShuffle::Infer(const Attrs& a, InferContext& ctx) {
  const Type& first = ctx.input(0);
  const int n = ctx.input_count();
  if (a.groups < 1 || (n > 1 && n != a.groups))
    return Fail(Code::kInvalidArgument, "{} groups of {} inputs", a.groups, n);
  for (int i = 0; i < n; ++i) {
    const Type& x = ctx.input(i);
    if (!x.IsStatic()) {
      ctx.Set(0, Type::Unranked(first.dtype));
      return {};
    }
    if (x.dims.rank() < 2 || x.dims != first.dims || x.dtype != first.dtype)
      return Fail(Code::kInvalidArgument, "input {} is a {}, the first a {}", i, ToString(x),
                  ToString(first));
  }
  Dims out = first.dims;
  out[1] = MulDims(out[1], n);
  TRY(CheckSize(out));
  if (out[1] % a.groups != 0)
    return Fail(Code::kInvalidArgument, "{} channels in {} groups", out[1], a.groups);
  ctx.Set(0, Type::Of(first.dtype, out));
  return {};
}

Result<std::vector<BoxCopy>> ChannelShuffle::Moves(const Attrs& a, MoveQuery& q) {
  const Placed y = q.out(0);
  const int64_t channels = y.dims[1] / a.groups;
  std::vector<BoxCopy> copies;
  for (int64_t i = 0; i < a.groups; ++i) {
    const bool one = q.input_count() == 1;
    const Placed x = q.in(one ? 0 : int(i));
    BoxCopy c{one ? 0 : int(i), 0, x.dims, x.strides, y.strides, 0, i * y.strides[1]};
    if (one) c.x_offset = i * channels * x.strides[1];
    c.dims[1] = channels;
    c.y_strides[1] *= a.groups;
    copies.push_back(std::move(c));
  }
  return copies;
}

LayoutPlan ChannelShuffle::Layouts(const Attrs&, const LayoutQuery& q) {
  const auto last = std::ranges::count(q.current, Layout::kChannelsLast);
  LayoutPlan plan = AllRowMajor(q);
  if (2 * last < std::ptrdiff_t(q.current.size()) || !CanLowerMoves(q.inputs[0].dtype)) return plan;
  std::ranges::fill(plan.inputs, Layout::kChannelsLast);
  std::ranges::fill(plan.outputs, Layout::kChannelsLast);
  return plan;
}

Result<KernelPtr> ChannelShuffleOp::Lower(const Attrs& a, LowerContext& ctx) {
  const Type& y = ctx.output(0);
  if (y.dtype != DType::kF32 || ctx.output_layout(0) != Layout::kChannelsLast ||
      y.dims.rank() < 3 || a.groups > InterleaveArgs::kMaxImages || CountOf(y.dims) == 0)
    return Moving<ChannelShuffle>::Lower(a, ctx);
  return KernelPtr(std::make_unique<InterleaveKernel>(int(a.groups), y.dims[1] / a.groups,
                                                      CountOf(y.dims) / y.dims[1]));
}

}  // namespace dunlin
