// GatherBlockQuantized of com.microsoft: slices of weights of a few bits, decoded as they are
// taken.
#include "ops/quant/quant.h"
#include "ops/reduce/axes.h"

namespace dunlin {
namespace {

// Inputs data (i4, u4, or u8 that hold 2, 4 or 8 bits each along the last axis), indices, scales
// (of every block along quantize_axis), zero_points (of data's type, packed as data; optional: 0,
// and of u8 the middle code).
struct GatherBlockQuantized {
  static constexpr std::string_view kName = "GatherBlockQuantized";
  struct Attrs {
    int64_t gather_axis = 0, quantize_axis = 1, block_size = 128, bits = 4;
    template <class V>
    void Visit(V& v) {
      v("gather_axis", gather_axis);
      v("quantize_axis", quantize_axis);
      v("block_size", block_size);
      v("bits", bits);
    }
  };
  struct Shape {
    int gather = 0, quantize = 0;  // axes
    Dims codes, y;
  };
  // Of known and unknown extents.
  static Result<Shape> Resolve(const Attrs& a, DType type, const Dims& data, const Dims& indices,
                               const Dims& scales) {
    Shape s;
    s.gather = TRY(ResolveAxis(kName, a.gather_axis, data.rank()));
    s.quantize = TRY(ResolveAxis(kName, a.quantize_axis, data.rank()));
    s.codes = data;
    if (data.empty() || scales.rank() != data.rank() || a.block_size < 1)
      return Fail(Code::kInvalidArgument, "{}: scales {} do not fit blocks of {} of {}", kName,
                  ToString(scales), a.block_size, ToString(data));
    if (type == DType::kU8) {
      if (a.bits != 2 && a.bits != 4 && a.bits != 8)
        return Fail(Code::kUnimplemented, "{}: bits must be 2, 4 or 8, not {}", kName, a.bits);
      if (a.bits < 8 && s.quantize + 1 != data.rank())
        return Fail(Code::kUnimplemented, "{}: u8 must be quantised along the last axis", kName);
      constexpr int64_t kMost = int64_t{1} << 60;
      if (IsKnown(s.codes.back()))
        s.codes.back() = std::min(s.codes.back(), kMost) * (8 / a.bits);
      else if (a.bits < 8)
        s.codes.back() = kUnknownDim;
    } else if (a.bits != 4) {
      return Fail(Code::kInvalidArgument, "{}: bits is {}, of {}", kName, a.bits, DTypeName(type));
    }
    for (int i = 0; i < data.rank(); ++i) {
      const int64_t n = s.codes[size_t(i)], have = scales[size_t(i)];
      const int64_t want =
          i != s.quantize || !IsKnown(n) ? n : (n + a.block_size - 1) / a.block_size;
      if (i == s.quantize ? IsKnown(n) && IsKnown(have) && want != have
                          : IsKnown(want) && IsKnown(have) && want != have)
        return Fail(Code::kInvalidArgument, "{}: scales {} do not fit blocks of {} of {}", kName,
                    ToString(scales), a.block_size, ToString(s.codes));
    }
    for (int i = 0; i < data.rank(); ++i) {
      if (i != s.gather)
        s.y.push_back(s.codes[size_t(i)]);
      else
        for (const int64_t d : indices) s.y.push_back(d);
    }
    return s;
  }

