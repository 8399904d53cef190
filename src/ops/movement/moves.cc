#include "ops/movement/moves.h"

#include <cstring>

#include "ops/movement/elements.h"

namespace dunlin {
namespace {

// Below this, waking a thread costs more than the copy.
constexpr int64_t kParallelBytes = 128 << 10;

// pixel_stride as TensorView's.
Placed Place(const Dims& dims, Layout layout, int64_t pixel_stride = 0) {
  const bool last = layout == Layout::kChannelsLast && dims.rank() >= 3;
  Placed p{dims, StridesOf(dims, last), last};
  if (last && pixel_stride != 0)
    for (size_t i = 0; i < p.strides.size(); ++i)
      if (i != 1) p.strides[i] = p.strides[i] / std::max<int64_t>(1, dims[1]) * pixel_stride;
  return p;
}
Placed Place(const TensorView& v) { return Place(v.dims, v.layout, v.pixel_stride); }

class RunQuery final : public MoveQuery {
 public:
  explicit RunQuery(RunContext& ctx) : ctx_(ctx) {}
  int input_count() const override { return ctx_.input_count(); }
  int output_count() const override { return ctx_.output_count(); }
  bool has(int i) const override { return ctx_.has(i); }
  bool wants(int o) const override { return ctx_.wants(o); }
  Placed in(int i) const override { return Place(ctx_.in(i)); }
  Placed out(int i) const override { return Place(ctx_.out(i)); }
  Result<std::vector<int64_t>> ints(int i) override { return IntsOf(ctx_.in(i)); }

 private:
  RunContext& ctx_;
};

class LowerQuery final : public MoveQuery {
 public:
  explicit LowerQuery(LowerContext& ctx) : ctx_(ctx) {}
  int input_count() const override { return ctx_.input_count(); }
  int output_count() const override { return ctx_.output_count(); }
  bool has(int i) const override { return ctx_.has(i); }
  bool wants(int o) const override { return ctx_.wants(o); }
  Placed in(int i) const override { return Place(ctx_.input(i).dims, ctx_.input_layout(i)); }
  Placed out(int i) const override { return Place(ctx_.output(i).dims, ctx_.output_layout(i)); }
  Result<std::vector<int64_t>> ints(int i) override {
    if (const Tensor* t = ctx_.value(i)) return ToInts(*t);
    unknown = true;
    return Fail(Code::kFailedPrecondition, "input {} is known only at run time", i);
  }
  bool unknown = false;

 private:
  LowerContext& ctx_;
};

struct Step {
  int input, output;
  int64_t x_bytes, y_bytes;
  StridedCopy copy;
};

std::vector<Step> Prepare(const std::vector<BoxCopy>& copies, int elem_bytes) {
  std::vector<Step> steps;
  for (const BoxCopy& c : copies) {
    StridedCopy copy(c.dims, c.x_strides, c.y_strides, elem_bytes);
    if (copy.units() > 0)
      steps.push_back(
          {c.input, c.output, c.x_offset * elem_bytes, c.y_offset * elem_bytes, std::move(copy)});
  }
  return steps;
}

void RunSteps(const std::vector<Step>& steps, RunContext& ctx) {
  static constexpr uint64_t kZero = 0;
  for (const Step& s : steps) {
    const void* base = s.input < 0 ? &kZero : ctx.in(s.input).data;
    const auto* x = static_cast<const std::byte*>(base) + s.x_bytes;
    auto* y = static_cast<std::byte*>(ctx.out(s.output).data) + s.y_bytes;
    if (x == y) continue;  // the one is a part of the other
    if (s.copy.bytes() < kParallelBytes || s.copy.units() == 1)
      s.copy.Run(x, y);
    else
      ctx.ParallelFor(s.copy.units(), s.copy.grain(),
                      [&](int64_t b, int64_t e) { s.copy.Run(x, y, b, e); });
  }
}

class CopyKernel final : public Kernel {
 public:
  CopyKernel(std::vector<Step> steps, std::vector<PartMove> parts, MovesFn fn,
             std::unique_ptr<Attrs> attrs, int elem_bytes)
      : steps_(std::move(steps)),
        parts_(std::move(parts)),
        moves_(fn),
        attrs_(std::move(attrs)),
        elem_bytes_(elem_bytes) {}
  bool reads_strided(int) const override { return true; }
  bool writes_strided(int) const override { return true; }
  std::span<const PartMove> moves() const override { return parts_; }
  Status Run(RunContext& ctx) const override {
    if (Strided(ctx))
      RunSteps(Prepare(TRY(MovesOf(moves_, *attrs_, ctx)), elem_bytes_), ctx);
    else
      RunSteps(steps_, ctx);
    return {};
  }
  std::string_view name() const override { return "copy"; }

