// Models of one node, from a line of text. The language of the forms, words apart by blanks:
//
//   T[2,3]      an input of the model: element type and extents. Types: T and U, which are varied,
//               and names such as f32
//   T{1,2}      a constant vector; T(1) a constant scalar; T[1,2]{3,4} a constant of these extents,
//               with the values again and again
//   -           an input left out
//   seq:T[2]    a sequence of such tensors, opt:T[2] an optional, map:i64:T a map
//   +T[2]       an input of the model that only sub-graphs read
//   axis=1      attributes: 1 an int, 1.0 a float, 'x' a string, [1,2] a list of them, T the number
//               of a type, T{1} a tensor, (a,b->b,x0) a sub-graph with these inputs and outputs;
//               x0, x1 … are the inputs of the model
//   =>2         so many outputs
//
//   A & B       both are written, for different types
//   <13: A | B  A before version 13, B since
#include <algorithm>
#include <charconv>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"
#include "formats/onnx_operators.h"

namespace dunlin {
namespace onnx_import {
namespace {

constexpr int kTypeNumbers = 64;  // more than ONNX has

std::vector<std::string_view> SplitAt(std::string_view text, std::string_view at) {
  std::vector<std::string_view> parts;
  for (size_t end; (end = text.find(at)) != text.npos; text.remove_prefix(end + at.size()))
    parts.push_back(text.substr(0, end));
  parts.push_back(text);
  return parts;
}

template <class N>
N NumberOf(std::string_view text) {
  N n{};
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}

// What stands between the brackets that begin `text`; it is taken away.
std::string_view TakeBracket(std::string_view& text, char open, char close) {
  if (text.empty() || text[0] != open) return {};
  const size_t end = text.find(close);
  DUNLIN_CHECK(end != text.npos, "a form of an operator lacks a bracket");
  const std::string_view inside = text.substr(1, end - 1);
  text.remove_prefix(end + 1);
  return inside;
}

Dims DimsOf(std::string_view text) {
  Dims dims;
  if (text.empty()) return dims;
  for (const auto n : SplitAt(text, ",")) dims.push_back(NumberOf<int64_t>(n));
  return dims;
}

Result<int> OnnxNumber(DType t) {
  for (int n = 1; n < kTypeNumbers; ++n)
    if (const auto found = ReadDType(n); found && *found == t) return n;
  return Fail(Code::kUnimplemented, "{} has no number in ONNX", DTypeName(t));
}

class Writer {
 public:
  Writer(const OnnxOperator& op, int version, const SampleTypes& types)
      : types_(types), graph_(*model_.mutable_graph()) {
    model_.set_ir_version(11);
    auto* main = model_.add_opset_import();
    main->set_version(op.domain.empty() ? version : 21);
    if (!op.domain.empty()) {
      auto* own = model_.add_opset_import();
      own->set_domain(std::string(op.domain));
      own->set_version(version);
    }
    graph_.set_name("sample");
    node_proto_.set_op_type(std::string(op.name));
    node_proto_.set_domain(std::string(op.domain));
    node_proto_.set_name("node");
  }

  Result<std::string> Write(std::string_view form) {
    int outputs = 1;
    for (const std::string_view word : SplitAt(form, " ")) {
      const size_t equals = word.find('=');
      if (word.empty()) continue;
      if (word.starts_with("=>"))
        outputs = NumberOf<int>(word.substr(2));
      else if (equals != word.npos)
        TRY(Attribute(word.substr(0, equals), word.substr(equals + 1)));
      else
        TRY(Input(word));
    }
    for (int i = 0; i < outputs; ++i) {
      node_proto_.add_output(fmt::format("y{}", i));
      graph_.add_output()->set_name(fmt::format("y{}", i));
    }
    *graph_.add_node() = node_proto_;
    return model_.SerializeAsString();
  }

 private:
  // A type's name at the front of `text`, which is taken away.
  Result<DType> TakeType(std::string_view& text) {
    size_t n = 0;
    while (n < text.size() && std::isalnum(static_cast<unsigned char>(text[n]))) ++n;
    const std::string_view name = text.substr(0, n);
    text.remove_prefix(n);
    if (name == "T") return types_.t;
    if (name == "U") return types_.u;
    return ParseDType(name);
  }

