#include <cstring>

#include "kernels/copy.h"
#include "ops/index/index.h"
#include "ops/index/indices.h"
#include "ops/movement/axes.h"
#include "ops/movement/elements.h"

namespace dunlin {
namespace {

// Below this, waking a thread costs more than the copy.
constexpr int64_t kParallelBytes = 128 << 10;

// data seen as [outer, extent, inner] around the gathered axis.
struct Around {
  int64_t outer = 1, extent = 1, inner = 1;
};
Around Split3(const Dims& d, size_t axis) {
  Around a;
  for (size_t i = 0; i < d.size(); ++i)
    (i < axis ? a.outer : i == axis ? a.extent : a.inner) *= d[i];
  return a;
}

inline void CopyRow(std::byte* y, const std::byte* x, int64_t bytes) {
  // The sizes of single elements, which most gathers of small tensors move.
  switch (bytes) {
    case 1:
      std::memcpy(y, x, 1);
      return;
    case 2:
      std::memcpy(y, x, 2);
      return;
    case 4:
      std::memcpy(y, x, 4);
      return;
    case 8:
      std::memcpy(y, x, 8);
      return;
    default:
      std::memcpy(y, x, size_t(bytes));
  }
}

class GatherKernel final : public Kernel {
 public:
  GatherKernel(Around a, int64_t indices, int elem_bytes)
      : around_(a), indices_(indices), row_bytes_(a.inner * elem_bytes) {}

  Status Run(RunContext& ctx) const override {
    const Indices index(ctx.in(1));
    for (int64_t i = 0; i < indices_; ++i) TRY(index.At(i, around_.extent));
    const auto* x = static_cast<const std::byte*>(ctx.in(0).data);
    auto* y = static_cast<std::byte*>(ctx.out(0).data);
    const int64_t rows = around_.outer * indices_;
    const auto copy = [&](int64_t begin, int64_t end) {
      // A known size lets the compiler move single elements without a call.
      if (row_bytes_ == 4) return CopyRows<4>(index, x, y, begin, end);
      if (row_bytes_ == 8) return CopyRows<8>(index, x, y, begin, end);
      CopyRows<0>(index, x, y, begin, end);
    };
    if (rows * row_bytes_ < kParallelBytes)
      copy(0, rows);
    else
      ctx.ParallelFor(
          rows, std::max<int64_t>(1, kParallelBytes / 2 / std::max<int64_t>(row_bytes_, 8)), copy);
    return {};
  }
  std::string_view name() const override { return "gather.rows"; }
  InputUse uses(int input) const override {
    return input == 0 ? InputUse::kBytes : InputUse::kValues;
  }

 private:
  // kBytes: of a row, 0: any.
  template <int64_t kBytes>
  void CopyRows(const Indices& index, const std::byte* x, std::byte* y, int64_t begin,
                int64_t end) const {
    if (begin == end) return;
    const int64_t bytes = kBytes == 0 ? row_bytes_ : kBytes;
    int64_t i = begin % indices_;
    x += begin / indices_ * around_.extent * bytes;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t k = index[i];
      CopyRow(y + r * bytes, x + (k < 0 ? k + around_.extent : k) * bytes, bytes);
      if (++i == indices_) i = 0, x += around_.extent * bytes;
    }
  }

  Around around_;
  int64_t indices_, row_bytes_;
};

// One index that is known: a strided copy.
class PickKernel final : public Kernel {
 public:
  PickKernel(const Around& a, int64_t at, int elem_bytes)
      : offset_(at * a.inner * elem_bytes),
        copy_(Dims{a.outer, a.inner}, Dims{a.extent * a.inner, 1}, Dims{a.inner, 1}, elem_bytes) {}
  Status Run(RunContext& ctx) const override {
    const auto* x = static_cast<const std::byte*>(ctx.in(0).data) + offset_;
    void* y = ctx.out(0).data;
    if (copy_.bytes() < kParallelBytes)
      copy_.Run(x, y);
    else
      ctx.ParallelFor(copy_.units(), copy_.grain(),
                      [&](int64_t b, int64_t e) { copy_.Run(x, y, b, e); });
    return {};
  }
  std::string_view name() const override { return "gather.pick"; }

