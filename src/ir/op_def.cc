#include "ir/op_def.h"

namespace dunlin {

std::string ToString(const Type& t) {
  std::string s(DTypeName(t.dtype));
  s += t.ranked ? ToString(std::span<const int64_t>(t.dims)) : std::string("[*]");
  return ToString(t, std::move(s));
}

std::string ToString(const Type& t, std::string elements) {
  std::string s = std::move(elements);
  if (t.key != DType::kUndefined)
    s = fmt::format("map({},{})", DTypeName(t.key), DTypeName(t.dtype));
  if (t.kind == Type::Kind::kSequence) return "seq(" + s + ")";
  if (t.kind == Type::Kind::kOptional) return "optional(" + s + ")";
  return s;
}

std::optional<std::vector<int64_t>> InferContext::ints(int i) const {
  if (!has(i)) return std::nullopt;
  if (const Tensor* t = value(i)) {
    if (auto v = ToInts(*t)) return std::move(*v);
    return std::nullopt;
  }
  if (const auto s = shape_value(i); s && AllKnown(*s))
    return std::vector<int64_t>(s->begin(), s->end());
  return std::nullopt;
}

}  // namespace dunlin