  static Status Infer(const Attrs& a, InferContext& ctx) {
    const DType type = ctx.dtype(0);
    if (type != DType::kUndefined && type != DType::kU8 && type != DType::kI4 && type != DType::kU4)
      return Fail(Code::kUnimplemented, "{}: data of {}; u8, i4 and u4 are supported", kName,
                  DTypeName(type));
    const DType out = ctx.dtype(2);
    const bool ranked = ctx.input(0).ranked && ctx.input(1).ranked && ctx.input(2).ranked;
    if (!ranked || type == DType::kUndefined) {
      ctx.Set(0, Type::Unranked(out));
      return {};
    }
    ctx.Set(
        0,
        Type::Of(out,
                 TRY(Resolve(a, type, ctx.input(0).dims, ctx.input(1).dims, ctx.input(2).dims)).y));
    return {};
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& data = ctx.in(0);
    const Shape s = TRY(Resolve(a, data.dtype, data.dims, ctx.in(1).dims, ctx.in(2).dims));
    const int bits = data.dtype == DType::kU8 ? int(a.bits) : 4;
    // Codes of u8 count as those of the narrow type they hold.
    const auto code_at = [&](const TensorView& t, int64_t i) -> int32_t {
      if (data.dtype != DType::kU8) return int32_t(LoadNarrow(t.dtype, t.data, i));
      const int per_byte = 8 / bits;
      return t.as<uint8_t>()[i / per_byte] >> (i % per_byte * bits) & ((1 << bits) - 1);
    };
    const auto scales = TRY(Scales(kName, ctx.in(2)));
    const Dims& blocks = ctx.in(2).dims;
    int64_t zero_row = blocks.back();  // codes in a row of zero points, filled up to whole bytes
    if (ctx.has(3)) {
      const TensorView& z = ctx.in(3);
      const int64_t per_byte = data.dtype == DType::kU8 ? 8 / bits : 1;
      Dims want = blocks;
      want.back() = (want.back() + per_byte - 1) / per_byte;
      zero_row = want.back() * per_byte;
      if (z.dtype != data.dtype || z.dims != want)
        return Fail(Code::kInvalidArgument, "{}: zero points {} of {}, not {}", kName,
                    ToString(z.dims), DTypeName(z.dtype), ToString(want));
    }
    const std::vector<int64_t> indices = TRY(ReadIndices(ctx.in(1)));
    const AxisSplit around = SplitAt(s.codes, s.gather);
    for (const int64_t i : indices)
      if (i < -around.axis || i >= around.axis)
        return Fail(Code::kInvalidArgument, "{}: index {} of {}", kName, i, around.axis);
    const AxisSplit split = SplitAt(s.codes, s.quantize);
    const int64_t per_outer = blocks[size_t(s.quantize)];
    const auto value = [&](int64_t i) {
      const int64_t inner = i % split.inner, at = i / split.inner % split.axis,
                    outer = i / split.inner / split.axis;
      const int64_t scale = (outer * per_outer + at / a.block_size) * split.inner + inner;
      const int64_t zero =
          blocks.back() == 0 ? 0 : scale / blocks.back() * zero_row + scale % blocks.back();
      const int32_t point = ctx.has(3)                 ? code_at(ctx.in(3), zero)
                            : data.dtype == DType::kU8 ? 1 << (bits - 1)
                                                       : 0;
      return float(code_at(data, i) - point) * scales[size_t(scale)];
    };
    return VisitTypes<Floats>(ctx.out(0).dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      T* y = ctx.out(0).mut<T>();
      for (int64_t o = 0; o < around.outer; ++o)
        for (const int64_t index : indices) {
          const int64_t at = index < 0 ? index + around.axis : index;
          for (int64_t i = 0; i < around.inner; ++i)
            *y++ = Narrow<T>(value((o * around.axis + at) * around.inner + i));
        }
      return {};
    });
  }

 private:
  static Result<std::vector<int64_t>> ReadIndices(const TensorView& t) {
    std::vector<int64_t> v(static_cast<size_t>(t.count()));
    TRY(VisitTypes<Integers>(t.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      std::copy_n(t.as<T>(), v.size(), v.begin());
      return {};
    }));
    return v;
  }
};

}  // namespace

std::vector<OpDef> GatherBlockOps() {
  return {Declare<GatherBlockQuantized>(
      GatherBlockQuantized::kName, {.domain = "com.microsoft", .min_inputs = 3, .max_inputs = 4})};
}

}  // namespace dunlin
