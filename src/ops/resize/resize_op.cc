#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/movement/axes.h"
#include "ops/movement/elements.h"
#include "ops/resize/resampling.h"

namespace dunlin {
namespace {

template <class Out>
Result<std::vector<Out>> Floats(const TensorView& v) {
  std::vector<Out> out(static_cast<size_t>(v.count()));
  TRY(VisitDType(v.dtype, "Resize", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsFloat<T>) {
      for (size_t i = 0; i < out.size(); ++i) {
        if constexpr (kIsHalf<T>)
          out[i] = Out(float(v.as<T>()[i]));
        else
          out[i] = Out(v.as<T>()[i]);
      }
      return {};
    } else {
      return Fail(Code::kInvalidArgument, "scales and roi must be floats, they are {}",
                  DTypeName(v.dtype));
    }
  }));
  return out;
}

// An absent input, and one of no elements, say nothing.
bool Given(const TensorView* v) { return v != nullptr && v->count() > 0; }

Result<std::vector<AxisResize>> AxesOf(const Resize::Attrs& a, const Dims& x, const TensorView* roi,
                                       const TensorView* scales, const TensorView* sizes) {
  std::vector<double> r;
  std::vector<float> f;
  std::vector<int64_t> n;
  if (Given(roi)) r = TRY(Floats<double>(*roi));
  if (Given(scales)) f = TRY(Floats<float>(*scales));
  if (Given(sizes)) n = TRY(IntsOf(*sizes));
  return ResizeAxes(a, x, r, f, n);
}

template <class T>
T Narrow(double v) {
  if constexpr (kIsHalf<T>) {
    return T(float(v));
  } else if constexpr (std::is_integral_v<T>) {
    // Truncated into range; NaN cannot come from integers.
    const auto low = double(std::numeric_limits<T>::min()),
               high = double(std::numeric_limits<T>::max());
    if (v >= high) return std::numeric_limits<T>::max();
    return static_cast<T>(std::max(v, low));
  } else {
    return static_cast<T>(v);
  }
}

// x [outer, in, inner] -> [outer, out, inner].
std::vector<double> ResampleAxis(const std::vector<double>& x, int64_t outer,
                                 const AxisResize& axis, int64_t inner, const AxisTaps& t) {
  std::vector<double> y(size_t(outer * axis.out * inner));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t p = 0; p < axis.out; ++p)
      for (int k = 0; k < t.taps; ++k) {
        const size_t tap = size_t(p * t.taps + k);
        const double w = t.weight[tap];
        // A weight of 0 must not let NaN or infinity through.
        if (w == 0) continue;
        const double* from = x.data() + (o * axis.in + t.index[tap]) * inner;
        double* to = y.data() + (o * axis.out + p) * inner;
        for (int64_t i = 0; i < inner; ++i) to[i] += w * from[i];
      }
  return y;
}

// Positions of y that lie outside the cropped input.
template <class Put>
void ForOutside(const std::vector<AxisTaps>& taps, const Dims& dims, const Put& put) {
  const int64_t n = CountOf(dims);
  for (int64_t i = 0; i < n; ++i) {
    int64_t rest = i;
    bool outside = false;
    for (size_t d = dims.size(); d-- > 0; rest /= dims[d])
      outside |= taps[d].outside[size_t(rest % dims[d])];
    if (outside) put(i);
  }
}

Status NearestReference(const TensorView& x, TensorView& y, const std::vector<AxisTaps>& taps) {
  const Dims strides = StridesOf(x.dims);
  const int64_t n = y.count();
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    for (int64_t i = 0; i < n; ++i) {
      int64_t rest = i, from = 0;
      for (size_t d = y.dims.size(); d-- > 0; rest /= y.dims[d])
        from += taps[d].index[size_t(rest % y.dims[d])] * strides[d];
      S::Set(y.data, i, S::Get(x.data, from));
    }
    return {};
  });
}

template <class T>
void WeightedReference(const TensorView& x, TensorView& y, const std::vector<AxisResize>& axes,
                       const std::vector<AxisTaps>& taps) {
  std::vector<double> v(size_t(x.count()));
  for (size_t i = 0; i < v.size(); ++i) {
    if constexpr (kIsHalf<T>)
      v[i] = double(float(x.as<T>()[i]));
    else
      v[i] = double(x.as<T>()[i]);
  }
  // The axes that shrink first, so that nothing between is larger than input and output.
  std::vector<size_t> order;
  for (size_t d = 0; d < axes.size(); ++d)
    if (taps[d].taps > 1) order.push_back(d);
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    return double(axes[i].out) * double(axes[j].in) < double(axes[j].out) * double(axes[i].in);
  });
  Dims dims = x.dims;
  for (const size_t d : order) {
    int64_t outer = 1, inner = 1;
    for (size_t i = 0; i < dims.size(); ++i)
      if (i != d) (i < d ? outer : inner) *= dims[i];
    v = ResampleAxis(v, outer, axes[d], inner, taps[d]);
    dims[d] = axes[d].out;
  }
  for (size_t i = 0; i < v.size(); ++i) y.mut<T>()[i] = Narrow<T>(v[i]);
}

}  // namespace

