// Attributes: from the operator's typed struct back to a map of those that a file has to name.
#include <cstring>

#include "formats/onnx/export.h"

namespace dunlin::onnx_export {
namespace {

class Collector : public AttrVisitor {
 public:
  AttrMap map;
  void operator()(std::string_view n, int64_t& v) override { Put(n, v); }
  void operator()(std::string_view n, float& v) override { Put(n, v); }
  void operator()(std::string_view n, bool& v) override { Put(n, int64_t{v}); }
  void operator()(std::string_view n, std::string& v) override { Put(n, v); }
  void operator()(std::string_view n, Tensor& v) override {
    if (v.defined()) Put(n, v);
  }
  void operator()(std::string_view n, std::vector<int64_t>& v) override { Put(n, v); }
  void operator()(std::string_view n, std::vector<float>& v) override { Put(n, v); }
  void operator()(std::string_view n, std::vector<std::string>& v) override { Put(n, v); }
  void operator()(std::string_view n, std::optional<int64_t>& v) override {
    if (v) Put(n, *v);
  }
  void operator()(std::string_view n, std::optional<float>& v) override {
    if (v) Put(n, *v);
  }
  void operator()(std::string_view n, DType& v) override {
    if (v != DType::kUndefined) Put(n, int64_t{OnnxDType(v)});
  }

 private:
  void Put(std::string_view n, AttrValue v) { map.emplace(std::string(n), std::move(v)); }
};

AttrMap AllAttrs(const Attrs& a) {
  Collector c;
  const_cast<Attrs&>(a).Visit(c);  // the collector does not write
  return std::move(c.map);
}

bool Same(const AttrValue& a, const AttrValue& b) {
  if (a.index() != b.index()) return false;
  if (const auto* s = std::get_if<Tensor>(&a)) {
    const Tensor& t = std::get<Tensor>(b);
    return s->dtype() == t.dtype() && s->dims() == t.dims() && s->dtype() != DType::kString &&
           (s->bytes() == 0 || std::memcmp(s->source(), t.source(), size_t(s->bytes())) == 0);
  }
  return std::visit(
      [&]<class T>(const T& x) {
        if constexpr (std::is_same_v<T, Tensor>)
          return false;
        else
          return x == std::get<T>(b);
      },
      a);
}

// Attributes without a default in ONNX whose value can be what ours begin with.
bool IsDemanded(std::string_view op, std::string_view attr) {
  static const std::set<std::pair<std::string_view, std::string_view>> demanded = {
      {"ConcatFromSequence", "axis"},
      {"RandomNormal", "shape"},
      {"RandomUniform", "shape"},
      {"TfIdfVectorizer", "max_gram_length"},
      {"TfIdfVectorizer", "max_skip_count"},
      {"TfIdfVectorizer", "min_gram_length"},
      {"TfIdfVectorizer", "mode"},
      {"TfIdfVectorizer", "ngram_counts"},
      {"TfIdfVectorizer", "ngram_indexes"}};
  return demanded.contains({op, attr});
}

}  // namespace

AttrMap WrittenAttrs(const Node& n) {
  AttrMap given = AllAttrs(*n.attrs);
  const AttrMap defaults = AllAttrs(*DefaultAttrs(*n.op));
  for (auto it = given.begin(); it != given.end();) {
    const auto d = defaults.find(it->first);
    const bool left_out =
        d != defaults.end() && Same(it->second, d->second) && !IsDemanded(n.op->name, it->first);
    it = left_out ? given.erase(it) : std::next(it);
  }
  return given;
}

}  // namespace dunlin::onnx_export
