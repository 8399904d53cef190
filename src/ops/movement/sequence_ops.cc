// ReverseSequence, Trilu, Col2Im.
#include "ops/movement/elements.h"
#include "ops/movement/movement.h"

namespace dunlin {
namespace {

// What Col2Im's attributes and lists come to, per spatial axis.
struct Windows {
  Dims image, block, dilations, strides, begin, end, steps;
  int64_t block_count = 1, step_count = 1;
};

Result<Windows> WindowsOf(const Col2Im::Attrs& a, const std::vector<int64_t>& image,
                          const std::vector<int64_t>& block) {
  constexpr int64_t kLimit = int64_t{1} << 31;  // sums and products below stay in 64 bits
  const size_t n = image.size();
  const auto fits = [&](const std::vector<int64_t>& v, size_t want) {
    return v.empty() || v.size() == want;
  };
  if (n == 0 || block.size() != n || !fits(a.dilations, n) || !fits(a.strides, n) ||
      !fits(a.pads, 2 * n))
    return Fail(
        Code::kInvalidArgument,
        "image_shape, block_shape, dilations, strides and pads disagree about the number of axes");
  Windows w;
  for (size_t i = 0; i < n; ++i) {
    const int64_t dilation = a.dilations.empty() ? 1 : a.dilations[i];
    const int64_t stride = a.strides.empty() ? 1 : a.strides[i];
    const int64_t begin = a.pads.empty() ? 0 : a.pads[i], end = a.pads.empty() ? 0 : a.pads[n + i];
    for (const int64_t positive : {image[i], block[i], dilation, stride})
      if (positive < 1 || positive > kLimit)
        return Fail(Code::kInvalidArgument, "axis {} has an extent, stride or dilation of {}", i,
                    positive);
    if (begin < 0 || end < 0 || begin > kLimit || end > kLimit)
      return Fail(Code::kInvalidArgument, "axis {} has pads {} and {}", i, begin, end);
    const int64_t span = image[i] + begin + end - dilation * (block[i] - 1) - 1;
    if (span < 0)
      return Fail(Code::kInvalidArgument, "axis {}: the block is larger than the image", i);
    w.image.push_back(image[i]);
    w.block.push_back(block[i]);
    w.dilations.push_back(dilation);
    w.strides.push_back(stride);
    w.begin.push_back(begin);
    w.end.push_back(end);
    w.steps.push_back(span / stride + 1);
  }
  const auto blocks = ElementCount(w.block), steps = ElementCount(w.steps);
  if (!blocks || !steps) return Fail(Code::kInvalidArgument, "the columns would be too many");
  w.block_count = *blocks;
  w.step_count = *steps;
  return w;
}

Result<Dims> Col2ImExtents(const Windows& w, const Dims& x) {
  if (x.rank() != 3)
    return Fail(Code::kInvalidArgument, "the columns have rank {}, not 3", x.rank());
  if (IsKnown(x[1]) && x[1] % w.block_count != 0)
    return Fail(Code::kInvalidArgument, "{} rows are no multiple of the block's {} elements", x[1],
                w.block_count);
  if (IsKnown(x[2]) && x[2] != w.step_count)
    return Fail(Code::kInvalidArgument, "{} columns are given, the image has {}", x[2],
                w.step_count);
  Dims out{x[0], IsKnown(x[1]) ? x[1] / w.block_count : kUnknownDim};
  for (const int64_t d : w.image) out.push_back(d);
  return out;
}

// Adds one image's columns into it.
template <class T>
void AddColumns(const Windows& w, const T* x, std::vector<double>& image) {
  const size_t rank = w.image.size();
  for (int64_t b = 0; b < w.block_count; ++b)
    for (int64_t s = 0; s < w.step_count; ++s) {
      int64_t rest_b = b, rest_s = s, at = 0, stride = 1;
      bool inside = true;
      for (size_t i = rank; i-- > 0;) {
        const int64_t pos =
            rest_s % w.steps[i] * w.strides[i] + rest_b % w.block[i] * w.dilations[i] - w.begin[i];
        inside &= pos >= 0 && pos < w.image[i];
        at += pos * stride;
        stride *= w.image[i];
        rest_s /= w.steps[i];
        rest_b /= w.block[i];
      }
      if (!inside) continue;
      const T v = x[b * w.step_count + s];
      if constexpr (kIsHalf<T>)
        image[size_t(at)] += double(float(v));
      else
        image[size_t(at)] += double(v);
    }
}

}  // namespace

Status ReverseSequence::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const Type& lengths = ctx.input(1);
  const auto leading = [](int64_t axis) { return axis == 0 || axis == 1; };
  if (!leading(a.batch_axis) || !leading(a.time_axis) || a.batch_axis == a.time_axis)
    return Fail(Code::kInvalidArgument,
                "batch_axis and time_axis must be 0 and 1, they are {} and {}", a.batch_axis,
                a.time_axis);
  if (lengths.ranked && lengths.dims.rank() != 1)
    return Fail(Code::kInvalidArgument, "the lengths have rank {}", lengths.dims.rank());
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  if (x.dims.rank() < 2)
    return Fail(Code::kInvalidArgument, "the input has rank {}", x.dims.rank());
  Dims out = x.dims;
  if (lengths.ranked) {
    const auto batch = MergeDim(out[size_t(a.batch_axis)], lengths.dims[0]);
    if (!batch)
      return Fail(Code::kInvalidArgument, "{} lengths are given for a batch of {}", lengths.dims[0],
                  out[size_t(a.batch_axis)]);
    out[size_t(a.batch_axis)] = *batch;
  }
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status ReverseSequence::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const auto lengths = TRY(IntsOf(ctx.in(1)));
  const int64_t time = x.dims[size_t(a.time_axis)], batch = x.dims[size_t(a.batch_axis)];
  if (int64_t(lengths.size()) != batch)
    return Fail(Code::kInvalidArgument, "{} lengths are given for a batch of {}", lengths.size(),
                batch);
  for (const int64_t n : lengths)
    if (n < 0 || n > time)
      return Fail(Code::kInvalidArgument, "a sequence of length {} in {} steps of time", n, time);
  const Dims strides = StridesOf(x.dims);
  const int64_t inner = strides[1];
  const int64_t ts = strides[size_t(a.time_axis)], bs = strides[size_t(a.batch_axis)];
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t t = 0; t < time; ++t) {
        const int64_t n = lengths[size_t(b)];
        const int64_t from = t < n ? n - 1 - t : t;
        for (int64_t i = 0; i < inner; ++i)
          S::Set(y.data, b * bs + t * ts + i, S::Get(x.data, b * bs + from * ts + i));
      }
    return {};
  });
}

