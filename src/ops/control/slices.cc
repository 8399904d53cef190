#include <cstring>

#include "ops/control/control.h"

namespace dunlin::control {
namespace {

// Copies `rows` pieces of `piece` elements between strided places.
Status CopyPieces(DType dtype, const std::byte* from, int64_t from_stride, std::byte* to,
                  int64_t to_stride, int64_t rows, int64_t piece) {
  if (DTypeBits(dtype) % 8 != 0)
    return Fail(Code::kUnimplemented, "loops over tensors of element type {}", DTypeName(dtype));
  if (piece == 0) return {};  // however many rows of nothing
  const int64_t size = DTypeBits(dtype) / 8;
  for (int64_t r = 0; r < rows; ++r) {
    const std::byte* a = from + r * from_stride * size;
    std::byte* b = to + r * to_stride * size;
    if (dtype == DType::kString) {
      const auto* s = reinterpret_cast<const std::string*>(a);
      std::copy(s, s + piece, reinterpret_cast<std::string*>(b));
    } else if (piece > 0) {
      std::memcpy(b, a, size_t(piece * size));
    }
  }
  return {};
}

}  // namespace

Result<Type> Merge(const Type& a, const Type& b, std::string_view what) {
  Type t = a;
  if (t.dtype == DType::kUndefined) t.dtype = b.dtype;
  // Nothing on one way and something on the other: an optional.
  if (a.kind == Type::Kind::kOptional || b.kind == Type::Kind::kOptional)
    t.kind = Type::Kind::kOptional;
  else if (a.kind != b.kind)
    return Fail(Code::kInvalidArgument, "{} is {} on one way and {} on another", what, ToString(a),
                ToString(b));
  if (t.key == DType::kUndefined) t.key = b.key;
  if ((b.dtype != DType::kUndefined && t.dtype != b.dtype) ||
      (b.key != DType::kUndefined && t.key != b.key))
    return Fail(Code::kInvalidArgument, "{} is {} on one way and {} on another", what, ToString(a),
                ToString(b));
  t.ranked = a.ranked && b.ranked && a.dims.size() == b.dims.size();
  if (!t.ranked) t.dims = {};
  for (size_t i = 0; i < t.dims.size(); ++i)
    if (t.dims[i] != b.dims[i]) t.dims[i] = kUnknownDim;
  return t;
}

Result<Tensor> Stack(std::span<const Tensor> slices, int axis, bool reverse) {
  DUNLIN_CHECK(!slices.empty(), "Stack of nothing");
  const Tensor& first = slices[0];
  if (axis < 0 || axis > first.rank())
    return Fail(Code::kInvalidArgument, "scan output axis {} outside rank {}", axis,
                first.rank() + 1);
  Dims dims = first.dims();
  dims.insert(size_t(axis), int64_t(slices.size()));
  Tensor out = TRY(Tensor::Create(first.dtype(), dims));
  const int64_t rows =
      CountOf(first.dims().empty() ? std::span<const int64_t>{}
                                   : std::span<const int64_t>(first.dims().data(), size_t(axis)));
  const int64_t piece = rows == 0 ? 0 : first.count() / rows;
  const int64_t stride = piece * int64_t(slices.size());
  const int64_t size = DTypeBits(first.dtype()) / 8;
  for (size_t i = 0; i < slices.size(); ++i) {
    if (slices[i].dtype() != first.dtype() || slices[i].dims() != first.dims())
      return Fail(Code::kInvalidArgument,
                  "scan output has extents {} in one iteration and {} in another",
                  ToString(std::span<const int64_t>(first.dims())),
                  ToString(std::span<const int64_t>(slices[i].dims())));
    const size_t at = reverse ? slices.size() - 1 - i : i;
    TRY(CopyPieces(first.dtype(), slices[i].raw(), piece, out.raw() + int64_t(at) * piece * size,
                   stride, rows, piece));
  }
  return out;
}

Result<Tensor> SliceAt(const TensorView& t, int axis, int64_t index) {
  Dims dims = t.dims;
  dims.erase(size_t(axis));
  Tensor out = TRY(Tensor::Create(t.dtype, dims));
  int64_t rows = 1;
  for (int i = 0; i < axis; ++i) rows *= t.dims[size_t(i)];
  const int64_t piece = rows == 0 ? 0 : out.count() / rows;
  const auto* from =
      static_cast<const std::byte*>(t.data) + index * piece * (DTypeBits(t.dtype) / 8);
  TRY(CopyPieces(t.dtype, from, piece * t.dims[size_t(axis)], out.raw(), piece, rows, piece));
  return out;
}

Result<Tensor> EmptyStack(const TensorView& expected, int axis) {
  Dims dims = expected.dims;
  for (int64_t& d : dims) d = std::max<int64_t>(d, 0);
  if (dims.rank() <= axis) dims.resize(size_t(axis) + 1, 0);
  dims[size_t(axis)] = 0;
  return Tensor::Create(expected.dtype == DType::kUndefined ? DType::kF32 : expected.dtype, dims);
}

}  // namespace dunlin::control