  Status Input(std::string_view word) {
    if (word == "-") {
      node_proto_.add_input("");
      return {};
    }
    const bool captured = word[0] == '+';
    if (captured) word.remove_prefix(1);
    const std::string name = fmt::format("x{}", count_++);
    if (!captured) node_proto_.add_input(name);
    std::string_view kind;
    if (const size_t colon = word.find(':'); colon != word.npos) {
      kind = word.substr(0, colon);
      word.remove_prefix(colon + 1);
    }
    if (kind == "map") {
      auto* map = AddInput(name).mutable_map_type();
      const DType key = TRY(TakeType(word));
      word.remove_prefix(1);
      const DType value = TRY(TakeType(word));
      map->set_key_type(TRY(OnnxNumber(key)));
      map->mutable_value_type()->mutable_tensor_type()->set_elem_type(TRY(OnnxNumber(value)));
      return {};
    }
    const DType dtype = TRY(TakeType(word));
    const bool ranked = !word.empty() && word[0] == '[';
    Dims dims = DimsOf(TakeBracket(word, '[', ']'));
    if (!word.empty()) {
      const bool scalar = word[0] == '(';
      const auto values = SplitAt(TakeBracket(word, scalar ? '(' : '{', scalar ? ')' : '}'), ",");
      if (!ranked && !scalar) dims = {int64_t(values.size())};
      auto* constant = graph_.add_initializer();
      constant->set_name(name);
      return Fill(*constant, dtype, dims, values);
    }
    auto& type = AddInput(name);
    auto* tensor =
        kind == "seq"   ? type.mutable_sequence_type()->mutable_elem_type()->mutable_tensor_type()
        : kind == "opt" ? type.mutable_optional_type()->mutable_elem_type()->mutable_tensor_type()
                        : type.mutable_tensor_type();
    tensor->set_elem_type(TRY(OnnxNumber(dtype)));
    for (const int64_t d : dims) tensor->mutable_shape()->add_dim()->set_dim_value(d);
    tensor->mutable_shape();
    return {};
  }

  onnx::TypeProto& AddInput(const std::string& name) {
    auto* info = graph_.add_input();
    info->set_name(name);
    return *info->mutable_type();
  }

  Status Fill(onnx::TensorProto& proto, DType dtype, const Dims& dims,
              const std::vector<std::string_view>& values) {
    proto.set_data_type(TRY(OnnxNumber(dtype)));
    for (const int64_t d : dims) proto.add_dims(d);
    if (dtype == DType::kString) {
      for (const auto v : values) proto.add_string_data(std::string(v));
      return {};
    }
    std::vector<float> numbers;
    for (int64_t i = 0; i < CountOf(dims); ++i)
      numbers.push_back(NumberOf<float>(values[size_t(i) % values.size()]));
    const Tensor t = TRY(Convert(Tensor::Of<float>(dims, std::span<const float>(numbers)), dtype));
    proto.set_raw_data(t.raw(), size_t(t.bytes()));
    return {};
  }

  static std::string Unquoted(std::string_view text) {
    return std::string(text.substr(1, text.size() - 2));
  }

  Status Attribute(std::string_view name, std::string_view text) {
    using A = onnx::AttributeProto;
    A& a = *node_proto_.add_attribute();
    a.set_name(std::string(name));
    if (text[0] == '\'') {
      a.set_type(A::STRING);
      a.set_s(Unquoted(text));
    } else if (text[0] == '(') {
      a.set_type(A::GRAPH);
      Body(*a.mutable_g(), text.substr(1, text.size() - 2));
    } else if (text[0] == '[') {
      List(a, SplitAt(text.substr(1, text.size() - 2), ","));
    } else if (std::isalpha(static_cast<unsigned char>(text[0]))) {
      const DType dtype = TRY(TakeType(text));
      if (text.empty()) {
        a.set_type(A::INT);
        a.set_i(TRY(OnnxNumber(dtype)));
        return {};
      }
      const auto values = SplitAt(TakeBracket(text, '{', '}'), ",");
      a.set_type(A::TENSOR);
      return Fill(*a.mutable_t(), dtype, {int64_t(values.size())}, values);
    } else if (text.find('.') != text.npos) {
      a.set_type(A::FLOAT);
      a.set_f(NumberOf<float>(text));
    } else {
      a.set_type(A::INT);
      a.set_i(NumberOf<int64_t>(text));
    }
    return {};
  }

