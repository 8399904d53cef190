#include "ops/text/tfidf.h"

#include <algorithm>
#include <map>

namespace dunlin {
namespace {

using Attrs = TfIdfVectorizer::Attrs;

// Extent of the pool's n-grams of length n + 1: [begin, end).
std::pair<int64_t, int64_t> PoolRange(const Attrs& a, size_t n, size_t pool_size) {
  return {a.ngram_counts[n],
          n + 1 < a.ngram_counts.size() ? a.ngram_counts[n + 1] : int64_t(pool_size)};
}

// Everything that could make the loops read outside; afterwards they need not look again.
Status Check(const Attrs& a, size_t pool_size) {
  if (a.mode != "TF" && a.mode != "IDF" && a.mode != "TFIDF")
    return Fail(Code::kInvalidArgument, "mode '{}' is not TF, IDF or TFIDF", a.mode);
  if (a.min_gram_length < 1 || a.max_gram_length < a.min_gram_length || a.max_skip_count < 0)
    return Fail(Code::kInvalidArgument, "gram lengths {} to {} with {} skips", a.min_gram_length,
                a.max_gram_length, a.max_skip_count);
  size_t grams = 0;
  for (size_t n = 0; n < a.ngram_counts.size(); ++n) {
    const auto [begin, end] = PoolRange(a, n, pool_size);
    if (begin < 0 || end < begin || end > int64_t(pool_size) || (end - begin) % int64_t(n + 1) != 0)
      return Fail(Code::kInvalidArgument, "ngram_counts: {}-grams at [{}, {}) of a pool of {}",
                  n + 1, begin, end, pool_size);
    grams += size_t(end - begin) / (n + 1);
  }
  if (a.ngram_indexes.size() != grams)
    return Fail(Code::kInvalidArgument, "{} ngram_indexes for {} n-grams", a.ngram_indexes.size(),
                grams);
  if (!a.weights.empty() && a.weights.size() != grams)
    return Fail(Code::kInvalidArgument, "{} weights for {} n-grams", a.weights.size(), grams);
  // An index is also an extent of the result.
  for (const int64_t i : a.ngram_indexes)
    if (i < 0 || i >= int64_t{1} << 31)
      return Fail(Code::kInvalidArgument, "an ngram_index is {}", i);
  return {};
}

int64_t Outputs(const Attrs& a) {
  int64_t highest = -1;
  for (const int64_t i : a.ngram_indexes) highest = std::max(highest, i);
  return highest + 1;
}

// n-gram -> its number in the pool.
template <class T>
using Pool = std::map<std::vector<T>, size_t>;

template <class T>
Pool<T> MakePool(const Attrs& a, const std::vector<T>& items) {
  Pool<T> pool;
  if (items.empty()) return pool;  // the pool is of the other type
  size_t number = 0;
  for (size_t n = 0; n < a.ngram_counts.size(); ++n) {
    const auto [begin, end] = PoolRange(a, n, items.size());
    for (int64_t at = begin; at < end; at += int64_t(n + 1)) {
      const std::vector<T> gram(items.begin() + at, items.begin() + at + int64_t(n + 1));
      pool.emplace(gram, number++);
    }
  }
  return pool;
}

// Calls found(number) for every n-gram of the row that the pool has.
template <class T, class Get, class F>
void ForEachGram(const Attrs& a, const Pool<T>& pool, int64_t length, Get&& get, F&& found) {
  const int64_t longest = std::min<int64_t>(a.max_gram_length, int64_t(a.ngram_counts.size()));
  std::vector<T> gram;
  for (int64_t n = a.min_gram_length; n <= longest; ++n)
    for (int64_t step = 1; step - 1 <= a.max_skip_count; ++step) {
      if (n > 1 && (n - 1) * step >= length) break;
      for (int64_t at = 0; at + (n - 1) * step < length; ++at) {
        gram.clear();
        for (int64_t i = 0; i < n; ++i) gram.push_back(get(at + i * step));
        if (const auto it = pool.find(gram); it != pool.end()) found(it->second);
      }
      if (n == 1) break;  // a single item skips nothing
    }
}

template <class T, class Get>
void Vectorize(const Attrs& a, const Pool<T>& pool, int64_t length, Get&& get, float* y) {
  ForEachGram<T>(a, pool, length, get, [&](size_t number) {
    const float weight = a.weights.empty() ? 1.0f : a.weights[number];
    float& to = y[a.ngram_indexes[number]];
    if (a.mode == "IDF")
      to = weight;
    else
      to += a.mode == "TF" ? 1.0f : weight;
  });
}

}  // namespace

Status TfIdfVectorizer::Infer(const Attrs& a, InferContext& ctx) {
  const DType t = ctx.dtype(0);
  if (t != DType::kUndefined && t != DType::kString && t != DType::kI32 && t != DType::kI64)
    return Fail(Code::kInvalidArgument, "the input is {}, not strings, i32 or i64", DTypeName(t));
  if (!a.pool_strings.empty() && !a.pool_int64s.empty())
    return Fail(Code::kInvalidArgument, "a pool of strings and one of integers");
  if ((t == DType::kString && !a.pool_int64s.empty()) || (IsInteger(t) && !a.pool_strings.empty()))
    return Fail(Code::kInvalidArgument, "the pool does not hold {}", DTypeName(t));
  TRY(Check(a, a.pool_strings.size() + a.pool_int64s.size()));
  Type out = Type::Unranked(DType::kF32);
  if (const Type& in = ctx.input(0); in.ranked) {
    if (in.dims.rank() < 1 || in.dims.rank() > 2)
      return Fail(Code::kInvalidArgument, "extents {} are neither [C] nor [N,C]",
                  ToString(in.dims));
    out = Type::Of(DType::kF32, in.dims);
    out.dims.back() = Outputs(a);
  }
  ctx.Set(0, out);
  return {};
}

Status TfIdfVectorizer::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int64_t length = x.dims.back(), outputs = Outputs(a), rows = x.rank() == 2 ? x.dims[0] : 1;
  if (y.count() == 0) return {};
  std::fill_n(y.mut<float>(), y.count(), 0.0f);
  const auto strings = MakePool(a, a.pool_strings);
  const auto integers = MakePool(a, a.pool_int64s);
  for (int64_t r = 0; r < rows; ++r) {
    float* to = y.mut<float>() + r * outputs;
    const int64_t row = r * length;
    if (x.dtype == DType::kString)
      Vectorize(
          a, strings, length, [&](int64_t i) { return x.as<std::string>()[row + i]; }, to);
    else if (x.dtype == DType::kI64)
      Vectorize(
          a, integers, length, [&](int64_t i) { return x.as<int64_t>()[row + i]; }, to);
    else
      Vectorize(
          a, integers, length, [&](int64_t i) { return int64_t{x.as<int32_t>()[row + i]}; }, to);
  }
  return {};
}

}  // namespace dunlin