 private:
  static bool Strided(RunContext& ctx) {
    for (int i = 0; i < ctx.input_count(); ++i)
      if (ctx.has(i) && ctx.in(i).pixel_stride != 0) return true;
    for (int o = 0; o < ctx.output_count(); ++o)
      if (ctx.wants(o) && ctx.out(o).pixel_stride != 0) return true;
    return false;
  }

  std::vector<Step> steps_;  // where all operands are contiguous
  std::vector<PartMove> parts_;
  MovesFn moves_;
  std::unique_ptr<Attrs> attrs_;
  int elem_bytes_;
};

// TensorView::pixel_stride of a value that lies by these strides in a contiguous whole; 0 when it
// is contiguous itself, nullopt when it is no part.
std::optional<int64_t> PixelStrideOf(const Placed& part, const Dims& strides) {
  const auto lies = [&](const Placed& p) {
    for (size_t i = 0; i < p.dims.size(); ++i)
      if (p.dims[i] != 1 && p.strides[i] != strides[i]) return false;
    return true;
  };
  if (lies(part)) return 0;
  if (!part.channels_last) return std::nullopt;
  for (size_t i = part.dims.size(); i-- > 0;) {  // the innermost axis of pixels
    if (i == 1 || part.dims[i] == 1) continue;
    if (!lies(Place(part.dims, Layout::kChannelsLast, strides[i]))) return std::nullopt;
    return strides[i];
  }
  return std::nullopt;
}

// A copy of a whole input or output is a part of the other side.
PartMove PartOf(const BoxCopy& c, MoveQuery& q) {
  PartMove m{c.input, c.output};
  if (c.input < 0) return m;
  const Placed x = q.in(c.input), y = q.out(c.output);
  m.whole_is_output = c.dims == x.dims && c.x_offset == 0 && c.x_strides == x.strides;
  if (!m.whole_is_output && (c.dims != y.dims || c.y_offset != 0 || c.y_strides != y.strides))
    return m;
  const auto stride =
      m.whole_is_output ? PixelStrideOf(x, c.y_strides) : PixelStrideOf(y, c.x_strides);
  if (!stride) return m;
  m.offset = m.whole_is_output ? c.y_offset : c.x_offset;
  m.pixel_stride = *stride;
  return m;
}

// Where the boxes depend on integers that a run computes.
class DynamicCopyKernel final : public Kernel {
 public:
  DynamicCopyKernel(MovesFn moves, std::unique_ptr<Attrs> attrs, int elem_bytes)
      : moves_(moves), attrs_(std::move(attrs)), elem_bytes_(elem_bytes) {}
  Status Run(RunContext& ctx) const override {
    const auto copies = TRY(MovesOf(moves_, *attrs_, ctx));
    RunSteps(Prepare(copies, elem_bytes_), ctx);
    return {};
  }
  std::string_view name() const override { return "copy.dynamic"; }

