#include "ops/quant/sums.h"

#include <cmath>

namespace dunlin {
namespace {

bool Has(const RunContext& ctx, int i) { return i >= 0 && ctx.has(i); }
int32_t ZeroOf(const RunContext& ctx, int i) {
  return Has(ctx, i) ? CodeAt(ctx.in(i).dtype, ctx.in(i).data, 0) : 0;
}
bool IsComparison(int64_t activation) { return activation <= int64_t(Activation::kLeakyRelu); }

// Of `count` elements, one for all or one each.
template <class T>
const T* Spread(const TensorView& t, int64_t count, T* to) {
  const bool one = t.count() == 1;
  for (int64_t i = 0; i < count; ++i) to[i] = t.as<T>()[one ? 0 : i];
  std::fill(to + count, to + PaddedColumns(count), T{});
  return to;
}

}  // namespace

void SubtractZero(PreparedEpilogue& p, void* memory, int64_t columns, const int32_t* totals,
                  int32_t zero) {
  if (zero == 0) return;
  auto* const codes =
      reinterpret_cast<int32_t*>(static_cast<float*>(memory) + 2 * PaddedColumns(columns));
  if (p.e.bias_codes == nullptr) std::fill_n(codes, PaddedColumns(columns), 0);
  for (int64_t i = 0; i < columns; ++i)
    codes[i] = int32_t(uint32_t(codes[i]) - uint32_t(zero) * uint32_t(totals[i]));
  p.e.bias_codes = codes;
}

// The unit of v is a step of y's codes where what follows keeps its meaning there.
PreparedEpilogue PrepareEpilogue(const RunContext& ctx, const ProductInputs& in,
                                 const CodeStoreAttrs& store, int64_t columns, DType to,
                                 void* memory) {
  PreparedEpilogue p;
  CodeEpilogue& e = p.e;
  e.to = Has(ctx, in.table) ? store.y_type : to;
  const int64_t padded = PaddedColumns(columns);
  auto* const scale = static_cast<float*>(memory);
  auto* const bias = scale + padded;
  auto* const bias_codes = reinterpret_cast<int32_t*>(bias + padded);
  if (Has(ctx, in.bias) && ctx.in(in.bias).dtype == DType::kI32)
    e.bias_codes = Spread(ctx.in(in.bias), columns, bias_codes);
  if (e.to == DType::kI32) return p;

  const bool codes = IsByte(e.to);
  const float step = !codes                 ? 1.0f
                     : Has(ctx, in.y_scale) ? ctx.in(in.y_scale).as<float>()[0]
                     : store.y_scale != 0   ? store.y_scale
                                            : 1.0f;
  const float unit = IsComparison(store.activation) ? step : 1.0f;
  const float first = store.mid_scale != 0 ? store.mid_scale : unit;  // of the sums
  const TensorView& xs = ctx.in(in.a_scale);
  if (xs.count() != 1) p.row_scales = xs.as<float>();
  const float a = in.alpha * (xs.count() == 1 ? xs.as<float>()[0] : 1.0f);
  const TensorView& ws = ctx.in(in.b_scale);
  for (int64_t i = 0; i < columns; ++i)
    scale[i] = a * ws.as<float>()[ws.count() == 1 ? 0 : i] / first;
  std::fill(scale + columns, scale + padded, 0.0f);
  e.scale = scale;
  if (Has(ctx, in.bias) && ctx.in(in.bias).dtype == DType::kF32) {
    e.bias = Spread(ctx.in(in.bias), columns, bias);
    for (int64_t i = 0; i < columns; ++i) bias[i] /= first;
  }
  e.mid = store.mid_scale != 0;
  if (e.mid) {
    e.mid_range = CodeRange::Of(store.mid_type, int32_t(store.mid_zero));
    e.mid_factor = store.mid_scale / unit;
  }
  if (Has(ctx, in.residual)) {
    e.residual = ctx.in(in.residual).dtype;
    e.residual_zero = int32_t(store.residual_zero);
    e.residual_factor = (e.residual == DType::kF32 ? 1.0f : store.residual_scale) / unit;
  }
  e.activation = {Activation(store.activation), store.act_a, store.act_b};
  if (e.activation.kind == Activation::kClip) {
    e.activation.a /= unit;
    e.activation.b /= unit;
  }
  if (codes) {
    const int32_t zero = Has(ctx, in.y_zero) ? ZeroOf(ctx, in.y_zero) : int32_t(store.y_zero);
    e.range = CodeRange::Of(e.to, zero);
    e.inverse = unit == step ? 1.0f : 1.0f / step;
  }
  if (Has(ctx, in.table)) e.table = static_cast<const uint8_t*>(ctx.in(in.table).data);
  return p;
}

namespace {

// `type(i)` of those inputs that are there, `dims(i)` likewise.
template <class HasInput, class TypeOf, class DimsOf>
bool Fits(const HasInput& has, const TypeOf& type, const DimsOf& dims, const ProductInputs& in,
          int64_t columns, int64_t rows, const Dims& y) {
  const auto is = [&](int i, std::initializer_list<DType> types) {
    return !has(i) || std::ranges::count(types, type(i)) != 0;
  };
  const auto counts = [&](int i, int64_t many) {
    return !has(i) || CountOf(dims(i)) == 1 || CountOf(dims(i)) == many;
  };
  for (const int i : {in.a_scale, in.b_scale, in.y_scale})
    if (!is(i, {DType::kF32})) return false;
  for (const int i : {in.a_zero, in.b_zero, in.y_zero, in.table})
    if (!is(i, {DType::kU8, DType::kI8})) return false;
  return is(in.bias, {DType::kI32, DType::kF32}) &&
         is(in.residual, {DType::kF32, DType::kU8, DType::kI8}) && counts(in.y_scale, 1) &&
         counts(in.y_zero, 1) && counts(in.a_scale, rows) && counts(in.b_scale, columns) &&
         counts(in.bias, columns) &&
         (!has(in.bias) || CountOf(dims(in.bias)) == 1 || dims(in.bias).back() == columns) &&
         (!has(in.table) || CountOf(dims(in.table)) == 256) &&
         (!has(in.residual) || dims(in.residual) == y);
}

}  // namespace

bool EpilogueFits(const LowerContext& ctx, const ProductInputs& in, int64_t columns, int64_t rows) {
  return Fits([&](int i) { return i >= 0 && ctx.has(i); },
              [&](int i) { return ctx.input(i).dtype; },
              [&](int i) -> const Dims& { return ctx.input(i).dims; }, in, columns, rows,
              ctx.output(0).dims);
}

Status CheckEpilogue(std::string_view name, RunContext& ctx, const ProductInputs& in,
                     int64_t columns, int64_t rows) {
  if (Fits([&](int i) { return Has(ctx, i); }, [&](int i) { return ctx.in(i).dtype; },
           [&](int i) -> const Dims& { return ctx.in(i).dims; }, in, columns, rows,
           ctx.out(0).dims))
    return {};
  return Fail(Code::kInvalidArgument,
              "{}: types or extents of scales, zero points, bias, residual or table do not fit {} "
              "columns and the output {}",
              name, columns, ToString(ctx.out(0).dims));
}

Status CheckStore(std::string_view name, const CodeStoreAttrs& s) {
  TRY(ReadActivation(s.activation, s.act_a, s.act_b));
  const auto fits = [](DType t, int64_t zero) {
    return t == DType::kU8 ? zero >= 0 && zero <= 255
                           : t == DType::kI8 && zero >= -128 && zero < 128;
  };
  for (const float scale : {s.mid_scale, s.residual_scale, s.y_scale})
    if (!(scale >= 0) || std::isinf(scale))
      return Fail(Code::kInvalidArgument, "{}: a scale is {}", name, scale);
  if (!fits(s.mid_type, s.mid_zero) || !fits(s.y_type, s.y_zero) || s.residual_zero < -128 ||
      s.residual_zero > 255)
    return Fail(Code::kInvalidArgument, "{}: a zero point does not fit its type of 8 bits", name);
  return {};
}

DType StoredType(const InferContext& ctx, const ProductInputs& in, const CodeStoreAttrs& store) {
  if (store.y_scale == 0) return DType::kF32;
  return ctx.has(in.table) ? ctx.dtype(in.table) : store.y_type;
}

EpilogueReference::EpilogueReference(const RunContext& ctx, const ProductInputs& in,
                                     const CodeStoreAttrs& store, int64_t columns, DType to)
    : memory_(EpilogueBytes(columns) / sizeof(float)),
      p_(PrepareEpilogue(ctx, in, store, columns, to, memory_.data())),
      residual_(Has(ctx, in.residual) ? &ctx.in(in.residual) : nullptr) {}

void EpilogueReference::Store(RunContext& ctx, int64_t i, int64_t row, int64_t column,
                              int32_t sum) const {
  double residual = 0;
  if (residual_ != nullptr)
    residual = residual_->dtype == DType::kF32
                   ? double(residual_->as<float>()[i])
                   : double(CodeAt(residual_->dtype, residual_->data, i));
  const float v =
      EpilogueValue(p_.e, sum, p_.row_scales == nullptr ? 1 : p_.row_scales[row], column, residual);
  if (p_.e.to == DType::kF32) {
    ctx.out(0).mut<float>()[i] = v;
    return;
  }
  const auto code = uint8_t(EpilogueCode(p_.e, v));
  static_cast<uint8_t*>(ctx.out(0).data)[i] = p_.e.table == nullptr ? code : p_.e.table[code];
}

}  // namespace dunlin
