// What the kernels over codes share: widening, and parameters that are read when they run.
#pragma once

#include <cstring>

#include "kernels/code_epilogue.h"
#include "kernels/widen_codes.h"
#include "ops/quant/quant.h"

namespace dunlin {

// Rows and columns of sums that are made at once, on the stack.
inline constexpr int64_t kSumRows = 24, kSumColumns = 256;
// Multiply-adds that are worth another thread.
inline constexpr int64_t kLeastSumWork = 1 << 18;

inline bool IsByte(DType t) { return t == DType::kU8 || t == DType::kI8; }

inline int32_t CodeAt(DType t, const void* data, int64_t i) {
  return t == DType::kU8 ? static_cast<const uint8_t*>(data)[i]
                         : static_cast<const int8_t*>(data)[i];
}

// Everything an epilogue needs but the residual's place; `columns` of the result.
// Arrays of every column, filled up so that four of the widest vectors may begin at any, lie in
// `memory` of EpilogueBytes(columns).
struct PreparedEpilogue {
  CodeEpilogue e;
  const float* row_scales = nullptr;  // of every row; nullptr: 1
};
PreparedEpilogue PrepareEpilogue(const RunContext& ctx, const ProductInputs& in,
                                 const CodeStoreAttrs& store, int64_t columns, DType to,
                                 void* memory);
// Of sums made of codes whose zero point was not subtracted: takes zero * totals[column] from each,
// where totals are the sums of the column's weights. `memory`: what `p` was prepared in.
void SubtractZero(PreparedEpilogue& p, void* memory, int64_t columns, const int32_t* totals,
                  int32_t zero);
inline int64_t PaddedColumns(int64_t columns) { return (columns + 63) / 64 * 64 + 64; }
inline size_t EpilogueBytes(int64_t columns) { return size_t(PaddedColumns(columns)) * 12; }

// Places in rows of `columns` of the output and of the residual.
class Rows {
 public:
  Rows(RunContext& ctx, const ProductInputs& in, const PreparedEpilogue& p, int64_t columns)
      : p_(p), columns_(columns), y_(static_cast<std::byte*>(ctx.out(0).data)) {
    y_size_ = Size(p.e.to);
    if (p.e.residual == DType::kUndefined) return;
    residual_ = static_cast<const std::byte*>(ctx.in(in.residual).data);
    residual_size_ = Size(p.e.residual);
  }
  // Stores columns [first, first + n) of `rows` rows from `row` on, `step` apart; `x_row`: the row
  // that the scales of rows count.
  void Store(const int32_t* sums, int64_t stride, int64_t row, int64_t rows, int64_t first,
             int64_t n, int64_t x_row = 0, int64_t step = 1) const {
    SumBlock b;
    b.sums = sums, b.stride = stride, b.rows = rows, b.first = first, b.n = n;
    if (p_.row_scales != nullptr) b.row_scales = p_.row_scales + x_row;
    b.residual_stride = step * columns_ * residual_size_;
    if (residual_ != nullptr) b.residual = residual_ + (row * columns_ + first) * residual_size_;
    b.y_stride = step * columns_ * y_size_;
    b.y = y_ + (row * columns_ + first) * y_size_;
    StoreSums(p_.e, b);
  }

 private:
  static int64_t Size(DType t) { return DTypeBits(t) / 8; }
  const PreparedEpilogue& p_;
  int64_t columns_;
  std::byte* y_;
  int64_t y_size_;
  const std::byte* residual_ = nullptr;
  int64_t residual_size_ = 0;
};

// Whether the types and counts of the parameters are those the kernels read. `rows`: of x, that may
// have scales of their own; 0: they may not.
bool EpilogueFits(const LowerContext& ctx, const ProductInputs& in, int64_t columns, int64_t rows);
// The same at run time; kInvalidArgument when the reference cannot read them.
Status CheckEpilogue(std::string_view name, RunContext& ctx, const ProductInputs& in,
                     int64_t columns, int64_t rows);
// Attributes that any graph may hold are checked here.
Status CheckStore(std::string_view name, const CodeStoreAttrs& store);
// Of the output: what the table makes, the codes' type, or f32.
DType StoredType(const InferContext& ctx, const ProductInputs& in, const CodeStoreAttrs& store);

// The same results by plain operations. `sum` gives of an element of y its index, column and row.
class EpilogueReference {
 public:
  EpilogueReference(const RunContext& ctx, const ProductInputs& in, const CodeStoreAttrs& store,
                    int64_t columns, DType to);
  void Store(RunContext& ctx, int64_t i, int64_t row, int64_t column, int32_t sum) const;

 private:
  std::vector<float> memory_;
  PreparedEpilogue p_;
  const TensorView* residual_ = nullptr;
};

// Zero points as text for the recipe of packed weights, which depend on them.
inline std::string ZeroText(const Tensor* zero) {
  if (zero == nullptr) return "0";
  std::string s;
  for (int64_t i = 0; i < zero->count(); ++i)
    s += fmt::format("{},", CodeAt(zero->dtype(), zero->raw(), i));
  return s;
}

}  // namespace dunlin