  static void List(onnx::AttributeProto& a, const std::vector<std::string_view>& values) {
    using A = onnx::AttributeProto;
    const std::string_view first = values[0];
    a.set_type(first[0] == '\'' ? A::STRINGS : first.find('.') != first.npos ? A::FLOATS : A::INTS);
    for (const auto v : values) {
      if (a.type() == A::STRINGS)
        a.add_strings(Unquoted(v));
      else if (a.type() == A::FLOATS)
        a.add_floats(NumberOf<float>(v));
      else
        a.add_ints(NumberOf<int64_t>(v));
    }
  }

  // Every output is a copy of an input, of the body's or of the model's.
  static void Body(onnx::GraphProto& body, std::string_view text) {
    body.set_name("body");
    const size_t arrow = text.find("->");
    if (arrow > 0)
      for (const auto name : SplitAt(text.substr(0, arrow), ","))
        body.add_input()->set_name(std::string(name));
    for (const auto name : SplitAt(text.substr(arrow + 2), ",")) {
      const std::string out = fmt::format("out{}", body.output_size());
      auto* copy = body.add_node();
      copy->set_op_type("Identity");
      copy->add_input(std::string(name));
      copy->add_output(out);
      body.add_output()->set_name(out);
    }
  }

  const SampleTypes types_;
  onnx::ModelProto model_;
  onnx::GraphProto& graph_;
  onnx::NodeProto node_proto_;
  int count_ = 0;
};

std::string_view FormOf(const OnnxOperator& op, int version) {
  for (std::string_view form : SplitAt(op.forms, " | ")) {
    if (form[0] != '<') return form;
    const size_t colon = form.find(": ");
    if (version < NumberOf<int>(form.substr(1, colon - 1))) return form.substr(colon + 2);
  }
  DUNLIN_CHECK(false, "an operator has no form of its newest version");
}

}  // namespace
}  // namespace onnx_import

std::vector<int> OnnxOperator::Versions() const {
  std::vector<int> numbers;
  for (const auto v : onnx_import::SplitAt(versions, " "))
    numbers.push_back(onnx_import::NumberOf<int>(v));
  return numbers;
}

std::string OnnxOperator::FullName() const {
  return domain.empty() ? std::string(name) : fmt::format("{}.{}", domain, name);
}

const OnnxOperator* FindOnnxOperator(std::string_view op, std::string_view domain) {
  for (const OnnxOperator& o : OnnxOperators())
    if (o.name == op && o.domain == domain) return &o;
  return nullptr;
}

std::vector<DType> OnnxTypes() {
  std::vector<DType> types;
  for (int n = 1; n < onnx_import::kTypeNumbers; ++n)
    if (const auto t = onnx_import::ReadDType(n)) types.push_back(*t);
  std::ranges::sort(types);
  return types;
}

bool HasType(const OnnxOperator& op, int version, TypePlace place) {
  const std::string_view form = onnx_import::FormOf(op, version);
  for (size_t i = 0; i < form.size(); ++i)
    if (form[i] == char(place) &&
        (i == 0 || std::string_view(" =:").find(form[i - 1]) != std::string_view::npos) &&
        (i + 1 == form.size() ||
         std::string_view("[{( ").find(form[i + 1]) != std::string_view::npos))
      return true;
  return false;
}

bool FirstIsVaried(const OnnxOperator& op, int version) {
  const std::string_view form = onnx_import::FormOf(op, version);
  return form.starts_with("T[") || form.starts_with("T{") || form.starts_with("T(");
}

Result<std::vector<std::string>> SampleModels(const OnnxOperator& op, int version,
                                              const SampleTypes& types) {
  std::vector<std::string> models;
  for (const auto form : onnx_import::SplitAt(onnx_import::FormOf(op, version), " & "))
    models.push_back(TRY(onnx_import::Writer(op, version, types).Write(form)));
  return models;
}

}  // namespace dunlin
