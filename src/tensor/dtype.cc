#include "tensor/dtype.h"

#include "tensor/half-inl.h"

namespace dunlin {
namespace {
struct Row {
  DType type;
  std::string_view name;
  int bits;
};
constexpr Row kRows[] = {
    {DType::kUndefined, "undefined", 0},
    {DType::kF32, "f32", 32},
    {DType::kF16, "f16", 16},
    {DType::kBF16, "bf16", 16},
    {DType::kF64, "f64", 64},
    {DType::kI8, "i8", 8},
    {DType::kI16, "i16", 16},
    {DType::kI32, "i32", 32},
    {DType::kI64, "i64", 64},
    {DType::kU8, "u8", 8},
    {DType::kU16, "u16", 16},
    {DType::kU32, "u32", 32},
    {DType::kU64, "u64", 64},
    {DType::kBool, "bool", 8},
    {DType::kString, "string", int(sizeof(std::string) * 8)},
    {DType::kI4, "i4", 4},
    {DType::kU4, "u4", 4},
    {DType::kF8E4M3FN, "f8e4m3fn", 8},
    {DType::kF8E4M3FNUZ, "f8e4m3fnuz", 8},
    {DType::kF8E5M2, "f8e5m2", 8},
    {DType::kF8E5M2FNUZ, "f8e5m2fnuz", 8},
    {DType::kF8E8M0, "f8e8m0", 8},
    {DType::kF4E2M1, "f4e2m1", 4},
    {DType::kI2, "i2", 2},
    {DType::kU2, "u2", 2},
};
static_assert(std::size(kRows) == kDTypeCount);
}  // namespace

std::string_view DTypeName(DType t) { return kRows[size_t(t)].name; }
int DTypeBits(DType t) { return kRows[size_t(t)].bits; }

Result<DType> ParseDType(std::string_view name) {
  for (const Row& r : kRows)
    if (r.name == name) return r.type;
  return Fail(Code::kInvalidArgument, "no element type is called '{}'", name);
}

Half::Half(float v) : bits(HalfOf(v)) {}
Half::operator float() const { return FloatOfHalf(bits); }

}  // namespace dunlin