 private:
  int64_t offset_;
  StridedCopy copy_;
};

}  // namespace

Status Gather::Infer(const Attrs& a, InferContext& ctx) {
  const Type &x = ctx.input(0), &indices = ctx.input(1);
  TRY(CheckIndexType(ctx, 1));
  if (!x.ranked || !indices.ranked) {
    if (x.ranked) TRY(NormalizeAxis(a.axis, x.dims.rank()));
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const auto axis = size_t(TRY(NormalizeAxis(a.axis, x.dims.rank())));
  if (const Tensor* v = ctx.value(1); v != nullptr && IsKnown(x.dims[axis])) {
    const TensorView view = v->view();
    const Indices index(view);
    for (int64_t i = 0; i < view.count(); ++i) TRY(index.At(i, x.dims[axis]));
  }
  Dims out;
  for (size_t i = 0; i < axis; ++i) out.push_back(x.dims[i]);
  for (const int64_t d : indices.dims) out.push_back(d);
  for (size_t i = axis + 1; i < x.dims.size(); ++i) out.push_back(x.dims[i]);
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  // Entries of a shape.
  if (x.dims.rank() == 1 && indices.dims.rank() <= 1 && IsInteger(x.dtype))
    if (const auto entries = ShapeEntries(ctx, 0)) {
      const Tensor* v = ctx.value(1);
      if (v != nullptr && v->count() <= kMaxShapeEntries) {
        const TensorView view = v->view();
        Dims picked;
        for (int64_t i = 0; i < view.count(); ++i)
          picked.push_back((*entries)[size_t(TRY(Indices(view).At(i, entries->rank())))]);
        ctx.SetShapeValue(0, std::move(picked));
      }
    }
  return {};
}

Status Gather::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const Around d = Split3(x.dims, size_t(TRY(NormalizeAxis(a.axis, x.rank()))));
  const Indices index(ctx.in(1));
  const int64_t n = ctx.in(1).count();
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    for (int64_t o = 0; o < d.outer; ++o)
      for (int64_t i = 0; i < n; ++i) {
        const int64_t at = TRY(index.At(i, d.extent));
        for (int64_t k = 0; k < d.inner; ++k)
          S::Set(y.data, (o * n + i) * d.inner + k,
                 S::Get(x.data, (o * d.extent + at) * d.inner + k));
      }
    return {};
  });
}

Result<KernelPtr> Gather::Lower(const Attrs& a, LowerContext& ctx) {
  const Type &x = ctx.input(0), &indices = ctx.input(1);
  if (x.dtype == DType::kString || DTypeBits(x.dtype) < 8) return KernelPtr();
  const int elem_bytes = DTypeBits(x.dtype) / 8;
  const Around d = Split3(x.dims, size_t(TRY(NormalizeAxis(a.axis, x.dims.rank()))));
  const int64_t n = CountOf(indices.dims);
  if (const Tensor* v = ctx.value(1); v != nullptr && n == 1) {
    const TensorView view = v->view();
    return KernelPtr(
        std::make_unique<PickKernel>(d, TRY(Indices(view).At(0, d.extent)), elem_bytes));
  }
  return KernelPtr(std::make_unique<GatherKernel>(d, n, elem_bytes));
}

