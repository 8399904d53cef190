// Operators of com.microsoft that no standard operator computes: Inverse, MurmurHash3,
// NGramRepeatBlock.
#include <bit>
#include <cmath>
#include <cstring>

#include "ops/elementwise/numeric.h"
#include "ops/op.h"

namespace dunlin {
namespace {

constexpr std::string_view kMicrosoft = "com.microsoft";

// The inverse of each matrix of the last two extents, by elimination with the largest pivot. A
// matrix that has none gives infinities or NaN.
struct Inverse {
  static constexpr std::string_view kName = "Inverse";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (x.ranked) {
      const int rank = x.dims.rank();
      if (rank < 2 || (IsKnown(x.dims[rank - 1]) && IsKnown(x.dims[rank - 2]) &&
                       x.dims[rank - 1] != x.dims[rank - 2]))
        return Fail(Code::kInvalidArgument, "{}: {} holds no square matrices", kName, ToString(x));
    }
    ctx.Set(0, x);
    return {};
  }

  // a [n, 2 n]: the matrix beside the one that becomes its inverse.
  static void Eliminate(std::vector<double>& a, int64_t n) {
    const auto at = [&](int64_t row, int64_t column) -> double& {
      return a[size_t(row * 2 * n + column)];
    };
    for (int64_t i = 0; i < n; ++i) {
      int64_t pivot = i;
      for (int64_t row = i + 1; row < n; ++row)
        if (std::fabs(at(row, i)) > std::fabs(at(pivot, i))) pivot = row;
      for (int64_t c = 0; pivot != i && c < 2 * n; ++c) std::swap(at(i, c), at(pivot, c));
      const double divisor = at(i, i);
      for (int64_t c = 0; c < 2 * n; ++c) at(i, c) /= divisor;
      for (int64_t row = 0; row < n; ++row) {
        const double factor = at(row, i);
        for (int64_t c = 0; row != i && c < 2 * n; ++c) at(row, c) -= factor * at(i, c);
      }
    }
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    if (x.rank() < 2 || x.dims[x.rank() - 1] != x.dims[x.rank() - 2])
      return Fail(Code::kInvalidArgument, "{}: {} holds no square matrices", kName,
                  ToString(x.dims));
    const int64_t n = x.dims.back(), count = n == 0 ? 0 : x.count() / (n * n);
    std::vector<double> a(static_cast<size_t>(2 * n * n));
    return VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      for (int64_t m = 0; m < count; ++m) {
        const T* const in = x.as<T>() + m * n * n;
        T* const out = ctx.out(0).mut<T>() + m * n * n;
        for (int64_t i = 0; i < n * n; ++i) {
          a[size_t(i / n * 2 * n + i % n)] = Widen(in[i]);
          a[size_t(i / n * 2 * n + n + i % n)] = i / n == i % n ? 1 : 0;
        }
        Eliminate(a, n);
        for (int64_t i = 0; i < n * n; ++i)
          out[i] = Narrow<T>(a[size_t(i / n * 2 * n + n + i % n)]);
      }
      return {};
    });
  }
};