Status Resize::Infer(const Attrs& a, InferContext& ctx) {
  TRY(ParseResizeMode(a.mode));
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const auto axes = TRY(NormalizeAxes(a.axes, x.dims.rank()));
  // Which of the lists are there, and whether their values are.
  TensorView views[4];
  const TensorView* given[4] = {};
  bool known = true;
  for (int i = 1; i < 4; ++i) {
    if (!ctx.has(i)) continue;
    const Type& t = ctx.input(i);
    if (t.ranked && AllKnown(t.dims) && ElementCount(t.dims).value_or(1) == 0) continue;
    if (i == 1 && a.coordinate_transformation_mode != "tf_crop_and_resize") continue;
    if (const Tensor* v = ctx.value(i)) {
      views[i] = v->view();
      given[i] = &views[i];
    } else if (i != 1) {  // roi does not change extents
      known = false;
    }
  }
  std::vector<int64_t> sizes;
  if (ctx.has(3) && given[3] == nullptr)
    if (const auto s = ctx.ints(3)) sizes = *s;
  Dims out = x.dims;
  const auto forget = [&](size_t d) { out[d] = kUnknownDim; };
  if (!known && sizes.empty()) {
    if (axes.empty())
      for (size_t d = 0; d < out.size(); ++d) forget(d);
    for (const int d : axes) forget(size_t(d));
    if (const auto s = ShapeEntries(ctx, 3); s && a.keep_aspect_ratio_policy == "stretch") {
      const size_t n = axes.empty() ? out.size() : axes.size();
      if (s->size() == n)
        for (size_t i = 0; i < n; ++i) out[axes.empty() ? i : size_t(axes[i])] = (*s)[i];
    }
    ctx.Set(0, Type::Of(x.dtype, std::move(out)));
    return {};
  }
  // Extents that are not known stand as 1 and are restored below.
  Dims stand = x.dims;
  for (int64_t& d : stand)
    if (!IsKnown(d)) d = 1;
  std::vector<double> roi;
  std::vector<float> scales;
  if (given[1] != nullptr) roi = TRY(Floats<double>(*given[1]));
  if (given[2] != nullptr) scales = TRY(Floats<float>(*given[2]));
  if (given[3] != nullptr) sizes = TRY(IntsOf(*given[3]));
  if (given[1] == nullptr) roi.assign(2 * (axes.empty() ? out.size() : axes.size()), 0);
  const auto resized = TRY(ResizeAxes(a, stand, roi, scales, sizes));
  const bool keep = !sizes.empty() && a.keep_aspect_ratio_policy != "stretch" && !AllKnown(x.dims);
  for (size_t d = 0; d < out.size(); ++d) {
    const bool touched = axes.empty() || std::find(axes.begin(), axes.end(), int(d)) != axes.end();
    if (!touched) continue;
    if (keep)
      out[d] = kUnknownDim;
    else if (IsKnown(x.dims[d]) || (!sizes.empty() && scales.empty()))
      out[d] = resized[d].out;
    else if (resized[d].scale != 1)
      out[d] = kUnknownDim;
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status Resize::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const auto input = [&](int i) { return ctx.has(i) ? &ctx.in(i) : nullptr; };
  const auto axes = TRY(AxesOf(a, x.dims, input(1), input(2), input(3)));
  std::vector<AxisTaps> taps;
  for (size_t d = 0; d < axes.size(); ++d) {
    if (axes[d].out != y.dims[d])
      return Fail(Code::kInternal, "axis {} is resized to {}, planned was {}", d, axes[d].out,
                  y.dims[d]);
  }
  if (y.count() == 0) return {};
  for (const AxisResize& axis : axes) taps.push_back(TapsOf(a, axis));
  if (a.mode == "nearest")
    TRY(NearestReference(x, y, taps));
  else
    TRY(VisitDType(x.dtype, "Resize", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (kIsNumber<T>) {
        WeightedReference<T>(x, y, axes, taps);
        return {};
      } else {
        return Fail(Code::kUnimplemented, "Resize interpolates numbers, not {}",
                    DTypeName(x.dtype));
      }
    }));
  if (a.coordinate_transformation_mode != "tf_crop_and_resize") return {};
  return VisitDType(x.dtype, "Resize", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsNumber<T>)
      ForOutside(taps, y.dims,
                 [&](int64_t i) { y.mut<T>()[i] = Narrow<T>(a.extrapolation_value); });
    return {};
  });
}

}  // namespace dunlin