Status GatherElements::Infer(const Attrs& a, InferContext& ctx) {
  const Type &x = ctx.input(0), &indices = ctx.input(1);
  TRY(CheckIndexType(ctx, 1));
  if (x.ranked && indices.ranked) {
    const int axis = TRY(NormalizeAxis(a.axis, x.dims.rank()));
    if (x.dims.rank() != indices.dims.rank())
      return Fail(Code::kInvalidArgument, "data has rank {}, indices {}", x.dims.rank(),
                  indices.dims.rank());
    for (int i = 0; i < x.dims.rank(); ++i) {
      const int64_t have = x.dims[size_t(i)], want = indices.dims[size_t(i)];
      if (i != axis && IsKnown(have) && IsKnown(want) && want > have)
        return Fail(Code::kInvalidArgument, "indices have extent {} on axis {}, data only {}", want,
                    i, have);
    }
  }
  ctx.Set(0, indices.ranked ? Type::Of(x.dtype, indices.dims) : Type::Unranked(x.dtype));
  return {};
}

Status GatherElements::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &x = ctx.in(0), &indices = ctx.in(1);
  TensorView& y = ctx.out(0);
  const auto axis = size_t(TRY(NormalizeAxis(a.axis, x.rank())));
  const Dims xs = StridesOf(x.dims);
  const Indices index(indices);
  const int64_t n = indices.count();
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    for (int64_t i = 0; i < n; ++i) {
      int64_t rest = i, from = TRY(index.At(i, x.dims[axis])) * xs[axis];
      for (size_t d = x.dims.size(); d-- > 0; rest /= indices.dims[d])
        if (d != axis) from += rest % indices.dims[d] * xs[d];
      S::Set(y.data, i, S::Get(x.data, from));
    }
    return {};
  });
}

Status GatherND::Infer(const Attrs& a, InferContext& ctx) {
  const Type &x = ctx.input(0), &indices = ctx.input(1);
  TRY(CheckIndexType(ctx, 1));
  if (!x.ranked || !indices.ranked || (!indices.dims.empty() && !IsKnown(indices.dims.back()))) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int r = x.dims.rank(), q = indices.dims.rank();
  if (q < 1 || a.batch_dims < 0 || a.batch_dims >= std::min(r, q))
    return Fail(Code::kInvalidArgument, "batch_dims {} with data of rank {} and indices of rank {}",
                a.batch_dims, r, q);
  const int64_t last = indices.dims.back();
  if (last < 1 || last > r - a.batch_dims)
    return Fail(Code::kInvalidArgument, "index tuples of {} for data of rank {}", last, r);
  Dims out;
  for (int i = 0; i < q - 1; ++i) {
    int64_t d = indices.dims[size_t(i)];
    if (i < a.batch_dims) {
      const auto m = MergeDim(d, x.dims[size_t(i)]);
      if (!m)
        return Fail(Code::kInvalidArgument, "batch extents {} and {} on axis {}", x.dims[size_t(i)],
                    d, i);
      d = *m;
    }
    out.push_back(d);
  }
  for (int64_t i = a.batch_dims + last; i < r; ++i) out.push_back(x.dims[size_t(i)]);
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status GatherND::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &x = ctx.in(0), &indices = ctx.in(1);
  TensorView& y = ctx.out(0);
  const auto b = size_t(a.batch_dims);
  const int64_t last = indices.dims.back();
  const Dims xs = StridesOf(x.dims);
  int64_t batches = 1, inner = 1;
  for (size_t i = 0; i < b; ++i) batches *= x.dims[i];
  for (size_t i = b + size_t(last); i < x.dims.size(); ++i) inner *= x.dims[i];
  const int64_t tuples = indices.count() / last;
  const int64_t per_batch = tuples == 0 ? 0 : tuples / batches,
                batch_stride = b == 0 ? 0 : xs[b - 1];
  const Indices index(indices);
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    for (int64_t t = 0; t < tuples; ++t) {
      int64_t from = b == 0 ? 0 : t / per_batch * batch_stride;
      for (int64_t k = 0; k < last; ++k)
        from += TRY(index.At(t * last + k, x.dims[b + size_t(k)])) * xs[b + size_t(k)];
      for (int64_t i = 0; i < inner; ++i) S::Set(y.data, t * inner + i, S::Get(x.data, from + i));
    }
    return {};
  });
}

}  // namespace dunlin
