// LRN: local response normalisation across channels,
//   y[c] = x[c] / (bias + alpha / size * sum over neighbouring channels of x^2) ^ beta
#include <cmath>

#include "ops/elementwise/lower.h"
#include "ops/norm/norm.h"

namespace dunlin {
namespace {

struct LrnAttrs {
  float alpha = 1e-4f, beta = 0.75f, bias = 1;
  int64_t size = 0;
  template <class V>
  void Visit(V& v) {
    v("alpha", alpha);
    v("beta", beta);
    v("bias", bias);
    v("size", size);
  }
};

// Channels [c - before, c + after] count; clamped so that sums with them cannot overflow.
struct Neighbours {
  int64_t before, after;
  Neighbours(int64_t size, int64_t channels)
      : before(std::min((size - 1) / 2, channels)), after(std::min(size / 2, channels)) {}
};

// Rows of memory: one channel of an image, or in channels-last layout all channels of one pixel.
// Neighbouring channels are other rows, or other places of the row.
class LrnKernel final : public Kernel {
 public:
  LrnKernel(const Dims& dims, bool channels_last, const LrnAttrs& a)
      : split_(SplitChannels(dims)),
        channels_last_(channels_last || split_.spatial == 1),
        near_(a.size, split_.channels),
        bias_(a.bias),
        scale_(a.alpha / float(a.size)),
        beta_(a.beta) {}
  std::string_view name() const override { return "lrn"; }

  Status Run(RunContext& ctx) const override {
    const float* x = ctx.in(0).as<float>();
    float* y = ctx.out(0).mut<float>();
    const int64_t length = channels_last_ ? split_.channels : split_.spatial;
    const int64_t rows = split_.batch * (channels_last_ ? split_.spatial : split_.channels);
    if (rows * length == 0) return {};
    const int64_t grain = std::max<int64_t>(1, kCostlyGrain / length);
    ctx.ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t i = 0; i < length; i += kBlock)
          Block(x + r * length, r % split_.channels, i, std::min(length, i + kBlock), length,
                y + r * length);
    });
    return {};
  }

 private:
  static constexpr int64_t kBlock = 256;  // sums of squares that stay in the first-level cache

  void Block(const float* x, int64_t channel, int64_t begin, int64_t end, int64_t length,
             float* y) const {
    float squares[kBlock] = {};
    for (int64_t k = -near_.before; k <= near_.after; ++k) {
      int64_t from = begin, to = end;
      if (channels_last_) {
        from = std::max(begin, -k);
        to = std::min(end, length - k);
      } else if (channel + k < 0 || channel + k >= split_.channels) {
        continue;
      }
      const float* near = x + k * (channels_last_ ? 1 : length);
      for (int64_t i = from; i < to; ++i) squares[i - begin] += near[i] * near[i];
    }
    // The usual exponent is two square roots.
    if (beta_ == 0.75f) {
      for (int64_t i = begin; i < end; ++i) {
        const float root = std::sqrt(bias_ + scale_ * squares[i - begin]);
        y[i] = x[i] / (root * std::sqrt(root));
      }
    } else {
      for (int64_t i = begin; i < end; ++i)
        y[i] = x[i] / std::pow(bias_ + scale_ * squares[i - begin], beta_);
    }
  }

  ChannelSplit split_;
  bool channels_last_;
  Neighbours near_;
  float bias_, scale_, beta_;
};

struct Lrn {
  static constexpr std::string_view kName = "LRN";
  using Attrs = LrnAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (a.size < 1) return Fail(Code::kInvalidArgument, "{}: size is {}", kName, a.size);
    if (x.ranked && x.dims.rank() < 2)
      return Fail(Code::kInvalidArgument, "{}: extents {} have no channels", kName,
                  ToString(x.dims));
    ctx.Set(0, x);
    return {};
  }
  // f32: within 4 ulp of the reference times size.
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    if (ctx.input(0).dtype != DType::kF32) return KernelPtr();
    return KernelPtr(std::make_unique<LrnKernel>(ctx.input(0).dims,
                                                 ctx.input_layout(0) == Layout::kChannelsLast, a));
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) {
    return q.inputs[0].dtype == DType::kF32 ? ElementwiseLayouts(q) : RowMajorLayouts(q);
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const ChannelSplit s = SplitChannels(x.dims);
    const Neighbours near(a.size, s.channels);
    return VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      T* out = ctx.out(0).mut<T>();
      for (int64_t n = 0; n < s.batch; ++n)
        for (int64_t i = 0; i < s.spatial; ++i) {
          const int64_t base = n * s.channels * s.spatial + i;
          const T* line = x.as<T>() + base;
          for (int64_t c = 0; c < s.channels; ++c) {
            double squares = 0;
            for (int64_t k = std::max<int64_t>(0, c - near.before);
                 k <= std::min(s.channels - 1, c + near.after); ++k)
              squares += Widen(line[k * s.spatial]) * Widen(line[k * s.spatial]);
            out[base + c * s.spatial] =
                Narrow<T>(Widen(line[c * s.spatial]) /
                          std::pow(a.bias + a.alpha / double(a.size) * squares, a.beta));
          }
        }
      return {};
    });
  }
};

}  // namespace

OpDef LrnOp() { return Declare<Lrn>(Lrn::kName, {}); }

}  // namespace dunlin
