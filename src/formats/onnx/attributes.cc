// Attributes: from the wire to a map, from the map to the operator's typed struct.

#include <algorithm>
#include <set>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"

namespace dunlin::onnx_import {

Result<AttrValue> ReadAttribute(const onnx::AttributeProto& a, const TensorSource& source) {
  using A = onnx::AttributeProto;
  // Files before IR version 2 leave the type out; the field that is present tells.
  auto type = a.type();
  if (type == A::UNDEFINED) {
    if (a.has_f())
      type = A::FLOAT;
    else if (a.has_i())
      type = A::INT;
    else if (a.has_s())
      type = A::STRING;
    else if (a.has_t())
      type = A::TENSOR;
    else if (a.has_g())
      type = A::GRAPH;
    else if (a.floats_size())
      type = A::FLOATS;
    else if (a.ints_size())
      type = A::INTS;
    else if (a.strings_size())
      type = A::STRINGS;
    else if (a.has_sparse_tensor())
      type = A::SPARSE_TENSOR;
  }
  switch (type) {
    case A::FLOAT:
      return AttrValue(a.f());
    case A::INT:
      return AttrValue(a.i());
    case A::STRING:
      return AttrValue(a.s());
    case A::TENSOR:
      return AttrValue(TRY(ReadTensor(a.t(), source)));
    case A::SPARSE_TENSOR:
      return AttrValue(TRY(ReadSparse(a.sparse_tensor(), source)));
    case A::GRAPH:
      return AttrValue(&a.g());
    case A::FLOATS:
      return AttrValue(std::vector<float>(a.floats().begin(), a.floats().end()));
    case A::INTS:
      return AttrValue(std::vector<int64_t>(a.ints().begin(), a.ints().end()));
    case A::STRINGS:
      return AttrValue(std::vector<std::string>(a.strings().begin(), a.strings().end()));
    default:
      return Fail(Code::kUnimplemented, "attribute '{}' has type {}, which is not supported",
                  a.name(), int(type));
  }
}

namespace {

class Filler : public AttrVisitor {
 public:
  explicit Filler(const AttrMap& map) : map_(map) {}
  std::string wrong;  // the first attribute of another type
  std::set<std::string_view> read;

  void operator()(std::string_view n, int64_t& v) override { Get(n, v); }
  void operator()(std::string_view n, float& v) override {
    if (const AttrValue* a = Find(n)) {
      if (const auto* f = std::get_if<float>(a))
        v = *f;
      else if (const auto* i = std::get_if<int64_t>(a))
        v = float(*i);  // some exporters write 1 for 1.0
      else
        Wrong(n);
    }
  }
  void operator()(std::string_view n, bool& v) override {
    int64_t i = v;
    Get(n, i);
    v = i != 0;
  }
  void operator()(std::string_view n, std::string& v) override { Get(n, v); }
  void operator()(std::string_view n, Tensor& v) override { Get(n, v); }
  void operator()(std::string_view n, std::vector<int64_t>& v) override { GetList<int64_t>(n, v); }
  void operator()(std::string_view n, std::vector<float>& v) override { GetList<float>(n, v); }
  void operator()(std::string_view n, std::vector<std::string>& v) override {
    GetList<std::string>(n, v);
  }
  void operator()(std::string_view n, std::optional<int64_t>& v) override { GetOptional(n, v); }
  void operator()(std::string_view n, std::optional<float>& v) override { GetOptional(n, v); }
  void operator()(std::string_view n, DType& v) override {
    int64_t i = -1;
    Get(n, i);
    if (i < 0) return;
    if (auto t = ReadDType(int(std::min<int64_t>(i, 1000))))
      v = *t;
    else
      Wrong(n);
  }

 private:
  const AttrValue* Find(std::string_view n) {
    const auto it = map_.find(n);
    if (it == map_.end()) return nullptr;
    read.insert(it->first);
    return &it->second;
  }
  void Wrong(std::string_view n) {
    if (wrong.empty()) wrong = n;
  }
  template <class T>
  void Get(std::string_view n, T& v) {
    const AttrValue* a = Find(n);
    if (a == nullptr) return;
    if (const T* p = std::get_if<T>(a))
      v = *p;
    else
      Wrong(n);
  }
  template <class T>
  void GetOptional(std::string_view n, std::optional<T>& v) {
    if (map_.find(n) == map_.end()) return;
    T x{};
    Get(n, x);
    v = x;
  }
  template <class T>
  void GetList(std::string_view n, std::vector<T>& v) {
    const AttrValue* a = Find(n);
    if (a == nullptr) return;
    if (const auto* p = std::get_if<std::vector<T>>(a))
      v = *p;
    else if (const auto* one = std::get_if<T>(a))
      v = {*one};
    // An empty list carries no element type on old files.
    else if (const auto* e = std::get_if<std::vector<int64_t>>(a); e && e->empty())
      v.clear();
    else
      Wrong(n);
  }
  const AttrMap& map_;
};

}  // namespace

Status FillAttrs(Attrs& attrs, const AttrMap& map) {
  Filler filler(map);
  attrs.Visit(filler);
  if (!filler.wrong.empty())
    return Fail(Code::kInvalidArgument, "attribute '{}' has the wrong type or value", filler.wrong);
  for (const auto& [name, value] : map)
    if (!filler.read.contains(name))
      return Fail(Code::kUnimplemented, "attribute '{}' is not supported", name);
  return {};
}

}  // namespace dunlin::onnx_import
