// Reading index tensors (i32 or i64), and checking them.
#pragma once

#include "ops/op.h"

namespace dunlin {

// A type that may hold indices; unknown is allowed.
inline Status CheckIndexType(const InferContext& ctx, int i) {
  const DType t = ctx.input(i).dtype;
  if (t == DType::kI64 || t == DType::kI32 || t == DType::kUndefined) return {};
  return Fail(Code::kInvalidArgument, "indices must be i64 or i32, they are {}", DTypeName(t));
}

class Indices {
 public:
  explicit Indices(const TensorView& v) : data_(v.data), wide_(v.dtype == DType::kI64) {}
  int64_t operator[](int64_t i) const {
    return wide_ ? static_cast<const int64_t*>(data_)[i] : static_cast<const int32_t*>(data_)[i];
  }
  // Index i of an axis of `extent`, counted from its start.
  Result<int64_t> At(int64_t i, int64_t extent) const {
    const int64_t k = (*this)[i];
    if (k < -extent || k >= extent)
      return Fail(Code::kInvalidArgument, "index {} at position {} is outside extent {}", k, i,
                  extent);
    return k < 0 ? k + extent : k;
  }

 private:
  const void* data_;
  bool wide_;
};

}  // namespace dunlin