 private:
  MovesFn moves_;
  std::unique_ptr<Attrs> attrs_;
  int elem_bytes_;
};

}  // namespace

Dims StridesOf(std::span<const int64_t> dims, bool channels_last) {
  Dims s(dims.size(), 1);
  int64_t n = 1;
  const auto place = [&](size_t i) {
    s[i] = n;
    n *= dims[i];
  };
  if (channels_last) place(1);
  for (size_t i = dims.size(); i-- > 0;)
    if (!channels_last || i != 1) place(i);
  return s;
}

Result<std::vector<int64_t>> IntsOf(const TensorView& v) {
  std::vector<int64_t> out(static_cast<size_t>(v.count()));
  if (v.dtype == DType::kI64) {
    std::copy_n(v.as<int64_t>(), out.size(), out.begin());
  } else if (v.dtype == DType::kI32) {
    std::copy_n(v.as<int32_t>(), out.size(), out.begin());
  } else {
    return Fail(Code::kInvalidArgument, "an integer list has element type {}", DTypeName(v.dtype));
  }
  return out;
}

Status CopyAll(const TensorView& x, TensorView& y) {
  if (x.data == y.data) return {};
  if (x.dtype == DType::kString)
    std::copy_n(x.as<std::string>(), x.count(), y.mut<std::string>());
  else if (x.bytes() > 0)
    std::memcpy(y.data, x.data, size_t(x.bytes()));
  return {};
}

void FillOutside(const Placed& whole, std::span<const int64_t> begin,
                 std::span<const int64_t> inner, int output, int fill,
                 std::vector<BoxCopy>& copies) {
  // Two slabs per axis; axes before it are already narrowed to the inner box.
  Dims box = whole.dims;
  int64_t offset = 0;
  for (size_t a = 0; a < whole.dims.size(); ++a) {
    const int64_t before = begin[a], after = whole.dims[a] - begin[a] - inner[a];
    for (const auto& [from, n] :
         {std::pair(int64_t{0}, before), std::pair(begin[a] + inner[a], after)}) {
      if (n <= 0) continue;
      box[a] = n;
      copies.push_back({fill, output, box, Dims(box.size(), 0), whole.strides, 0,
                        offset + from * whole.strides[a]});
    }
    box[a] = inner[a];
    offset += begin[a] * whole.strides[a];
  }
}

Result<std::vector<BoxCopy>> MovesOf(MovesFn moves, const Attrs& attrs, RunContext& ctx) {
  RunQuery query(ctx);
  return moves(attrs, query);
}

Status RunMoves(const std::vector<BoxCopy>& copies, RunContext& ctx) {
  for (const BoxCopy& c : copies) {
    const int64_t n = CountOf(c.dims);
    TensorView& y = ctx.out(c.output);
    TRY(VisitStorage(y.dtype, [&]<class S>(S) -> Status {
      Dims at(c.dims.size(), 0);
      int64_t xi = c.x_offset, yi = c.y_offset;
      for (int64_t k = 0; k < n; ++k) {
        if (c.input < 0)
          S::Set(y.data, yi, S::Zero());
        else
          S::Set(y.data, yi, S::Get(ctx.in(c.input).data, xi));
        for (size_t a = at.size(); a-- > 0;) {
          xi += c.x_strides[a];
          yi += c.y_strides[a];
          if (++at[a] < c.dims[a]) break;
          xi -= c.x_strides[a] * c.dims[a];
          yi -= c.y_strides[a] * c.dims[a];
          at[a] = 0;
        }
      }
      return {};
    }));
  }
  return {};
}

Result<KernelPtr> LowerMoves(MovesFn moves, const Attrs& attrs, LowerContext& ctx) {
  for (int o = 0; o < ctx.output_count(); ++o)
    if (ctx.wants(o)) {
      const DType t = ctx.output(o).dtype;
      if (!CanLowerMoves(t)) return KernelPtr();
      const int elem_bytes = DTypeBits(t) / 8;
      LowerQuery query(ctx);
      auto copies = moves(attrs, query);
      if (query.unknown)
        return KernelPtr(std::make_unique<DynamicCopyKernel>(moves, attrs.Clone(), elem_bytes));
      if (!copies && copies.error().code == Code::kUnimplemented) return KernelPtr();
      if (!copies) return Fail(copies.error());
      std::vector<PartMove> parts;
      for (const BoxCopy& c : *copies) parts.push_back(PartOf(c, query));
      return KernelPtr(std::make_unique<CopyKernel>(Prepare(*copies, elem_bytes), std::move(parts),
                                                    moves, attrs.Clone(), elem_bytes));
    }
  return KernelPtr();
}

bool CanLowerMoves(DType t) { return t != DType::kString && DTypeBits(t) >= 8; }

LayoutPlan AllRowMajor(const LayoutQuery& q) {
  LayoutPlan plan;
  plan.inputs.assign(q.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(q.outputs.size(), Layout::kRowMajor);
  return plan;
}

LayoutPlan InputsAsTheyAre(const LayoutQuery& q, Layout output) {
  LayoutPlan plan = AllRowMajor(q);
  // Elements without a kernel are moved by the reference, which knows one layout.
  if (q.inputs.empty() || !CanLowerMoves(q.inputs[0].dtype)) return plan;
  plan.inputs.assign(q.current.begin(), q.current.end());
  plan.outputs.assign(q.outputs.size(), output);
  return plan;
}

LayoutPlan LikeFirstInput(const LayoutQuery& q) {
  const bool same_rank = !q.inputs.empty() && !q.outputs.empty() && q.inputs[0].ranked &&
                         q.outputs[0].ranked && q.inputs[0].dims.rank() == q.outputs[0].dims.rank();
  LayoutPlan plan = InputsAsTheyAre(q, same_rank ? q.current[0] : Layout::kRowMajor);
  // Lists of integers and fill values have no layout.
  for (size_t i = 1; i < plan.inputs.size(); ++i) plan.inputs[i] = Layout::kRowMajor;
  return plan;
}

}  // namespace dunlin
