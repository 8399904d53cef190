#include "ops/attention/segments.h"

#include <algorithm>
#include <cmath>

namespace dunlin {
namespace {

// Sums of floats are double, those of integers wrap.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, T>;
template <class T>
T Sum(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  else
    return a + b;
}

struct SegmentSoftmax {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckOffsets(ctx, 1));
    const Type& x = ctx.input(0);
    if (x.ranked && x.dims.rank() < 2)
      return Fail(Code::kInvalidArgument, "scores of rank {}", x.dims.rank());
    if (x.dtype != DType::kF32 && x.dtype != DType::kUndefined)
      return Fail(Code::kInvalidArgument, "scores of {}: f32 is needed", DTypeName(x.dtype));
    ctx.Set(0, x);
    return {};
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const int64_t n = x.dims.back(), rows = x.dims[size_t(x.rank()) - 2];
    const auto offsets = OffsetsOf(ctx.in(1));
    TRY(CheckSegments(offsets, std::min(n, rows)));
    float* const y = ctx.out(0).mut<float>();
    std::fill_n(y, x.count(), 0.0f);
    for (int64_t at = 0; n > 0 && at < x.count(); at += n) {
      const Segment s = SegmentOf(offsets, at / n % rows);
      double largest = -HUGE_VAL, sum = 0;
      for (int64_t t = s.begin; t < s.end; ++t)
        largest = std::fmax(largest, double(x.as<float>()[at + t]));
      for (int64_t t = s.begin; t < s.end; ++t)
        sum += std::exp(double(x.as<float>()[at + t]) - largest);
      for (int64_t t = s.begin; t < s.end; ++t)
        y[at + t] = float(std::exp(double(x.as<float>()[at + t]) - largest) / sum);
    }
    return {};
  }
};

struct SegmentReduce {
  using Attrs = SegmentReduceAttrs;

  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckOffsets(ctx, 1));
    if (a.reduction < 0 || a.reduction > int64_t(SegmentReduction::kMax))
      return Fail(Code::kInvalidArgument, "a reduction of {}", a.reduction);
    const Type& x = ctx.input(0);
    if (!x.ranked) {
      ctx.Set(0, Type::Unranked(x.dtype));
      return {};
    }
    if (x.dims.rank() < 2 || (IsKnown(x.dims[0]) && x.dims[0] != 1))
      return Fail(Code::kInvalidArgument, "{} is not [1, T, ...]", ToString(x));
    const Type& offsets = ctx.input(1);
    const bool known = offsets.ranked && IsKnown(offsets.dims[0]);
    Dims dims = x.dims;
    dims.erase(0);
    dims[0] = known ? std::max<int64_t>(offsets.dims[0] - 1, 0) : kUnknownDim;
    ctx.Set(0, Type::Of(x.dtype, std::move(dims)));
    return {};
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const auto offsets = OffsetsOf(ctx.in(1));
    TRY(CheckSegments(offsets, x.dims[1]));
    const int64_t inner = x.dims[1] == 0 ? 0 : x.count() / x.dims[1];
    return VisitDType(x.dtype, "SegmentReduce", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (std::is_same_v<T, float> || std::is_same_v<T, int64_t> ||
                    std::is_same_v<T, int32_t>) {
        for (size_t s = 0; s + 1 < offsets.size(); ++s)
          for (int64_t i = 0; i < inner; ++i)
            ctx.out(0).mut<T>()[int64_t(s) * inner + i] = T(Of(
                SegmentReduction(a.reduction), x.as<T>() + i, inner, {offsets[s], offsets[s + 1]}));
        return {};
      } else {
        return Fail(Code::kUnimplemented, "a reduction of {}", DTypeName(x.dtype));
      }
    });
  }

 private:
  template <class T>
  static auto Of(SegmentReduction how, const T* x, int64_t stride, Segment s) {
    if (s.begin == s.end) return Wide<T>(0);
    Wide<T> sum = 0, largest = x[s.begin * stride];
    for (int64_t t = s.begin; t < s.end; ++t) {
      const Wide<T> v = x[t * stride];
      sum = Sum(sum, v);
      if (!(v <= largest)) largest = v;  // a NaN stays, as in ReduceMax
    }
    return how == SegmentReduction::kMax    ? largest
           : how == SegmentReduction::kMean ? Wide<T>(sum / Wide<T>(s.end - s.begin))
                                            : sum;
  }
};

struct SegmentCumSum {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckOffsets(ctx, 1));
    const Type& x = ctx.input(0);
    if (x.ranked && (x.dims.rank() < 2 || (IsKnown(x.dims[0]) && x.dims[0] != 1)))
      return Fail(Code::kInvalidArgument, "{} is not [1, T, ...]", ToString(x));
    ctx.Set(0, x);
    return {};
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const auto offsets = OffsetsOf(ctx.in(1));
    TRY(CheckSegments(offsets, x.dims[1]));
    const int64_t inner = x.dims[1] == 0 ? 0 : x.count() / x.dims[1];
    return VisitDType(x.dtype, "SegmentCumSum", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (std::is_same_v<T, float> || std::is_same_v<T, int64_t> ||
                    std::is_same_v<T, int32_t>) {
        T* const y = ctx.out(0).mut<T>();
        std::fill_n(y, x.count(), T(0));
        for (size_t s = 0; s + 1 < offsets.size(); ++s)
          for (int64_t i = 0; i < inner; ++i) {
            Wide<T> sum = 0;
            for (int64_t t = offsets[s]; t < offsets[s + 1]; ++t)
              y[t * inner + i] = T(sum = Sum(sum, Wide<T>(x.as<T>()[t * inner + i])));
          }
        return {};
      } else {
        return Fail(Code::kUnimplemented, "a sum of {}", DTypeName(x.dtype));
      }
    });
  }
};

}  // namespace

Status CheckOffsets(InferContext& ctx, int i) {
  const Type& t = ctx.input(i);
  if (t.dtype != DType::kUndefined && t.dtype != DType::kI64)
    return Fail(Code::kInvalidArgument, "offsets of {}: i64 is needed", DTypeName(t.dtype));
  if (t.ranked && t.dims.rank() != 1)
    return Fail(Code::kInvalidArgument, "offsets of rank {}, not 1", t.dims.rank());
  return {};
}

Status CheckSegments(std::span<const int64_t> offsets, int64_t count) {
  if (offsets.empty() || offsets.front() != 0 || offsets.back() > count ||
      !std::is_sorted(offsets.begin(), offsets.end()))
    return Fail(Code::kInvalidArgument, "the offsets do not cut {} places into segments", count);
  return {};
}

Segment SegmentOf(std::span<const int64_t> offsets, int64_t at) {
  const auto end = std::upper_bound(offsets.begin(), offsets.end(), at);
  if (end == offsets.begin() || end == offsets.end()) return {};
  return {*(end - 1), *end};
}

std::vector<OpDef> SegmentOps() {
  const OpTraits two = {.domain = "dunlin", .min_inputs = 2, .max_inputs = 2};
  return {Declare<SegmentSoftmax>("SegmentSoftmax", two),
          Declare<SegmentReduce>("SegmentReduce", two),
          Declare<SegmentCumSum>("SegmentCumSum", two)};
}

}  // namespace dunlin