// MurmurHash3 by Austin Appleby (public domain), x86 form of 32 bits, of the bytes of each element.
struct MurmurHash3 {
  static constexpr std::string_view kName = "MurmurHash3";
  struct Attrs {
    int64_t positive = 1, seed = 0;
    template <class V>
    void Visit(V& v) {
      v("positive", positive);
      v("seed", seed);
    }
  };
  struct Hashed {
    template <class T>
    static constexpr bool kHas = std::is_same_v<T, std::string> ||
                                 (kIsNumber<T> && !kIsHalf<T> && sizeof(T) >= 4);
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckType<Hashed>(ctx.dtype(0), kName));
    Type y = ctx.input(0);
    y.dtype = a.positive != 0 ? DType::kU32 : DType::kI32;
    ctx.Set(0, std::move(y));
    return {};
  }

  static uint32_t Mixed(uint32_t k) { return std::rotl(k * 0xcc9e2d51u, 15) * 0x1b873593u; }
  static uint32_t Hash(const char* bytes, size_t count, uint32_t seed) {
    uint32_t h = seed;
    const size_t whole = count / 4 * 4;
    for (size_t i = 0; i < whole; i += 4) {
      uint32_t k;
      std::memcpy(&k, bytes + i, 4);
      h = std::rotl(h ^ Mixed(k), 13) * 5 + 0xe6546b64u;
    }
    uint32_t rest = 0;
    for (size_t i = count; i-- > whole;) rest = rest << 8 | uint8_t(bytes[i]);
    h ^= Mixed(rest) ^ uint32_t(count);
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    auto* const out = static_cast<uint32_t*>(ctx.out(0).data);
    return VisitTypes<Hashed>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      for (int64_t i = 0, n = x.count(); i < n; ++i) {
        const T& v = x.as<T>()[i];
        if constexpr (std::is_same_v<T, std::string>)
          out[i] = Hash(v.data(), v.size(), uint32_t(a.seed));
        else
          out[i] = Hash(reinterpret_cast<const char*>(&v), sizeof(T), uint32_t(a.seed));
      }
      return {};
    });
  }
};

// Scores [B, V] in which those of tokens become -Inf that would repeat an n-gram of the ids [B, S].
struct NGramRepeatBlock {
  static constexpr std::string_view kName = "NGramRepeatBlock";
  struct Attrs {
    int64_t ngram_size = 0;
    template <class V>
    void Visit(V& v) {
      v("ngram_size", ngram_size);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.ngram_size < 1)
      return Fail(Code::kInvalidArgument, "{}: ngram_size is {}", kName, a.ngram_size);
    for (const int i : {0, 1}) {
      const Type& t = ctx.input(i);
      const DType wanted = i == 0 ? DType::kI64 : DType::kF32;
      if ((t.dtype != DType::kUndefined && t.dtype != wanted) || (t.ranked && t.dims.rank() != 2))
        return Fail(Code::kInvalidArgument, "{}: input {} is {}, a matrix of {} is needed", kName,
                    i, ToString(t), DTypeName(wanted));
    }
    Type y = ctx.input(1);
    y.dtype = DType::kF32;
    ctx.Set(0, std::move(y));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView &ids = ctx.in(0), &scores = ctx.in(1);
    const int64_t batch = scores.dims[0], tokens = scores.dims[1], length = ids.dims[1];
    if (ids.dims[0] != batch)
      return Fail(Code::kInvalidArgument, "{}: {} rows of ids, {} of scores", kName, ids.dims[0],
                  batch);
    float* const out = ctx.out(0).mut<float>();
    std::copy_n(scores.as<float>(), scores.count(), out);
    const int64_t before = a.ngram_size - 1;
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t* const row = ids.as<int64_t>() + b * length;
      for (int64_t i = 0; i < length - before; ++i) {
        if (!std::equal(row + i, row + i + before, row + length - before)) continue;
        const int64_t token = row[i + before];
        if (token < 0 || token >= tokens)
          return Fail(Code::kInvalidArgument, "{}: token {} of {}", kName, token, tokens);
        out[b * tokens + token] = -HUGE_VALF;
      }
    }
    return {};
  }
};

}  // namespace

std::span<const OpDef> MicrosoftOps() {
  static const OpDef ops[] = {
      Declare<Inverse>(Inverse::kName, {.domain = kMicrosoft}),
      Declare<MurmurHash3>(MurmurHash3::kName, {.domain = kMicrosoft}),
      Declare<NGramRepeatBlock>(NGramRepeatBlock::kName,
                                {.domain = kMicrosoft, .min_inputs = 2, .max_inputs = 2}),
  };
  return ops;
}

}  // namespace dunlin
