#include "ops/matmul/product.h"

namespace dunlin {

Result<ProductAttrs> ReadProduct(const MatMulAttrs&) { return ProductAttrs{}; }
Result<ProductAttrs> ReadProduct(const GemmAttrs& a) {
  return ProductAttrs{a.trans_a, a.trans_b, a.alpha, a.beta, {}};
}
Result<ProductAttrs> ReadProduct(const FusedMatMulAttrs& a) {
  return ProductAttrs{a.trans_a, a.trans_b, a.alpha, 1,
                      TRY(ReadActivation(a.activation, a.act_a, a.act_b))};
}

Result<ProductShape> ResolveProduct(const ProductAttrs& p, Dims a, Dims b) {
  if (a.rank() < 1 || b.rank() < 1)
    return Fail(Code::kInvalidArgument, "a product of {} and {}: a scalar is not a matrix",
                ToString(a), ToString(b));
  // A vector on the left is a row, on the right a column; its axis vanishes from the result.
  const bool row = a.rank() == 1, column = b.rank() == 1;
  const std::string names = ToString(a) + " and " + ToString(b);
  if (row) a.insert(0, 1);
  if (column) b.insert(1, 1);
  if (p.trans_a && !row) std::swap(a[a.size() - 1], a[a.size() - 2]);
  if (p.trans_b && !column) std::swap(b[b.size() - 1], b[b.size() - 2]);
  ProductShape s{{}, a[a.size() - 2], b[b.size() - 1], a.back()};
  const int64_t kb = b[b.size() - 2];
  if (IsKnown(s.k) && IsKnown(kb) && s.k != kb)
    return Fail(Code::kInvalidArgument, "a product of {}: {} columns meet {} rows", names, s.k, kb);
  if (!IsKnown(s.k)) s.k = kb;
  const auto batch = Broadcast(std::span<const int64_t>(a).first(a.size() - 2),
                               std::span<const int64_t>(b).first(b.size() - 2));
  if (!batch)
    return Fail(Code::kInvalidArgument,
                "a product of {}: their leading extents cannot be broadcast", names);
  s.y = *batch;
  if (!row) s.y.push_back(s.m);
  if (!column) s.y.push_back(s.n);
  return s;
}

std::vector<int64_t> BroadcastStrides(std::span<const int64_t> x, std::span<const int64_t> to) {
  std::vector<int64_t> strides(to.size(), 0);
  int64_t stride = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t from_end = x.size() - 1 - i;
    if (x[from_end] != 1) strides[to.size() - 1 - i] = stride;
    stride *= x[from_end];
  }
  return strides;
}

int64_t OffsetOf(int64_t at, std::span<const int64_t> dims, std::span<const int64_t> strides) {
  int64_t offset = 0;
  for (size_t i = dims.size(); i-- > 0;) {
    offset += at % dims[i] * strides[i];
    at /= dims[i];
  }
  return offset;
}

}  // namespace dunlin
