#include "conformance/compare.h"

#include <fmt/format.h>

#include <cmath>

namespace dunlin::conformance {
namespace {

constexpr double kRelative = 1e-3;
constexpr double kAbsolute = 1e-7;

std::string KindName(const Value& v) {
  switch (v.kind) {
    case Value::Kind::kNone:
      return "nothing";
    case Value::Kind::kTensor:
      return std::string(DTypeName(v.tensor.dtype())) + ToString(v.tensor.dims());
    case Value::Kind::kSequence:
      return fmt::format("a sequence of {}", v.sequence.size());
    case Value::Kind::kMap:
      return fmt::format("a map of {}", v.tensor.count());
  }
  return "?";
}

template <class T>
std::string Show(const T& v) {
  if constexpr (std::is_same_v<T, std::string>)
    return "'" + v + "'";
  else if constexpr (kIsFloat<T>)
    return fmt::format("{:g}", double(float(v)));
  else
    return fmt::format("{}", v);
}

template <class T>
void CompareElements(const Tensor& got, const Tensor& want, Comparison& c) {
  const auto g = got.values<T>();
  const auto w = want.values<T>();
  int64_t wrong = 0;
  size_t first = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    bool same;
    if constexpr (kIsFloat<T>) {
      double a, b;
      if constexpr (kIsHalf<T>)
        a = float(g[i]), b = float(w[i]);
      else
        a = double(g[i]), b = double(w[i]);
      const double error = std::abs(a - b);
      // An infinite expectation has infinite tolerance in the formula: it must be met exactly.
      same = (std::isnan(a) && std::isnan(b)) || a == b ||
             (std::isfinite(b) && error <= kAbsolute + kRelative * std::abs(b));
      if (std::isfinite(error)) {
        c.max_abs_error = std::max(c.max_abs_error, error);
        if (b != 0) c.max_rel_error = std::max(c.max_rel_error, error / std::abs(b));
      }
    } else {
      same = g[i] == w[i];
    }
    if (!same && wrong++ == 0) first = i;
  }
  if (wrong == 0) return;
  c.equal = false;
  c.difference = fmt::format("{} of {} elements differ, the first at {}: got {}, want {}", wrong,
                             w.size(), first, Show(T(g[first])), Show(T(w[first])));
}

void CompareTensors(const Tensor& got, const Tensor& want, Comparison& c) {
  if (got.dtype() != want.dtype() || got.dims() != want.dims()) {
    c.equal = false;
    c.difference = fmt::format("got {}, want {}", KindName(got), KindName(want));
    return;
  }
  // Numbers of less than 16 bits that are only stored are compared by their values.
  if (want.dtype() > DType::kString) {
    const auto g = Convert(got, DType::kF32), w = Convert(want, DType::kF32);
    if (g && w) return CompareElements<float>(*g, *w, c);
  }
  const Status s = VisitDType(want.dtype(), "compare", [&](auto tag) -> Status {
    CompareElements<typename decltype(tag)::type>(got, want, c);
    return {};
  });
  if (!s.has_value()) c.equal = false, c.difference = s.error().message;
}

}  // namespace

Comparison Compare(const Value& got, const Value& want) {
  Comparison c;
  if (got.kind != want.kind || got.sequence.size() != want.sequence.size()) {
    c.equal = false;
    c.difference = fmt::format("got {}, want {}", KindName(got), KindName(want));
    return c;
  }
  if (want.kind == Value::Kind::kTensor) CompareTensors(got.tensor, want.tensor, c);
  for (size_t i = 0; i < want.sequence.size() && c.equal; ++i) {
    CompareTensors(got.sequence[i], want.sequence[i], c);
    if (!c.equal) c.difference = fmt::format("item {}: {}", i, c.difference);
  }
  return c;
}

}  // namespace dunlin::conformance