Status Trilu::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (x.ranked && x.dims.rank() < 2)
    return Fail(Code::kInvalidArgument, "the input has rank {}, not at least 2", x.dims.rank());
  if (ctx.has(1))
    if (const auto k = TRY(IntList(ctx, 1)); k && k->size() != 1)
      return Fail(Code::kInvalidArgument, "k has {} entries", k->size());
  ctx.Set(0, x);
  return {};
}

Status Trilu::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int64_t rows = x.dims[x.dims.size() - 2], columns = x.dims.back();
  int64_t k = 0;
  if (ctx.has(1)) {
    const auto list = TRY(IntsOf(ctx.in(1)));
    if (list.size() != 1) return Fail(Code::kInvalidArgument, "k has {} entries", list.size());
    k = std::clamp(list[0], -rows - 1, columns + 1);
  }
  const int64_t matrices = x.count() == 0 ? 0 : x.count() / (rows * columns);
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    for (int64_t m = 0; m < matrices; ++m)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) {
          const int64_t i = (m * rows + r) * columns + c;
          if (a.upper ? c - r >= k : c - r <= k)
            S::Set(y.data, i, S::Get(x.data, i));
          else
            S::Set(y.data, i, S::Zero());
        }
    return {};
  });
}

Status Col2Im::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const auto image = TRY(IntList(ctx, 1)), block = TRY(IntList(ctx, 2));
  if (!image || !block) {
    const Type& list = ctx.input(1);
    if (list.ranked && list.dims.rank() == 1 && IsKnown(list.dims[0]) &&
        list.dims[0] < kMaxShapeEntries)
      ctx.Set(0, Type::Of(x.dtype, UnknownDims(size_t(list.dims[0]) + 2)));
    else
      ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const Windows w = TRY(WindowsOf(a, *image, *block));
  Dims out = TRY(Col2ImExtents(w, x.ranked ? x.dims : UnknownDims(3)));
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status Col2Im::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const auto image = TRY(IntsOf(ctx.in(1))), block = TRY(IntsOf(ctx.in(2)));
  const Windows w = TRY(WindowsOf(a, image, block));
  if (TRY(Col2ImExtents(w, x.dims)) != y.dims)
    return Fail(Code::kInternal, "the image has other extents than were planned");
  const int64_t pixels = CountOf(w.image), images = y.dims[0] * y.dims[1];
  return VisitDType(x.dtype, "Col2Im", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsNumber<T>) {
      for (int64_t i = 0; i < images; ++i) {
        std::vector<double> sum(size_t(pixels), 0.0);
        AddColumns(w, x.as<T>() + i * w.block_count * w.step_count, sum);
        for (int64_t p = 0; p < pixels; ++p) {
          if constexpr (kIsHalf<T>)
            y.mut<T>()[i * pixels + p] = T(float(sum[size_t(p)]));
          else
            y.mut<T>()[i * pixels + p] = static_cast<T>(sum[size_t(p)]);
        }
      }
      return {};
    } else {
      return Fail(Code::kUnimplemented, "Col2Im of {}", DTypeName(x.dtype));
    }
  });
}

}  // namespace dunlin
